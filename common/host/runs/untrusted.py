"""Files that a container wrote, read so that nothing it did to its folder can reach further than that folder.

Every name is opened relative to a folder that is open already, and never through a link: what a name stood for when it was
looked at and what is read are the same. Only regular files with one name are read, so nothing waits on a FIFO, wakes a
device or reads a file that lies elsewhere; each read is bounded. The container may still be running and change any of it.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.harness.cell_folder import writing
from common.harness.rows import one_line

_CHUNK = 1 << 20


class Refused(Exception):
    """Something that a container left is not taken; one clause for people that says what and why."""


def shown(name: str) -> str:
    """A name that a container chose, for people."""
    text = one_line(name)
    return text if len(text) <= 80 else text[:77] + "..."


@contextmanager
def opened_folder(path: str | Path, dir_fd: int | None = None) -> Iterator[int]:
    """A descriptor of the folder, which is no link itself. Raises Refused for anything else; FileNotFoundError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(_why_no_folder(path, dir_fd, error)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _why_no_folder(path: str | Path, dir_fd: int | None, error: OSError) -> str:
    name = shown(Path(path).name)
    try:
        kind = _kind(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except OSError:
        kind = ""
    return f"{name} is {kind}" if kind not in ("", "a folder") else f"{name}: {(error.strerror or str(error)).lower()}"


@contextmanager
def opened_file(name: str, dir_fd: int) -> Iterator[int]:
    """A descriptor of a regular file, at its begin. Raises Refused for anything else; FileNotFoundError."""
    try:
        before = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        _check_kind(name, before)  # before it is opened: opening a device can do something
        # O_NONBLOCK: should it have become a FIFO meanwhile.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=dir_fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"{shown(name)}: {(error.strerror or str(error)).lower()}") from error
    try:
        _check_kind(name, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def _check_kind(name: str, facts: os.stat_result) -> None:
    kind = _kind(facts.st_mode)
    if kind != "a regular file":
        raise Refused(f"{shown(name)} is {kind}")
    if facts.st_nlink != 1:
        raise Refused(f"{shown(name)} has {facts.st_nlink} names")


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISREG, "a regular file"), (stat.S_ISDIR, "a folder"), (stat.S_ISLNK, "a link"), (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    )  # fmt: skip
    return next((words for test, words in kinds if test(mode)), "of an unknown kind")


def names_in(folder: int, most: int) -> list[str]:
    """Names in a folder, sorted. Raises Refused when there are more than `most`."""
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(names) == most:
                raise Refused(f"a folder holds more than {most} names")
            names.append(entry.name)
    return sorted(names)


def read_part(descriptor: int, offset: int, most: int) -> bytes:
    """Up to `most` bytes from the offset. Raises Refused when the disk cannot read it."""
    try:
        return os.pread(descriptor, most, offset)
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}") from error


def copy_file(name: str, dir_fd: int, target: Path, most: int) -> int:
    """Copies the content into a new file of ours, which nobody else has open; returns its size in bytes.

    Raises Refused for a file that is not regular or larger than `most` bytes, FileNotFoundError, and CannotWrite.
    """
    with opened_file(name, dir_fd) as source, writing(target.name), target.open("xb") as copy:
        if os.fstat(source).st_size > most:  # before anything of it takes up our disk
            raise Refused(f"{shown(name)} is larger than {most} bytes")
        size = 0
        while True:
            chunk = read_part(source, size, _CHUNK)
            if not chunk:
                return size
            size += len(chunk)
            if size > most:
                raise Refused(f"{shown(name)} is larger than {most} bytes")
            copy.write(chunk)


def remove_folder(folder: Path) -> None:
    """Removes a folder that no container can write any more, whatever is in it; links in it are not followed."""
    if folder.is_symlink() or not folder.exists():
        return
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        # Folders without rights, or nested deeper than Python calls.
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(folder)], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["rm", "-rf", "--", str(folder)], stderr=subprocess.DEVNULL, check=False)
