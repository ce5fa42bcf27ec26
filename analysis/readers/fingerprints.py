"""What tells that a run's files have changed: names, sizes and times of every file that an analysis reads.

Covered are the run's own files that are read, the names of its cells, and of each cell folder its times, and size and times
of each file in it. A file that is added, removed or renamed changes the folder's times, so its listing need not be read
again: it is enough to look at the files that were there. Times are those of modification and of change: the first alone
can be set back (`touch`, `cp -p`, `rsync -t`).

Looking at a file takes 3 us, most of it in the kernel: for 100,000 cells more than a second. Where there are so many, it is
done by as many processes as there are cores, which run this file as a script and import nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

#: (size, mtime_ns, ctime_ns)
Stat = tuple[int, int, int]
#: (digest, newest time of modification in ns)
Fingerprint = tuple[str, int]

ABSENT: Stat = (-1, -1, -1)
#: Below this number of files a process of one's own costs more than it saves.
MANY_FILES = 20_000
MOST_PROCESSES = 8


def stat_of(status: os.stat_result) -> Stat:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def of_stats(
    files: Mapping[str, Stat], cells: Mapping[str, tuple[Stat, Mapping[str, Stat]]], names: Sequence[str]
) -> Fingerprint:
    """From what has been looked at: the run's own files, and cell -> (its folder, its files); names: of files in cells."""
    numbers = array("q")
    for name in sorted(files):
        numbers.extend(files[name])
    for cell in sorted(cells):
        folder, inside = cells[cell]
        numbers.extend(folder)
        for name in names:
            numbers.extend(inside.get(name, ABSENT))
    newest = max((status[1] for status in files.values()), default=0)
    for folder, inside in cells.values():
        newest = max(newest, folder[1], *(status[1] for status in inside.values()))
    return _digest(sorted(files), names, sorted(cells), numbers), newest


def run_files(folder: str) -> dict[str, Stat]:
    """The files of a run itself that are read. Raises OSError where there is no such folder."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _is_read(entry.name)]
    # a link counts as itself: it is not followed
    return {name: stat_of(os.lstat(f"{folder}/{name}")) for name in names}


def _is_read(name: str) -> bool:
    return name in ("run.json", "attempts.csv") or (name.startswith("power") and name.endswith(".csv"))


def cell_names(folder: str) -> list[str]:
    """Names of the cell folders of a run, in order."""
    try:
        if not stat.S_ISDIR(os.lstat(f"{folder}/cells").st_mode):
            return []
        with os.scandir(f"{folder}/cells") as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError:
        return []


def of_run(folder: str, names: Sequence[str]) -> Fingerprint:
    """The fingerprint as it is now. names: of the files that were in its cells. Raises OSError where the run is gone."""
    files = run_files(folder)
    numbers = array("q")
    for name in sorted(files):
        numbers.extend(files[name])
    newest = max((status[1] for status in files.values()), default=0)
    cells = cell_names(folder)
    places = ["", *(f"/{name}" for name in names)]
    if cells:
        at = os.open(f"{folder}/cells", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            looked = _stats(at, [cell + place for cell in cells for place in places])
        finally:
            os.close(at)
        numbers.extend(chain.from_iterable(looked))
        newest = max(newest, *(status[1] for status in looked))
    return _digest(sorted(files), names, cells, numbers), newest


def _stats(at: int, paths: Sequence[str]) -> list[Stat]:
    """Size and times of these paths below an open folder; ABSENT for one that is not there."""
    lstat = os.lstat
    try:
        # all at once: the loop itself takes half as long as the system does to look
        found = [lstat(path, dir_fd=at) for path in paths]
    except OSError:
        pass
    else:
        return [(status.st_size, status.st_mtime_ns, status.st_ctime_ns) for status in found]
    looked = []
    for path in paths:
        try:
            looked.append(stat_of(lstat(path, dir_fd=at)))
        except OSError:
            looked.append(ABSENT)
    return looked


def _digest(files: Iterable[str], names: Iterable[str], cells: Iterable[str], numbers: array[int]) -> str:
    texts = "\0".join([*files, "", *names, "", *cells])
    digest = hashlib.blake2b(texts.encode("utf-8", "surrogateescape"), digest_size=16)
    digest.update(numbers.tobytes())
    return digest.hexdigest()


def _of_runs(runs: Iterable[tuple[str, Sequence[str]]]) -> dict[str, Fingerprint]:
    found = {}
    for folder, names in runs:
        try:
            found[folder] = of_run(folder, names)
        except OSError:
            continue
    return found


def begin(runs: Mapping[str, Sequence[str]], files: int) -> Callable[[], dict[str, Fingerprint]]:
    """Starts to look at runs (folder -> names of the files in its cells); call what it returns for their fingerprints.

    files: about how many files there are to look at. A run that is gone is left out of the result.
    """
    cores = min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
    if files < MANY_FILES or cores < 2:
        return lambda: _of_runs(runs.items())
    shares = [list(runs.items())[start::cores] for start in range(cores)]
    helpers = []
    try:
        for share in shares:
            helper = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            helpers.append(helper)
            assert helper.stdin is not None
            helper.stdin.write(json.dumps(share).encode())
            helper.stdin.close()
    except OSError:  # no process to be had, or one that died at once: see `collect`
        pass

    def collect() -> dict[str, Fingerprint]:
        found: dict[str, Fingerprint] = {}
        for helper in helpers:
            assert helper.stdout is not None
            parsed = helper.stdout.read()
            helper.stdout.close()
            if helper.wait() == 0:
                found |= {folder: (digest, newest) for folder, (digest, newest) in json.loads(parsed).items()}
        # what no helper could tell is looked at here; a run that is gone is looked for once more
        return found | _of_runs((folder, names) for folder, names in runs.items() if folder not in found)

    return collect


if __name__ == "__main__":
    json.dump(_of_runs(json.load(sys.stdin)), sys.stdout)
