"""Many calls as one: in order, with their own arguments, and returning what they returned."""

from __future__ import annotations

from common.harness.one_call import one_call
from common.harness.overhead import measure_named


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
    assert all(-1e5 < cost < 1e6 for cost in costs.values())
