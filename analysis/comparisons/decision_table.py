"""What the page of `invoke report` needs to answer as `invoke recommend` does: figures, orders and words, ready made.

All that is left to the page is to drop the cells that miss a limit and to take the first of those that are left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.comparisons.answer_words import (
    MOST_NAMES,
    PHRASES,
    WHERE,
    is_published,
    more_workers,
    on_front,
    phrases_of,
)
from analysis.comparisons.candidates import candidate, marks_of
from analysis.comparisons.decision import MOST_INTERVALS, Candidate, Quantity, ranked
from analysis.comparisons.question import PRECISION, Question, quantities_of
from analysis.database.connection import Row
from analysis.results.bench_commands import BENCH, choices
from analysis.results.cards import FAR_APART
from analysis.results.metrics import worded
from analysis.results.sample_intervals import Intervals

OBJECTIVES = ("throughput", "joules", "latency")
#: What a limit can be set on -> the option of `invoke recommend` that does so.
LIMITS = {"latency": "--max-latency-ms", "power": "--max-power-w", "precision": "--min-precision"}
#: Positions of a limit within one decade, and most positions in all.
_WITHIN = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
MOST_STEPS = 60
#: Digits of a figure: a page of thousands of cells holds several of each, and nobody measures as exactly.
_DIGITS = 9


def build(rows: Sequence[Row], intervals: Intervals, meanings: Mapping[str, str]) -> dict[str, Any]:
    """JSON of one group of rows (see `candidates.group_rows`).

    cells: name, configuration (framework, precision, level: a number), card and run (numbers), published (whether others did), options
    (places of the values of each option of `bench`), figures (value, ends, whether over workers, text), bounds as `Quantity.reached`
    tells them, marks (places in the list of all). order: objective -> places of cells, the best first. steps: what a limit can be.
    is_known: of each card. elsewhere: `answer_words.WHERE`. bench: options of the command that measures two cells in one run, as
    `bench_commands.Choice`.
    """
    question = Question()
    candidates = [candidate(row, question, intervals) for row in rows]
    quantities = {one.name: one for one in (*quantities_of(candidates, question), PRECISION)}
    configurations = list(dict.fromkeys(one.configuration for one in candidates))
    known = {name: [one for one in candidates if name in one.figures] for name in OBJECTIVES}
    cards = list(dict.fromkeys(one.card for one in candidates))
    runs = list(dict.fromkeys(str(row["run"]) for row in rows))
    options = choices(rows)
    values = [list(dict.fromkeys(choice.values)) for choice in options]
    place = {id(one): number for number, one in enumerate(candidates)}
    marks = [marks_of(one, meanings) for one in candidates]
    sentences = list(dict.fromkeys(sentence for own in marks for sentence in own))
    return {
        "cells": [
            {
                **_cell(one, quantities, configurations.index(one.configuration)),
                "card": cards.index(one.card),
                "run": runs.index(str(one.row["run"])),
                "published": is_published(one.row),
                "options": [known.index(choice.values[number]) for choice, known in zip(options, values, strict=True)],
                "marks": [sentences.index(sentence) for sentence in own],
            }
            for number, (one, own) in enumerate(zip(candidates, marks, strict=True))
        ],
        "bench": [[choice.option, choice.usual, known] for choice, known in zip(options, values, strict=True)],
        "command": BENCH,
        "is_known": [card.is_known for card in cards],
        "elsewhere": WHERE,
        "where": "" if rows[0]["device"] == "cpu" else PHRASES["on one GPU"],
        "marks": sentences,
        "order": {
            name: [place[id(one)] for one in ranked(found, quantities[name])] for name, found in known.items() if found
        },
        "quantities": {
            name: {
                "title": worded(one.title),
                "behind": worded(one.behind),
                "better": one.better,
                "option": LIMITS.get(name, ""),
            }
            for name, one in quantities.items()
        },
        "steps": {name: found for name in LIMITS if (found := _steps(candidates, quantities[name]))},
        "front": worded(on_front(candidates, question)),
        "phrases": phrases_of(rows[0]),
        "workers": {most: more_workers(most) for most in {one.workers for one in candidates}},
        "rivals": MOST_INTERVALS,
        "far_apart": FAR_APART,
        "names": MOST_NAMES,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _cell(one: Candidate, quantities: Mapping[str, Quantity], configuration: int) -> dict[str, Any]:
    return {
        "name": one.name,
        "configuration": configuration,
        "precision": one.precision,
        "workers": one.workers,
        "figures": {
            name: [
                *(_rounded(value) for value in (figure.value, figure.low, figure.high)),
                figure.over_workers,
                worded(figure.text(quantities[name].unit)),
            ]
            for name, figure in one.figures.items()
        },
        "reached": {name: quantities[name].reached(one.figures[name].value) for name in LIMITS if name in one.figures},
    }


def _steps(candidates: Sequence[Candidate], quantity: Quantity) -> list[tuple[float, str]]:
    """(bound, as it is said) from what only the best cell meets, or none, to what all meet; [] where nothing is to choose."""
    values = sorted({one.figures[quantity.name].value for one in candidates if quantity.name in one.figures})
    if len(values) < 2:
        return []
    if quantity.name == "precision":
        return [(value, quantity.bound(value)) for value in reversed(values)]
    found = spread(values[0], values[-1])
    return [(value, quantity.bound(value)) for value in found]


def spread(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to `high` or more, about evenly by ratio, MOST_STEPS at most."""
    if not (0 < low < high < math.inf):
        return []
    decades = range(math.floor(math.log10(low)) - 1, math.floor(math.log10(high)) + 2)
    fine = high / low < 30
    within = (
        tuple(1 + place / 20 for place in range(180)) if high / low < 3 else tuple(n / 10 for n in range(10, 100, 5))
    )
    every = [float(f"{one * 10.0**decade:.6g}") for decade in decades for one in (within if fine else _WITHIN)]
    first = max((n for n, value in enumerate(every) if value <= low), default=0)
    last = next((n for n, value in enumerate(every) if value >= high), len(every) - 1)
    chosen = every[max(first - 1, 0) : last + 1]
    # counted from the end, which all cells meet
    return chosen[:: -math.ceil(len(chosen) / MOST_STEPS)][::-1]
