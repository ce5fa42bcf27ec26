"""The notebook front end with a real framework: ONNX Runtime on the CPU, both front ends in one run."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from common.host.bench.command import bench
from common.host.frameworks import environments
from common.host.paths import ROOT, DataFolder
from common.host.plan.options import Options

SETTINGS = {
    "min_seconds": 0.5, "max_seconds": 1.0, "warmup_max_seconds": 0.5, "idle_seconds": 0.0, "min_samples": 16,
    "min_images": 16, "precision_of_median": 0.5, "cell_timeout_s": 120.0,
}  # fmt: skip


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> Path:
    if not environments.is_ready("onnxrt", "cpu"):
        pytest.skip("no .envs/onnxrt-cpu: ./invoke test makes it")
    code = "import sys, onnx, tiny_onnx; onnx.save(tiny_onnx.classifier(), sys.argv[1])"
    python = environments.interpreter("onnxrt", "cpu")
    subprocess.run([python, "-c", code, tmp_path / "tiny.onnx"], cwd=ROOT / "tests/common/export", check=True)
    return tmp_path / "tiny.onnx"


@pytest.mark.framework
def test_onnx_runtime_in_both_front_ends(tmp_path: Path, tiny_onnx: Path) -> None:
    before = (environments.folder_of("onnxrt", "cpu") / environments.STAMP).stat().st_mtime_ns
    options = Options(
        framework="onnxrt", device="cpu", runner="local", model=str(tiny_onnx), batch_sizes="1,8",
        frontend="script,notebook", settings=SETTINGS, seed=3, replicates=1, tuning="stock",  # no trial by times
    )  # fmt: skip
    outcome = bench(options, Console(file=io.StringIO()), DataFolder(tmp_path / "data"))
    assert (outcome.statuses, outcome.errors) == ({"ok": 4}, [])
    rows = {}
    for path in outcome.run.folder.glob("cells/*/cell.csv"):
        with path.open(newline="") as file:
            row = next(csv.DictReader(file))
        rows[row["frontend"], int(row["batch_size"])] = row
    for size in (1, 8):
        script, notebook = rows["script", size], rows["notebook", size]
        for column in ("framework_version", "settings", "parity_rel_l2", "parity_top1", "model_hash", "python_version"):
            assert script[column] == notebook[column], column
        assert json.loads(notebook["versions"]).items() > json.loads(script["versions"]).items()
        assert int(notebook["samples"]) >= 16
    assert environments.is_ready("onnxrt", "cpu", notebook=True)
    assert (environments.folder_of("onnxrt", "cpu") / environments.STAMP).stat().st_mtime_ns == before
