"""The kernel's side of the notebook front end: what its one cell calls."""

from __future__ import annotations

import importlib.metadata
import os
import socket
from pathlib import Path
from typing import Dict, List

from common.harness import worker
from common.harness.interleaved_side import HarnessSide
from common.interleaving import serve
from common.job import Job

#: what a notebook brings into the process, named in the rows
PACKAGES = ("ipykernel", "ipython", "pyzmq", "tornado")


def work(arguments: List[str], channel: int) -> int:
    """The worker, in the main thread of the kernel, until it is told to stop.

    arguments: of worker.main. channel: descriptor of a Unix socket to the kernel's client.
    """
    with socket.socket(fileno=channel) as client:
        lend_output(client)
    return worker.main(arguments, versions())


def interleave(job: str, commands: int, answers: int, channel: int) -> None:
    """The harness's side of common/interleaving.py in this kernel. commands, answers: descriptors of its two streams."""
    with socket.socket(fileno=channel) as client:
        lend_output(client)
    with os.fdopen(commands) as lines, os.fdopen(answers, "w") as answer:
        serve(lambda: HarnessSide(Job.read_here(Path(job))), lines, answer)


def lend_output(client: socket.socket) -> None:
    """What compiled code writes to standard output and error goes to ipykernel by way of the client, which keeps a copy.

    ipykernel reads these descriptors in a thread of this process: the last words of a framework that aborts would die
    with it. A notebook's user loses them; here they decide between `crashed` and `oom`.
    """
    lent: List[int] = []
    for number in (1, 2):
        read_end, write_end = os.pipe()
        lent += [read_end, os.dup(number)]
        os.dup2(write_end, number)
        os.close(write_end)
    socket.send_fds(client, [b"output"], lent)
    for descriptor in lent:
        os.close(descriptor)


def versions() -> Dict[str, str]:
    return {package: importlib.metadata.version(package) for package in PACKAGES}
