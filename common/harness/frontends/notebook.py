"""The notebook front end: the same worker, run by a cell of a Jupyter kernel of the same interpreter.

    supervisor --- commands, events, lifeline --------------------> kernel (ipykernel): one cell calls worker.main()
        |                                                              ^ |
        +--> this program, its client: starts it, sends the cell ------+ | shell, iopub, control, heartbeat over ZeroMQ
             ^                                                           |
             +--- standard output and error of compiled code ------------+ (and back; see in_kernel.lend_output)

The supervisor sees one worker: client and kernel are one process group, which it kills as a whole and which dies with
its lifeline, and when the kernel dies the client dies in the same way, by the same signal or exit code. While a cell is
measured the client sleeps in poll(2), but for the heartbeat once a second.

The kernel is what a user of a notebook has: event loop, ZeroMQ threads, heartbeat, parent poller, history, display hook,
output captured by OutStream. Only the settings of the user are kept out (IPYTHONDIR is a folder of its own, gone
afterwards), and `quiet` is off, so that what Python prints stands in the log at once. What compiled code prints stands
there twice, as it reaches the terminal and the notebook.

jupyter_client alone, not nbclient on top of it: nbclient starts kernels in a session of their own, out of the reach of
the supervisor's kill, waits for the end of a cell without its output, and brings a dozen packages more into an image.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from queue import Empty
from typing import Any, Callable, Deque, Dict, List, NoReturn, Optional, Sequence, Tuple

from common.harness import cell_folder
from common.harness.process import die_with
from common.job import Job

#: a kernel that was asked to shut down may take this long
SHUTDOWN_SECONDS = 10.0
#: a dead kernel's output is waited for this long: a child of it may hold the pipes open
LAST_WORDS_SECONDS = 1.0
#: what compiled code wrote within this time before its death is repeated in the log; before, it has got there by itself
_RECENT_SECONDS = 2.0

CELL = """\
from common.harness.frontends import in_kernel

in_kernel.work({arguments!r}, CHANNEL)"""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class KernelDied(Exception):
    """exit_code: minus the signal's number where a signal ended it."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


class Output:
    """Standard output and error of compiled code, on its way back to the kernel."""

    def __init__(self) -> None:
        #: where it is read -> where ipykernel waits for it
        self.routes: Dict[int, int] = {}
        self._recent: Deque[Tuple[float, bytes]] = deque()

    def accept(self, channel: socket.socket) -> None:
        """Takes over what in_kernel.lend_output sends."""
        _, lent, _, _ = socket.recv_fds(channel, 16, 4)
        for source, target in zip(lent[::2], lent[1::2]):
            # A kernel whose threads all wait for one lock would not read on, and this program must.
            os.set_blocking(target, False)
            self.routes[source] = target

    def forward(self, source: int) -> None:
        """Passes on what is there; forgets the route at its end."""
        data = os.read(source, 1 << 16)
        if not data:
            os.close(self.routes.pop(source))
            os.close(source)
            return
        self._recent.append((time.monotonic(), data))
        while self._recent[0][0] < time.monotonic() - _RECENT_SECONDS:
            self._recent.popleft()
        try:
            os.write(self.routes[source], data)
        except OSError:
            pass  # full, or nobody reads any more

    def last_words(self) -> bytes:
        now = time.monotonic()
        return b"".join(data for when, data in self._recent if when >= now - _RECENT_SECONDS)


class Kernel:
    """A Jupyter kernel and the connection to it.

    cell: what it runs; CHANNEL in it becomes the descriptor of a socket to this program. descriptors: handed on to it and
    closed here. folder: a scratch folder of its own.
    """

    def __init__(self, cell: str, descriptors: Sequence[int], folder: Path) -> None:
        self._connection_file = folder / "kernel.json"
        self._output = Output()
        self._bell = _ring_at_death_of_a_child()
        self._channel, theirs = socket.socketpair()
        self._cell = cell.replace("CHANNEL", str(theirs.fileno()))
        # ipykernel chooses its own free ports and writes the file: nobody can take them in between.
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", str(self._connection_file)]
        # ERROR: version 7 warns of every connection that is not encrypted, and these stay on this machine.
        command += ["--IPKernelApp.quiet=False", "--log-level=ERROR"]
        environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython"), "JPY_PARENT_PID": str(os.getpid())}
        environment.pop("PYTHONSTARTUP", None)
        # Four lines about breakpoints, which would be the last words of a kernel that says nothing else.
        environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
        handed_on = [*descriptors, theirs.fileno()]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, pass_fds=handed_on)
        theirs.close()
        # Whoever holds the other ends must see when the kernel is gone.
        for descriptor in descriptors:
            os.close(descriptor)

        # Imported while the kernel starts.
        import zmq
        from jupyter_client.blocking.client import BlockingKernelClient

        self._zmq = zmq
        self._client = BlockingKernelClient()

    def connect(self) -> None:
        """Returns when the kernel answers and its messages arrive. Raises KernelDied."""
        while not self._connection_is_written():
            self._wait(0.02, [])
        self._client.load_connection_file(str(self._connection_file))
        self._client.start_channels(stdin=False)
        answered = reported = False
        while not (answered and reported):
            self._client.kernel_info()
            self._wait(0.2, [self._client.shell_channel, self._client.iopub_channel])
            answered = self._receive(self._client.get_shell_msg, "kernel_info_reply") is not None or answered
            reported = self._receive(self._client.get_iopub_msg) is not None or reported

    def execute(self) -> bool:
        """Runs the cell to its end; whether it raised nothing. Raises KernelDied."""
        client = self._client
        request = client.execute(self._cell, store_history=True, allow_stdin=False)
        waiting_for = [client.shell_channel, client.iopub_channel, self._channel]
        while True:
            self._wait(None, waiting_for)
            if self._channel in waiting_for and _readable(self._channel):
                self._output.accept(self._channel)
                waiting_for.remove(self._channel)
            while True:
                message = self._receive(client.get_iopub_msg)
                if message is None:
                    break
                if message["msg_type"] == "error":
                    print(_COLOURS.sub("", "\n".join(message["content"]["traceback"])), file=sys.stderr, flush=True)
            reply = self._receive(client.get_shell_msg, "execute_reply")
            if reply is not None and reply["parent_header"].get("msg_id") == request:
                return bool(reply["content"]["status"] == "ok")

    def shut_down(self) -> None:
        """Lets it end by itself for a while, then ends it."""
        self._client.shutdown()
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        try:
            while time.monotonic() < deadline:
                self._wait(deadline - time.monotonic(), [])
        except KernelDied:
            return
        self._process.kill()
        self._process.wait()

    def handle_last_words(self) -> None:
        """Copies into the log what the dead kernel's compiled code said at the end."""
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        while self._output.routes and time.monotonic() < deadline:
            for source in [source for source in self._output.routes if _readable(source, 0.05)]:
                self._output.forward(source)
        sys.stderr.flush()
        os.write(2, self._output.last_words())

    def _connection_is_written(self) -> bool:
        try:
            return bool(json.loads(self._connection_file.read_text()))
        except (OSError, ValueError):
            return False

    def _wait(self, seconds: Optional[float], sources: List[Any]) -> None:
        """Until one of the sources can be read, output came and went, or the time is up. Raises KernelDied."""
        poller = self._zmq.Poller()
        for source in [self._bell, *self._output.routes, *(getattr(one, "socket", one) for one in sources)]:
            poller.register(source, self._zmq.POLLIN)
        ready = dict(poller.poll(None if seconds is None else int(max(0.0, seconds) * 1000)))
        for source in [source for source in self._output.routes if source in ready]:
            self._output.forward(source)
        if self._bell in ready:
            os.read(self._bell, 4096)
        exit_code = self._process.poll()
        if exit_code is not None:
            raise KernelDied(exit_code)

    def _receive(self, get: Callable[..., Any], kind: str = "") -> Optional[Dict[str, Any]]:
        """The next message of that kind (of any) that has arrived; None when there is none.

        get: of the client, not of a channel, whose methods are coroutines in some versions of jupyter_client.
        """
        while True:
            try:
                message: Dict[str, Any] = get(timeout=0)
            except Empty:
                return None
            if kind in ("", message["msg_type"]):
                return message


def _ring_at_death_of_a_child() -> int:
    """A descriptor that can be read whenever a child has died."""
    read_end, write_end = os.pipe()
    for descriptor in (read_end, write_end):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return read_end


def _readable(source: Any, seconds: float = 0.0) -> bool:
    return bool(select.select([source], [], [], seconds)[0])


def die_like(exit_code: int) -> int:
    """Ends this process by the signal that ended the kernel, without a core file or a word; else returns the exit code."""
    if exit_code < 0:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -exit_code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-exit_code, signal.SIG_DFL)
        os.kill(os.getpid(), -exit_code)
    return exit_code


def run(cell: str, descriptors: Sequence[int], folder: Path) -> int:
    """Runs one cell in a kernel of its own; see Kernel. Exit code: 0, 1 when the cell raised, else the dead kernel's."""
    kernel = Kernel(cell, descriptors, folder)
    try:
        kernel.connect()
        ran = kernel.execute()
        kernel.shut_down()
        return 0 if ran else 1
    except KernelDied as death:
        kernel.handle_last_words()
        return death.exit_code


def leave(exit_code: int) -> NoReturn:
    """Ends this process as the kernel ended."""
    # Not sys.exit: it would wait for the threads of the connection.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(die_like(exit_code))


def main(arguments: List[str]) -> int:
    """As worker.main: job.json, the worker's name, and the descriptors of commands, events and lifeline."""
    descriptors = [int(number) for number in arguments[2:]]
    die_with(descriptors[2])
    job = Job.read_here(Path(arguments[0]))
    with cell_folder.scratch(Path(job.run_dir), f"kernel-{arguments[1]}") as folder:
        return run(CELL.format(arguments=arguments), descriptors, folder)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
