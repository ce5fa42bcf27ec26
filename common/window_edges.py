"""How a worker tells the sidecar that a measured window begins or ends, without either writing into the other's files.

The worker touches an empty file in the folder that it writes anyway. The sidecar may have that folder mounted read-only:
it looks at the file's time of change and at nothing else, opens nothing and follows no link. What a worker can do with it
is to have the energy counter read, which the sidecar does no more often than each READ_AGAIN_NS.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Dict, List, Optional

MARKER = "window-edge"
#: begins and ends of windows are further apart than this
READ_AGAIN_NS = 300_000_000
#: so long the worker goes on as before: a round of the sidecar (20 ms), its wait for the board's next step (up to 110 ms) and a read
#: of the counter (3 to 8 ms on an H100)
EDGE_SECONDS = 0.14
#: folders below the one that is watched are looked for this often, and so many of them at most in each
_LOOK_NS = 500_000_000
_MOST = 64


def mark_edge(folder: Path) -> None:
    """Touches the marker. A folder that takes no file costs the reading, nothing else."""
    try:
        descriptor = os.open(folder / MARKER, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        pass


class Watch:
    """The markers in a folder, in the folders right below it, and in those below them.

    Jobs of `invoke bench` lie in folders of `staging/`, those of compose in folders of `services/<variant>/`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: List[str] = []
        self._seen: Dict[str, int] = {}
        self._look_ns = 0
        self._again_ns = 0
        self.touched(0)

    def touched(self, now: int) -> bool:
        """Whether a marker has changed since the last call that said so. now: CLOCK_MONOTONIC in ns."""
        if now >= self._look_ns:
            self._look_ns = now + _LOOK_NS
            self._places = self._find()
        changed = False
        for place in self._places:
            at = _changed_ns(place)
            if at is not None and self._seen.get(place) != at:
                changed = changed or place in self._seen or now > 0
                self._seen[place] = at
        if not changed or now < self._again_ns:
            return False
        self._again_ns = now + READ_AGAIN_NS
        return True

    def _find(self) -> List[str]:
        first = _folders_in(str(self._folder))
        second = [folder for above in first for folder in _folders_in(above)]
        return [os.path.join(folder, MARKER) for folder in (str(self._folder), *first, *second)]  # noqa: PTH118 - asked 50 times a second


def _folders_in(folder: str) -> List[str]:
    """At most _MOST of them; links are none."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for _, entry in zip(range(_MOST), entries) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _changed_ns(place: str) -> Optional[int]:
    try:
        found = os.lstat(place)
    except OSError:
        return None
    return found.st_mtime_ns if stat.S_ISREG(found.st_mode) else None
