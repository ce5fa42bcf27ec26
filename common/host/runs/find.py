"""Which runs the words on a command line mean: names, paths of folders or sealed runs, folders of either, `all`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError, unknown
from common.host.paths import DataFolder
from common.host.runs.archive import SUFFIX, is_sealed, unsealed


def run_folders(words: Sequence[str], data: DataFolder) -> list[Path]:
    """Run folders in the order of the words; without words the newest run. Raises UserError for what is none."""
    existing = sorted(path.parent for path in data.results.glob("*/run.json"))
    if not existing and (not words or "all" in words):
        raise UserError(f"there is no run in {data.results}; invoke bench or invoke demo makes one")
    if not words:
        return existing[-1:]
    folders = []
    for word in words:
        found = existing if word == "all" else _meant(word, data)
        if not found:
            raise unknown("run", word, [folder.name for folder in existing])
        folders += found
    return folders


def run_or_cell(word: str, data: DataFolder) -> list[tuple[Path, str]]:
    """(run folder, cell key) of RUN, RUN/CELL or the path of a cell's folder; the key is "" where a whole run is meant.

    Raises UserError for what is neither.
    """
    place = Path(word)
    if (place / "cell.csv").is_file():
        return [(place.resolve().parents[1], place.resolve().name)]
    head, _, key = word.rpartition("/")
    found = _meant(head, data) if head else []
    if len(found) == 1 and (found[0] / "cells" / key / "cell.csv").is_file():
        return [(found[0], key)]
    return [(folder, "") for folder in run_folders([word], data)]


def _meant(word: str, data: DataFolder) -> list[Path]:
    for place in (Path(word), data.results / word):
        if is_sealed(place):
            return [unsealed(place, data.cache)]
        if (place / "run.json").is_file():
            return [place]
        # a folder of runs, such as data/reference/h200
        nested = [found.parent for found in place.glob("*/run.json")]
        nested += [unsealed(found, data.cache) for found in place.glob(f"*{SUFFIX}")]
        if nested:
            return sorted(nested, key=lambda folder: folder.name)
    return []
