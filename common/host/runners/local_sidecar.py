"""The sidecar as a process of this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.harness.job_end import ended_by
from common.host.children import dying_with_parent
from common.host.devices import Device
from common.host.paths import ROOT
from common.host.runners.events import sidecar_event
from common.host.runners.power_intake import PowerIntake
from common.host.runners.sidecar import Sidecar, SidecarState

#: the first row must be on disk within this
READY_SECONDS = 15.0
ENDS_WITHIN_SECONDS = 10.0


class LocalSidecar(Sidecar):
    """`log` is appended to. options: further arguments of `python -m common.sidecar`. cpus: those that it may run on, () is any."""

    def __init__(
        self, device: Device, intake: PowerIntake, log: Path, options: list[str], cpus: Sequence[int] = ()
    ) -> None:
        super().__init__(device, intake)
        self._command = [
            sys.executable, "-m", "common.sidecar", "--out", str(intake.file), "--gpus", device.uuid or "none",
            "--until-stdin-closes", *options,
        ]  # fmt: skip
        self._log, self._cpus = log, cpus
        self._process: subprocess.Popen[str] | None = None
        self._too_slow = False

    def _start(self) -> SidecarState:
        self._stop()
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("a") as errors:
            self._process = subprocess.Popen(
                dying_with_parent(self._command, cpus=self._cpus), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True, errors="replace", start_new_session=True,
            )  # fmt: skip
        return self._wait_until_ready(self._process)

    def _killed(self) -> str | None:
        code = None if self._process is None or self._too_slow else self._process.poll()
        return ended_by(code) if code is not None and code < 0 else None

    def _ended(self) -> str | None:
        code = None if self._process is None else self._process.poll()
        return None if code is None else ended_by(code)

    def _wait_until_ready(self, process: subprocess.Popen[str]) -> SidecarState:
        assert process.stdout is not None
        self._too_slow = False

        def give_up() -> None:
            self._too_slow = True
            process.kill()

        watchdog = threading.Timer(READY_SECONDS, give_up)
        watchdog.start()
        try:
            for line in process.stdout:
                event = sidecar_event(line)
                if event.get("event") == "ready":
                    return SidecarState(recording=True, no_cpu_energy=event.get("rapl_unavailable") or "")
        finally:
            watchdog.cancel()
        process.wait()
        if self._too_slow:
            return SidecarState(recording=False, reason=f"no reading within {READY_SECONDS:.0f} s")
        words = self._log.read_text(errors="replace").strip().splitlines()
        return SidecarState(recording=False, reason=words[-1] if words else f"it {ended_by(process.returncode)}")

    def _stop(self) -> Mapping[str, Any] | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            rest, _ = process.communicate(timeout=ENDS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            rest, _ = process.communicate()
        events = [event for event in map(sidecar_event, rest.splitlines()) if event.get("event") == "done"]
        return events[-1] if events else None
