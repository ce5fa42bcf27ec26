"""Which runs the words on a command line mean: names, paths of folders or sealed runs, folders of either, `all`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError, meant
from common.host import regular_files
from common.host.paths import DataFolder
from common.host.runs.archive import SUFFIX, is_sealed, unsealed
from common.host.runs.run import DESCRIPTION, read_run

#: runs that an error lists
MOST_NAMES = 10


def run_folders(words: Sequence[str], data: DataFolder) -> list[Path]:
    """Run folders in the order of the words; without words the newest run. Raises UserError for what is none."""
    existing = sorted(path.parent for path in data.results.glob("*/run.json"))
    if not existing and (not words or "all" in words):
        raise UserError(f"there is no run in {data.results}; invoke bench or invoke demo makes one")
    if not words:
        return existing[-1:]
    folders = []
    for word in words:
        folders += existing if word == "all" else _meant(word, data, existing)
    return folders


def run_or_cell(word: str, data: DataFolder) -> list[tuple[Path, str]]:
    """(run folder, cell key) of RUN, RUN/CELL or the path of a cell's folder; the key is "" where a whole run is meant.

    Raises UserError for what is neither.
    """
    place = Path(word)
    if (place / "cell.csv").is_file():
        return [(place.resolve().parents[1], place.resolve().name)]
    head, _, key = word.rpartition("/")
    if head and is_a_run(head, data) and not os.path.lexists(word):
        found = _meant(head, data, [])
        if len(found) == 1 and (found[0] / "cells" / key / "cell.csv").is_file():
            return [(found[0], key)]
    return [(folder, "") for folder in run_folders([word], data)]


def is_a_run(word: str, data: DataFolder) -> bool:
    """Whether there is something of that name or at that path."""
    return any(os.path.lexists(place) for place in _places(word, data))


def _places(word: str, data: DataFolder) -> list[Path]:
    return [Path(word), data.results / word] if word and "\0" not in word else []


def _meant(word: str, data: DataFolder, existing: Sequence[Path]) -> list[Path]:
    reasons = []
    for place in _places(word, data):
        if not os.path.lexists(place):
            continue
        if place.is_dir():
            found = _in_folder(place, data)
            if found:
                return found
            reasons.append(_why_no_run(place))
        elif is_sealed(place):
            return [unsealed(place, data.host_cache)]
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


def _in_folder(place: Path, data: DataFolder) -> list[Path]:
    """The folder itself where it is a run, else those in it, such as data/reference/h200."""
    if os.path.lexists(place / DESCRIPTION):
        if not _has_cells(place):
            read_run(place)  # without cells its description is all there is: it must say something
        return [place]
    try:
        names = sorted(child.name for child in place.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise UserError(f"{place} cannot be read: {error.strerror}") from error
    nested = [place / name for name in names if os.path.lexists(place / name / "run.json")]
    nested += [unsealed(place / name, data.host_cache) for name in names if is_sealed(place / name)]
    return sorted(nested, key=lambda folder: folder.name)


def _has_cells(place: Path) -> bool:
    try:
        return any((place / "cells").iterdir())
    except OSError:
        return False


def _why_no_run(place: Path) -> str:
    if (place / "cells").is_dir():
        return f"{place} has cells, but no run.json: it is no run, or one that was cut off or copied in part"
    return f"{place} is a folder without a run.json, and so are those in it: there is no run"
