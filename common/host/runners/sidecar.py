"""The sidecar of one device through a run: started before the first job, and again when it has died.

It is looked after between cells, where a starting interpreter disturbs nobody: the next cell still compiles and checks its
output before anything of it is timed. Readings are appended to the same file; what was written before stays as it is.
Then, too, its readings are taken over into the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from common.host.devices import Device
from common.host.runners.events import OnEvent
from common.host.runners.power_intake import PowerIntake

#: so many starts in a row that fail, and it is left alone
MOST_FAILED_STARTS = 3


@dataclass(frozen=True)
class SidecarState:
    """Whether power is being recorded; `reason` says in one clause why not.

    no_cpu_energy: why the energy of CPU and DRAM is not recorded beside it, "" where it is.
    """

    recording: bool
    reason: str = ""
    no_cpu_energy: str = ""


class Sidecar(ABC):
    """One device's sidecar. state: what came of its first start, or of the one that made up for it. intake: of the folder
    that it writes."""

    def __init__(self, device: Device, intake: PowerIntake) -> None:
        self._device = device
        self._intake = intake
        self._reported = False
        self._deaths: list[str] = []
        self._failed_starts = 0
        #: it was killed while it started: that may have been an accident, so it is tried again
        self._killed_at_start = False
        self.state = SidecarState(False)

    def start(self) -> None:
        """Never raises for a sidecar that fails: `state` says so."""
        self.state = self._start()
        end = self._killed()
        if not self.state.recording and end:
            self._killed_at_start = True
            self._failed_starts = 1
            self._deaths.append(end)
            self.state = SidecarState(False, f"it {end} while it started, and is tried again after the first cell")

    def take(self) -> str:
        """Takes its readings over; returns a sentence for people, once, where they cannot be had."""
        self._intake.take()
        if self._reported or not self._intake.refused:
            return ""
        self._reported = True
        return f"the sidecar of {self._device.name}: {self._intake.refused}"

    def revive(self) -> str:
        """Starts it again if it has died; returns a sentence for people, "" where there is nothing to say.

        One that never recorded is left alone, unless it was killed while it started.
        """
        if not (self.state.recording or self._killed_at_start) or self._failed_starts >= MOST_FAILED_STARTS:
            return ""
        end = self._ended()
        if end is None:
            return ""
        if self._failed_starts == 0:
            self._deaths.append(end)
        again = self._start()
        self._failed_starts = 0 if again.recording else self._failed_starts + 1
        if not self.state.recording:
            self.state = again
        lost = f"the sidecar of {self._device.name} {end}; what was measured meanwhile has no energy"
        if again.recording:
            return f"{lost}; it is started again"
        last = " and will not be tried again" if self._failed_starts == MOST_FAILED_STARTS else ""
        return f"{lost}; it does not start again{last}: {again.reason}"

    def end(self, description: dict[str, Any]) -> None:
        """Ends it, and writes into run.json's `sidecar` what it said at its end and how often it had died; into `power`
        what became of one that was killed while it started."""
        facts: dict[str, Any] = dict(self._stop() or {"event": "lost"})
        self._intake.take()
        self._intake.close()
        if self._intake.refused:
            facts["refused"] = self._intake.refused
        if self._deaths:
            facts["deaths"] = self._deaths
        description.setdefault("sidecar", {})[self._device.name] = facts
        if self._killed_at_start:
            description.setdefault("power", {})[self._device.name] = asdict(self.state)

    @abstractmethod
    def _start(self) -> SidecarState:
        """Returns once the first readings are on disk, or it is known that there will be none."""

    @abstractmethod
    def _ended(self) -> str | None:
        """None while it runs, else how it ended ("was ended by SIGKILL")."""

    @abstractmethod
    def _killed(self) -> str | None:
        """As `_ended`, where a signal ended it that was not sent from here; else None."""

    @abstractmethod
    def _stop(self) -> Mapping[str, Any] | None:
        """Its `done` event, None where it came to say none."""


def looked_after(sidecar: Sidecar, on_event: OnEvent, report: Callable[[str], None]) -> OnEvent:
    """on_event, and after each cell a look whether the sidecar still lives."""

    def watch(event: Mapping[str, Any]) -> None:
        ended = event["event"] == "cell_finish"
        words = sidecar.take() if ended else ""  # first, so that whoever is told of the cell finds its readings
        on_event(event)
        for message in filter(None, (words, sidecar.revive() if ended else "")):
            report(message)

    return watch
