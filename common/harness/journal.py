"""attempts.csv: `start` before a cell, `finish` after it; a start without a finish is the crash of everything above."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Mapping

from common import schema
from common.harness.cell_folder import writing

FILE = "attempts.csv"


def append(run_dir: Path, event: str, cell_key: str, worker: str, status: str = "", message: str = "") -> None:
    """Appends one line and syncs it; makes the file with its header where there is none. Raises CannotWrite."""
    row = {
        "t_ns": time.monotonic_ns(),
        "utc": utc_now(),
        "event": event,
        "cell_key": cell_key,
        "worker": worker,
        "status": status or None,
        "message": message or None,
    }
    append_row(run_dir, row)


def append_row(run_dir: Path, row: Mapping[str, Any]) -> None:
    """Appends a line as it is given, likewise.

    Safe with several writers of one run: one write a line, under a lock. Raises CannotWrite.
    """
    with writing(FILE):
        descriptor = os.open(run_dir / FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            line = schema.to_csv(FILE, [row], with_header=size == 0)
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = "\n" + line  # a line torn by a full disk must not swallow this one
            data = line.encode()
            if os.write(descriptor, data) != len(data):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def utc_now() -> str:
    """Wall time, ISO 8601 with milliseconds and Z."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
