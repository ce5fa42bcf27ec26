"""Who writes a run's files. A container runs as the caller, so that results belong to the caller; never as root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: the user that every image has; used when root calls
IMAGE_UID = 1000


def container_user() -> tuple[int, int]:
    """uid and gid for containers: the caller's own, or the images' unprivileged user when root calls."""
    if os.getuid() == 0:
        return IMAGE_UID, IMAGE_UID
    return os.getuid(), os.getgid()


def _give(folder: Path, uid: int, gid: int) -> None:
    for path in (folder, *folder.rglob("*")):
        try:
            os.chown(path, uid, gid, follow_symlinks=False)
        except FileNotFoundError:
            continue  # a temporary file that its writer renamed meanwhile


@contextmanager
def lent(*folders: Path) -> Iterator[None]:
    """While the block runs, containers may write these folders; afterwards everything in them is the caller's again."""
    user = container_user()
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    if user == (os.getuid(), os.getgid()):
        yield
        return
    for folder in folders:
        _give(folder, *user)
    try:
        yield
    finally:
        for folder in folders:
            _give(folder, os.getuid(), os.getgid())
