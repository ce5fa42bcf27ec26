"""A cell's folder comes into being whole or not at all: staged under `unfinished/`, synced, then renamed.

The staging folders lie outside `cells/`, so that `cells/*/*.csv` never names half a cell, and on the same file system,
so that the rename is atomic. Each is locked by its process for as long as that lives: the lock, unlike a process id,
means the same in all containers that share the run's folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

UNFINISHED = "unfinished"


class CannotWrite(Exception):
    """The run's folder takes no more: full, over quota, read-only or forbidden. One line for people."""


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turns an OSError within into CannotWrite with a plain sentence. what: what was to be written."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "no space left",
            errno.EDQUOT: "the disk quota is used up",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: "permission denied",
            errno.EPERM: "permission denied",
        }
        reason = reasons.get(error.errno or 0, error.strerror or repr(error))
        raise CannotWrite(f"cannot write {what}: {reason}") from error


def cell_path(run_dir: Path, key: str) -> Path:
    return run_dir / "cells" / key


def exists(run_dir: Path, key: str) -> bool:
    """Whether the cell has been measured (or has failed for a reason that is on disk)."""
    return cell_path(run_dir, key).is_dir()


@contextmanager
def staged(run_dir: Path, key: str) -> Iterator[Path]:
    """A folder to write the cell's files into; on leaving it becomes `cells/<key>/`, or vanishes after an error.

    Where another process has finished the same cell meanwhile, that one stays and this one is dropped.
    Raises CannotWrite.
    """
    target = cell_path(run_dir, key)
    folder = run_dir / UNFINISHED / _unique(key)
    with writing(f"cell {key}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _make_locked(folder)
        try:
            yield folder
            for entry in folder.iterdir():
                _sync(entry)
            _sync(folder)
            try:
                folder.rename(target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            _sync(target.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


@contextmanager
def scratch(run_dir: Path, name: str) -> Iterator[Path]:
    """A folder for files that nobody needs afterwards; what a kill leaves of it, remove_stale() takes away.

    Raises CannotWrite.
    """
    folder = run_dir / UNFINISHED / _unique(name)
    with writing(f"the files of {name}"):
        lock = _make_locked(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_stale(run_dir: Path) -> int:
    """Removes the staging folders whose process is gone; returns how many."""
    removed = 0
    for folder in (run_dir / UNFINISHED).glob("*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its process lives, or this file system knows no locks: then nobody can tell, so it stays
        else:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
        finally:
            os.close(lock)
    return removed


def _unique(name: str) -> str:
    """A name that nobody else uses: containers that share a run have processes of the same id."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def _make_locked(folder: Path) -> int:
    """Makes the folder, empty, and locks it; returns the descriptor that holds the lock."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
                os.close(lock)
                raise
        # Between mkdir and flock a cleaner may have taken the folder for a stale one.
        if folder.exists() and folder.stat().st_ino == os.fstat(lock).st_ino:
            for left in folder.iterdir():
                left.unlink()
            return lock
        os.close(lock)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
