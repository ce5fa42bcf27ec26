"""When the sampler reads the energy counter: in step with the board's own renewals."""

from __future__ import annotations

from typing import Any

from common.sidecar.sampler import LONGEST_WAIT_NS, MS, Intervals, _Source


class _Board:
    """What the deadlines need of a GPU."""

    uuid = "GPU-0"


def _rounds(powers: list[Any], due: int) -> list[int]:
    """Rounds of 20 ms in which the counter is read: one read is asked for in round `due`, `powers` are those of each round."""
    board: Any = _Board()
    source = _Source(board, 0, 1, Intervals(20 * MS, 3600 * 1000 * MS, 3600 * 1000 * MS))
    read = []
    for number, power in enumerate(powers):
        if source.energy_due(number * 20 * MS, edge=number == due):
            read.append(number)
        source.saw(power)
    return read


def test_a_read_waits_for_the_round_after_a_renewal() -> None:
    powers = [100, 100, 100, 100, 100, 101, 101, 101, 101, 101, 99, 99, 99]
    assert _rounds(powers, 1) == [6]
    assert _rounds(powers, 6) == [6], "renewed in the round before: at once"
    assert _rounds(powers, 7) == [11]


def test_it_does_not_wait_for_long() -> None:
    """A power that stays the same to the milliwatt, or that the board does not tell."""
    longest = -(-LONGEST_WAIT_NS // (20 * MS))
    for powers in ([100] * 20, [None] * 20):
        assert _rounds(powers, 2) == [2 + longest]
