"""Weights beside an ONNX file: from its own folder, from files, as many bytes as there are; in graphs within graphs too."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from common.host import models
from common.host.models import ensure_model
from tests.common.export.conftest import ROOT, run_python

pytestmark = pytest.mark.framework

#: [location, offset, length] -> what is said; "" for nothing wrong
PLACES: dict[tuple[str, str, str], str] = {
    ("weights.bin", "0", "16"): "",
    ("deep/weights.bin", "84", "16"): "",
    ("/etc/passwd", "0", "16"): "is not beside the model",
    ("../secret.bin", "0", "16"): "is not beside the model",
    ("deep/../../secret.bin", "0", "16"): "is not beside the model",
    ("C:\\secret.bin", "0", "16"): "is not beside the model",
    ("deep\\..\\secret.bin", "0", "16"): "is not beside the model",
    ("", "0", "16"): "is not beside the model",
    ("a\0b", "0", "16"): "is not beside the model",
    ("link.bin", "0", "16"): "is a link to another folder",
    ("beyond.bin", "0", "16"): "is a link to another folder",
    ("linked/weights.bin", "0", "16"): "",
    ("in_store.bin", "0", "16"): "",
    ("only_in_store.bin", "0", "16"): "",
    ("circle.bin", "0", "16"): "cannot be read",
    ("fifo", "0", "16"): "is no file",
    ("deep", "0", "16"): "is no file",
    ("none.bin", "0", "16"): "No such file",
    ("weights.bin", "90", "16"): "there are none from 90 to 106",
    ("weights.bin", "-1", "16"): "there are none",
    ("weights.bin", "0", str(2**70)): "there are none",
    ("weights.bin", "x", "16"): "no number",
    ("large.bin", "0", "2000"): "MiB of weights in other files",
}


def test_where_weights_may_lie(onnxrt_python: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    for name, size in (("weights.bin", 100), ("deep/weights.bin", 100), ("large.bin", 2000)):
        (folder / name).write_bytes(bytes(size))
    (folder / "link.bin").symlink_to("/etc/passwd")
    (folder / "linked").symlink_to(folder / "deep")
    (folder / "circle.bin").symlink_to("circle.bin")
    (folder / "beyond.bin").symlink_to("../secret.bin")
    store = tmp_path / "store"  # as caches of model hubs: the model is a link into it
    store.mkdir()
    for name in ("5f1d", "77aa", "only_in_store.bin"):
        (store / name).write_bytes(bytes(100))
    (folder / "model.onnx").symlink_to("../store/5f1d")
    (folder / "in_store.bin").symlink_to("../store/77aa")
    os.mkfifo(folder / "fifo")
    done = subprocess.run(
        [str(onnxrt_python), "tests/common/export/run_external_data.py", str(folder)],
        input=json.dumps(list(PLACES)), capture_output=True, text=True, cwd=ROOT, timeout=120, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    for place, expected, reason in zip(PLACES, PLACES.values(), json.loads(done.stdout), strict=True):
        assert "\n" not in reason
        assert (expected in reason) if expected else reason == "", place


def test_a_model_in_a_hubs_cache(onnxrt_python: Path, tmp_path: Path) -> None:
    """Its file and its weights are links; once exported it is known again, until what the weights lead to is another file."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    write = "from pathlib import Path; from sys import argv; from tests.common.export.run_changing import write_onnx\n"
    made = run_python(onnxrt_python, "-c", f"{write}write_onnx(Path(argv[1]), 1)", snapshot)
    assert made.returncode == 0, made.stderr
    for name, blob in (("model.onnx", "5f1d"), ("w.data", "77aa")):
        (snapshot / name).rename(blobs / blob)
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    named = str(snapshot / "model.onnx")
    model = ensure_model(named, tmp_path / "models", lambda image: onnxrt_python, lambda step, steps, name: None)
    assert model.name == "model"
    wanted = models.source(named)
    assert models.known_model(wanted, tmp_path / "models") == model
    (blobs / "77aa").write_bytes(bytes(64))
    assert models.known_model(wanted, tmp_path / "models") is None


def test_weights_too_large_for_one_message(onnxrt_python: Path, tmp_path: Path) -> None:
    """They are read from the file beside the model and written to one beside ours; the model is the same one either way.

    The limit is lowered, since the real one takes memory and minutes: run_over_limit.py says how to run that.
    """
    found = {}
    for limit in (1000 * 1024, 1001 * 1024):
        folder = tmp_path / str(limit)
        folder.mkdir()
        done = run_python(onnxrt_python, "tests/common/export/run_over_limit.py", folder, "1000", str(limit))
        assert done.returncode == 0, done.stderr
        found[limit] = json.loads(done.stdout)
        assert found[limit]["rows"] == [0, 1]
    over, under = found.values()
    assert over["folder"] == under["folder"]
    assert over["files"]["model.onnx.data"] == 1000 * 1024 > over["files"]["model.onnx"], (
        "once, though it is saved twice"
    )
    assert "model.onnx.data" not in under["files"] and under["files"]["model.onnx"] > 1000 * 1024
    description = json.loads((tmp_path / str(1000 * 1024) / "models" / over["folder"] / "model.json").read_text())
    assert set(description["source_files"]) == {"table.data"} and "model.onnx.data" in description["files"]


@pytest.mark.parametrize("limit", [1500 * 1024, 900 * 1024])
def test_weights_of_float64_that_are_too_large_for_one_message_until_they_are_float32(
    limit: int, onnxrt_python: Path, tmp_path: Path
) -> None:
    """The file as it came was written first, and its weights stayed beside one that had its own within."""
    done = run_python(onnxrt_python, "tests/common/export/run_over_limit.py", tmp_path, "1000", str(limit), "float64")
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    assert files.get("model.onnx.data") == (1000 * 1024 if limit == 900 * 1024 else None)
    assert (files["model.onnx"] > 1000 * 1024) == (limit > 1000 * 1024)
