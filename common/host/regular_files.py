"""Files of others are opened only where they are files: no link is followed, no FIFO waited for, no device read.

Every read has a bound. What is not as it should be is an OSError whose `strerror` says so, as for a file that is not there.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: For whoever opens a file by itself: a link is an error, and a FIFO does not wait for its other end.
OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def kind(mode: int) -> str | None:
    """None for a regular file, else what it is. mode: st_mode of lstat."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no file")


def kind_of(path: Path | str) -> str | None:
    """As `kind`; None too for what is not there."""
    try:
        return kind(os.lstat(path).st_mode)
    except OSError:
        return None


def size_in_words(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 2**20 else f"{size >> 10} KiB"


def read(path: Path | str, most: int, follow: bool = False) -> bytes:
    """The whole file. follow: also what a link leads to, which is for what the user has named and for nothing else.

    Raises OSError for one that cannot be read, is no regular file, or is larger than `most` bytes.
    """
    if follow:
        path = Path(path).resolve()
    found = kind(os.lstat(path).st_mode)  # before it is opened: to open a device may already do something
    if found:
        raise OSError(errno.EINVAL, f"it is {found}, not a file", str(path))
    with os.fdopen(os.open(path, OPEN), "rb") as file:
        if kind(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {size_in_words(most)}", str(path))
    return content
