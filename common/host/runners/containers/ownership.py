"""Who writes a run's files. A container runs as the caller, so that results belong to the caller; never as root."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: the user that every image has; used when root calls
IMAGE_UID = 1000

_lock = threading.Lock()
_borrowers: Counter[Path] = Counter()


def container_user(info: dict[str, Any] | None = None) -> tuple[int, int]:
    """uid and gid for containers: the caller's own, or the images' unprivileged user when root calls.

    info: the engine's description of itself. In a rootless engine user 0 of a container *is* the caller, without any
    privilege on the host, and every other user id is a stranger.
    """
    if any("rootless" in str(option) for option in (info or {}).get("SecurityOptions") or []):
        return 0, 0
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
def lent(user: tuple[int, int], *folders: Path) -> Iterator[None]:
    """While the block runs, containers of that user may write these folders; then all in them is the caller's again.

    Only root has to lend. A folder goes back when its last borrower is done: several GPUs write one run.
    """
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0 or user[0] == 0:
        yield
        return
    with _lock:
        for folder in folders:
            _borrowers[folder] += 1
            _give(folder, *user)
    try:
        yield
    finally:
        with _lock:
            for folder in folders:
                _borrowers[folder] -= 1
                if not _borrowers[folder]:
                    _give(folder, 0, os.getgid())
