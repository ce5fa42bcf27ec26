"""From rows of runs to the candidates of a decision: which cells belong together, on which device, with which figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from analysis import style
from analysis.comparisons.decision import MOST_INTERVALS, Candidate, Figure, Limit, Quantity, decide, ranked
from analysis.comparisons.question import Question, rank_of
from analysis.database.connection import Row
from analysis.results import tables
from analysis.results.latency import response_ms
from analysis.results.level_steps import AS_TUNED
from analysis.results.metrics import is_wrong
from analysis.results.sample_intervals import Intervals
from analysis.results.several_runs import RULE, far_apart, gpus_of_one_run, newest, passed_over
from common.errors import UserError, unknown

#: What must not differ among cells of which one is recommended.
APART = ("model", "io", "scenario", "target_rate_per_s", "input")
JOULES_PER_KWH = 3.6e6
#: (device, *APART)
Group = tuple[Any, ...]


def group_rows(rows: Sequence[Row]) -> dict[Group, list[Row]]:
    """Rows of which one is recommended: of one device, model, io and scenario, each configuration once (several_runs).

    Rows whose figures are known to be wrong are never recommended: `left_out` says so, as it does of older ones and of those that are
    tuned once more.
    """
    found: dict[Group, list[Row]] = {}
    for row in rows:
        if not is_wrong(row) and not row.get(AS_TUNED):
            found.setdefault((device_of(row), *(row[name] for name in APART)), []).append(row)
    return {key: newest(members) for key, members in found.items()}


def left_out(rows: Sequence[Row], intervals: Intervals = MappingProxyType({})) -> list[str]:
    """One sentence for each reason why cells among these are never recommended: which, and why. intervals: see `far_apart`."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if is_wrong(row):
            found.setdefault(str(row["known_wrong"]), []).append(row)
    right = [row for row in rows if not is_wrong(row) and not row.get(AS_TUNED)]
    if again := [row for row in rows if not is_wrong(row) and row.get(AS_TUNED)]:
        found["nothing was rewritten, so that it is tuned measured once more"] = again
    others, of_other_gpus = passed_over(right)
    if others:
        why = f"another run measured them too, and of each cell one figure counts: {RULE}"
        found["; ".join([why, *far_apart(right, intervals)])] = others
    if of_other_gpus:
        found[gpus_of_one_run(of_other_gpus, right)] = of_other_gpus
    return [
        f"Left out: {'1 cell' if len(members) == 1 else f'{len(members)} cells'} of "
        f"{', '.join(dict.fromkeys(style.look(row['variant']).title for row in members))}: {why}."
        for why, members in found.items()
    ]


def heading(group: Group) -> str:
    """As tables name it."""
    device, *others = group
    facts = dict(zip(APART, others, strict=True))
    return tables.heading({"model": facts.pop("model"), "device": device, **unusual(facts)})


def unusual(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Without the input that every model takes."""
    return {name: value for name, value in facts.items() if (name, value) != ("input", "float32")}


def metered(rows: Sequence[Row], question: Question) -> list[Row]:
    """Of which the interval of the energy can matter: the best that meet the limits, else the nearest."""
    objective, limits = question.quantity(rows), question.limits(rows)
    candidates = [candidate(row, question, {}) for row in rows]
    known = [one for one in candidates if objective.name in one.figures]
    meets_limits = ranked([one for one in known if all(limit.met(one) for limit in limits)], objective)
    if objective.name in ("joules", "cost"):
        return [one.row for one in meets_limits[:MOST_INTERVALS]] + _others(candidates, objective, limits)
    return [one.row for one in meets_limits[:1]] + _others(candidates, objective, limits)


def _others(candidates: Sequence[Candidate], objective: Quantity, limits: Sequence[Limit]) -> list[Row]:
    """Rows that a sentence names beside the winner: who would be let in, and the nearest where nobody wins."""
    decision = decide(candidates, objective, limits)
    named = [decision.nearest, *(change.winner for change in decision.changes)]
    return [one.row for one in named if one is not None]


def device_of(row: Row) -> str:
    return str(row["device_name"] or row["device"])


def choose_device(rows: Sequence[Row], given: str | None) -> str:
    """The device that is meant: its name, its number (gpu0), its UUID, or words of its name, in any case.

    Raises UserError, listing what there is, where none or several fit.
    """
    names = sorted({device_of(row) for row in rows})
    if given is None:
        if len(names) == 1:
            return names[0]
        raise UserError(f"which device? give --gpu with one of: {', '.join(names) or 'none was measured'}")
    wanted = given.casefold().split()
    tests: list[Callable[[Row], bool]] = [
        lambda row: device_of(row).casefold() == given.casefold(),
        lambda row: given.casefold() in (str(row["device"]).casefold(), str(row["device_uuid"]).casefold()),
        lambda row: (
            bool(wanted) and set(wanted) <= set(device_of(row).casefold().replace("(", " ").replace(")", " ").split())
        ),
        lambda row: bool(wanted) and all(word in device_of(row).casefold() for word in wanted),
    ]
    for test in tests:
        found = sorted({device_of(row) for row in rows if test(row)})
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"'{given}' could be {' or '.join(found)}; say which")
    raise unknown("GPU", given, names)


def marks_of(one: Candidate, meanings: Mapping[str, str]) -> list[str]:
    return [f"Mark on it: {meanings.get(mark, mark)}." for mark in one.row["marks"] or ()]


def candidate(row: Row, question: Question, intervals: Intervals) -> Candidate:
    """The figures of a row in the units that are printed."""
    figures: dict[str, Figure] = {}
    keys, run = tuple(row["cell_keys"]), row["run"]

    def known(name: str, metric: str, value: float | None, scale: float) -> None:
        if value is not None and math.isfinite(value):
            found = intervals.get((keys, run, metric))
            bounded = found is not None and math.isfinite(found.low) and math.isfinite(found.high)
            low, high = (found.low * scale, found.high * scale) if found and bounded else (None, None)
            figures[name] = Figure(value * scale, low, high, found is None or found.over_workers)

    if (rank := rank_of(row["precision"])) is not None:
        figures["precision"] = Figure(rank)
    known("throughput", "throughput", row["images_per_s"], 1.0)
    known("power", "power", row["power_gross_w"], 1.0)
    known("joules", "joules_per_image", row["joules_per_image"], 1e3)
    if question.price_per_kwh is not None:
        known("cost", "joules_per_image", row["joules_per_image"], question.price_per_kwh * 1e6 / JOULES_PER_KWH)
    value, basis = response_ms(row, question.percentile)
    if basis == "mean over a pass" and value is not None:
        scale = row["batch_size"] * 1e3
        known("latency", "seconds_per_image", value / scale, scale)
    else:
        known("latency", "latency" if question.percentile == 50 else f"p{question.percentile}", value, 1.0)
    return Candidate(row["variant"], row["precision"], row["batch_size"], figures, row)
