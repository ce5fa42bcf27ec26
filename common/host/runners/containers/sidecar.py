"""The sidecar in a container of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests
from docker.errors import DockerException, NotFound
from docker.models.containers import Container

from common.harness.job_end import ended_by
from common.harness.rows import one_line
from common.host.devices import Device
from common.host.runners.containers import engine
from common.host.runners.containers.leftovers import remove_container
from common.host.runners.containers.output import stop
from common.host.runners.events import sidecar_event
from common.host.runners.power_intake import PowerIntake
from common.host.runners.sidecar import Sidecar, SidecarState

IMAGE = "sidecar"
READY_SECONDS = 30.0
#: of its output: it says little
_LINES, _MOST_CHARACTERS = 500, 2**18
_GONE = (DockerException, requests.exceptions.RequestException)


class ContainerSidecar(Sidecar):
    """create: makes the container. log: the end of what it printed is appended to it."""

    def __init__(self, device: Device, intake: PowerIntake, log: Path, create: Callable[[], Container]) -> None:
        super().__init__(device, intake)
        self._log = log
        self._create = create
        self._container: Container | None = None

    def _start(self) -> SidecarState:
        self._stop()
        try:
            self._container = self._create()
            self._container.start()
            return _wait_until_ready(self._container)
        except _GONE as error:
            return SidecarState(False, engine.explain(str(getattr(error, "explanation", None) or error)))

    def _ended(self) -> str | None:
        if self._container is None:
            return "could not be started"
        try:
            self._container.reload()
        except NotFound:
            return "was removed"
        except _GONE:
            return None  # the engine does not answer: its jobs will say so
        if self._container.status not in ("exited", "dead"):
            return None
        return ended_by(int(self._container.attrs["State"]["ExitCode"]))

    def _killed(self) -> str | None:
        end = self._ended() if self._container is not None else None
        if end is None or end == "was removed" or self._container is None:
            return end
        code = int(self._container.attrs["State"]["ExitCode"])
        return end if code > 128 else None  # as a shell tells signals

    def _stop(self) -> Mapping[str, Any] | None:
        container, self._container = self._container, None
        if container is None:
            return None
        events: list[dict[str, Any]] = []
        with suppress(*_GONE):
            stop(container, 5)
            text = _printed(container)
            self._log.parent.mkdir(exist_ok=True)
            with self._log.open("a") as file:
                file.write(text)
            events = [event for event in map(sidecar_event, text.splitlines()) if event.get("event") == "done"]
        remove_container(container)
        return events[-1] if events else None


def _printed(container: Container) -> str:
    """The end of what it printed."""
    return str(container.logs(tail=_LINES).decode(errors="replace"))[-_MOST_CHARACTERS:]


def _wait_until_ready(container: Container) -> SidecarState:
    """Returns when the first readings are on disk, or the sidecar has ended."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        words = _printed(container).strip().splitlines()
        for event in map(sidecar_event, words):
            if event.get("event") == "ready":
                return SidecarState(True, no_cpu_energy=event.get("rapl_unavailable") or "")
        container.reload()
        if container.status == "exited":
            messages = [line for line in words if not line.startswith("{")]
            return SidecarState(
                False, one_line(messages[-1]) if messages else f"it {ended_by(container.attrs['State']['ExitCode'])}"
            )
        time.sleep(0.1)
    return SidecarState(False, f"no reading within {READY_SECONDS:.0f} s")
