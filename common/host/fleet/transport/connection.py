"""The connection to a Ray cluster, held by a process of its own (ray_process.py), as the rest of framewatt sees it.

A process of its own, because Ray's driver prints to standard output when it likes, waits minutes for an address at which
nobody is, and ends its process when the head is gone. Here each of these is one line, and what was collected stays.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.host.fleet.transport.cluster import Node
from common.host.paths import ROOT, DataFolder

#: somebody listens at the address, or not, within this
PROBE_SECONDS = 5.0
#: a Ray head that listens lets us in within this; FRAMEWATT_FLEET_CONNECT_SECONDS sets another
CONNECT_SECONDS = 60.0
CLOSE_SECONDS = 15.0
INSTALL = "./invoke fleet up-check installs it into .venv; elsewhere pip install '.[fleet]'"


@dataclass(frozen=True)
class Arrived:
    """A message of on_host for an attempt (or check). received_s: this machine's wall clock when it came."""

    attempt: str
    message: Mapping[str, Any]
    received_s: float = 0.0


@dataclass(frozen=True)
class Over:
    """No more messages will come. reason: "" when its task returned, else what Ray says."""

    attempt: str
    reason: str = ""


@dataclass(frozen=True)
class Changed:
    """The cluster, as it is now."""

    nodes: tuple[Node, ...]


News = Arrived | Over | Changed


class TransportLost(Exception):
    """The process that talks to Ray is gone, or Ray's head is; one line."""


def need_ray() -> None:
    """Raises UserError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise UserError(f"Ray is not installed in this environment; {INSTALL}")


def parse_address(address: str) -> tuple[str, int]:
    """HOST:PORT. Raises UserError for anything else."""
    address = address or os.environ.get("RAY_ADDRESS", "")
    if not address:
        raise UserError("which cluster? give --address HOST:PORT of Ray's head (ray start --head prints it)")
    if "://" in address:
        raise UserError(
            f"--address takes HOST:PORT of Ray's head, not {address}: let this machine join the cluster "
            "(ray start --address=HOST:6379 --num-cpus=0 --num-gpus=0) and give the same address"
        )
    host, colon, port = address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise UserError(f"--address '{address}' is not HOST:PORT, such as 10.0.0.1:6379")
    return host.strip("[]"), int(port)


def probe(host: str, port: int) -> None:
    """Raises UserError when nobody listens there."""
    try:
        socket.create_connection((host, port), PROBE_SECONDS).close()
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
        raise UserError(
            f"there is no Ray at {host}:{port} ({reason}); on the head: ray start --head --port={port}"
        ) from error


def with_advice(text: str) -> str:
    """Ray's words on why it does not take us, with what mends it where that is known."""
    versions = re.search(r"cluster was started with:? Ray: (\S+) Python: (\S+)", text)
    if versions is None:
        return text
    return f"{text}; use Python {versions[2]} here, and .venv/bin/pip install ray=={versions[1]}"


def raylet_runs_here(processes: Path = Path("/proc")) -> bool:
    """Whether this machine is part of some Ray cluster."""
    for path in processes.glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().partition(b"\0")[0].endswith(b"/raylet"):
                return True
    return False


class Transport:
    """An open connection. command: how the process is started (tests and the simulation have their own)."""

    def __init__(
        self, address: str, data: DataFolder, command: Sequence[str] = ("-m", "common.host.fleet.transport.ray_process")
    ) -> None:
        """Raises UserError when there is no Ray at the address, or it does not take us."""
        host, port = parse_address(address)
        probe(host, port)
        if not raylet_runs_here():
            raise UserError(
                f"this machine has not joined the cluster at {host}:{port}: "
                f"ray start --address={host}:{port} --num-cpus=0 --num-gpus=0 (it then takes no cells)"
            )
        self.address = f"{host}:{port}"
        self._connection, theirs = Pipe()
        data.fleet.mkdir(parents=True, exist_ok=True)
        self.log = data.fleet / "ray.log"
        with theirs, self.log.open("w") as log:
            # Its own session: Ctrl-C is for us, who then ask hosts to stop.
            self._process = subprocess.Popen(
                [sys.executable, *command, self.address, str(theirs.fileno())],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                pass_fds=[theirs.fileno()],
            )  # fmt: skip
        try:
            self._await_welcome()
        except BaseException:
            self._process.kill()  # it may try for minutes
            self.close()
            raise

    def _await_welcome(self) -> None:
        seconds = float(os.environ.get("FRAMEWATT_FLEET_CONNECT_SECONDS", CONNECT_SECONDS))
        deadline = time.monotonic() + seconds
        answer: Any = None
        with suppress(EOFError, OSError):
            while answer is None and time.monotonic() < deadline and not self._wants_token():
                if self._connection.poll(0.5):
                    answer = self._connection.recv()
        if answer is None and self._wants_token():
            raise UserError(
                f"Ray at {self.address} wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as its hosts have them"
            )
        if answer is None:
            raise UserError(
                f"somebody listens at {self.address}, but it does not behave like Ray's head (see {self.log})"
            )
        what, text = answer
        if what == "refused":
            raise UserError(f"Ray at {self.address}: {with_advice(str(text))}")
        self.ray_version = str(text)

    def _wants_token(self) -> bool:
        """Ray says so in its log alone, and goes on trying."""
        return "InvalidAuthToken" in self.log.read_text(errors="replace")

    # -- what to do ----------------------------------------------------------------------------------------------------

    def share(self, inputs: Mapping[str, tuple[str, bytes]]) -> None:
        """Files that every task gets; sent once."""
        self._send("share", dict(inputs))

    def check(self, attempt: str, node_id: str, spec: Mapping[str, Any]) -> None:
        """Asks one host what it is."""
        self._send("check", attempt, node_id, dict(spec))

    def start(self, attempt: str, accelerator: str, avoid: Sequence[str], spec: Mapping[str, Any]) -> None:
        """A task for one GPU of the accelerator, not on these hosts."""
        self._send("start", attempt, accelerator, list(avoid), dict(spec))

    def stop(self, by_node: Mapping[str, Sequence[str]]) -> None:
        """Interrupts agents: node id -> what their specs call their attempts. Their tasks then end by themselves."""
        self._send("stop", {node: list(attempts) for node, attempts in by_node.items()})

    def cancel(self, attempt: str) -> None:
        """Gives a task up, whether it waits or runs; nothing more is heard of it."""
        self._send("cancel", attempt)

    def _send(self, *command: Any) -> None:
        try:
            self._connection.send(command)
        except (OSError, ValueError) as error:
            raise TransportLost(self._reason()) from error

    # -- what happens --------------------------------------------------------------------------------------------------

    def poll(self, seconds: float) -> list[News]:
        """What came in, waiting at most so long for the first of it. Raises TransportLost."""
        found: list[News] = []
        try:
            while self._connection.poll(0 if found else seconds) and len(found) < 1000:
                found += self._connection.recv()
        except (EOFError, OSError) as error:
            if not found:
                raise TransportLost(self._reason()) from error
        return found

    def _reason(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)
        return f"the connection to Ray at {self.address} is lost (its last words: {self.log})"

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """Gives up what still runs. Never raises."""
        with suppress(OSError):
            self._connection.close()  # it ends when nobody is there any more
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def connection_from(descriptor: int) -> Connection:
    """The other end, in the process that was started."""
    return Connection(descriptor)
