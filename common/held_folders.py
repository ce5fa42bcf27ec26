"""Temporary folders that are told from what a kill left behind by a lock, which the kernel frees however its holder ends.

Runs on Python 3.9 with the standard library alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

TEMPORARY = ".tmp-"
#: variable by which a process says for whom the processes that it starts make their folders: what owner() gives
OWNER = "FRAMEWATT_FOLDERS_OF"
#: a folder this young may be one that nobody has come to lock: its maker, or who takes it over from its maker, in s
YOUNG_S = 600.0
#: where a file system knows no locks, what is older than this was left behind
STALE_AFTER_S = 6 * 3600.0
#: a look whether a folder is held locks it for a moment; whoever comes to hold it waits for that, in s
_PROBE_S = 5.0


def owner() -> str:
    """This process in the names of folders: boot, namespace of process ids, and its id; "" where the system does not tell."""
    place = _place()
    return f"{place}-{os.getpid()}-" if place else ""


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        space = re.sub("[^0-9]", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return ""
    return f"{boot}-{space}"


def _owner_is_gone(folder: Path) -> bool:
    """Whether the folder names an owner that ran here and is no more; one of another machine may still be there."""
    match = re.match(re.escape(TEMPORARY) + r"([0-9a-f]{8}-[0-9]+)-([0-9]+)-", folder.name)
    if match is None or match[1] != _place():
        return False
    try:
        os.kill(int(match[2]), 0)  # not /proc: it may hide the processes of other users
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # another user's, or no process id
    return False


@contextmanager
def held_folder(parent: Path, of: str = "") -> Iterator[Path]:
    """A new folder in `parent`, held in the block; whoever gets it removes or renames it. Raises OSError.

    of: owner() of the process without which nobody will come for it; default: what OWNER says.
    """
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY + (of or os.environ.get(OWNER, "")), dir=parent))
    with holding(folder):
        yield folder


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """The folder is held in the block; it may be renamed or removed meanwhile. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _PROBE_S
        while _lock(descriptor) is False and time.monotonic() < deadline:  # is_held() of another process is looking
            time.sleep(0.01)
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
    """Removes the temporary folders in `parent` whose makers are gone, and for whom they were made."""
    for folder in parent.glob(TEMPORARY + "*"):
        try:
            young = time.time() - folder.lstat().st_mtime <= YOUNG_S
        except OSError:
            continue  # its own maker renamed or removed it
        if (not young or _owner_is_gone(folder)) and not is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def nothing_left(parent: Path) -> Iterator[str]:
    """For a block that has other processes make folders: when it fails, what they left in `parent` goes.

    Yields what OWNER is to be in them. All of them must have ended when the block ends.
    """
    of = owner()
    mine = f"{of}{uuid.uuid4().hex[:8]}-" if of else ""
    try:
        yield mine
    except BaseException:
        if mine:
            for folder in parent.glob(f"{TEMPORARY}{mine}*"):
                shutil.rmtree(folder, ignore_errors=True)
        raise


def _lock(descriptor: int) -> Optional[bool]:
    """Whether it is locked now by this process; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True
