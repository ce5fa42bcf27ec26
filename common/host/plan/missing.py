"""Which cells of a plan a set of runs lacks, named in a few lines: cells that differ in one thing stand together.

A cell that failed is there: its row says why. One whose figures are known to be wrong is not. Which GPU it was does not count, for a
plan may be measured on any; a CPU never stands for a GPU, nor the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.cell import Cell
from common.host.plan.jobs import PlannedJob
from common.host.plan.model_terms import ModelTerms
from common.schema import INPUTS, IO_MODES, PRECISIONS, TUNINGS

#: what stands together first: a reader asks for a framework and a level before he asks for a worker
_MERGED = ("batch_size", "precision", "input", "io", "variant", "tuning", "model")
_NAMES = ("model", "scenario", "tuning", "variant", "precision", "io", "input", "batch_size", "kind", "workers")
#: a plan's cells are in random order; these have one for people
_ORDER = (*PRECISIONS, *IO_MODES, *TUNINGS, *INPUTS)
Values = tuple[str | int, ...]
#: workers of a configuration, where none is there
_ALL = "all"


@dataclass(frozen=True)
class Group:
    """All combinations of some values, one tuple of them for each of _NAMES; workers: `1 of 3` that are lacking, or _ALL."""

    values: tuple[Values, ...]

    @property
    def cells(self) -> int:
        """Configurations of the group; workers do not count."""
        return math.prod(map(len, self.values))

    def of(self, name: str) -> Values:
        return self.values[_NAMES.index(name)]

    def line(self) -> str:
        """`MobileNetV3L tuned: tf, tfxla; fp32, tf32; io host; batch 1, 8: 8 cells`; before the count `1 of 3 workers lacking`."""
        words = [f"{_listed(self.of('model'))} {_listed(self.of('tuning'))}: {_listed(self.of('variant'))}"]
        words += [_listed(self.of("precision")), f"io {_listed(self.of('io'))}"]
        words += [f"{_listed(self.of('input'))} input"] if self.of("input") != ("float32",) else []
        words += [_listed(self.of("scenario"))] if self.of("scenario") != ("single-stream",) else []
        words += [f"batch {_listed(self.of('batch_size'))}"]
        words += [f"on a {kind}" for kind in self.of("kind") if kind]
        words += [f"{workers} workers lacking" for workers in self.of("workers") if workers != _ALL]
        return f"{'; '.join(words)}: {self.cells:,} {'cell' if self.cells == 1 else 'cells'}"


@dataclass(frozen=True)
class There:
    """Keys of the cells that runs have; wrong: of those whose figures are known to be wrong in each run that has them.

    terms: by name, of the models of these runs, where all of a name have the same.
    """

    keys: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()
    terms: Mapping[str, ModelTerms] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """cells: configurations that the plan asks for. whole: those of them that have every worker, part: that have some.

    workers: fewest and most that it asks of a cell. groups: what is missing; a configuration of which a worker is there lacks the
    others. wrong: configurations among the missing that were measured, but whose figures are known to be wrong.
    """

    cells: int
    whole: int
    part: int
    workers: tuple[int, int]
    groups: tuple[Group, ...]
    wrong: int = 0

    @property
    def lacking(self) -> int:
        """Configurations of which no worker is there."""
        return self.cells - self.whole - self.part

    def sentence(self) -> str:
        fewest, most = self.workers
        each = f"{most}" if fewest == most else f"{fewest} to {most}"
        workers = f", {each} workers each" if most > 1 else ""
        if not self.groups:
            return f"All {self.cells:,} cells of the plan are there{workers}."
        wrong = f", {self.wrong:,} of them measured, but known to be wrong" if self.wrong else ""
        part = f", {self.part:,} with some of their workers" if self.part else ""
        return f"Of the plan's {self.cells:,} cells{workers}, {self.whole:,} are whole{part}; {self.lacking:,} are missing{wrong}."

    def lines(self) -> list[str]:
        return [group.line() for group in self.groups]


def missing(jobs: Iterable[PlannedJob], there: There) -> Missing:
    """What of these jobs is not among the cells that are there, on whichever device of its kind."""
    have = {_work(key) for key in there.keys - there.wrong}
    planned = {_work(cell.key): cell for job in jobs for cell in job.cells}
    workers: dict[str, list[bool]] = {}
    # one cell for all of a configuration's workers
    configurations = {_without_worker(key): cell for key, cell in planned.items()}
    for key in planned:
        workers.setdefault(_without_worker(key), []).append(key in have)
    asked = [len(found) for found in workers.values()]
    wrong = {_without_worker(_work(key)) for key in there.wrong}
    return Missing(
        cells=len(workers),
        whole=sum(all(found) for found in workers.values()),
        part=sum(any(found) and not all(found) for found in workers.values()),
        workers=(min(asked, default=0), max(asked, default=0)),
        groups=tuple(
            _grouped(
                [(configurations[name], found) for name, found in workers.items() if not all(found)],
                several_kinds=len({_kind(cell.device) for cell in planned.values()}) > 1,
            )
        ),
        wrong=sum(name in wrong and not any(found) for name, found in workers.items()),
    )


def _kind(device: str) -> str:
    return "CPU" if device == "cpu" else "GPU"


def _work(cell_key: str) -> str:
    """A cell's key with the kind of its device for the device."""
    rest, device, worker = cell_key.rsplit("_", 2)
    return f"{rest}_{_kind(device)}_{worker}"


def _without_worker(key: str) -> str:
    return key.rpartition("_")[0]


def _grouped(cells: Sequence[tuple[Cell, Sequence[bool]]], several_kinds: bool) -> list[Group]:
    """Few groups that hold these cells, each with which of its workers are there, and no others, in the order of a plan.

    several_kinds: of devices, so that a group is to say which its cells are of.
    """
    groups: list[tuple[Values, ...]] = [
        (
            *((_value(cell, name),) for name in _NAMES[:-2]),
            (_kind(cell.device) if several_kinds else "",),
            (_lacking(found),),
        )
        for cell, found in cells
    ]
    for name in _MERGED:
        place = _NAMES.index(name)
        merged: dict[tuple[Values, ...], list[str | int]] = {}
        for values in groups:
            merged.setdefault(values[:place] + values[place + 1 :], []).extend(values[place])
        groups = [(*rest[:place], _in_order(found), *rest[place:]) for rest, found in merged.items()]
    return [Group(values) for values in groups]


def _lacking(found: Sequence[bool]) -> str:
    return f"{found.count(False)} of {len(found)}" if any(found) else _ALL


def _value(cell: Cell, name: str) -> str | int:
    """Of a scenario also how much of it, and of a framework its version: neither is merged with others."""
    if name == "scenario":
        more = f" x{cell.streams}" if cell.streams != 1 else ""
        return cell.scenario + more + (f" {cell.target_rate_per_s:g}/s" if cell.target_rate_per_s is not None else "")
    if name == "variant":
        version = f"@{cell.version}" if cell.version else ""
        return cell.variant + version + (f" in a {cell.frontend}" if cell.frontend != "script" else "")
    value: str | int = getattr(cell, name)
    return value


def _in_order(values: Sequence[str | int]) -> Values:
    """Numbers by size, names in the order that people know, frameworks and models in the plan's."""
    numbers = sorted({value for value in values if isinstance(value, int)})
    words = dict.fromkeys(value for value in values if isinstance(value, str))
    return (*numbers, *sorted(words, key=lambda word: _ORDER.index(word) if word in _ORDER else 0))


def _listed(values: Values) -> str:
    return ", ".join(map(str, values))
