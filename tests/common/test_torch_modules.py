"""A user's own module: what is taken, and one line, before anything is exported, for what is not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from common.host.frameworks import environments
from common.host.paths import ROOT

USERS = Path(__file__).with_name("run_torch_modules.py")
TAKEN = (
    "trained", "by_keywords", "free", "noise", "lazy", "half", "in_place", "in_place_twice_the_same", "in_place_unseen",
    "counts", "lazy_and_counts", "cannot_be_copied", "imaginary_part", "with_gradients",
    "fills_a_dict", "fills_a_dict_of_the_file", "retypes_its_weight", "holds_its_input", "with_extra_state",
)  # fmt: skip
RULE = "; run_torch_modules.py:"
REFUSED = {
    "wrong_order": "returns no torch.nn.Module with example inputs beside it, but a tuple of Tensor, Linear",
    "generator": "but a value of type generator",
    "number": "example input 'input' is a value of type float, no tensor",
    "nested": "example input 'a' is a tuple of Tensor, Tensor, no tensor",
    "empty": "example input 'input' has no values: (0, 4)",
    "complex_in": "example input 'input' is of torch.complex64, which cannot be fed; float16, float32",
    "bfloat16": "example input 'input' is of torch.bfloat16",
    "elsewhere": "is on the device 'meta'; leave module and inputs on the CPU",
    "sparse": "is sparse_coo, no plain tensor",
    "whole_numbers": "does not run with its example inputs 'input' (2, 4): RuntimeError: mat1 and mat2",
    "too_many": "TypeError: Linear.forward() takes 2 positional arguments but 3 were given",
    "two_sizes": "'a' (2, 4), 'b' (3, 4): RuntimeError",
    "no_output": "returns no tensor from forward",
    "complex_out": "output 0 is of torch.complex64, which cannot be compared; float16, float32",
    "out_elsewhere": "output 0 is on the device 'meta'; forward must leave its outputs on the device of its inputs",
    "remembers": "remembers gives other outputs when it is called again with the same inputs",
    "random_of_numpy": "nor draw random numbers that are not torch's",
    "no_modes": "cannot be put into evaluation mode: RuntimeError: it has no modes",
    "small_values_each_time": "built a second time the module gives other outputs",
    "no_tuple_again": f"but a value of type Linear{RULE}",
    "fails_again": f"built a second time the module does not run: KeyError: 'cache'{RULE}",
    "leaves_again": f"built a second time the module does not run: SystemExit: 0{RULE}",
    "elsewhere_again": "elsewhere_again, called again: output 0 is on the device 'meta'; forward must leave",
    "elsewhere_when_built_again": "the module, built a second time: output 0 is on the device 'meta'; forward must leave",
    "sparse_when_built_again": f"the module, built a second time: output 0 is sparse_coo, no plain tensor{RULE}",
    "refuses": "ValueError: width must be 7",
    "leaves": "SystemExit: 7",
    "scripted": "returns a module of torch.jit; return the module that it was made of",
    "other_size_each_time": "built a second time the module does not take its weights",
    "other_values_each_time": "built a second time the module gives other outputs",
    "with_a_neighbour": "there is no weights.pt beside it; run_torch_modules.py:with_a_neighbour is built again from that file alone",
    "nowhere": "has no function nowhere; it has times_built, in_place, ",
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """Of every function, all in one process of PyTorch's environment."""
    if not environments.is_ready("torch", "cpu"):
        pytest.skip("no .envs/torch-cpu: ./invoke test makes it")
    names = [*TAKEN, *REFUSED]
    done = subprocess.run(
        [str(environments.interpreter("torch", "cpu")), str(USERS), str(USERS), *names],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(names, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.framework
@pytest.mark.parametrize("function", TAKEN)
def test_a_module_that_is_built_the_same_everywhere_is_taken(function: str, verdicts: dict[str, str]) -> None:
    assert verdicts[function] == ""


@pytest.mark.framework
@pytest.mark.parametrize("function", REFUSED)
def test_one_line_for_what_is_not_taken(function: str, verdicts: dict[str, str]) -> None:
    assert REFUSED[function] in verdicts[function]
    assert "\n" not in verdicts[function]
