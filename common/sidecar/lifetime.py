"""When the sidecar has to end: a signal, or the death of whoever started it."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Optional


class Lifetime:
    """`over()` says why the sidecar must end, or None.

    parent_pid: end when this process does. until_stdin_closes: end when standard input reaches its end, which it does
    however the writer dies, also from another PID namespace. until_file: end when this file exists.
    """

    def __init__(
        self,
        parent_pid: Optional[int] = None,
        until_stdin_closes: bool = False,
        until_file: Optional[Path] = None,
    ) -> None:
        self._end_file = until_file
        self._signal: Optional[str] = None
        self._parent = parent_pid
        self._poll = select.poll()
        self._stdin = until_stdin_closes
        self._parent_file: Optional[int] = None
        if parent_pid is not None and hasattr(os, "pidfd_open"):
            try:
                self._parent_file = os.pidfd_open(parent_pid)
                self._poll.register(self._parent_file, select.POLLIN)
            except OSError:
                pass  # gone, or an old kernel: over() tells the two apart
        if until_stdin_closes:
            self._poll.register(0, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signal = signal.Signals(number).name

    def signalled(self) -> bool:
        """Whether a signal came: costs nothing, for use between two sleeps."""
        return self._signal is not None

    def over(self) -> Optional[str]:
        if self._signal is not None:
            return self._signal
        if self._parent_file is not None or self._stdin:
            for file, events in self._poll.poll(0):
                if file == self._parent_file:
                    return "the parent process ended"
                if not events & select.POLLIN or not os.read(file, 4096):
                    return "standard input was closed"
        if self._end_file is not None and self._end_file.exists():
            return f"{self._end_file.name} exists"
        if self._parent is not None and self._parent_file is None and not _exists(self._parent):
            return "the parent process ended"
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
