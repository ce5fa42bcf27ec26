"""What reference runs say, as data: which framework is fastest, what a level, bytes or offline is worth, where joules disagree.

All comparisons that a page prints of a device are asked for first and judged together (ratios.py), so that verdicts hold for it as a
whole. What is not there is said by name: a pair without one side, a level that nobody measured, rows that cannot be paired.
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
from analysis.results import energy_intervals, published_intervals, several_runs
from analysis.results.algorithms import ALGORITHM
from analysis.results.cards import Card, card_of, two_cards
from analysis.results.metrics import concerns, is_wrong, metric
from common.models import MODELS
from common.schema import IO_MODES, PRECISIONS, TUNINGS
from common.typed_json import parse_object

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
    #: whether both sides must compute by the same algorithm
    one_algorithm: bool = False


TUNING = Step("tuning", "stock", "tuned", {"input": "float32", "scenario": "single-stream"})
REWRITING = Step("tuning", "tuned", "rewritten", {"input": "float32", "scenario": "single-stream"})
BYTES = Step("input", "float32", "uint8", {"scenario": "single-stream"})
OFFLINE = Step("scenario", "single-stream", "offline", {}, one_algorithm=True)
STEPS = (TUNING, REWRITING, BYTES, OFFLINE)


@dataclass(frozen=True)
class First:
    """The fastest row of some, and the next one of another framework; second: None where there is no other."""

    row: Row
    second: Row | None


@dataclass(frozen=True)
class Energy:
    """The fastest row of some and the one of the fewest joules per image.

    second: the next fastest one. certain: whether the two energies, or where one row is both those of it and of every other row,
    differ for sure. decidable: whether these are of one GPU and have intervals over workers; else nothing can be certain.
    """

    fastest: Row
    second: Row
    thriftiest: Row
    certain: bool
    decidable: bool

    @property
    def agree(self) -> bool:
        return self.fastest is self.thriftiest

    @property
    def pair(self) -> tuple[Row, Row]:
        """The throughputs that must differ too: the thriftiest row against the fastest, or that one, where it is both, against the
        next."""
        return (self.fastest, self.second) if self.agree else (self.thriftiest, self.fastest)


def configuration_of(row: Row) -> Key:
    """What was measured, on what kind of device: of two rows that agree in it, one counts."""
    return (row["device_name"], *(row[name] for name in CONFIGURATION))


def newest_of_each(rows: Iterable[Row]) -> tuple[list[Row], int]:
    """(one row for each configuration, how many others there were): of several runs the one that counts (several_runs.standing)."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault(configuration_of(row), []).append(row)
    best = [max(members, key=several_runs.standing) for members in found.values()]
    return best, sum(map(len, found.values())) - len(best)


class Findings:
    """What the rows of one device say.

    rows: of `comparison`, one for each configuration (newest_of_each). others: further rows of these configurations: a step takes
    them where they make a better pair, such as both levels of one run.
    """

    def __init__(self, database: Database, rows: Sequence[Row], others: Sequence[Row] = ()) -> None:
        self.rows = [row for row in rows if _is_usual(row)]
        # nothing is said of figures that are known to be wrong, but which they are: `left_out`
        self.ok = [row for row in self.rows if _counts(row)]
        self.wrong = [row for row in self.rows if row["status"] == "ok" and is_wrong(row)]
        self.left_out = [*left_out(self.wrong), *_unusual_words(rows)]
        self._by_key = {self._key(row): row for row in self.rows}
        candidates = {
            place_of(row): row for row in (*self.ok, *(row for row in others if _is_usual(row) and _counts(row)))
        }
        self._candidates: dict[Key, list[Row]] = {}
        for row in candidates.values():
            self._candidates.setdefault(self._key(row), []).append(row)
        self._facts = _facts(database)
        self._signs = {row["mark"]: row["sign"] for row in database.query("FROM mark_meaning")}
        self.throughputs = Throughputs(database, candidates.values())
        self._joules = _energy_figures(database, self.ok)
        self._steps = {(step.column, step.upper): self._pairs_of(step) for step in STEPS}
        self.said: Mapping[Pair, Said] = self.throughputs.judge(self._pairs())

    def _key(self, row: Row, **other: Any) -> Key:
        return tuple(other.get(name, row[name]) for name in CONFIGURATION)

    # --- what is compared ---------------------------------------------------------------------------------------------

    def _pairs(self) -> list[tuple[Row, Row]]:
        """What a page prints, and no more: each further pair would widen the intervals of all verdicts."""
        pairs = [pair for step in STEPS for pair in self.pairs_of(step)]
        with_copies = {row["model"] for row in self.ordinary(io="host")}
        kinds: dict[Key, set[bool]] = {}
        for row in self.ordinary(io="host", tuning="tuned"):
            kinds.setdefault((row["precision"], row["batch_size"]), set()).add(is_transformer(row["model"]))
        for (_, io, tuning, *place), group in self._groups("model", "io", "tuning", "precision", "batch_size").items():
            pairs += _first_pair(group)
            if (io, tuning) == ("host", "tuned") and len(kinds[tuple(place)]) == 2:
                pairs += itertools.pairwise(ranking(group))
        for (model, io, _), group in self._groups("model", "io", "batch_size").items():
            if io == "host" or model not in with_copies:
                pairs += _first_pair(group)
        for (_, io, _, _), group in self._groups("model", "io", "precision", "batch_size").items():
            energy = self.energy_of(group) if io == "host" else None
            pairs += [energy.pair] if energy is not None and energy.certain else []
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
        """(upper, lower) of a step, both ok, of one GPU and one version of the framework: of each configuration one pair."""
        return [
            pair
            for pair in self._steps[step.column, step.upper]
            if all(pair[0][name] == value for name, value in where.items())
        ]

    def _pairs_of(self, step: Step) -> list[tuple[Row, Row]]:
        asked = {**step.where, step.column: step.upper}
        found = []
        for key, uppers in self._candidates.items():
            lowers = self._candidates.get(self._key(uppers[0], **{step.column: step.lower}), [])
            if lowers and all(uppers[0][name] == value for name, value in asked.items()):
                pairs = [pair for pair in itertools.product(uppers, lowers) if self._hinders(step, *pair) is None]
                found += (
                    [max(pairs, key=lambda pair: several_runs.standing_of_pair(*pair))]
                    if pairs and key in self._by_key
                    else []
                )
        return found

    def _hinders(self, step: Step, one: Row, other: Row) -> str | None:
        """Why two rows are no pair of a step, though they differ in its column alone; None where they are one."""
        versions = one["framework_version"], other["framework_version"]
        if versions[0] != versions[1] or (versions[0] is None and one["run"] != other["run"]):
            return f"of version {versions[1] or 'unknown'}"
        if two_cards(card_of(one), card_of(other)):
            return "on another GPU"
        facts = [[self._facts[row["run"], key] for key in row["cell_keys"]] for row in (one, other)]
        if one["run"] != other["run"] and len({fact.conditions for side in facts for fact in side}) > 1:
            return "with another driver, power limit or runner"
        algorithms = [{fact.algorithm for fact in side} for side in facts]
        return "by another algorithm" if step.one_algorithm and algorithms[0] != algorithms[1] else None

    def signs_of(self, row: Row) -> str:
        """Of the marks of a row that say something of its throughput: ` dh`, or nothing."""
        marks = [
            mark for mark in row["marks"] or () if mark in self._signs and concerns(mark, metric("throughput"), row)
        ]
        signs = "".join(sorted(self._signs[mark] for mark in marks))
        return f" {signs}" if signs else ""

    def unpaired(self, step: Step, **where: Any) -> list[tuple[Row, str]]:
        """ok rows on one side of a step that are in no pair, with what became of the other side: `stock oom`, `tuned not measured`.

        The upper side is missed only where it can be: a level that the framework has, bytes where images are copied; that not every
        cell was measured offline says nothing. A pair that two versions or algorithms forbid is told of once, of its upper side.
        """
        asked = {**step.where, **where}
        paired = {self._key(row) for pair in self.pairs_of(step, **where) for row in pair}
        found = []
        for row in self.ok:
            if row[step.column] not in (step.lower, step.upper) or any(
                row[name] != value for name, value in asked.items()
            ):
                continue
            if self._key(row) in paired:
                continue
            wanted = step.upper if row[step.column] == step.lower else step.lower
            other = self._by_key.get(self._key(row, **{step.column: wanted}))
            if other is None:
                if wanted == step.lower or _can_be(step, row):
                    found.append((row, f"{wanted} not measured"))
            elif other["status"] != "ok":
                found.append((row, f"{wanted} {other['status']}"))
            elif is_wrong(other):
                found.append((row, f"{wanted} known to be wrong"))
            elif wanted == step.lower and (why := self._hinders(step, row, other)) is not None:
                found.append((row, f"{wanted} {why}"))
        return found

    def on_several_cards(self) -> list[list[Row]]:
        """Of each configuration that several workers measured on several cards, by one version of the framework: a row of each
        card, by throughput, the slowest card first."""
        found = []
        for rows in self._candidates.values():
            versions: dict[Any, dict[Card, list[Row]]] = {}
            for row in rows:
                if row["replicates"] > 1:
                    versions.setdefault(row["framework_version"], {}).setdefault(card_of(row), []).append(row)
            for cards in versions.values():
                if len(cards) > 1:
                    best = [max(members, key=several_runs.standing) for members in cards.values()]
                    found.append(sorted(best, key=lambda row: row["images_per_s"]))
        return found

    # --- what came out ------------------------------------------------------------------------------------------------

    def of(self, b: Row, a: Row) -> Said:
        return self.said[place_of(b), place_of(a)]

    def energy_of(self, rows: Sequence[Row]) -> Energy | None:
        known = sorted((row for row in rows if place_of(row) in self._joules), key=lambda row: -row["images_per_s"])
        if len(known) < 2:
            return None
        fastest, second = known[:2]
        least = min(known, key=lambda row: row["joules_per_image"])
        rivals = [row for row in known if row is not least] if least is fastest else [fastest]
        # no interval knows how another card would do
        decidable = not any(two_cards(card_of(least), card_of(rival)) for rival in rivals) and all(
            self._joules[place_of(row)].over_workers for row in (least, *rivals)
        )
        certain = decidable and all(
            apart(self._joules[place_of(rival)], self._joules[place_of(least)]) for rival in rivals
        )
        return Energy(fastest, second, least, certain, decidable)

    def thriftier_batches(self, io: str = "host") -> tuple[list[tuple[Row, Row]], int]:
        """((row of the most images per second, row of the fewest joules at a smaller batch), each of one framework, model, level and
        precision, where the energies differ for sure; how many have several batch sizes)."""
        groups: dict[Key, list[Row]] = {}
        for row in self.ordinary(io=io):
            if place_of(row) in self._joules:
                groups.setdefault(self._key(row, batch_size=None), []).append(row)
        found = [energy for group in groups.values() if (energy := self.energy_of(group)) is not None]
        smaller = [one for one in found if one.thriftiest["batch_size"] < one.fastest["batch_size"]]
        sure = [one for one in smaller if one.certain]
        return [(one.fastest, one.thriftiest) for one in sure], len(found)


def _is_usual(row: Row) -> bool:
    return bool(row["frontend"] == "script" and not row["version"])


def _counts(row: Row) -> bool:
    return bool(row["status"] == "ok" and row["images_per_s"]) and not is_wrong(row)


def _unusual_words(rows: Sequence[Row]) -> list[str]:
    """What is not spoken of though it is no fault: versions that were asked for beside the pinned one, and notebooks."""
    kinds = (
        ("of versions that were asked for by name", [row for row in rows if row["version"]]),
        ("measured in a notebook", [row for row in rows if row["frontend"] != "script" and not row["version"]]),
    )
    return [f"Left out: {len(own)} {'cell' if len(own) == 1 else 'cells'} {words}." for words, own in kinds if own]


def _first_pair(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    first = first_of(rows)
    return [(first.row, first.second)] if first is not None and first.second is not None else []


@dataclass(frozen=True)
class _Facts:
    """Of a cell. conditions: driver, power limit and runner. algorithm: the settings of ALGORITHM that it has."""

    conditions: tuple[Any, ...]
    algorithm: tuple[str, ...]


def _facts(database: Database) -> dict[tuple[str, str], _Facts]:
    """By run and cell key."""
    found = {}
    for row in database.query("SELECT run, cell_key, settings, driver, power_limit_mw, runner FROM cells"):
        settings = parse_object(row["settings"] or "") or {}
        conditions = row["driver"], row["power_limit_mw"], row["runner"]
        found[row["run"], row["cell_key"]] = _Facts(conditions, tuple(str(settings.get(name)) for name in ALGORITHM))
    return found


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
