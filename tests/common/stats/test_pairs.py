"""Pairs of measurements: their order, and that the sides' names stay with their figures."""

from __future__ import annotations

import ast
from pathlib import Path

from common.stats.pairs import alternate, latency_ratios, throughput_ratios

ROOT = Path(__file__).resolve().parents[3]


def test_the_order_is_ab_ba_and_each_pair_keeps_its_sides() -> None:
    requested: list[str] = []

    def side(name: str) -> str:
        requested.append(name)
        return name

    pairs = alternate(lambda: side("A"), lambda: side("B"), 3)
    assert "".join(requested) == "ABBAAB"
    assert pairs == [("A", "B")] * 3


def test_latency_is_first_over_second_and_throughput_the_other_way_round() -> None:
    pairs = [([20, 20, 20], [10, 10, 10])]
    assert latency_ratios(pairs) == [2.0]
    assert throughput_ratios(pairs) == [0.5]


def test_nothing_else_makes_pairs() -> None:
    """Whoever looks whether a round's number is even makes an order of its own."""
    own = []
    for file in [*ROOT.glob("common/**/*.py"), *ROOT.glob("analysis/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Compare(left=ast.BinOp(left=ast.Name(), op=ast.Mod(), right=ast.Constant(value=2))):
                    own.append(file.relative_to(ROOT).as_posix())
    assert own == ["common/stats/pairs.py"]
