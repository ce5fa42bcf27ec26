"""When the kernel's out-of-memory killer last struck in this control group, in a file that outlives the whole container."""

from __future__ import annotations

import ctypes
import mmap
import re
import select
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Iterator, Optional

from common.harness import memory

_BYTES = 8
_LOOK_SECONDS = 0.1


def watch(path: Path) -> bool:
    """Keeps that time in `path`: time.monotonic_ns() in 8 bytes, the least significant first; 0 for never.

    A thread sleeps until the kernel says that its counts have changed, and then writes to a page that is there already and
    locked in memory, so that it needs none. Control groups of version 1 tell changes only to who may write there: their counts
    are looked at ten times a second. Returns False where nothing is counted or the file cannot be written.
    """
    file_of_counts = next((one for one in memory.group_files() if one.is_file()), None)
    if file_of_counts is None:
        return False
    try:
        path.write_bytes(bytes(_BYTES))
        counts = file_of_counts.open("rb", buffering=0)
        with path.open("r+b") as file:
            page = mmap.mmap(file.fileno(), _BYTES)
    except OSError:
        return False
    with suppress(OSError, AttributeError):  # without it the page could have to be read again, which takes memory
        ctypes.CDLL(None).mlock(ctypes.byref(ctypes.c_char.from_buffer(page)), ctypes.c_size_t(_BYTES))
    changes = _notified(counts) if file_of_counts.name == "memory.events" else _polled()
    threading.Thread(target=_watch, args=(counts, _kills(counts), changes, page), daemon=True).start()
    return True


def struck_ns(content: bytes) -> int:
    """Of the file's content; 0 for never."""
    return int.from_bytes(content[:_BYTES], "little")


def _watch(counts: IO[bytes], known: Optional[bytes], changes: Iterator[None], page: mmap.mmap) -> None:
    for _ in changes:
        kills = _kills(counts)
        if kills not in (known, None):
            page[:] = time.monotonic_ns().to_bytes(_BYTES, "little")
            known = kills


def _notified(counts: IO[bytes]) -> Iterator[None]:
    poll = select.poll()
    poll.register(counts, select.POLLPRI)
    while True:
        poll.poll()
        yield


def _polled() -> Iterator[None]:
    while True:
        time.sleep(_LOOK_SECONDS)
        yield


def _kills(counts: IO[bytes]) -> Optional[bytes]:
    counts.seek(0)
    found = re.search(rb"^oom_kill (\d+)$", counts.read(), re.MULTILINE)
    return found.group(1) if found else None
