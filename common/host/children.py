"""Processes that the host starts end with it, also when it is killed, and within their time.

`guarded` is for programs that do work of their own and start others (pip, the exporter, pytest): the whole family is
ended. `dying_with_parent` is for programs that the host talks to, measures or stops by their process id (a supervisor, a
sidecar, a side of `invoke verify`): it adds no process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import IO, Any

from common.host.paths import ROOT

#: a guarded program may take this long to end after SIGTERM, in s
GRACE_SECONDS = 1.5
_GUARD = Path(__file__).with_name("guard.py")
#: becomes the command after asking the kernel (Linux) for a signal at the death of the thread that started it, after
#: a look whether that has happened already, and on the CPUs that are named, if any
_BECOME = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))
if os.getppid() != int(sys.argv[2]):
    sys.exit(143)
try:
    if sys.argv[3]:
        os.sched_setaffinity(0, set(map(int, sys.argv[3].split(","))))
    os.execvp(sys.argv[4], sys.argv[4:])
except OSError as error:
    sys.exit(f"error: {sys.argv[4]}: {error.strerror}")
"""


class Guarded:
    """A program that runs under a guard."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        #: it was ended because it took longer than its limit
        self.over_time = False

    def end(self) -> None:
        """Tells it to end; it does within GRACE_SECONDS, or is killed."""
        if self.process.poll() is None:
            self.process.terminate()

    def _too_long(self) -> None:
        self.over_time = True
        self.end()


@contextmanager
def guarded(
    command: Sequence[str | Path],
    *,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    env: Mapping[str, str] | None = None,
    limit_s: float | None = None,
) -> Iterator[Guarded]:
    """Runs a program for the block, in the checkout's folder; what is left of it at the block's end is ended.

    limit_s: it is ended after so long. Raises OSError when the program cannot be started.
    """
    _check_executable(command[0])
    read, write = os.pipe()
    words = [sys.executable, "-I", "-S", str(_GUARD), str(read), str(GRACE_SECONDS), *map(str, command)]
    try:
        # Its own session: Ctrl-C reaches it through its starter alone, in the starter's order.
        process = subprocess.Popen(
            words, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True,
            pass_fds=[read], start_new_session=True, errors="replace",
        )  # fmt: skip
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
    held = Guarded(process)
    limit = Timer(limit_s or 0, held._too_long)
    limit.daemon = True
    try:
        if limit_s:
            limit.start()
        yield held
    finally:
        limit.cancel()
        held.end()
        process.wait()
        os.close(write)
        if process.stdout is not None:
            process.stdout.close()


def run_guarded(
    command: Sequence[str | Path], *, limit_s: float | None = None, capture: bool = True
) -> tuple[int, str]:
    """Exit code, and standard output and error together ("" unless captured). Raises OSError as guarded does."""
    out, errors = (subprocess.PIPE, subprocess.STDOUT) if capture else (None, None)
    with guarded(command, limit_s=limit_s, stdout=out, stderr=errors) as child:
        output = child.process.stdout.read() if child.process.stdout is not None else ""
        return child.process.wait(), output


def dying_with_parent(
    command: Sequence[str | Path], number: signal.Signals = signal.SIGKILL, cpus: Sequence[int] = ()
) -> list[str]:
    """The command line that becomes `command`, which gets that signal when the thread that starts it ends.

    For threads that wait for what they start. cpus: the CPUs that it may run on; () is those of this process. Where the kernel
    knows no such signal (not Linux) nothing is added. Raises OSError when there is no such program.
    """
    words = [str(word) for word in command]
    _check_executable(words[0])
    if not sys.platform.startswith("linux"):
        return words
    return [
        sys.executable,
        "-I",
        "-S",
        "-c",
        _BECOME,
        str(int(number)),
        str(os.getpid()),
        ",".join(map(str, cpus)),
        *words,
    ]


def _check_executable(program: str | Path) -> None:
    """What Popen would raise, had it started the program itself."""
    if os.sep in str(program):
        with suppress(PermissionError):
            Path(program).stat()
        if not os.access(program, os.X_OK) or Path(program).is_dir():
            raise PermissionError(13, os.strerror(13), str(program))
