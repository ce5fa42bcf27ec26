"""Folders in $TMPDIR for processes that a task starts and holds; they go with the task, or with `invoke clean` if it was killed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.held_folders import holding, is_held

#: what a folder is for, as its name has it
FOR = ("verify", "order", "overhead", "notebook", "docker")
#: one this young may be one that its maker has not come to lock, in s
_YOUNG_S = 60.0


@contextmanager
def temporary_folder(what: str) -> Iterator[Path]:
    """A new folder, held in the block and then removed. what: one of FOR."""
    assert what in FOR
    folder = Path(tempfile.mkdtemp(prefix=f"framewatt-{what}-"))
    with holding(folder):
        try:
            yield folder
        finally:
            # Held, or `clean` would remove it too. A process that has ended may have started one that still writes.
            shutil.rmtree(folder, ignore_errors=True)


def leftovers() -> list[Path]:
    """Those of this user that nobody holds, older than _YOUNG_S; of a task that had another $TMPDIR nothing is known."""
    found = (path for what in FOR for path in Path(tempfile.gettempdir()).glob(f"framewatt-{what}-*"))
    return sorted(path for path in found if _is_ours_and_old(path) and not is_held(path))


def _is_ours_and_old(path: Path) -> bool:
    """In a folder for all users a name says nothing."""
    try:
        status = path.lstat()
    except OSError:
        return False  # gone meanwhile
    old = time.time() - status.st_mtime > _YOUNG_S
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and old
