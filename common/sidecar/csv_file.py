"""`power.csv` as a file that any number of sidecars append to and that a kill cannot spoil."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from common import schema

NAME = "power.csv"


class PowerFile:
    """Appends whole rows. The header is written only into a new file.

    A last line that an earlier kill cut is removed first: half a number is no fact. Nobody removes anything while
    another sidecar has the file open (a shared lock says so).
    """

    def __init__(self, path: Path, log: Callable[[str], None]) -> None:
        """Raises OSError, or ValueError for a file with other columns."""
        self._path = path
        self._pending: List[Dict[str, Any]] = []
        self.rows = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._file, fcntl.LOCK_SH)
        else:
            self._repair(log)
            if os.fstat(self._file).st_size == 0:
                self._write(schema.to_csv(NAME, []).encode())
            fcntl.flock(self._file, fcntl.LOCK_SH)
        expected = schema.to_csv(NAME, []).encode()
        if os.pread(self._file, len(expected), 0) != expected:
            raise ValueError(f"{path} has other columns than this version writes; use another run folder")

    def _repair(self, log: Callable[[str], None]) -> None:
        size = os.fstat(self._file).st_size
        end = size
        while end > 0:
            begin = max(0, end - 65536)
            newline = os.pread(self._file, end - begin, begin).rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        if end != size:
            os.ftruncate(self._file, end)
            log(f"{self._path.name}: removed a last line of {size - end} bytes that was cut by an earlier kill")

    def add(self, row: Dict[str, Any]) -> None:
        self._pending.append(row)

    @property
    def oldest_ns(self) -> Optional[int]:
        """t_ns of the oldest row that is not on disk yet."""
        return int(self._pending[0]["t_ns"]) if self._pending else None

    def flush(self) -> None:
        """Hands all rows to the kernel, where a kill of this process cannot reach them. Raises OSError."""
        if self._pending:
            self._write(schema.to_csv(NAME, self._pending, with_header=False).encode())
            self.rows += len(self._pending)
            self._pending.clear()

    def append(self, lines: bytes) -> None:
        """Hands whole lines that somebody else wrote to the kernel. Raises OSError."""
        if lines:
            self._write(lines)
            self.rows += lines.count(b"\n")

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            self._cut_own_tail(written)
            raise

    def _cut_own_tail(self, written: int) -> None:
        """Takes back a half-written batch (disk full), unless another sidecar may have written behind it."""
        if written:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            except OSError:
                pass

    def close(self) -> None:
        """Flushes and syncs. Raises OSError."""
        try:
            self.flush()
            os.fsync(self._file)
        finally:
            os.close(self._file)
