"""Environment variables of adapters, as the host checks them before a run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, ROOT

BAD = [
    ("tensorrt", "FRAMEWATT_TRT_PROFILES", "1-32@64"),
    ("tensorrt", "FRAMEWATT_TRT_TACTIC_SOURCES", "cublas"),
    ("tensorrt", "FRAMEWATT_TRT_BUILDER_LEVEL", "6"),
    ("tensorrt", "FRAMEWATT_TRT_WORKSPACE_MIB", "1G"),
    ("onnxrt", "FRAMEWATT_ONNXRT_TRIAL_SECONDS", "soon"),
    ("onnxrt", "FRAMEWATT_ONNXRT_TRIAL_SECONDS", "-1"),
    ("onnxrt", "FRAMEWATT_ONNXRT_TRIAL_SECONDS", "nan"),
]


@pytest.mark.parametrize(("image", "variable", "value"), BAD)
def test_a_value_without_a_meaning_is_told_with_its_variable(image: str, variable: str, value: str) -> None:
    (one,) = [found for found in load_images(IMAGES) if found.name == image]
    assert one.fault_of({}) is None
    fault = one.fault_of({variable: value})
    assert fault is not None and fault.startswith(variable) and value in fault


def test_values_with_a_meaning_are_taken() -> None:
    good = {
        "FRAMEWATT_TRT_PROFILES": "1-32@32,512@512", "FRAMEWATT_TRT_TACTIC_SOURCES": "JIT_CONVOLUTIONS,CUBLAS_LT",
        "FRAMEWATT_TRT_BUILDER_LEVEL": "5", "FRAMEWATT_TRT_WORKSPACE_MIB": "1024", "FRAMEWATT_ONNXRT_TRIAL_SECONDS": "0",
        "FRAMEWATT_BATCH_SIZES": "the host's own",
    }  # fmt: skip
    assert [image.name for image in load_images(IMAGES) if image.fault_of(good) is not None] == []


@pytest.mark.parametrize("words", [["bench"], ["bench", "--dry-run"], ["explain"], ["verify"]])
def test_every_command_that_measures_refuses_it_in_one_line(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "common.host.cli.program", *words, "--framework", "onnxrt", "--device", "cpu"],
        env={**os.environ, "FRAMEWATT_ONNXRT_TRIAL_SECONDS": "soon"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: FRAMEWATT_ONNXRT_TRIAL_SECONDS is 'soon'; it takes a number of seconds from 0\n"
