"""`invoke recommend`: which framework, precision and batch size under given limits, and how sure that is.

The best cell by one objective among those that meet every limit; the runner-up is the best cell of another framework or
precision. UNCLEAR where their intervals overlap, one of the two is unknown or of a single worker, or the two are of two cards. A
cell whose figure for a limit is not known does not meet it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.comparisons.answer_words import sentences
from analysis.comparisons.candidates import (
    APART,
    candidate,
    choose_device,
    device_of,
    group_rows,
    left_out,
    marks_of,
    metered,
    unusual,
)
from analysis.comparisons.decision import Decision, decide
from analysis.comparisons.question import Question
from analysis.database.connection import Database, Row
from analysis.database.open_runs import open_runs
from analysis.results import tables
from analysis.results.all_intervals import all_intervals
from analysis.results.metrics import item_of, worded
from analysis.results.sample_intervals import Intervals
from common.errors import UserError

#: that an error names
MOST_RUNS = 2


def recommend(
    runs: Sequence[Path],
    question: Question,
    console: Console,
    *,
    where: str | Sequence[str] | None = None,
    cache: Path | None = None,
    named: Callable[[Path], str] = str,
) -> int:
    """Prints the recommendation for each model, io and scenario of the chosen device; 1 where no cell of any meets the limits.

    where: see analysis.results.selection. cache: see analysis.database.cache. named: how the user names a run's folder.
    Raises UserError for an unknown or ambiguous GPU, an impossible question and an unknown column in `where`.
    """
    question.checked()
    with open_runs(runs, cache) as database:
        rows = tables.selected(database, where)
        if not rows:
            raise UserError(_nothing(database))
        device = choose_device(rows, question.gpu)
        own = [row for row in rows if device_of(row) == device and row["status"] == "ok"]
        if not own:
            raise UserError(f"no cell on {device} is ok: there is nothing to recommend")
        groups = group_rows(own)
        if not groups:
            raise UserError(f"no cell on {device} can be recommended. {' '.join(left_out(own))} Measure them again")
        energies = [row for members in groups.values() for row in metered(members, question)]
        intervals = all_intervals(database, own, energies)
        meanings = {row["mark"]: row["meaning"] for row in database.query("FROM mark_meaning")}
        answers = [
            _answer(_group(key[1:], [other[1:] for other in groups]), members, question, intervals, meanings)
            for key, members in groups.items()
        ]
        for problem in database.problems:
            if problem.loses:
                console.print(Text(str(problem), style="red"), soft_wrap=True)
        _print_answers(device, answers, console)
        for line in left_out(own, intervals):
            console.print(Text(line, style="yellow"), soft_wrap=True)
        groups_of: dict[str, list[str]] = {}
        for one in answers:
            if one.found:
                groups_of.setdefault(one.run, []).append(one.group)
        for run, named_groups in groups_of.items():
            whose = f" ({'; '.join(named_groups)})" if len(groups_of) > 1 else ""
            console.print(Text(f"Run: {named(database.runs[run])}{whose}"), soft_wrap=True)
        return database.exit_code if groups_of else 1


def _nothing(database: Database) -> str:
    """Why there is no cell to recommend: what was lost, or that nothing was measured."""
    lost = next((problem for problem in database.problems if problem.loses), None)
    if lost is not None:
        return f"there is nothing to recommend: {lost}"
    names = list(database.runs)
    runs = f"run{'s' * (len(names) > 1)} {' and '.join(names)}" if len(names) <= MOST_RUNS else f"{len(names)} runs"
    return f"nothing was measured in {runs}: there is nothing to recommend; invoke bench measures"


def _group(key: Sequence[Any], groups: Collection[Sequence[Any]]) -> str:
    """What sets a group apart from the others, in words."""
    facts = dict(zip(APART, key, strict=True))
    if len({other[0] for other in groups}) == 1:
        del facts["model"]
    return tables.heading(unusual(facts))


@dataclass(frozen=True)
class Answer:
    """What a group's cells say: the answer in sentences, and then how sure it is and what would change it.

    found: whether any cell meets the limits. run: that of the best cell.
    """

    group: str
    found: bool
    sentences: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    run: str = ""


def _print_answers(device: str, answers: Sequence[Answer], console: Console) -> None:
    """Groups without an answer in one line where others have one; what there is to say of the others; last the answers."""
    found = [answer for answer in answers if answer.found]
    nothing = [answer for answer in answers if not answer.found]
    console.print(Text(device, style="bold underline"), soft_wrap=True)
    if found and nothing:
        where = "; ".join(answer.group for answer in nothing)
        console.print(
            Text(f"No cell meets the limits, or none has a figure for them, in: {where}.", style="dim"), soft_wrap=True
        )
    for answer in found if found else nothing:
        console.print(Text(f"\n{answer.group}", style="bold"), soft_wrap=True)
        for line in answer.doubts if found else answer.sentences:
            console.print(Text(line), soft_wrap=True)
    if found:
        console.print()
    for answer in found:  # last, where nobody has to scroll for it
        first, *others = answer.sentences
        console.print(Text(f"{answer.group}: {first}" if len(found) > 1 else first, style="bold"), soft_wrap=True)
        for line in others:
            console.print(Text(line), soft_wrap=True)


def answer(
    rows: Sequence[Row], question: Question, intervals: Intervals, meanings: Mapping[str, str]
) -> tuple[Decision, list[str]]:
    """The decision among the rows of one group (see `group_rows`) and its sentences. meanings: of marks."""
    objective, limits = question.quantity(rows), question.limits(rows)
    candidates = [candidate(row, question, intervals) for row in rows]
    decision = decide(candidates, objective, limits)
    found = sentences(decision, candidates, objective, limits, question)
    lines = [worded(line, item_of(rows)) for line in found]
    if decision.winner is not None:
        lines += marks_of(decision.winner, meanings)
    return decision, lines


def _answer(
    group: str, rows: Sequence[Row], question: Question, intervals: Intervals, meanings: Mapping[str, str]
) -> Answer:
    decision, lines = answer(rows, question, intervals, meanings)
    if decision.winner is None:
        return Answer(group, False, tuple(lines))
    return Answer(group, True, tuple(lines[:2]), tuple(lines[2:]), str(decision.winner.row["run"]))
