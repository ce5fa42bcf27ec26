"""How signals end the host's work: SIGTERM, and SIGHUP of a terminal that is gone, as tidily as Ctrl-C does.

Each becomes a KeyboardInterrupt in the main thread: what was made half is removed, what was started is ended. The exit code tells them
apart, 130, 143 and 129.

On a terminal that is gone every write fails, and an error on the way out would leave undone what comes after it: standard streams that
are such a terminal are replaced by the null device.
"""

from __future__ import annotations

import errno
import os
import signal
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: beside Ctrl-C, whose handler is Python's own
ENDING = (signal.SIGTERM, signal.SIGHUP)

_received: int = signal.SIGINT


def exit_code() -> int:
    """Of a process that a signal has ended: 128 + its number; Ctrl-C's where none was received."""
    return 128 + _received


def let_go_of_lost_terminals() -> None:
    """Standard streams that are a terminal which is gone are the null device from here on; others stay."""
    for descriptor in (0, 1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:  # ENOTTY: a file or a pipe; EBADF: closed
            if error.args[0] == errno.EIO:
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, descriptor)
                os.close(null)


def _interrupt(number: int, frame: object = None) -> None:
    global _received
    _received = number
    if number == signal.SIGHUP:
        let_go_of_lost_terminals()
    raise KeyboardInterrupt


def install() -> None:
    """For the rest of this process. Ignored ones stay so: nohup has a command ignore SIGHUP."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


@contextmanager
def as_interrupts() -> Iterator[None]:
    """As install(), for the block; without effect in a thread, which gets no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    install()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """They and Ctrl-C wait for the end of the block; without effect in a thread, which gets no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: caught.append(number))
        for number in (signal.SIGINT, *ENDING)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        _interrupt(caught[-1])
