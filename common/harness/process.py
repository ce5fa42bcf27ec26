"""The worker as the supervisor holds it: a process group of its own, three pipes and a log.

commands  supervisor -> worker   {"cell_key": ...} to run a cell; closed: free everything and exit
events    worker -> supervisor   see worker.py
lifeline  nothing is ever sent; when the supervisor is gone, however it went, the kernel kills the worker's group
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

Message = Dict[str, Any]

#: F_SETSIG of Linux, which Python's fcntl names from 3.13 on only where the C library shows it
_F_SETSIG = 10


class WorkerProcess:
    """A running worker. log: its standard output and error. module: what is run, by its front end."""

    def __init__(self, job_path: Path, name: str, log: Path, environment: Mapping[str, str], module: str) -> None:
        self.name = name
        self.log = log
        command_end, self._commands = os.pipe()
        self.events, event_end = os.pipe()
        lifeline_end, self._lifeline = os.pipe()
        theirs = (command_end, event_end, lifeline_end)
        arguments = [sys.executable, "-m", module, str(job_path), name, *map(str, theirs)]
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    pass_fds=theirs,
                    start_new_session=True,
                )
        except OSError:
            for descriptor in (self._commands, self.events, self._lifeline):
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        os.set_blocking(self.events, False)
        self._received = b""
        self.silent = False

    def start_cell(self, cell_key: str) -> bool:
        """Hands over a cell; False when the worker is already dead."""
        try:
            os.write(self._commands, (json.dumps({"cell_key": cell_key}) + "\n").encode())
        except BrokenPipeError:
            return False
        return True

    def receive(self) -> List[Message]:
        """Whole messages that have arrived; sets `silent` at the end of the stream."""
        while True:
            try:
                data = os.read(self.events, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                self.silent = True
                break
            self._received += data
        *lines, self._received = self._received.split(b"\n")
        return [json.loads(line) for line in lines]

    def exit_code(self) -> Optional[int]:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._process.poll()

    def kill(self) -> None:
        """Ends the whole group at once and frees the pipes."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        # A process within a driver call dies when the driver lets it; the sweep does not wait for that.
        deadline = time.monotonic() + 30
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            pass
        self._wait_for_silence(deadline)
        for descriptor in (self._commands, self.events, self._lifeline):
            if descriptor >= 0:
                os.close(descriptor)
        self._commands = self.events = self._lifeline = -1

    def _wait_for_silence(self, deadline: float) -> None:
        """Until nobody holds the events' other end: a kernel, which is no child of this process, frees its device as late."""
        poll = select.poll()
        poll.register(self.events, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            with suppress(BlockingIOError):
                if not os.read(self.events, 1 << 16):
                    return

    def retire(self, grace_s: float) -> None:
        """Lets it free everything and exit, for so long; then ends what is left of the group."""
        os.close(self._commands)
        self._commands = -1
        try:
            self._process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            pass
        self.kill()


def die_with(lifeline: int) -> None:
    """Called in the worker: from now on its process group is killed when the lifeline's other end is closed.

    The kernel signals the group itself (fcntl(2), F_SETOWN and O_ASYNC), so this works while a framework holds the
    interpreter, takes children along, and costs nothing while a measurement runs. Where the kernel does not offer it
    (sandboxes), a thread that sleeps in read(2) does the same, but needs the interpreter for it.
    """
    try:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    except OSError:
        threading.Thread(target=_kill_group_at_end_of, args=(lifeline,), daemon=True).start()
    already_gone = select.poll()
    already_gone.register(lifeline, 0)
    if already_gone.poll(0):
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _kill_group_at_end_of(pipe: int) -> None:
    os.read(pipe, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)
