"""`invoke recommend`: which framework, precision and batch size under given limits, and how sure that is.

The best cell by one objective among those that meet every limit; the runner-up is the best cell of another framework or
precision. UNCLEAR where their intervals overlap, or one of the two is unknown or of a single worker. A cell whose figure for
a limit is not known does not meet it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis import style
from analysis.database.connection import Row
from analysis.database.open_runs import open_runs
from analysis.results import pareto, tables
from analysis.results.all_intervals import all_intervals
from analysis.results.latency import PERCENTILES, response_ms
from analysis.results.metrics import item_of, shown, worded
from analysis.results.sample_intervals import Intervals
from analysis.results.selection import parse_where
from common.errors import UserError, unknown
from common.job import WORKERS

#: What must not differ among cells of which one is recommended.
APART = ("model", "io", "scenario", "target_rate_per_s", "input")
#: Of the cells that meet the limits so many, the best ones, can be rivals, and are asked for the interval of their energy, which
#: reads meters; the others are too far behind.
MOST_INTERVALS = 200
#: From the coarsest to the finest. A precision that does not stand here meets no limit.
PRECISIONS = ("int8-dynamic", "int8", "bf16", "fp16", "tf32", "fp32")
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Figure:
    """A figure of a cell with the ends of its 95 % interval, where known. over_workers: whether that says anything of the
    next worker."""

    value: float
    low: float | None = None
    high: float | None = None
    over_workers: bool = True

    def text(self, unit: str) -> str:
        ends = "" if self.low is None or self.high is None else f" [{shown(self.low)}, {shown(self.high)}]"
        return f"{shown(self.value)}{f' {unit}' if unit else ''}{ends}"


@dataclass(frozen=True)
class Quantity:
    """Something that an objective or a limit is about. better: 1 where more is better, -1 where less is."""

    name: str
    title: str
    unit: str
    better: int

    @property
    def behind(self) -> str:
        """The unit as it stands behind a number."""
        return f" {self.unit}" if self.unit else ""

    def bound(self, value: float) -> str:
        """A bound as the user would give it."""
        return PRECISIONS[round(value) - 1] if self.name == "precision" else f"{value:g}"

    def reached(self, value: float) -> str:
        """A bound that a cell of this value still meets, with three significant digits."""
        return self.bound(value) if self.name == "precision" else _rounded(value, up=self.better < 0)


@dataclass(frozen=True)
class Limit:
    """bound: the most (less is better) or the least (more is better) that is allowed. option: what set it."""

    quantity: Quantity
    bound: float
    option: str

    def met(self, candidate: Candidate) -> bool:
        return self.excess(candidate) <= 1

    def excess(self, candidate: Candidate) -> float:
        """How many times over the limit, 1 and below where it is met; infinite where the figure is unknown."""
        figure = candidate.figures.get(self.quantity.name)
        if figure is None or (self.quantity.better > 0 and figure.value <= 0):
            return math.inf
        return figure.value / self.bound if self.quantity.better < 0 else self.bound / figure.value

    def certain(self, candidate: Candidate) -> bool:
        """Whether the whole interval meets it, as far as there is one."""
        figure = candidate.figures[self.quantity.name]
        worst = figure.high if self.quantity.better < 0 else figure.low
        return worst is None or (worst <= self.bound if self.quantity.better < 0 else worst >= self.bound)


#: what tells one cell of a question from another
_CONFIGURATION = ("variant", "precision", "tuning", "version", "batch_size", "streams", "frontend")


@dataclass(frozen=True)
class Candidate:
    """One cell. figures: quantity name -> figure, only of what is known."""

    variant: str
    precision: str
    batch_size: int
    figures: Mapping[str, Figure]
    row: Row

    @property
    def configuration(self) -> tuple[str, str]:
        """Framework, precision and level: what the runner-up is another one of."""
        return self.variant, style.kind({**self.row, "precision": self.precision})

    @property
    def name(self) -> str:
        text = f"{style.look(self.variant).title} {self.configuration[1]} at batch {self.batch_size}"
        streams = self.row.get("streams") or 1
        text += f" with {streams} in flight" if streams > 1 else ""
        return text if self.row.get("frontend", "script") == "script" else f"{text} in a {self.row['frontend']}"


@dataclass(frozen=True)
class Change:
    """What another bound of one limit would do. bound: the new one; winner: who would then be best."""

    limit: Limit
    bound: float
    winner: Candidate | None
    loosened: bool


@dataclass(frozen=True)
class Decision:
    """winner: None where no cell meets all limits; `nearest` is then the cell that misses by the smallest factor.

    clear: whether the winner's interval is apart from that of every cell of another framework, precision or level of tuning.
    rivals: those whose intervals overlap the winner's, or of which that cannot be known.
    """

    winner: Candidate | None
    runner_up: Candidate | None
    clear: bool
    rivals: tuple[Candidate, ...]
    changes: tuple[Change, ...]
    nearest: Candidate | None
    meets_limits: int


def decide(candidates: Sequence[Candidate], objective: Quantity, limits: Sequence[Limit]) -> Decision:
    """The decision, from figures alone. Candidates without the objective's figure are never the winner."""
    known = [one for one in candidates if objective.name in one.figures]
    meets_limits = ranked([one for one in known if all(limit.met(one) for limit in limits)], objective)
    if not meets_limits:
        misses = [(max((limit.excess(one) for limit in limits), default=math.inf), one) for one in known]
        nearest = min((miss for miss in misses if miss[0] < math.inf), key=lambda miss: miss[0], default=None)
        return Decision(None, None, False, (), (), nearest[1] if nearest else None, 0)
    winner = meets_limits[0]
    others = [one for one in meets_limits[1:MOST_INTERVALS] if one.configuration != winner.configuration]
    rivals = tuple(one for one in others if not apart(winner.figures[objective.name], one.figures[objective.name]))
    changes = tuple(change for limit in limits for change in _changes(limit, known, objective, limits, winner))
    return Decision(winner, others[0] if others else None, not rivals, rivals, changes, None, len(meets_limits))


def ranked(candidates: Sequence[Candidate], objective: Quantity) -> list[Candidate]:
    """Best first; of equals the smaller batch."""
    return sorted(
        candidates, key=lambda one: (-objective.better * one.figures[objective.name].value, one.batch_size, one.name)
    )


def apart(a: Figure, b: Figure) -> bool:
    """Whether two figures differ for sure: over workers, and with intervals that do not overlap."""
    if a.low is None or a.high is None or b.low is None or b.high is None or not (a.over_workers and b.over_workers):
        return False
    return a.low > b.high or b.low > a.high


def _changes(
    limit: Limit, known: Sequence[Candidate], objective: Quantity, limits: Sequence[Limit], winner: Candidate
) -> list[Change]:
    """The nearest looser bound that lets a better cell in, and the tightest bound that still keeps the winner."""
    rest = [other for other in limits if other is not limit]
    allowed = [one for one in known if all(other.met(one) for other in rest) and limit.excess(one) < math.inf]
    best = objective.better * winner.figures[objective.name].value
    outside = [
        one for one in allowed if not limit.met(one) and objective.better * one.figures[objective.name].value > best
    ]
    found = []
    if outside:
        entering = min(outside, key=limit.excess)
        found.append(Change(limit, entering.figures[limit.quantity.name].value, entering, loosened=True))
    figure = winner.figures[limit.quantity.name].value
    tighter = replace(limit, bound=figure)
    left = ranked([one for one in allowed if one is not winner and tighter.excess(one) < 1], objective)
    found.append(Change(limit, figure, left[0] if left else None, loosened=False))
    return found


# --- from runs to candidates ------------------------------------------------------------------------------------

THROUGHPUT = Quantity("throughput", "throughput", "images/s", 1)
POWER = Quantity("power", "power", "W", -1)
JOULES = Quantity("joules", "energy per image", "mJ", -1)
PRECISION = Quantity("precision", "precision", "", 1)


def latency(percentile: int, rows: Sequence[Row] = ()) -> Quantity:
    """Named for what it is in these rows: imported passes know the mean of a batch only."""
    bases = {basis for row in rows if (basis := response_ms(row, percentile)[1]) != "unknown"}
    name = "median latency" if percentile == 50 else f"latency p{percentile}"
    if "mean over a pass" in bases:
        name = "mean latency" if len(bases) == 1 else "median (imported: mean) latency"
    return Quantity("latency", f"{name} of a batch", "ms", -1)


def cost(price_per_kwh: float) -> Quantity:
    return Quantity("cost", f"energy cost of a million images at {price_per_kwh:g} per kWh", "", -1)


OBJECTIVES = ("throughput", "joules", "latency", "cost")


def rank_of(precision: str | None) -> float | None:
    """1 for the coarsest of PRECISIONS; None for what does not stand there."""
    return PRECISIONS.index(precision) + 1.0 if precision in PRECISIONS else None


@dataclass(frozen=True)
class Question:
    """What the user asks. Limits: None where there is none. percentile: which latency is meant: 50, 90, 95 or 99."""

    gpu: str | None = None
    objective: str = "throughput"
    max_latency_ms: float | None = None
    percentile: int = 50
    max_power_w: float | None = None
    min_throughput: float | None = None
    price_per_kwh: float | None = None
    min_precision: str | None = None

    def checked(self) -> Question:
        """Itself; UserError for what cannot be asked."""
        if self.objective not in OBJECTIVES:
            raise unknown("objective", self.objective, OBJECTIVES)
        if self.percentile not in PERCENTILES:
            raise UserError(f"there is no percentile {self.percentile}; there is {', '.join(map(str, PERCENTILES))}")
        if self.min_precision is not None and self.min_precision not in PRECISIONS:
            raise unknown("precision", self.min_precision, PRECISIONS)
        for name in ("max_latency_ms", "max_power_w", "min_throughput", "price_per_kwh"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserError(f"--{name.replace('_', '-')} is a positive number, not {value:g}")
        if self.objective == "cost" and self.price_per_kwh is None:
            raise UserError("the objective cost needs a price: give --price-per-kwh")
        return self

    def quantity(self, rows: Sequence[Row] = ()) -> Quantity:
        if self.objective == "cost":
            return cost(self.price_per_kwh or 0.0)
        return {"throughput": THROUGHPUT, "joules": JOULES, "latency": latency(self.percentile, rows)}[self.objective]

    def limits(self, rows: Sequence[Row] = ()) -> list[Limit]:
        given = (
            (latency(self.percentile, rows), self.max_latency_ms, "--max-latency-ms"),
            (POWER, self.max_power_w, "--max-power-w"),
            (THROUGHPUT, self.min_throughput, "--min-throughput"),
            (PRECISION, rank_of(self.min_precision), "--min-precision"),
        )
        return [Limit(quantity, bound, option) for quantity, bound, option in given if bound is not None]


def recommend(
    runs: Sequence[Path],
    question: Question,
    console: Console,
    *,
    where: str | Sequence[str] | None = None,
    cache: Path | None = None,
) -> int:
    """Prints the recommendation for each model, io and scenario of the chosen device; 1 where no cell of any meets the limits.

    where: see analysis.results.selection. cache: see analysis.database.cache.
    Raises UserError for an unknown or ambiguous GPU, an impossible question and an unknown column in `where`.
    """
    question.checked()
    with open_runs(runs, cache) as database:
        rows = tables.load(database, parse_where(where, database))
        device = choose_device(rows, question.gpu)
        own = [row for row in rows if _device(row) == device and row["status"] == "ok"]
        if not own:
            raise UserError(f"no cell on {device} is ok: there is nothing to recommend")
        asked = groups(own)
        metered = [row for members in asked.values() for row in _metered(members, question)]
        intervals = all_intervals(database, own, metered)
        meanings = {row["mark"]: row["meaning"] for row in database.query("FROM mark_meaning")}
        answers = [
            _answer(_group(key[1:], [other[1:] for other in asked]), members, question, intervals, meanings)
            for key, members in asked.items()
        ]
        for problem in database.problems:
            if problem.loses:
                console.print(Text(str(problem), style="red"), soft_wrap=True)
        _tell(device, answers, console)
        for one in answers:
            if one.found:
                console.print(Text(f"Run: {database.runs[one.run]}"), soft_wrap=True)
                return database.exit_code
        return 1


def _group(key: Sequence[Any], groups: Collection[Sequence[Any]]) -> str:
    """What sets a group apart from the others, in words."""
    facts = dict(zip(APART, key, strict=True))
    if len({other[0] for other in groups}) == 1:
        del facts["model"]
    return tables.heading(_unusual(facts))


def _unusual(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Without the input that every model takes."""
    return {name: value for name, value in facts.items() if (name, value) != ("input", "float32")}


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


def _tell(device: str, answers: Sequence[Answer], console: Console) -> None:
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


#: (device, *APART)
Group = tuple[Any, ...]


def groups(rows: Sequence[Row]) -> dict[Group, list[Row]]:
    """Rows of which one is recommended: of one device, model, io and scenario, each configuration once."""
    found: dict[Group, list[Row]] = {}
    for row in rows:
        found.setdefault((_device(row), *(row[name] for name in APART)), []).append(row)
    return {key: _newest(members) for key, members in found.items()}


def heading(group: Group) -> str:
    """As tables name it."""
    device, *others = group
    facts = dict(zip(APART, others, strict=True))
    return tables.heading({"model": facts.pop("model"), "device": device, **_unusual(facts)})


def _metered(rows: Sequence[Row], question: Question) -> list[Row]:
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


def _device(row: Row) -> str:
    return str(row["device_name"] or row["device"])


def choose_device(rows: Sequence[Row], given: str | None) -> str:
    """The device that is meant: its name, its number (gpu0), its UUID, or words of its name, in any case.

    Raises UserError, listing what there is, where none or several fit.
    """
    names = sorted({_device(row) for row in rows})
    if given is None:
        if len(names) == 1:
            return names[0]
        raise UserError(f"which device? give --gpu with one of: {', '.join(names) or 'none was measured'}")
    wanted = given.casefold().split()
    tests: list[Callable[[Row], bool]] = [
        lambda row: _device(row).casefold() == given.casefold(),
        lambda row: given.casefold() in (str(row["device"]).casefold(), str(row["device_uuid"]).casefold()),
        lambda row: (
            bool(wanted) and set(wanted) <= set(_device(row).casefold().replace("(", " ").replace(")", " ").split())
        ),
        lambda row: bool(wanted) and all(word in _device(row).casefold() for word in wanted),
    ]
    for test in tests:
        found = sorted({_device(row) for row in rows if test(row)})
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"'{given}' could be {' or '.join(found)}; say which")
    raise unknown("GPU", given, names)


def _newest(rows: Sequence[Row]) -> list[Row]:
    """One row for each configuration: of the run that was made last."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in sorted(rows, key=lambda row: (row["created_utc"] or "", row["run"])):
        found[tuple(row.get(name) for name in _CONFIGURATION)] = row
    return list(found.values())


def answer(
    rows: Sequence[Row], question: Question, intervals: Intervals, meanings: Mapping[str, str]
) -> tuple[Decision, list[str]]:
    """The decision among the rows of one group (see `groups`) and its sentences. meanings: of marks."""
    objective, limits = question.quantity(rows), question.limits(rows)
    candidates = [candidate(row, question, intervals) for row in rows]
    decision = decide(candidates, objective, limits)
    found = sentences(decision, candidates, objective, limits, question)
    lines = [worded(line, item_of(rows)) for line in found]
    if decision.winner is not None:
        lines += marks_of(decision.winner, meanings)
    return decision, lines


def marks_of(one: Candidate, meanings: Mapping[str, str]) -> list[str]:
    return [f"Mark on it: {meanings.get(mark, mark)}." for mark in one.row["marks"] or ()]


def _answer(
    group: str, rows: Sequence[Row], question: Question, intervals: Intervals, meanings: Mapping[str, str]
) -> Answer:
    decision, said = answer(rows, question, intervals, meanings)
    if decision.winner is None:
        return Answer(group, False, tuple(said))
    return Answer(group, True, tuple(said[:2]), tuple(said[2:]), str(decision.winner.row["run"]))


def candidate(row: Row, question: Question, intervals: Intervals) -> Candidate:
    """The figures of a row in the units that are printed."""
    figures: dict[str, Figure] = {}
    keys, run = tuple(row["cell_keys"]), row["run"]

    def known(name: str, metric: str, value: float | None, scale: float) -> None:
        if value is not None and math.isfinite(value):
            found = intervals.get((keys, run, metric))
            if found is None:
                figures[name] = Figure(value * scale)
            else:
                figures[name] = Figure(value * scale, found.low * scale, found.high * scale, found.over_workers)

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


#: The words of an answer. Both this module and the page of `invoke report` fill them in.
PHRASES = {
    "asked": "{title} {sign} {bound}{unit}",
    "under": " with {asked}",
    "best": "Best: {name}: the {best} {title}{under}, {among}.",
    "only": "the only cell",
    "only that meets": "the only cell that meets it",
    "among": "of {count} cells",
    "among that meet": "of {count} cells that meet it",
    "figure": "{title} {figure}",
    "no runner-up": "Runner-up: no other framework or precision meets it.",
    "runner-up": "Runner-up: {name}: {figure}, {share} % {direction}.",
    "unclear": "UNCLEAR: {reasons} with {names}{more}; --replicates {workers} or more would tell.",
    "overlap": "intervals overlap",
    "unknown": "are unknown",
    "one worker": "are of one worker, which tells nothing of the next",
    "uncertain": "UNCLEAR whether it keeps {option} {bound}: its interval reaches beyond.",
    "loosened": "What would change it: {option} {bound}{unit} lets in {name}, {figure}.",
    "tightened": "{beyond} {option} {bound}{unit}, {then}.",
    "then": "{name} would be best",
    "then nobody": "no cell would be left",
    "nobody": "No cell{under}.",
    "nothing known": "No cell has a known {title}.",
    "limit unknown": "{count} of {all} cells have no known {title}: they do not count.",
    "objective unknown": "{count} of {all} cells have no known {title}.",
    "nearest": "Nearest miss: {name}: {missed}.",
    "missed": "{title} {figure}, {factor} times {side} {option} {bound}",
    "too coarse": "{title} {figure}, under {option} {bound}",
}
#: Rivals and cells of the Pareto front that are named.
MOST_NAMES = 3
MOST_ON_FRONT = 12


def sentences(
    decision: Decision,
    candidates: Sequence[Candidate],
    objective: Quantity,
    limits: Sequence[Limit],
    question: Question,
) -> list[str]:
    """The answer in words, one line each."""
    say = PHRASES
    asked = " and ".join(
        say["asked"].format(
            title=limit.quantity.title,
            sign=_sign(limit),
            bound=limit.quantity.bound(limit.bound),
            unit=limit.quantity.behind,
        )
        for limit in limits
    )
    under = say["under"].format(asked=asked) if asked else ""
    winner = decision.winner
    if winner is None:
        return _nobody(decision, candidates, objective, limits, under)
    best, among = "highest" if objective.better > 0 else "lowest", _among(decision.meets_limits, bool(limits))
    lines = [say["best"].format(name=winner.name, best=best, title=objective.title, under=under, among=among)]
    quantities = {one.name: one for one in (*quantities_of(candidates, question), objective)}
    figures = [
        say["figure"].format(title=one.title, figure=winner.figures[name].text(one.unit))
        for name, one in quantities.items()
        if name in winner.figures
    ]
    lines.append("  " + ", ".join(figures))
    lines.append(_runner_up(winner, decision.runner_up, objective))
    if decision.rivals:
        lines.append(_unclear(winner, decision.rivals, objective))
    lines += [
        say["uncertain"].format(option=limit.option, bound=limit.quantity.bound(limit.bound))
        for limit in limits
        if not limit.certain(winner)
    ]
    lines += [text for change in decision.changes if (text := _change(change, winner, objective))]
    lines.append(on_front(candidates, question))
    return [line for line in lines if line]


def quantities_of(candidates: Sequence[Candidate], question: Question) -> tuple[Quantity, ...]:
    """What is reported of a winner, in this order."""
    return THROUGHPUT, latency(question.percentile, [one.row for one in candidates]), POWER, JOULES


def _runner_up(winner: Candidate, other: Candidate | None, objective: Quantity) -> str:
    if other is None:
        return PHRASES["no runner-up"]
    return PHRASES["runner-up"].format(
        name=other.name, figure=other.figures[objective.name].text(objective.unit),
        share=f"{abs(_share(winner, other, objective)):.1f}", direction="less" if objective.better > 0 else "more",
    )  # fmt: skip


def _unclear(winner: Candidate, rivals: Sequence[Candidate], objective: Quantity) -> str:
    """Why the winner is not beyond doubt, and what would tell."""
    figures = [one.figures[objective.name] for one in (winner, *rivals)]
    reasons = [PHRASES["overlap"]]
    reasons += [PHRASES["unknown"]] if any(figure.low is None for figure in figures) else []
    reasons += [PHRASES["one worker"]] if not all(figure.over_workers for figure in figures) else []
    more = f" and {len(rivals) - MOST_NAMES} more" if len(rivals) > MOST_NAMES else ""
    names = ", ".join(one.name for one in rivals[:MOST_NAMES])
    return PHRASES["unclear"].format(reasons=" or ".join(reasons), names=names, more=more, workers=WORKERS)


def _among(count: int, limited: bool) -> str:
    if count == 1:
        return PHRASES["only that meets" if limited else "only"]
    return PHRASES["among that meet" if limited else "among"].format(count=count)


def _sign(limit: Limit) -> str:
    return "at most" if limit.quantity.better < 0 else "at least"


def _share(winner: Candidate, other: Candidate, objective: Quantity) -> float:
    value = winner.figures[objective.name].value
    return 100 * (other.figures[objective.name].value / value - 1) if value else 0.0


def _change(change: Change, winner: Candidate, objective: Quantity) -> str:
    quantity, option = change.limit.quantity, change.limit.option
    bound = quantity.reached(change.bound)
    if change.loosened:
        if change.winner is None:
            return ""
        figure = change.winner.figures[objective.name].text(objective.unit)
        return PHRASES["loosened"].format(
            option=option, bound=bound, unit=quantity.behind, name=change.winner.name, figure=figure
        )
    then = PHRASES["then"].format(name=change.winner.name) if change.winner else PHRASES["then nobody"]
    beyond = "Below" if quantity.better < 0 else "Above"
    return PHRASES["tightened"].format(beyond=beyond, option=option, bound=bound, unit=quantity.behind, then=then)


def _rounded(value: float, up: bool) -> str:
    """Three significant digits, rounded to the side on which the limit is still met."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    step = 10.0**-digits
    rounded = (math.ceil if up else math.floor)(round(value / step, 6)) * step
    return f"{rounded:.{max(0, digits)}f}"


def _nobody(
    decision: Decision, candidates: Sequence[Candidate], objective: Quantity, limits: Sequence[Limit], under: str
) -> list[str]:
    say, count = PHRASES, len(candidates)
    lines = [say["nobody"].format(under=under) if limits else say["nothing known"].format(title=objective.title)]
    for limit in limits:
        without = sum(limit.quantity.name not in one.figures for one in candidates)
        if without:
            lines.append(say["limit unknown"].format(count=without, all=count, title=limit.quantity.title))
    lacking = sum(objective.name not in one.figures for one in candidates)
    if lacking and limits:
        lines.append(say["objective unknown"].format(count=lacking, all=count, title=objective.title))
    near = decision.nearest
    if near is not None:
        missed = " and ".join(_missed(limit, near) for limit in limits if not limit.met(near))
        lines.append(say["nearest"].format(name=near.name, missed=missed))
    return lines


def _missed(limit: Limit, near: Candidate) -> str:
    quantity = limit.quantity
    words = {"title": quantity.title, "option": limit.option, "bound": quantity.bound(limit.bound)}
    if quantity is PRECISION:
        return PHRASES["too coarse"].format(**words, figure=near.precision)
    return PHRASES["missed"].format(
        **words, figure=near.figures[quantity.name].text(quantity.unit), factor=f"{limit.excess(near):.2f}",
        side="over" if quantity.better < 0 else "under",
    )  # fmt: skip


def front(candidates: Sequence[Candidate], question: Question) -> tuple[list[Quantity], list[Candidate]]:
    """The cells that no other beats in all of throughput, latency and energy per image, as far as these are known."""
    quantities = [
        one
        for one in quantities_of(candidates, question)
        if one is not POWER and any(one.name in candidate.figures for candidate in candidates)
    ]
    points = [[c.figures[q.name].value if q.name in c.figures else math.nan for q in quantities] for c in candidates]
    best = pareto.front(points, [q.better for q in quantities])
    return quantities, [one for one, on in zip(candidates, best, strict=True) if on]


def on_front(candidates: Sequence[Candidate], question: Question) -> str:
    """The names of `front`; "" where fewer than two of its figures are known."""
    quantities, best = front(candidates, question)
    if len(quantities) < 2:
        return ""
    names = "; ".join(one.name for one in sorted(best, key=lambda one: (one.batch_size, one.name))[:MOST_ON_FRONT])
    more = f" and {len(best) - MOST_ON_FRONT} more" if len(best) > MOST_ON_FRONT else ""
    return f"On the Pareto front of {', '.join(q.title for q in quantities)}: {names}{more}."
