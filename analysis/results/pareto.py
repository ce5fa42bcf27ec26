"""Which points no other point beats: the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[Sequence[float]], better: Sequence[int]) -> list[bool]:
    """For each point whether it is on the front: no other is at least as good in every figure and better in one.

    points: n rows of k figures; one that is not a number puts its point off the front and lets it beat nobody.
    better: for each figure 1 where more is better, -1 where less is. Equal points are on the front together.
    O(n * size of the front).
    """
    signed = [tuple(sign * value for sign, value in zip(better, point, strict=True)) for point in points]
    known = [i for i, point in enumerate(signed) if all(value == value for value in point)]
    # in falling order a point can only be beaten by one before it, or be its equal
    known.sort(key=lambda i: signed[i], reverse=True)
    kept: list[int] = []
    for i in known:
        if not any(_beats(signed[other], signed[i]) for other in kept):
            kept.append(i)
    on_front = [False] * len(points)
    for i in kept:
        on_front[i] = True
    return on_front


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
