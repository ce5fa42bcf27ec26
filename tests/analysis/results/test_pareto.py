from __future__ import annotations

import random

from analysis.results import pareto


def brute_force(points: list[tuple[float, ...]], better: list[int]) -> list[bool]:
    """Every point against every other, by the definition."""

    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        differences = [sign * (a - b) for sign, a, b in zip(better, one, other, strict=True)]
        return all(d >= 0 for d in differences) and any(d > 0 for d in differences)

    return [not any(beats(other, point) for other in points) for point in points]


def test_the_front_equals_brute_force_on_10000_random_sets() -> None:
    random_numbers = random.Random(20260101)
    for _ in range(10_000):
        figures = random_numbers.randint(1, 4)
        # few different values, so that ties and equal points are common
        levels = random_numbers.choice((2, 4, 1000))
        points = [
            tuple(float(random_numbers.randrange(levels)) for _ in range(figures))
            for _ in range(random_numbers.randint(0, 14))
        ]
        better = [random_numbers.choice((1, -1)) for _ in range(figures)]
        assert pareto.front(points, better) == brute_force(points, better), (points, better)


def test_equal_points_are_on_it_together_and_unknown_ones_are_not() -> None:
    nan = float("nan")
    assert pareto.front([(1, 1), (1, 1), (0, 1)], (1, 1)) == [True, True, False]
    assert pareto.front([(nan, 100), (1, 1), (2, nan)], (1, 1)) == [False, True, False]
    assert pareto.front([], (1,)) == []
