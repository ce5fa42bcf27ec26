"""A real export of a registered model (the smallest), and the failure of tf2onnx that must not pass unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from common.host.models import find_model
from common.model_files import ModelFiles
from tests.common.export.conftest import SMALLEST

pytestmark = pytest.mark.framework

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def run_script(python: Path, script: str, *arguments: Path) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [str(python), str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_description(exported: ModelFiles) -> None:
    assert exported.root.name == f"{SMALLEST}-{exported.hash}"
    assert (exported.name, exported.layout, exported.input_shape) == (SMALLEST, "NHWC", (224, 224, 3))
    assert (exported.output_kind, exported.classes, exported.weights) == ("probabilities", 1000, "seeded")
    assert "seeded" in exported.weights_note
    extra = json.loads((exported.root / "model.json").read_text())
    on_disk = {path.relative_to(exported.root).as_posix() for path in exported.root.rglob("*") if path.is_file()}
    assert set(extra["files"]) == on_disk - {"model.json"}
    for name, facts in extra["files"].items():
        assert hashlib.sha256((exported.root / name).read_bytes()).hexdigest() == facts["sha256"]
    assert {"tensorflow", "keras", "tf2onnx", "onnx", "numpy"} <= set(extra["versions"])


def test_nothing_else_is_left_and_containers_may_read_it(exported: ModelFiles) -> None:
    assert [path.name for path in exported.root.parent.glob("[!.]*")] == [exported.root.name]
    assert not list(exported.root.parent.glob(".tmp-*"))
    assert exported.root.stat().st_mode & 0o055 == 0o055 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_reference_tells_images_apart(exported: ModelFiles) -> None:
    reference = np.load(exported.path(exported.reference))
    assert reference["inputs"].shape == (8, 224, 224, 3)
    assert reference["inputs"].dtype == np.float32
    assert reference["outputs"].dtype == np.float64
    assert len(set(reference["outputs"].argmax(axis=1))) >= 3
    # far from the uniform 1/1000 of weights that were only drawn
    assert reference["outputs"].max(axis=1).min() > 0.01


def test_onnx_file_under_onnxruntime(exported: ModelFiles, onnxrt_python: Path) -> None:
    facts = run_script(onnxrt_python, "run_onnx.py", exported.root)
    assert max(facts["errors"]) < 1e-4
    assert facts["input"] == [exported.onnx_input, "tensor(float)", ["batch", 224, 224, 3]]
    assert facts["output"] == [exported.onnx_output, "tensor(float)", ["batch", 1000]]
    assert facts["counts"]["Transpose"] == 1
    assert "Shape" not in facts["counts"]
    assert "Constant" not in facts["counts"]
    assert sum(facts["counts"].values()) < 250
    assert facts["opset"] == [["", 17]]


def test_keras_file_and_saved_model(exported: ModelFiles, tensorflow_python: Path) -> None:
    facts = run_script(tensorflow_python, "run_keras.py", exported.root)
    assert facts["errors"]["keras"] < 1e-4
    assert facts["errors"]["saved_model"] < 1e-4
    assert facts["batch"] is None


def test_the_same_model_has_the_same_hash(exported: ModelFiles, tensorflow_python: Path, tmp_path: Path) -> None:
    """A second exporter in another process finds the first one's folder by hash, and adds nothing."""
    before = {path: path.stat().st_mtime_ns for path in exported.root.rglob("*")}
    command = [str(tensorflow_python), "-m", "common.export", "--model", SMALLEST, "--out", str(exported.root.parent)]
    done = subprocess.run([*command, "--weights", "seeded"], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"folder": exported.root.name}
    assert {path: path.stat().st_mtime_ns for path in exported.root.rglob("*")} == before
    assert find_model(exported.root.parent, SMALLEST) == exported


def test_optimizer_failure_is_cured_and_would_be_noticed(tensorflow_python: Path) -> None:
    facts = run_script(tensorflow_python, "transposes.py")
    assert facts["counts"]["Transpose"] == 1
    assert "optimize_transpose" in facts["error"]
    assert "empty" in facts["error"]
    assert facts["most_failures"] == 3
