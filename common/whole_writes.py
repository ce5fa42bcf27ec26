"""What several processes may make at once comes into being whole or not at all: a file or a folder, such as in a cache.

It is written in a temporary folder beside its place, which no other process or thread has the name of: the id of a process
tells nothing, since the first process of every container is number 1, and threads share one. At the end it is renamed. An error
leaves nothing behind; what a kill leaves, the next writer there removes (held_folders.py).

Runs on Python 3.9 with the standard library alone.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Tuple

from common.held_folders import held_folder, owner, remove_abandoned


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """The path, of the same name, to make a file or a folder at in the block; at its end it takes the place of `target`.

    A file takes the place of whatever file is there: of two writers the last one's stays. A folder takes the place of the
    one that was there when the block began, which its maker has no use for, it being broken, say; one that has come to be
    meanwhile stays, since others may read in it, and this one is dropped. Makes the parents. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent)
    before = _identity(target)
    with held_folder(target.parent, owner()) as folder:
        try:
            part = folder / target.name
            yield part
            _sync(part)
            if part.is_dir() and not part.is_symlink():
                _put_folder(part, target, before)
            else:
                part.replace(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """As Path.write_bytes, whole. Raises OSError."""
    with whole(path) as part:
        part.write_bytes(content)


def _identity(path: Path) -> Optional[Tuple[int, int]]:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _put_folder(part: Path, target: Path, before: Optional[Tuple[int, int]]) -> None:
    if before is not None and _identity(target) == before:
        try:
            target.rename(part.with_name(f"{part.name}.before"))  # it goes with the temporary folder
        except FileNotFoundError:
            pass  # another process has just done that
    try:
        part.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _sync(path: Path) -> None:
    """On disk, with all that is in it: else a crash of the machine may leave a name that stands for nothing."""
    if path.is_dir() and not path.is_symlink():
        for entry in path.iterdir():
            _sync(entry)
    elif not path.is_file():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
