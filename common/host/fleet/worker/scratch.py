"""Where a host keeps a run until it is carried away: `data/fleet/<name>/`, gone when its agent is."""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import UserError
from common.host.paths import DataFolder

ALIVE = ".alive"


@contextmanager
def scratch_folder(data: DataFolder, name: str) -> Iterator[Path]:
    """A new folder for the block, held by a lock; what a killed agent left is removed on the way.

    It stays after the block: whoever reads it removes it. Raises UserError when it cannot be made.
    """
    try:
        data.fleet.mkdir(parents=True, exist_ok=True)
        # One at a time: between the making of a folder and its lock nobody may take it for a dead one's.
        with (data.fleet / ".lock").open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            for left in leftovers(data):
                shutil.rmtree(left, ignore_errors=True)
            folder = data.fleet / f"{name}-{uuid.uuid4().hex[:8]}"
            folder.mkdir()
            alive = (folder / ALIVE).open("a")
            fcntl.flock(alive, fcntl.LOCK_EX)
    except OSError as error:
        raise UserError(
            f"{data.fleet} cannot be written: {error.strerror}; FRAMEWATT_DATA names another data folder"
        ) from error
    with alive:
        yield folder


def leftovers(data: DataFolder) -> list[Path]:
    """Folders whose agent is gone."""
    return [path for path in sorted(data.fleet.glob("*")) if path.is_dir() and not _is_held(path / ALIVE)]


def _is_held(path: Path) -> bool:
    try:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # held, or nobody can tell: then it stays
    return False
