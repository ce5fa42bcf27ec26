"""One rule for all systems: masks beyond float16's range are limited, a weight beyond it is refused, in the same line."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.images.test_converters import REPOSITORY, interpreter

pytestmark = pytest.mark.framework

LIMITED, KEPT = 65504.0, 1e9
#: what reads a constant of 1e9 -> its largest number afterwards, or the operator for which it is a weight ("": nobody's)
RULE: dict[str, float | str] = {
    "Add": LIMITED, "Where": LIMITED, "handed on to Mul": LIMITED, "a Constant node to Sub": LIMITED, "Max": LIMITED,
    "Sum": LIMITED, "Softmax": LIMITED, "Cast to Add": LIMITED, "Neg to Add": LIMITED, "ScatterND to Add": LIMITED,
    "ScatterElements to Add": LIMITED, "Concat, Cast and Neg to Add": LIMITED, "ScatterND in place to Add": LIMITED,
    "ScatterElements in place to Add": LIMITED, "Cast to truth values": LIMITED, "Neg to MatMul": "MatMul", "Cast to MatMul": "MatMul",
    "Trilu to Add": LIMITED, "Less": LIMITED, "constants to Add": LIMITED, "MatMul": "MatMul", "Add and MatMul": "MatMul",
    "MatMul, and returned": "MatMul",
    "Concat to MatMul": "MatMul", "Transpose to MatMul": "MatMul", "a Constant node to MatMul": "MatMul",
    "constants to MatMul": "MatMul", "with infinity": "MatMul", "Div": "Div", "Gemm": "Gemm", "Conv": "Conv",
    "Div of constants to MatMul": 1000.0, "Mul of constants to Add": 1000.0, "Log of constants to MatMul": 20.71875,
    "Sqrt of a whole number to MatMul": 31616.0, "Sqrt of filled ones to MatMul": 31616.0, "Mul to Sqrt to MatMul": 1000.0,
    "a reshaped whole number to MatMul": "MatMul", "a whole number to Add": LIMITED, "filled to MatMul": "MatMul",
    "filled to Sqrt": "Sqrt",
    "Abs of constants to MatMul": "MatMul", "Abs of constants to Add": LIMITED,
    "variance": "BatchNormalization", "LSTM": "LSTM", "returned": "", "in a branch": "MatMul",
}  # fmt: skip
#: system -> where it differs: what is computed in float32 keeps its constants; branches that it does not take at all
DIFFERENT: dict[str, dict[str, float | str | None]] = {
    "tensorrt": {"in a branch": None},
    "onnxrt": {"Max": KEPT},
    "torch": {"Less": KEPT, "Cast to truth values": KEPT, "in a branch": None},
}


def answer(image: str, system: str, folder: Path) -> dict[str, Any]:
    command = [str(interpreter(image)), str(Path(__file__).with_name("float16_driver.py")), system, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def assert_follows(made: float | str, rule: float | str, name: str) -> None:
    if not isinstance(rule, str):
        assert made == rule, name
        return
    read = f", which {rule} reads," if rule else ""
    assert re.fullmatch(rf"weight [^ ,]+{read} reaches [15]e\+0[89], beyond float16's 65504", str(made)), (name, made)


@pytest.mark.parametrize("system", DIFFERENT)
def test_a_graph_with_a_constant_of_1e9(system: str, tmp_path: Path) -> None:
    found = answer(system, system, tmp_path)
    assert set(found) == set(RULE)
    assert str(found["MatMul, and returned"]).startswith("weight far, "), "not a name that the file lacks"
    names = {**dict.fromkeys(("MatMul", "Div", "Gemm"), "far"), "Conv": "filters", "variance": "row", "LSTM": "w"}
    for name, weight in names.items():
        assert str(found[name]).startswith(f"weight {weight}, "), (name, found[name])
    for name, rule in {**RULE, **DIFFERENT[system]}.items():
        if rule is not None:
            assert_follows(found[name], rule, name)


def test_a_frozen_graph_with_a_constant_of_1e9(tmp_path: Path) -> None:
    found = answer("tensorflow", "tensorflow", tmp_path)
    rule = {
        "Add": LIMITED, "Where": LIMITED, "handed on to Mul": LIMITED, "Max": LIMITED, "a lone number to Sub": LIMITED,
        "infinity to Sub": float("inf"), "MatMul": "MatMul", "Add and MatMul": "MatMul", "Concat to MatMul": "MatMul",
        "AddN": LIMITED, "Concat to Softmax": LIMITED, "Neg to Add": LIMITED, "scattered to Add": LIMITED,
        "Cast to truth values": LIMITED, "Cast to whole numbers": "Cast", "Neg to MatMul": "MatMul",
        "RealDiv": "RealDiv", "a lone number to RealDiv": "RealDiv", "returned": "",
    }  # fmt: skip
    assert set(found) == set(rule)
    for name, one in rule.items():
        assert_follows(found[name], one, name)


def test_layers_under_the_mixed_policy_with_a_weight_of_1e9(tmp_path: Path) -> None:
    """What Keras computes in float32 may be as large as it is: statistics of a normalisation, the last layer."""
    found = answer("tensorflow", "keras", tmp_path)
    assert found["moving variance"] == found["of the last layer"] == KEPT
    assert found["kernel"] == "weight wide/kernel, which Dense reads, reaches 1e+09, beyond float16's 65504"
