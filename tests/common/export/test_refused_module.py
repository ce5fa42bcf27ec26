"""A module that torch.onnx cannot export is described by itself, and what it refuses then ends no export with a traceback."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.common.export.conftest import ROOT, environment_python

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    done = subprocess.run(
        [str(environment_python("torch")), str(Path(__file__).with_name("run_refused_module.py"))],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("case", ["single", "double"])
def test_the_reference_is_in_double_precision_where_it_can_be(facts: dict[str, Any], case: str) -> None:
    assert facts[case] == [1, ["float64"], True]


def test_a_module_that_does_not_become_float64_has_its_reference_in_its_own_type(facts: dict[str, Any]) -> None:
    assert facts["firm"] == [1, ["float32"], True]
    assert facts["firm_double"] == [1, ["float64"], True]


def test_other_outputs_in_float64_are_no_reference(facts: dict[str, Any]) -> None:
    assert facts["twice_in_single"] == [2, ["float32"], True]


@pytest.mark.parametrize(("case", "count"), [("one_a_sample", 2), ("by_the_batch", 1)])
def test_a_module_whose_outputs_depend_on_the_batch_has_its_examples_batch(
    facts: dict[str, Any], case: str, count: int
) -> None:
    assert facts[case] == [count, ["float64"], False]


def test_outputs_that_depend_on_the_values_are_one_line(facts: dict[str, Any]) -> None:
    kind, words, left = facts["by_values"]
    assert (kind, left) == ("UserError", [])
    assert words.endswith(
        "PyTorch cannot run it with 'x' (1, 4): it gives 2 outputs for these inputs, and 1 for others"
    )
