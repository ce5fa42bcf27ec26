"""What reference runs say, as data: which framework is fastest, what a level, bytes or offline is worth, where joules disagree.

All comparisons of a device are asked for first and judged together (ratios.py), so that verdicts hold for a page as a whole. What is
not there is said by name: a pair without one side, a level that nobody measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis import style
from analysis.comparisons.candidates import left_out
from analysis.comparisons.decision import Figure, apart
from analysis.comparisons.ratios import Pair, Said, Throughputs, place_of
from analysis.database.connection import Database, Row
from analysis.results import energy_intervals, published_intervals
from analysis.results.metrics import is_wrong
from common.models import MODELS
from common.schema import IO_MODES, PRECISIONS, TUNINGS

#: what tells one configuration of a device from another
CONFIGURATION = (
    "model", "model_hash", "variant", "precision", "tuning", "io", "input", "scenario", "streams", "target_rate_per_s",
    "batch_size", "frontend", "version",
)  # fmt: skip
Key = tuple[Any, ...]
_ORDER: Mapping[str, Sequence[str]] = {
    "precision": PRECISIONS,
    "tuning": TUNINGS,
    "io": IO_MODES,
    "model": tuple(MODELS),
}


@dataclass(frozen=True)
class Step:
    """Two configurations that differ in one column alone."""

    column: str
    lower: str
    upper: str
    #: of everything that is not the column
    where: Mapping[str, str]


TUNING = Step("tuning", "stock", "tuned", {"input": "float32", "scenario": "single-stream"})
REWRITING = Step("tuning", "tuned", "rewritten", {"input": "float32", "scenario": "single-stream"})
BYTES = Step("input", "float32", "uint8", {"scenario": "single-stream"})
OFFLINE = Step("scenario", "single-stream", "offline", {"input": "float32"})
STEPS = (TUNING, REWRITING, BYTES, OFFLINE)


@dataclass(frozen=True)
class First:
    """The fastest row of some, and the next one of another framework; second: None where there is no other."""

    row: Row
    second: Row | None


@dataclass(frozen=True)
class Energy:
    """The fastest row of some and the one of the fewest joules per image. certain: whether their energies differ for sure."""

    fastest: Row
    thriftiest: Row
    certain: bool

    @property
    def agree(self) -> bool:
        return self.fastest is self.thriftiest


def configuration_of(row: Row) -> Key:
    """What was measured, on what kind of device: of two rows that agree in it, one counts."""
    return (row["device_name"], *(row[name] for name in CONFIGURATION))


def newest_of_each(rows: Iterable[Row]) -> tuple[list[Row], int]:
    """(one row for each configuration, how many others there were): of several runs those that are ok, with most workers, newest."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault(configuration_of(row), []).append(row)
    best = [max(members, key=_standing) for members in found.values()]
    return best, sum(map(len, found.values())) - len(best)


def _standing(row: Row) -> tuple[Any, ...]:
    return row["status"] == "ok", not is_wrong(row), row["replicates"], str(row["created_utc"]), row["run"]


class Findings:
    """What the rows of one device say. rows: of `comparison`, one for each configuration (newest_of_each)."""

    def __init__(self, database: Database, rows: Sequence[Row]) -> None:
        self.rows = [row for row in rows if row["frontend"] == "script" and not row["version"]]
        # nothing is said of figures that are known to be wrong, but which they are: `left_out`
        self.ok = [row for row in self.rows if row["status"] == "ok" and row["images_per_s"] and not is_wrong(row)]
        self.left_out = left_out([row for row in self.rows if row["status"] == "ok"])
        self._by_key = {self._key(row): row for row in self.rows}
        self.throughputs = Throughputs(database, self.ok)
        self._joules = _energy_figures(database, self.ok)
        self.said: Mapping[Pair, Said] = self.throughputs.judge(self._pairs())

    def _key(self, row: Row, **other: Any) -> Key:
        return tuple(other.get(name, row[name]) for name in CONFIGURATION)

    # --- what is compared ---------------------------------------------------------------------------------------------

    def _pairs(self) -> list[tuple[Row, Row]]:
        pairs = [pair for step in STEPS for pair in self.pairs_of(step)]
        for group in self._groups("model", "io", "tuning", "precision", "batch_size").values():
            ranked = ranking(group)
            pairs += itertools.pairwise(ranked)
            pairs += [(one.row, one.second) for one in [first_of(group)] if one is not None and one.second is not None]
        for group in self._groups("model", "io", "batch_size").values():
            pairs += [(one.row, one.second) for one in [first_of(group)] if one is not None and one.second is not None]
        for group in self._groups("model", "io", "precision", "batch_size").values():
            energy = self.energy_of(group)
            pairs += [(energy.thriftiest, energy.fastest)] if energy is not None and not energy.agree else []
        return pairs

    def _groups(self, *names: str) -> dict[Key, list[Row]]:
        """The ordinary rows (one inference at a time, float32 in) by these columns."""
        found: dict[Key, list[Row]] = {}
        for row in self.ordinary():
            found.setdefault(tuple(row[name] for name in names), []).append(row)
        return found

    def ordinary(self, **where: Any) -> list[Row]:
        """ok rows of one inference at a time with float32 in, or with what `where` says instead."""
        asked = {"scenario": "single-stream", "input": "float32", **where}
        return [row for row in self.ok if all(row[name] == value for name, value in asked.items())]

    def pairs_of(self, step: Step, **where: Any) -> list[tuple[Row, Row]]:
        """(upper, lower) of a step, both ok."""
        asked = {**step.where, **where, step.column: step.upper}
        found = []
        for row in self.ok:
            below = self._by_key.get(self._key(row, **{step.column: step.lower}))
            if (
                below
                and below["status"] == "ok"
                and below["images_per_s"]
                and all(row[name] == value for name, value in asked.items())
            ):
                found.append((row, below))
        return found

    def unpaired(self, step: Step, **where: Any) -> list[tuple[Row, str]]:
        """ok rows on one side of a step whose other side is not ok, with what became of that: `stock oom`, `tuned not measured`.

        The upper side is missed only where it can be: a level that the framework has, bytes where images are copied; that not every
        cell was measured offline says nothing.
        """
        asked = {**step.where, **where}
        found = []
        for row in self.ok:
            if row[step.column] not in (step.lower, step.upper) or any(
                row[name] != value for name, value in asked.items()
            ):
                continue
            wanted = step.upper if row[step.column] == step.lower else step.lower
            other = self._by_key.get(self._key(row, **{step.column: wanted}))
            if other is not None and other["status"] != "ok":
                found.append((row, f"{wanted} {other['status']}"))
            elif other is None and (wanted == step.lower or _can_be(step, row)):
                found.append((row, f"{wanted} not measured"))
        return found

    # --- what came out ------------------------------------------------------------------------------------------------

    def of(self, b: Row, a: Row) -> Said:
        return self.said[place_of(b), place_of(a)]

    def energy_of(self, rows: Sequence[Row]) -> Energy | None:
        known = [row for row in rows if place_of(row) in self._joules]
        if len(known) < 2:
            return None
        fastest = max(known, key=lambda row: row["images_per_s"])
        least = min(known, key=lambda row: row["joules_per_image"])
        return Energy(fastest, least, apart(self._joules[place_of(fastest)], self._joules[place_of(least)]))

    def thriftier_batches(self, io: str = "host") -> tuple[list[tuple[Row, Row]], int]:
        """((row of the most images per second, row of the fewest joules at a smaller batch), each of one framework, model, level and
        precision, where the energies differ for sure; how many have several batch sizes)."""
        groups: dict[Key, list[Row]] = {}
        for row in self.ordinary(io=io):
            if place_of(row) in self._joules:
                groups.setdefault(self._key(row, batch_size=None), []).append(row)
        found = [energy for group in groups.values() if (energy := self.energy_of(group)) is not None]
        sure = [one for one in found if one.thriftiest["batch_size"] < one.fastest["batch_size"] and one.certain]
        return [(one.fastest, one.thriftiest) for one in sure], len(found)


def _can_be(step: Step, row: Row) -> bool:
    """Whether a row on the lower side of a step can have one on the upper side."""
    if step.column == "tuning":
        return step.upper in style.tunings(row["variant"])
    if step.column == "input":
        return row["tuning"] == "tuned" and row["io"] == "host" and not is_transformer(row["model"], of_words=True)
    return False


def is_transformer(model: str, of_words: bool = False) -> bool:
    """Of the models that framewatt exports by name. of_words: only those that take no images."""
    known = MODELS.get(model)
    return known is not None and known.is_transformer and not (of_words and known.size)


def _energy_figures(database: Database, rows: Sequence[Row]) -> dict[tuple[str, tuple[str, ...]], Figure]:
    """Joules per image with the wider of the spread between workers and the meter's error."""
    known = published_intervals.of_rows(database, rows)
    intervals = {**known, **energy_intervals.of_rows(database, rows, known, only=())}
    found = {}
    for row in rows:
        if row["joules_per_image"] is None or row["joules_per_image"] <= 0:
            continue
        one = intervals.get((tuple(row["cell_keys"]), row["run"], "joules_per_image"))
        over_workers = one is not None and one.over_workers
        low, high = (one.low, one.high) if one is not None else (None, None)
        found[place_of(row)] = Figure(row["joules_per_image"], low, high, over_workers)
    return found


def first_of(rows: Sequence[Row]) -> First | None:
    if not rows:
        return None
    ranked = sorted(rows, key=lambda row: -row["images_per_s"])
    return First(ranked[0], next((row for row in ranked if row["variant"] != ranked[0]["variant"]), None))


def ranking(rows: Sequence[Row]) -> list[Row]:
    """The fastest row of each framework, fastest first."""
    best: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: -row["images_per_s"]):
        best.setdefault(row["variant"], row)
    return list(best.values())


def in_order(rows: Iterable[Row], name: str) -> list[Any]:
    """The values of a column, in the order that people know."""
    known = _ORDER.get(name, ())
    values = {row[name] for row in rows}
    return [*(value for value in known if value in values), *sorted(values.difference(known))]
