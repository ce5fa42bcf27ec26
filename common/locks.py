"""Who may use a device now, told by file locks: the kernel frees a lock however its holder ends.

`docker compose` starts a service after another one *succeeded*, which would let one framework that fails stop all that
come after it. So all services start at once, and each waits, asleep in flock(2), for the one before it to be gone.
The locks mean the same in all containers that share the folder. The device's own lock is the one that `invoke bench`
holds, so that the two never measure on one device at the same time.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

#: containers are started in the order of their turns, so that the one before must have shown itself by then
APPEARS_WITHIN_SECONDS = 60.0


@contextmanager
def turn(folder: Path, name: str, after: str) -> Iterator[None]:
    """Is in the queue from the start, and in the block when it is its turn: when `after` has come and gone.

    after: name of the turn before, "" for the first. One that never comes is waited for 60 s.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a") as own:
        fcntl.flock(own, fcntl.LOCK_EX)
        if after:
            wait_for_end(folder / after, APPEARS_WITHIN_SECONDS)
        yield


def wait_for_end(path: Path, appears_within_s: float) -> None:
    """Returns when the turn of that file is over, or when it has not appeared within so many seconds."""
    deadline = time.monotonic() + appears_within_s
    while not path.exists():
        if time.monotonic() >= deadline:
            return
        time.sleep(0.2)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)


@contextmanager
def device_lock(path: Path, holder: str) -> Iterator[None]:
    """Waits until nobody else measures on the device, then holds it. holder: what others are told has it."""
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
