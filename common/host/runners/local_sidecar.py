"""The sidecar as a process of this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.host.devices import Device
from common.host.paths import ROOT
from common.host.runners.events import parse_object
from common.host.runners.lost_cells import ended_by
from common.host.runners.sidecar import Sidecar, SidecarState

#: the first row must be on disk within this
READY_SECONDS = 15.0
ENDS_WITHIN_SECONDS = 10.0


class LocalSidecar(Sidecar):
    """`out` is appended to, and so is `log`. options: further arguments of `python -m common.sidecar`."""

    def __init__(self, device: Device, out: Path, log: Path, options: list[str]) -> None:
        super().__init__(device)
        self._command = [
            sys.executable, "-m", "common.sidecar", "--out", str(out), "--gpus", device.uuid or "none",
            "--until-stdin-closes", *options,
        ]  # fmt: skip
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def _start(self) -> SidecarState:
        self._stop()
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("a") as errors:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                start_new_session=True,
            )  # fmt: skip
        return _wait_until_ready(self._process, self._log)

    def _ended(self) -> str | None:
        code = None if self._process is None else self._process.poll()
        return None if code is None else ended_by(code)

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
        events = [event for event in map(parse_object, rest.splitlines()) if event.get("event") == "done"]
        return events[-1] if events else None


def _wait_until_ready(process: subprocess.Popen[str], log: Path) -> SidecarState:
    assert process.stdout is not None
    watchdog = threading.Timer(READY_SECONDS, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            event = parse_object(line)
            if event.get("event") == "ready":
                return SidecarState(recording=True, no_cpu_energy=event.get("rapl_unavailable") or "")
    finally:
        watchdog.cancel()
    process.wait()
    words = log.read_text(errors="replace").strip().splitlines()
    return SidecarState(recording=False, reason=words[-1] if words else f"it {ended_by(process.returncode)}")
