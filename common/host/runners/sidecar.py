"""The sidecar of one device through a run: started before the first job, and again when it has died.

It is looked after between cells, where a starting interpreter disturbs nobody: the next cell still compiles and checks its
output before anything of it is timed. Readings are appended to the same file; what was written before stays as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from common.host.devices import Device
from common.host.runners.events import OnEvent

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
    """One device's sidecar. state: what came of its first start."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._deaths: list[str] = []
        self._failed_starts = 0
        self.state = SidecarState(False)

    def start(self) -> None:
        """Never raises for a sidecar that fails: `state` says so."""
        self.state = self._start()

    def revive(self) -> str:
        """Starts it again if it was recording and has died; returns a sentence for people, "" where there is nothing to say."""
        if not self.state.recording or self._failed_starts >= MOST_FAILED_STARTS:
            return ""
        end = self._ended()
        if end is None:
            return ""
        if self._failed_starts == 0:
            self._deaths.append(end)
        again = self._start()
        self._failed_starts = 0 if again.recording else self._failed_starts + 1
        told = f"the sidecar of {self._device.name} {end}; what was measured meanwhile has no energy"
        if again.recording:
            return f"{told}; it is started again"
        last = " and will not be tried again" if self._failed_starts == MOST_FAILED_STARTS else ""
        return f"{told}; it does not start again{last}: {again.reason}"

    def end(self, description: dict[str, Any]) -> None:
        """Ends it, and writes into run.json's `sidecar` what it said at its end and how often it had died."""
        facts: dict[str, Any] = dict(self._stop() or {"event": "lost"})
        if self._deaths:
            facts["deaths"] = self._deaths
        description.setdefault("sidecar", {})[self._device.name] = facts

    @abstractmethod
    def _start(self) -> SidecarState:
        """Returns once the first readings are on disk, or it is known that there will be none."""

    @abstractmethod
    def _ended(self) -> str | None:
        """None while it runs, else how it ended ("was ended by SIGKILL")."""

    @abstractmethod
    def _stop(self) -> Mapping[str, Any] | None:
        """Its `done` event, None where it came to say none."""


def looked_after(sidecar: Sidecar, on_event: OnEvent, tell: Callable[[str], None]) -> OnEvent:
    """on_event, and after each cell a look whether the sidecar still lives."""

    def watch(event: Mapping[str, Any]) -> None:
        on_event(event)
        if event["event"] == "cell_finish":
            words = sidecar.revive()
            if words:
                tell(words)

    return watch
