"""Environments of the images that export, and small ONNX files made inside one of them."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from common.host.models import ExportOptions, ensure_model
from common.model_files import ModelFiles

ROOT = Path(__file__).resolve().parents[3]
#: name -> how tests/common/export/tiny_onnx.py makes it
TINY = Path(__file__).with_name("tiny_onnx.py")


def environment_python(image: str) -> Path:
    """Interpreter of that image's CPU environment; skips the test, naming it, where it has not been made."""
    python = ROOT / ".envs" / f"{image}-cpu" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"the environment .envs/{image}-cpu is missing")
    return python


def run_python(python: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(
        [str(python), *map(str, arguments)], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280
    )


@pytest.fixture(scope="session")
def tensorflow_python() -> Path:
    return environment_python("tensorflow")


@pytest.fixture(scope="session")
def onnxrt_python() -> Path:
    return environment_python("onnxrt")


#: the smallest model of the registry
SMALLEST = "MobileNetV3S"


@pytest.fixture(scope="session")
def exported(tensorflow_python: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A real export of the smallest model, with seeded weights; made once for all of pytest's processes."""
    steps: list[tuple[int, int, str]] = []
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "models"
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        model = ensure_model(
            SMALLEST,
            folder,
            lambda image: tensorflow_python if image == "tensorflow" else Path("wrong"),
            lambda *step: steps.append(step),
            ExportOptions("seeded"),
        )
    if steps:  # this process made it
        assert [step for step, _, _ in steps] == list(range(1, steps[0][1] + 1))
    return model


@pytest.fixture(scope="session")
def tiny_models(onnxrt_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the ONNX files of tiny_onnx.py."""
    folder = tmp_path_factory.mktemp("tiny")
    made = run_python(onnxrt_python, TINY, folder)
    assert made.returncode == 0, made.stderr
    return folder
