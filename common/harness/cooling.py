"""How hot the GPU is, from what the sidecar has just written: the supervisor needs no NVML to wait until it has cooled."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Iterator, List, Optional, Tuple, Union

from common import schema

#: a reading older than this says nothing about now
FRESH_NS = 5_000_000_000
#: holds some hundred readings of one GPU, and of each of eight GPUs still more than one
_TAIL_BYTES = 65536
_COLUMNS = schema.header("power.csv")
_TIME, _UUID, _TEMPERATURE = (_COLUMNS.index(name) for name in ("t_ns", "uuid", "temperature_c"))


class Thermometer:
    """The newest temperature of one GPU in the power*.csv of its sidecar's folder, None where there is no sidecar.

    It remembers its last reading: a file that shows no whole line at the moment of a look (another sidecar has just cut
    a torn line off its end, say) is no reason to know nothing while that reading is fresh.
    """

    def __init__(self, power_dir: Union[str, Path, None], uuid: str) -> None:
        self._power_dir = power_dir
        self._uuid = uuid
        self._newest: Optional[Tuple[int, int]] = None

    def degrees_c(self, now_ns: Optional[int] = None) -> Optional[int]:
        """Degrees Celsius; None where no reading is fresh: there is no sidecar, it has died, or the GPU tells none.

        now_ns: CLOCK_MONOTONIC, which sidecar and supervisor share also across containers.
        """
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        for path in Path(self._power_dir).glob("power*.csv") if self._power_dir is not None else ():
            for t_ns, degrees in _readings(path, self._uuid):
                if t_ns <= now_ns and (self._newest is None or t_ns > self._newest[0]):
                    self._newest = t_ns, degrees
        if self._newest is None or self._newest[0] < now_ns - FRESH_NS:
            return None
        return self._newest[1]


def _readings(path: Path, uuid: str) -> Iterator[Tuple[int, int]]:
    """(t_ns, degrees) of that GPU in the tail of a file."""
    for line in _tail(path):
        fields = line.split(",")
        # The last line may be half written; the first of the tail is cut.
        if len(fields) != len(_COLUMNS) or fields[_UUID] != uuid:
            continue
        try:
            yield int(fields[_TIME]), int(fields[_TEMPERATURE])
        except ValueError:
            continue


def _tail(path: Path) -> List[str]:
    """Whole lines at the end of a file, none where it cannot be read."""
    try:
        # Written by another container: nothing that waits, and nothing that lies elsewhere.
        with open(path, "rb", opener=_no_link) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return []
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read(2 * _TAIL_BYTES).decode(errors="replace")
    except OSError:
        return []
    lines = text.split("\n")
    return lines[1 if size > _TAIL_BYTES else 0 : -1]


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
