"""What counts as torch.onnx's refusal of a module, which is kept with the model, and what is the machine's or framewatt's matter."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.common.export.conftest import ROOT, environment_python

DRIVER = Path(__file__).with_name("run_torch_onnx.py")


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    done = subprocess.run(
        [str(environment_python("torch")), str(DRIVER)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.framework
@pytest.mark.parametrize("when", ["", "saving: "])
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("data-dependent", "data-dependent branch; a branch, loop or .item()"),
        ("its own cause", "round and round"),
        ("a missing file of the module", "no such file"),
        ("a connection of the module", "refused"),
        ("no source", "could not get source code"),
    ],
)
def test_what_the_module_meets_is_a_refusal(facts: dict[str, Any], when: str, case: str, words: str) -> None:
    batch, reason = facts[when + case]
    assert batch == "no"
    assert words in reason


@pytest.mark.framework
@pytest.mark.parametrize("when", ["", "saving: "])
@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("torch's allocator", "RuntimeError"),
        ("memory, within", "MemoryError"),
        ("disk full", "OSError"),
        ("too many files", "OSError"),
        ("ours may not be written", "PermissionError"),
        ("no onnxscript", "UserError"),
    ],
)
def test_what_the_machine_lacks_is_raised_and_never_kept(
    facts: dict[str, Any], when: str, case: str, kind: str
) -> None:
    assert facts[when + case] == kind


@pytest.mark.framework
def test_a_fault_of_ours_is_no_refusal(facts: dict[str, Any]) -> None:
    assert facts["a fault of ours"] == "AttributeError"


@pytest.mark.framework
def test_weights_lie_beside_the_file_by_what_is_in_it(facts: dict[str, Any]) -> None:
    assert facts["beside"] == [False, False, True], "also what no state_dict has: constants and non-persistent buffers"


@pytest.mark.framework
def test_outputs_are_called_what_the_module_calls_them(facts: dict[str, Any]) -> None:
    """Rows and notes said `add_16` and `argmax` of a module that returns {"a": ..., "n": ...}."""
    assert facts["names"] == [["a", "n"], ["a", "cache.0", "cache.1.keys"], ["logits", "state"], [], [], [], []]
    was = ["add_16", "argmax", "x", "add_16"]
    assert facts["named"] == [["a", "n", "x", "a"], ["d", "argmax", "x", "d"], was, was]


@pytest.mark.framework
def test_outputs_may_be_called_what_the_exporter_calls_others(facts: dict[str, Any]) -> None:
    """The module's ("linear", "relu") are the exporter's ("relu", "linear"): each output kept the name of the other."""
    assert facts["swapped"] == [
        ["linear", "relu", "inner", "z"],
        [
            "relu",
            "linear",
            "inner",
            "last",
        ],  # none of it: "inner" is another value's, so "last" stays, and "linear" with it
    ]
