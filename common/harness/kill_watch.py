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
from typing import IO, Optional

from common.harness import memory

_BYTES = 8


def watch(path: Path) -> bool:
    """Keeps that time in `path`: time.monotonic_ns() in 8 bytes, the least significant first; 0 for never.

    A thread sleeps until the kernel says that its counts have changed, and then writes to a page that is there already and
    locked in memory, so that it needs none. Returns False where the kernel does not say so (control groups of version 1) or
    the file cannot be written.
    """
    events = next((one for one in memory.group_files() if one.name == "memory.events" and one.is_file()), None)
    if events is None:
        return False
    try:
        path.write_bytes(bytes(_BYTES))
        counts = events.open("rb", buffering=0)
        with path.open("r+b") as file:
            page = mmap.mmap(file.fileno(), _BYTES)
    except OSError:
        return False
    with suppress(OSError, AttributeError):  # without it the page could have to be read again, which takes memory
        ctypes.CDLL(None).mlock(ctypes.byref(ctypes.c_char.from_buffer(page)), ctypes.c_size_t(_BYTES))
    threading.Thread(target=_watch, args=(counts, page), daemon=True).start()
    return True


def struck_ns(content: bytes) -> int:
    """Of the file's content; 0 for never."""
    return int.from_bytes(content[:_BYTES], "little")


def _watch(counts: IO[bytes], page: mmap.mmap) -> None:
    poll = select.poll()
    poll.register(counts, select.POLLPRI)
    known = _kills(counts)
    while True:
        poll.poll()
        kills = _kills(counts)
        if kills != known:
            page[:] = time.monotonic_ns().to_bytes(_BYTES, "little")
            known = kills


def _kills(counts: IO[bytes]) -> Optional[bytes]:
    counts.seek(0)
    found = re.search(rb"^oom_kill (\d+)$", counts.read(), re.MULTILINE)
    return found.group(1) if found else None
