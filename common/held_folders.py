"""Temporary folders that are told from what a kill left behind by a lock, which the kernel frees however its holder ends.

Runs on Python 3.9 with the standard library alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

TEMPORARY = ".tmp-"
#: a folder this young may be one that nobody has come to lock: its maker, or who takes it over from its maker, in s
YOUNG_S = 600.0
#: where a file system knows no locks, what is older than this was left behind
STALE_AFTER_S = 6 * 3600.0


@contextmanager
def held_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, held in the block; whoever gets it removes or renames it. Raises OSError."""
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=parent))
    with holding(folder):
        yield folder


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """The folder is held in the block; it may be renamed or removed meanwhile. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether its maker is still there; where the file system cannot tell, whether it may be."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        free = _lock(descriptor)
        if free is None:
            return time.time() - os.fstat(descriptor).st_mtime <= STALE_AFTER_S
        return not free
    finally:
        os.close(descriptor)


def remove_abandoned(parent: Path) -> None:
    """Removes the temporary folders in `parent` whose makers are gone."""
    for folder in parent.glob(TEMPORARY + "*"):
        try:
            young = time.time() - folder.lstat().st_mtime <= YOUNG_S
        except OSError:
            continue  # its own maker renamed or removed it
        if not young and not is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _lock(descriptor: int) -> Optional[bool]:
    """Whether it is locked now by this process; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True
