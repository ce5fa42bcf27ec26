"""`python guard.py LIFELINE GRACE COMMAND ...`: runs a command that ends when whoever started it ends, however that happens.

Started by common/host/children.py alone, as a file: it imports nothing of ours, so that it is there within milliseconds.
LIFELINE is a descriptor whose other end the starter holds; it reaches its end when that process is gone, also by SIGKILL.
Then, or when told by SIGTERM or SIGINT, the command and all that it started get SIGTERM, and SIGKILL after GRACE seconds.
Standard streams and the exit code, or the signal, are the command's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import time

#: between two looks at the command and the lifeline, in s; nothing is measured beside a guarded command
LOOK_EVERY = 0.05
_PR_SET_PDEATHSIG = 1


class _Reported(Exception):
    """A signal said that it is time to end."""


def _on_signal(number: int, frame: object) -> None:
    raise _Reported


def _die_with_guard() -> None:
    """In the command's process, before it becomes the command: for a guard that is killed itself."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    lifeline, grace, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal)
    child = None
    try:
        # A group of its own: what it starts is reached too. One thread only here, which is what preexec_fn asks for.
        child = subprocess.Popen(command, process_group=0, preexec_fn=_die_with_guard)
        while child.poll() is None:
            if select.select([lifeline], [], [], LOOK_EVERY)[0]:
                break
    except _Reported:
        pass
    except OSError as error:
        print(f"error: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    return 143 if child is None else _ended(child, grace)


def _ended(child: subprocess.Popen[bytes], grace: float) -> int:
    """Ends what is left of the command's group; returns its exit code, minus the signal's number where one ended it."""
    deadline = time.monotonic() + grace
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
    _signal_group(child.pid, signal.SIGKILL)
    return child.wait()


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


if __name__ == "__main__":
    _libc = ctypes.CDLL(None, use_errno=True)
    code = main(sys.argv[1:])
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command's own crash is enough
        with contextlib.suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
