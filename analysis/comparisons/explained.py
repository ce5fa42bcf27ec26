"""What changed between two traced cells, by class and by kernel: new, gone, slower, faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.results.explained import CLASSES, Explained

#: A kernel or class is named where it changed by this share of the slower cell's wall time; what changed less is counted.
LEAST = 0.005


@dataclass(frozen=True)
class Change:
    """word: new, gone, slower, faster or same. before_ns, after_ns: of an inference; 0 where it is not there."""

    name: str
    word: str
    before_ns: float
    after_ns: float
    before_calls: float = 0.0
    after_calls: float = 0.0


ABOUT = ("version", "tuning", "input", "device")


@dataclass(frozen=True)
class Difference:
    """classes: all, in the usual order. kernels: those that changed, most first; small: how many more changed by little."""

    before: Explained
    after: Explained
    classes: Sequence[Change]
    kernels: Sequence[Change]
    small: int


def pairs(before: Sequence[Explained], after: Sequence[Explained]) -> list[tuple[Explained, Explained]]:
    """Recorded cells of the same configuration; where each side has one cell alone, those two, whatever they are.

    Which GPU of its machine a cell ran on is no part of this, unless a side has several.
    """
    left, right = [c for c in before if c.recorded], [c for c in after if c.recorded]
    if len(left) == len(right) == 1:
        return [(left[0], right[0])]
    names = ["model", "variant", "precision", "batch_size", "io"]
    # What a comparison may be about: where each side has one value of it, cells of different values are a pair.
    names += [name for name in ABOUT if any(len({cell.facts.get(name) for cell in side}) > 1 for side in (left, right))]
    known = {tuple(cell.facts.get(name) for name in names): cell for cell in left}
    return [(known[key], cell) for cell in right if (key := tuple(cell.facts.get(name) for name in names)) in known]


def difference(before: Explained, after: Explained) -> Difference:
    least = LEAST * max(before.wall_ns, after.wall_ns)
    names = [*CLASSES, *sorted({*before.classes, *after.classes} - set(CLASSES))]
    classes = [
        _change(name, before.classes.get(name, 0.0), after.classes.get(name, 0.0), least)
        for name in names
        if name in before.classes or name in after.classes
    ]
    old = {kernel["name"]: kernel for kernel in before.kernels}
    new = {kernel["name"]: kernel for kernel in after.kernels}
    changes = []
    for name in {**old, **new}:
        ns_before, ns_after = (float(side[name]["ns"]) if name in side else 0.0 for side in (old, new))
        calls_before, calls_after = (float(side[name]["calls"]) if name in side else 0.0 for side in (old, new))
        changes.append(_change(name, ns_before, ns_after, least, calls_before, calls_after))
    changed = sorted(
        (change for change in changes if abs(change.after_ns - change.before_ns) >= least),
        key=lambda change: (-abs(change.after_ns - change.before_ns), change.name),
    )
    small = sum(change.before_ns != change.after_ns for change in changes) - len(changed)
    return Difference(before, after, classes, changed, small)


def _change(
    name: str, before: float, after: float, least: float, before_calls: float = 0.0, after_calls: float = 0.0
) -> Change:
    if before == 0 and after > 0:
        word = "new"
    elif after == 0 and before > 0:
        word = "gone"
    elif abs(after - before) < least:
        word = "same"
    else:
        word = "slower" if after > before else "faster"
    return Change(name, word, before, after, before_calls, after_calls)
