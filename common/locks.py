"""Who may use a device now, by file locks: the kernel frees a lock however its holder ends.

`docker compose` starts a service after another one *succeeded*, which would let one framework that fails stop all that
come after it. So all services start at once, and each waits, asleep in flock(2), for its turn, which the sweep's own last
service gives. The locks mean the same in all containers that share a file. A service only reads the file of its turn; that
it runs at all it tells by a lock in the folder that it alone writes. The device's own lock is the one that `invoke bench`
holds, so that the two never measure on one device at the same time.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Iterator

#: all containers are started at once, so that each must have shown itself by then
APPEARS_WITHIN_SECONDS = 60.0
#: name of the file that a service locks while it runs
ALIVE = "alive"
_GIVEN = "given"


@contextmanager
def alive(folder: Path) -> Iterator[None]:
    """The folder's file ALIVE is locked in the block; it appears locked."""
    new = folder / f".{ALIVE}"
    with new.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        new.replace(folder / ALIVE)
        yield


class TurnLock:
    """The turn of a service, for whoever gives it; the file appears locked."""

    def __init__(self, path: Path) -> None:
        new = path.with_name(f".{path.name}")
        self._file: IO[str] = new.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        new.replace(path)

    def give(self) -> None:
        self._file.write(_GIVEN)
        self._file.close()


def wait_for_turn(path: Path, appears_within_s: float) -> bool:
    """Returns when the turn comes: True. False when whoever would give it does not appear, or has gone."""
    deadline = time.monotonic() + appears_within_s
    while not path.exists():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return file.read(16) == _GIVEN


@contextmanager
def device_lock(path: Path, holder: str) -> Iterator[None]:
    """Waits until nobody else measures on the device, then holds it. holder: who has it, for others to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.ftruncate(file.fileno(), 0)
        file.write(f"{holder}\n")
        file.flush()
        try:
            yield
        finally:
            os.ftruncate(file.fileno(), 0)
