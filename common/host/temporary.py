"""Folders in $TMPDIR for processes that a task starts and holds; they go with the task, or with `invoke clean` if it was killed."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.held_folders import holding, is_held

#: what a folder is for, as its name has it
FOR = ("verify", "order", "overhead", "notebook")


@contextmanager
def temporary_folder(what: str) -> Iterator[Path]:
    """A new folder, held in the block and then removed. what: one of FOR."""
    assert what in FOR
    # A process that has ended may have started one that still writes.
    with (
        tempfile.TemporaryDirectory(prefix=f"framewatt-{what}-", ignore_cleanup_errors=True) as name,
        holding(Path(name)),
    ):
        yield Path(name)


def leftovers() -> list[Path]:
    """Those of this user that nobody holds; of a task that had another $TMPDIR nothing is known."""
    found = (path for what in FOR for path in Path(tempfile.gettempdir()).glob(f"framewatt-{what}-*"))
    return sorted(path for path in found if _is_ours(path) and not is_held(path))


def _is_ours(path: Path) -> bool:
    """In a folder for all users a name says nothing."""
    try:
        status = path.lstat()
    except OSError:
        return False  # gone meanwhile
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
