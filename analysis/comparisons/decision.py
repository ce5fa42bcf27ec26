"""The best cell under limits, from figures alone: winner, runner-up, rivals, and what another bound would change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis import style
from analysis.database.connection import Row
from analysis.results.cards import Card, card_of, two_cards
from analysis.results.metrics import shown

#: Of the cells that meet the limits so many, the best ones, can be rivals, and are asked for the interval of their energy, which
#: reads meters; the others are too far behind.
MOST_INTERVALS = 200
#: From the coarsest to the finest. A precision that does not stand here meets no limit.
PRECISIONS = ("int8-dynamic", "int8", "bf16", "fp16", "tf32", "fp32")


@dataclass(frozen=True)
class Figure:
    """A figure of a cell with the ends of its 95 % interval, where both are known and bounded. over_workers: whether that says
    anything of the next worker."""

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
        return self.bound(value) if self.name == "precision" else rounded(value, up=self.better < 0)


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
    def card(self) -> Card:
        return card_of(self.row)

    @property
    def workers(self) -> int:
        return int(self.row.get("replicates") or 1)

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

    clear: whether the winner is told apart from every cell of another framework, precision or level of tuning.
    rivals: those that it is not: see `told_apart`.
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
    rivals = tuple(one for one in others if not told_apart(winner, one, objective))
    changes = tuple(change for limit in limits for change in _changes(limit, known, objective, limits, winner))
    return Decision(winner, others[0] if others else None, not rivals, rivals, changes, None, len(meets_limits))


def ranked(candidates: Sequence[Candidate], objective: Quantity) -> list[Candidate]:
    """Best first; of equals the smaller batch."""
    return sorted(
        candidates, key=lambda one: (-objective.better * one.figures[objective.name].value, one.batch_size, one.name)
    )


def told_apart(a: Candidate, b: Candidate, quantity: Quantity) -> bool:
    """Whether two cells differ in a quantity for sure. Two cards of one kind do too, by what no interval knows."""
    return not two_cards(a.card, b.card) and apart(a.figures[quantity.name], b.figures[quantity.name])


def apart(a: Figure, b: Figure) -> bool:
    """Whether two figures differ for sure: over workers, and with intervals that do not overlap."""
    known = None not in (a.low, a.high, b.low, b.high)
    return known and a.over_workers and b.over_workers and not overlap(a, b)


def overlap(a: Figure, b: Figure) -> bool:
    """Whether two intervals, where both are known, have a value in common."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.low <= b.high and b.low <= a.high


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


def rounded(value: float, up: bool) -> str:
    """Three significant digits, rounded to the side on which the limit is still met."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    step = 10.0**-digits
    rounded = (math.ceil if up else math.floor)(round(value / step, 6)) * step
    return f"{rounded:.{max(0, digits)}f}"
