"""What can be asked of cells: an objective and limits, as `invoke recommend` and the page of `invoke report` take them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.comparisons.decision import PRECISIONS, Candidate, Limit, Quantity
from analysis.database.connection import Row
from analysis.results.latency import PERCENTILES, response_ms
from common.errors import UserError, unknown

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


def quantities_of(candidates: Sequence[Candidate], question: Question) -> tuple[Quantity, ...]:
    """What is reported of a winner, in this order."""
    return THROUGHPUT, latency(question.percentile, [one.row for one in candidates]), POWER, JOULES
