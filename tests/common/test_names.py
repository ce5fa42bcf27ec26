"""One rule for every name that becomes part of a key or a path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import names
from common.cell import Cell


@pytest.mark.parametrize(
    "name",
    ["onnxrt", "tensorrt-rtx", "MobileNetV3L", "ResNet 50", "gpu0", "2.21.0+cpu", "模型", "modèle", "a_b.c", "_x"],
)
def test_names(name: str) -> None:
    assert names.fault(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "../../x", "a/b", "a\\b", ".hidden", "-rf", "=1+1", "@SUM(1)", "+1", " x", "x ", "a\nb", "a\0b", "a\x1b[31m", "a\u202eb",
     "a\udcffb", "<b>", "a|b", "a'b", 'a"b', "a;b", "$HOME", "a`b`", "x" * 101],
)  # fmt: skip
def test_no_names(name: str) -> None:
    assert names.fault(name)


@given(st.text(max_size=200))
def test_a_name_can_be_made_of_any_text(text: str) -> None:
    assert names.fault(names.from_text(text)) is None


@given(st.text(max_size=200))
def test_a_long_name_keeps_its_beginning_and_gets_a_digest(text: str) -> None:
    name = names.from_text(text)
    short = names.with_digest(name)
    assert names.fault(short) is None
    assert len(short.encode()) <= names.MOST_MADE_BYTES
    assert (short == name) is (len(name.encode()) <= names.MOST_MADE_BYTES)
    assert names.with_digest(name + "x" * 80) != names.with_digest(name + "x" * 81)


GOOD: dict[str, Any] = {"model": "m", "variant": "v", "precision": "fp32", "batch_size": 8}


@pytest.mark.parametrize(
    "wrong",
    [{name: "../x"} for name in ("model", "variant", "precision", "io", "scenario", "frontend", "device")]
    + [{"batch_size": 2**62}, {"batch_size": 0}, {"batch_size": -8}, {"streams": 0}, {"streams": 2**40}, {"replicate": -1},
       {"target_rate_per_s": float("nan")}, {"target_rate_per_s": float("inf")}, {"target_rate_per_s": 0.0},
       {"model": "x" * 100, "variant": "y" * 100, "device": "z" * 90}],
)  # fmt: skip
def test_what_cannot_be_a_cell(wrong: dict[str, Any]) -> None:
    assert Cell(**GOOD).key
    with pytest.raises(ValueError):
        Cell(**{**GOOD, **wrong})
