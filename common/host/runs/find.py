"""Which runs the words on a command line mean: names, paths of folders or sealed runs, folders of either, `all`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError, meant
from common.host import regular_files
from common.host.paths import DataFolder
from common.host.runs.archive import SUFFIX, is_archive, unpacked
from common.host.runs.run import DESCRIPTION, read_run
from common.text import visible

#: runs that an error lists
MOST_NAMES = 10


def _print_error(words: str) -> None:
    """To standard error, since the answer may be for another program."""
    print(visible(words, keep=""), file=sys.stderr)


def run_folders(words: Sequence[str], data: DataFolder, on_odd: Callable[[str], None] = _print_error) -> list[Path]:
    """Run folders in the order of the words; without words the newest run. Raises UserError for what is none.

    on_odd: told of sealed runs beside others that cannot be unpacked and are left out.
    """
    existing = sorted(path.parent for path in data.results.glob("*/run.json"))
    if not existing and (not words or "all" in words):
        raise UserError(f"there is no run in {data.results}; invoke bench or invoke demo makes one")
    if not words:
        return existing[-1:]
    folders: list[Path] = []
    damaged: list[UserError] = []
    for word in words:
        folders += existing if word == "all" else _meant(word, data, existing, damaged)
    if damaged and not folders:
        raise damaged[0]
    for error in damaged:
        on_odd(f"left out: {error}")
    return folders


class Named(NamedTuple):
    """A run, or one of its cells. cell_key: "" where the whole run is meant. words: name it on a command line."""

    folder: Path
    cell_key: str
    words: str


def run_or_cell(word: str, data: DataFolder) -> list[Named]:
    """What RUN, RUN/CELL, the path of a cell's folder or a folder of runs names. Raises UserError for what is none of them."""
    place = Path(word)
    if (place / "cell.csv").is_file():
        return [Named(place.resolve().parents[1], place.resolve().name, word)]
    head, _, key = word.rpartition("/")
    if head and is_a_run(head, data) and not os.path.lexists(word):
        found = _meant(head, data, [], [])
        if len(found) == 1 and (found[0] / "cells" / key / "cell.csv").is_file():
            return [Named(found[0], key, word)]
    folders = run_folders([word], data)
    return [Named(folder, "", word if len(folders) == 1 else _words_of(folder, word, data)) for folder in folders]


def _words_of(folder: Path, word: str, data: DataFolder) -> str:
    """What names one of the runs that a word means."""
    if word == "all":
        candidates = [folder.name]
    else:
        names = (folder.name, f"{folder.name}{SUFFIX}")
        candidates = [str(place / name) for place in _places(word, data) for name in names]
    return next((path for path in candidates if _means(path, folder, data)), str(folder))


def words_for(folder: Path, words: Sequence[str], data: DataFolder) -> str:
    """What names one of the runs that `words` mean: of a sealed one the archive, never the place where it lies unpacked.

    words: none mean all.
    """
    for word in words or ["all"]:
        if word != "all" and _means(word, folder, data):
            return word
        if (found := _words_of(folder, word, data)) != str(folder):
            return found
    return str(folder)


def _means(word: str, folder: Path, data: DataFolder) -> bool:
    """Whether a word names this run and no other: two folders may hold runs of one name."""
    if not is_a_run(word, data) or how_many(word, data) != 1:
        return False
    try:
        return [found.resolve() for found in run_folders([word], data)] == [folder.resolve()]
    except UserError:
        return False


def how_many(word: str, data: DataFolder) -> int:
    """How many runs a word means, without unpacking any; 1 for a cell, and for what is no run, of which run_or_cell says why."""
    if word == "all":
        return len(list(data.results.glob("*/run.json")))
    for place in _places(word, data):
        if place.is_dir() and not os.path.lexists(place / DESCRIPTION) and not (place / "cell.csv").is_file():
            return max(1, sum(map(len, _runs_in(place))))
    return 1


def is_a_run(word: str, data: DataFolder) -> bool:
    """Whether there is something of that name or at that path."""
    return any(os.path.lexists(place) for place in _places(word, data))


def _places(word: str, data: DataFolder) -> list[Path]:
    return [Path(word), data.results / word] if word and "\0" not in word else []


def _meant(word: str, data: DataFolder, existing: Sequence[Path], damaged: list[UserError]) -> list[Path]:
    """damaged: gets the reasons of sealed runs that cannot be unpacked."""
    reasons = []
    before = len(damaged)
    for place in _places(word, data):
        if not os.path.lexists(place):
            continue
        if place.is_dir():
            found = _in_folder(place, data, damaged)
            if found or len(damaged) > before:
                return found
            reasons.append(_why_no_run(place))
        elif is_archive(place):
            return _unpacked([place], data, damaged)
        else:
            if place.is_symlink() and not place.exists():
                raise UserError(f"{place} is a link to {place.readlink()}, which does not exist")
            what = regular_files.kind_of(place) or f"a file, but none that ends in {SUFFIX}"
            reasons.append(f"{place} is {what}: a run is a folder with a run.json, or a sealed one (*{SUFFIX})")
    if reasons:
        raise UserError(reasons[0])
    names = [folder.name for folder in existing]
    if "/" in word or word.endswith(SUFFIX):
        raise UserError(f"{word} does not exist; a run is a folder with a run.json, or a sealed one (*{SUFFIX})")
    known = ", ".join(names[-MOST_NAMES:]) or "none"
    earlier = f" and {len(names) - MOST_NAMES} earlier ones" if len(names) > MOST_NAMES else ""
    raise UserError(f"there is no run or path '{word}'; runs in {data.results}: {known}{earlier}.{meant(word, names)}")


def _unpacked(places: Iterable[Path], data: DataFolder, damaged: list[UserError]) -> list[Path]:
    folders = []
    for place in places:
        try:
            folders.append(unpacked(place, data.host_cache))
        except UserError as error:
            damaged.append(error)
    return folders


def _in_folder(place: Path, data: DataFolder, damaged: list[UserError]) -> list[Path]:
    """The folder itself where it is a run, else those in it, such as data/reference/h200."""
    if os.path.lexists(place / DESCRIPTION):
        if not _has_cells(place):
            read_run(place)  # without cells its description is all there is: it must say something
        return [place]
    nested, sealed = _runs_in(place)
    for path in sealed:  # nobody has typed it: no link is followed
        what = regular_files.kind_of(path)
        if what not in (None, "a folder"):
            damaged.append(UserError(f"{path} is {what}, not a file"))
    sealed = [path for path in sealed if regular_files.kind_of(path) is None]
    nested += _unpacked(sealed, data, damaged)
    return sorted(nested, key=lambda folder: folder.name)


def _runs_in(place: Path) -> tuple[list[Path], list[Path]]:
    """Folders of runs in a folder, and what is named as sealed runs are. Raises UserError where it cannot be read."""
    try:
        names = sorted(child.name for child in place.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise UserError(f"{place} cannot be read: {error.strerror}") from error
    nested = [place / name for name in names if os.path.lexists(place / name / DESCRIPTION)]
    return nested, [place / name for name in names if name.endswith(SUFFIX)]


def _has_cells(place: Path) -> bool:
    try:
        return any((place / "cells").iterdir())
    except OSError:
        return False


def _why_no_run(place: Path) -> str:
    if (place / "cells").is_dir():
        return f"{place} has cells, but no run.json: it is no run, or one that was cut off or copied in part"
    return f"{place} is a folder without a run.json, and so are those in it: there is no run"
