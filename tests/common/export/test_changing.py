"""Files that change while they are exported: what model.json says of them is of what was read, or nothing is exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.common.export.conftest import environment_python, run_python

pytestmark = pytest.mark.framework


def changing(image: str, folder: Path) -> dict[str, Any]:
    half = {"onnxrt": "onnx", "torch": "torch"}[image]
    done = run_python(environment_python(image), "tests/common/export/run_changing.py", half, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_an_onnx_file(tmp_path: Path) -> None:
    """Replaced during the reference outputs, its new sum stood beside the old graph, which was then taken for the new one."""
    found = changing("onnxrt", tmp_path)
    sums, later = found["sums"], found["later"]
    assert later["source_sha256"] == sums["model.onnx"]
    assert later["source_files"] == {"w.data": sums["w.data"]}
    assert later["asked"]["inputs_sha256"] == sums["x.npz"]
    assert found["again"]["folder"] != later["folder"]
    assert found["again"]["source_sha256"] != sums["model.onnx"]
    for name in sums:
        for what in ("written", "gone"):
            case = f"{what} {name}"
            message = f"{tmp_path / case / name} changed while it was exported; export it again"
            assert found[case] == {"error": message, "left": []}


def test_a_python_file(tmp_path: Path) -> None:
    found = changing("torch", tmp_path)
    message = f"{tmp_path / 'before' / 'own.py'} changed while it was exported; export it again"
    assert found["before"] == {"error": message, "left": []}
    assert found["later"]["source_sha256"] == found["copy"] == found["sum"]
    assert found["no file"]["error"].startswith("no.py cannot be imported by itself")
