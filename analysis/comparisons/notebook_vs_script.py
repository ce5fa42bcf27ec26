"""A notebook against a script: cells of one run that were measured in both front ends, compared by their durations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis import style
from analysis.database.connection import Database, Row
from analysis.results import durations, tables
from analysis.results.sample_intervals import MOST_ROWS, MOST_SAMPLES, group_of
from analysis.results.selection import DIMENSIONS, Pivot
from analysis.results.several_runs import OF_RUN
from common.stats import comparison as compare
from common.stats.comparison import Comparison, Measured, Verdict

TITLE = "Notebook against script"
DEFINITION = (
    "Notebook / script: ratio of the median durations of one inference, averaged over workers, with its interval; SLOWER: the "
    "notebook takes longer."
)
PUBLISHED = "Published passes have no single inferences: theirs is the time of a batch, averaged over a pass."
#: one row of tables for all front ends, so that a group holds both
_PIVOT = Pivot(("variant", "precision", "tuning", "version", "frontend"), "batch_size")


@dataclass(frozen=True)
class Pair:
    """One cell in both front ends.

    heading: what the pair has in common with others of its group, in words. script_ms, notebook_ms: median duration of one
    inference (of published passes: mean), None where it failed. comparison: of the notebook (B) with the script (A); None
    where one failed, and `why` says which and for what reason.
    """

    heading: str
    script: Row
    notebook: Row
    script_ms: float | None
    notebook_ms: float | None
    comparison: Comparison | None
    why: str

    @property
    def marks(self) -> tuple[str, ...]:
        """Of both sides, as in the view `marks`."""
        return tuple(sorted({mark for row in (self.script, self.notebook) for mark in row["marks"] or ()}))

    @property
    def verdict(self) -> str:
        return self.comparison.verdict.value if self.comparison else "–"


@dataclass(frozen=True)
class FrontEnds:
    """pairs: in the order of the tables. footers: sentences that belong under a table of them. signs: mark -> its sign."""

    pairs: tuple[Pair, ...]
    footers: tuple[str, ...]
    signs: Mapping[str, str] = field(default_factory=dict)

    def marked(self, pair: Pair) -> str:
        """The verdict of a pair with the signs of its marks."""
        signs = "".join(sorted(self.signs.get(mark, "") for mark in pair.marks))
        return f"{pair.verdict} {signs}".strip()

    @property
    def counts(self) -> str:
        """How many of each verdict, in words."""
        found = {verdict.value: sum(pair.verdict == verdict.value for pair in self.pairs) for verdict in Verdict}
        return ", ".join(f"{count} {verdict}" for verdict, count in found.items() if count)

    def groups(self) -> dict[str, list[Pair]]:
        """Heading -> its pairs."""
        found: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            found.setdefault(pair.heading, []).append(pair)
        return found


def build(database: Database, rows: Sequence[Row]) -> FrontEnds | None:
    """None where no cell was measured in both front ends.

    rows: of `comparison`, as selected. Verdicts are corrected for the number of pairs (compare.compare_runs).
    """
    matched = list(_matched(rows))
    if not matched:
        return None
    samples = sum(row["samples"] or 0 for _, script, notebook in matched for row in (script, notebook))
    if 2 * len(matched) > MOST_ROWS or samples > MOST_SAMPLES:
        return FrontEnds((), (f"{len(matched)} pairs are too many to compare: choose fewer with --where.",))
    both = [pair for pair in matched if _why_not(*pair[1:]) is None]
    series = {_key(row): durations.of_row(database, row) for _, script, notebook in both for row in (script, notebook)}
    found = compare.compare_runs(
        [_measured(script, script, series) for _, script, _ in both],
        [_measured(script, notebook, series) for _, script, notebook in both],
    )
    pairs = tuple(
        Pair(
            heading, script, notebook, _median_ms(script, series), _median_ms(notebook, series),
            found.cells.get(_identity(script)), _why_not(script, notebook) or "",
        )
        for heading, script, notebook in matched
    )  # fmt: skip
    notes = dict.fromkeys(note for one in found.cells.values() for note in one.notes)
    published = (
        [PUBLISHED] if any(not row["samples"] for _, script, notebook in both for row in (script, notebook)) else []
    )
    failures = [f"{_name(pair)}: {pair.why}" for pair in pairs if pair.why]
    meanings = database.query("FROM mark_meaning")
    used = {mark for pair in pairs for mark in pair.marks}
    marks = [f"{one['sign']}  {one['meaning']}" for one in meanings if one["mark"] in used]
    footers = (DEFINITION, *published, *notes, *([found.correction] if both else []), *marks, *failures)
    return FrontEnds(pairs, footers, {one["mark"]: one["sign"] for one in meanings})


def _measured(script: Row, row: Row, series: Mapping[tuple[Any, ...], Sequence[durations.Durations]]) -> Measured:
    """A side of a pair, which is known by its script. Workers of both front ends tell their spread together."""
    return Measured(_identity(script), series[_key(row)], not row["samples"], group_of(row), row["known_wrong"])


def _matched(rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row]]:
    """(heading, script, notebook) of all cells that both front ends have."""
    for group, members in tables.groups(rows, _PIVOT):
        sides = {(row["frontend"], _identity(row)): row for row in members}
        for (frontend, identity), row in sides.items():
            other = sides.get(("notebook", identity))
            if frontend == "script" and other is not None:
                yield tables.heading(group), row, other


def _identity(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in (*DIMENSIONS, "model_hash") if name != "frontend")


def _key(row: Row) -> tuple[Any, ...]:
    return (row["run"], *row["cell_keys"])


def _why_not(script: Row, notebook: Row) -> str | None:
    """Which front ends failed and why; None where both are ok."""
    failed = [
        f"{row['frontend']} {row['status']} ({row['message'] or 'no reason given'})"
        for row in (script, notebook)
        if row["status"] != "ok"
    ]
    return "; ".join(failed) or None


def _median_ms(row: Row, series: Mapping[tuple[Any, ...], Sequence[durations.Durations]]) -> float | None:
    replicates = series.get(_key(row), ())
    if not sum(map(len, replicates)):
        return None
    # As the ratio has it: averaged over replicates; published passes are means, known by the image.
    middle, scale = (np.median, 1.0) if row["samples"] else (np.mean, float(row["batch_size"]))
    return float(np.mean([middle(one) for one in replicates if len(one)])) * scale / 1e6


def _name(pair: Pair) -> str:
    return f"{pair.script['variant']} {kind_of(pair)} at batch {pair.script['batch_size']}"


def kind_of(pair: Pair) -> str:
    """As `style.kind`, with the run where a table of several runs tells it apart by that."""
    return f"{style.kind(pair.script)} {tables.describe(OF_RUN, pair.script.get(OF_RUN))}".strip()
