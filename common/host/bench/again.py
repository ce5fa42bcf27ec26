"""`--again`: cells of the newest run of a command, chosen by their marks, are set aside and measured again.

Which cells have which marks is for SQL to say (analysis/sql/50_marks.sql), so whoever calls brings that along. What is set
aside stays in the run's folder `earlier/`, and run.json says what and why; tables read the cells that took their places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.errors import UserError, unknown
from common.host.cli import parsing as opt
from common.host.runs.run import Run, find_newest, not_ours

#: of marks, those of something that may not be there the next time: what `marked` means. The others are of the framework, of
#: the time that it was given or of the meter, and another measurement would have them again.
DISTURBED = (
    "load",
    "noisy",
    "unsteady",
    "stalled",
    "slowdown",
    "foreign_processes",
    "warm",
    "no_power",
    "energy_suspect",
)


@dataclass(frozen=True)
class Marks:
    """signs: mark -> its sign in tables. of_cells: key -> marks of each cell that has any."""

    signs: Mapping[str, str]
    of_cells: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Again:
    """words: as typed, `marked` or names and signs of marks. marks_of: run folder -> its marks."""

    words: str
    marks_of: Callable[[Path], Marks]


class NothingMarked(UserError):
    """The run has no cell with such a mark."""

    def __init__(self, text: str, run: Run) -> None:
        super().__init__(text)
        self.run = run


def wanted_marks(words: str, signs: Mapping[str, str]) -> set[str]:
    """Raises UserError for what is no mark."""
    names = {sign: mark for mark, sign in signs.items()} | {mark: mark for mark in signs}
    chosen: set[str] = set()
    for word in opt.split_list(words):
        if word == "marked":
            chosen.update(DISTURBED)
        elif word in names:
            chosen.add(names[word])
        else:
            raise unknown("mark", word, ["marked", *(f"{mark} ({sign})" for mark, sign in signs.items())])
    return chosen


def run_to_repeat(results: Path, fingerprint: str, seed: int = -1) -> Run:
    """The newest run of the same request. Raises UserError where there is none, or none that can be added to.

    seed: that was asked for; -1: none.
    """
    run = find_newest(results, request=fingerprint)
    if run is None:
        raise UserError("no run of this command is there to measure again: leave --again out for the first one")
    odd = not_ours(run)
    if odd:
        raise UserError(f"{run.name} is not measured again: {odd}")
    if seed not in (-1, run.description["seed"]):
        raise UserError(
            f"{run.name}, the newest run of this command, has the seed {run.description['seed']}: leave --seed out, or give that one"
        )
    return run


def set_marked_aside(run: Run, again: Again, console: Console) -> None:
    """Makes room for the cells to measure again. Raises NothingMarked where no cell has such a mark."""
    marks = again.marks_of(run.folder)
    wanted = wanted_marks(again.words, marks.signs)
    chosen = {key: [mark for mark in found if mark in wanted] for key, found in marks.of_cells.items()}
    chosen = {key: found for key, found in chosen.items() if found and key in run.existing_cells()}
    if not chosen and set(run.description.get("plan", ())) <= run.existing_cells():
        others = sorted({mark for found in marks.of_cells.values() for mark in found})
        hint = f"; it has {', '.join(others)}, which --again {','.join(others)} names" if others else ""
        raise NothingMarked(f"no cell of {run.name} has a mark of --again {again.words}{hint}", run)
    if chosen:
        run.set_aside(chosen)
    count = "1 cell is" if len(chosen) == 1 else f"{len(chosen)} cells are"
    text = f"{count} measured again in {run.name}; the earlier measurements stay in its folder earlier/"
    console.print(escape(text), highlight=False, soft_wrap=True)
