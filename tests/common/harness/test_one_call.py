"""Many calls as one: in order, with their own arguments, and returning what they returned."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest

from common.harness import overhead
from common.harness.one_call import one_call
from common.harness.overhead import _best_of_alternating, measure_named


def test_all_are_called_in_order_with_what_they_were_given() -> None:
    seen: list[tuple[int, str]] = []

    def put(place: int, array: str) -> str:
        seen.append((place, array))
        return array.upper()

    assert one_call(put, [(0, "a"), (3, "b"), (1, "c")])() == ["A", "B", "C"]
    assert one_call(put, [(7, "d")])() == "D"
    assert seen == [(0, "a"), (3, "b"), (1, "c"), (7, "d")]


def test_what_names_cost_is_measured_for_one_and_for_several() -> None:
    costs = measure_named(count=50, rounds=2)
    assert set(costs) == {"named_ns", "named_five_ns"}
    assert all(math.isfinite(cost) for cost in costs.values())


@pytest.mark.parametrize("names_are_dearer", [True, False])
def test_what_names_cost_is_by_name_less_without(monkeypatch: pytest.MonkeyPatch, names_are_dearer: bool) -> None:
    cheap, dear = (lambda: None), partial(sum, range(20_000))

    class Plain:
        def __init__(self, inputs: int, outputs: int) -> None:
            self.run: Callable[[], object] = cheap if names_are_dearer else dear

    class Named:
        def __init__(self, inputs: int, outputs: int) -> None:
            self.run: Callable[[], object] = dear if names_are_dearer else cheap

    monkeypatch.setattr(overhead, "OneArray", Plain)
    monkeypatch.setattr(overhead, "FiveArrays", Plain)
    monkeypatch.setattr(overhead, "NamedArrays", Named)
    costs = measure_named(count=20, rounds=3)
    assert [cost > 0 for cost in costs.values()] == [names_are_dearer] * 2


def test_of_two_calls_the_dearer_one_is_reported() -> None:
    dear = partial(sum, range(20_000))
    least, most = _best_of_alternating(int, dear, count=20, rounds=3)
    assert 0 < least < most
    most, least = _best_of_alternating(dear, int, count=20, rounds=3)
    assert 0 < least < most
