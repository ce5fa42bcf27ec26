"""On a GPU host: the adapter builds engines and gives the reference's output, by the script that needs no pytest.

FRAMEWATT_PYTHON_TENSORRT names the interpreter that has TensorRT and pycuda, where it is not this one (docs/gpu-host.md).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from common.host.paths import DataFolder
from common.model_files import ModelFiles

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.framework,
    # the first build of an engine takes minutes
    pytest.mark.timeout(1800),
]


@pytest.fixture
def python(gpu_python: Callable[..., Path]) -> Path:
    return gpu_python("tensorrt", "tensorrt", "pycuda")


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_engines_give_the_reference_output_at_every_batch_size(
    python: Path, exported_model: ModelFiles, precision: str
) -> None:
    script = ROOT / "images" / "tensorrt" / "check.py"
    options = [
        "--model",
        str(exported_model.root),
        "--precision",
        precision,
        "--batch-sizes",
        "1,8,32",
        "--seconds",
        "0.5",
    ]
    options += ["--cache", str(DataFolder.default().cache)]
    done = subprocess.run([python, str(script), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("batch ")]
    assert len(lines) == 6
    assert all("(ok)" in line for line in lines)
