"""Rewrites of ONNX graphs whose branches read what lies around them, and whose outputs are inputs or constants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.common.export.conftest import environment_python, run_python

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    done = run_python(environment_python("onnxrt"), Path(__file__).with_name("run_onnx_rewrites.py"))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_input_of_bytes_is_a_number_in_branches_too(facts: dict[str, Any]) -> None:
    assert facts["bytes"] == [True, True]


def test_outputs_that_no_node_makes_keep_their_values_and_places_while_all_else_is_changed(
    facts: dict[str, Any],
) -> None:
    whole, changed, x = [[1, 2, 3, 1e9]], [[1, 2, 3, 4]], [[3, 250, 7, 0]]
    assert facts["handed on"] == {
        "left": ["y"],
        "count": 2,
        "then": [whole, [[-3, -500, -21, 0]], x],
        "else": [whole, changed, x],
    }


def test_a_constant_that_is_only_handed_on_leaves_no_copy(facts: dict[str, Any]) -> None:
    assert facts["not read"] == ["put back", "w"]


def test_constants_of_an_old_file_are_no_inputs_any_more(facts: dict[str, Any]) -> None:
    assert facts["listed"] == [1, 0, ["x", "yes"], 4, [1, 4]]


def test_constants_are_computed_in_the_shape_that_their_node_gives_them(facts: dict[str, Any]) -> None:
    """A lone number once got an axis, and a row that it picked another."""
    assert facts["folded"]["all"] == [4, {"row": [3], "below": []}, ["Mul", "Add"]]


def test_only_what_is_computed_of_a_number_beyond_a_limit(facts: dict[str, Any]) -> None:
    count, left, nodes = facts["folded"]["beyond float16"]
    assert (count, nodes) == (1, ["Identity", "Gather", "Neg", "Mul", "Add"])
    assert left == {"near": [], "place": [], "table": [2, 3]}


def test_what_makes_a_number_beyond_a_limit_is_computed_with_what_it_alone_reads(facts: dict[str, Any]) -> None:
    """A whole number of a million that was cast became infinity in float16."""
    count, left, nodes = facts["folded"]["made beyond float16"]
    assert (count, nodes) == (4, ["Identity", "Sum"])
    assert left == {"many": 1e3, "million": 1e6, "another": 1e6, "filled": 1e6}


def test_new_nodes_and_tensors_have_names_that_nothing_else_has(facts: dict[str, Any]) -> None:
    """Nodes need no names in ONNX, so that two hard-swishes of such once got the same."""
    named = facts["named"]
    swishes = ["HardSwish", "HardSwish"]
    assert named["none"] == [2, swishes, [1, 4], True]
    assert named["its own"] == [2, [*swishes, "Neg", "If"], [1, 4], True]
    assert named["new"] == ["b0_HardSwish_", "relu6_HardSwish_"]
    assert named["bytes"] == ["x/cast_", "x/as_number_", True]
    assert named["constants"] == [1, ["k_folded_"]]


@pytest.mark.parametrize("constant", ["three", "sixth"])
def test_a_constant_with_more_axes_than_what_it_is_added_to_gives_it_axes(facts: dict[str, Any], constant: str) -> None:
    kept = facts["kept"]
    for axes in (1, 2):
        assert kept[f"{constant} of {axes} axes"] == [2, ["HardSwish", "HardSwish"], [1, 4], True]
    # the second is added to what has the three axes already
    assert kept[f"{constant} of 3 axes"] == [1, ["Add", "Clip", "Mul", "Mul", "HardSwish"], [1, 1, 4], True]


def test_what_only_looks_like_a_hard_swish_stays(facts: dict[str, Any]) -> None:
    kept = facts["kept"]
    spelt = ["Add", "Clip", "Mul", "Mul"]
    assert kept["unknown axes"] == [0, spelt * 2, [1, 4], True]
    # one's factor is read by one branch, which its HardSigmoid gives; the other's sum by the other branch
    assert kept["read in branches"] == [1, ["HardSigmoid", "Mul", *spelt, "If"], [1, 4], True]
    assert kept["another's operator"] == [0]
    assert kept["whole numbers"] == [0, ["Add", "Clip", "Div", "Mul"] * 2, [1, 4], True]


def test_constants_that_nodes_hold_are_known_and_leave_with_their_readers(facts: dict[str, Any]) -> None:
    """A model was run at the level rewritten as if it had no hard-swish."""
    found = facts["constants of nodes"]
    for told in ("tensor", "number", "numbers"):
        assert found[told] == [2, ["HardSwish", "HardSwish"], [1, 4], True]
    assert found["read elsewhere"] == [2, ["Constant", "HardSwish", "HardSwish", "Identity"], [1, 4], True]


def test_an_input_that_need_not_be_fed_stays_so(facts: dict[str, Any]) -> None:
    assert facts["unread default"] == [2, ["HardSwish", "HardSwish"], [1, 4], True]
