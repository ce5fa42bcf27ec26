"""The template is a working image: copied under another name it is measured like any framework."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.cell import Cell
from common.job import Job, Settings
from common.model_files import DESCRIPTION, ModelFiles

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATE = REPOSITORY / "images" / "_template"
LABEL = re.compile(r'^LABEL framewatt\.([\w.-]+)="(.*)"$', re.MULTILINE)


@pytest.fixture
def abacus(tmp_path: Path) -> Path:
    """`images/abacus`: the template with every whole word `template` replaced."""
    folder = tmp_path / "images" / "abacus"
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in folder.iterdir():
        file.write_text(re.sub(r"\btemplate\b", "abacus", file.read_text()))
    return folder


def make_model(folder: Path, onnx: str) -> ModelFiles:
    """softmax(flat input @ weights) with its reference computed in float64."""
    rng = np.random.default_rng(5)
    folder.mkdir()
    weights = rng.normal(0, 0.2, (27, 12)).astype(np.float32)
    inputs = rng.uniform(0, 5, (8, 3, 3, 3)).astype(np.float32)
    powers = np.exp(inputs.reshape(8, -1).astype(np.float64) @ weights)
    np.savez(folder / "toy.npz", weights=weights)
    (folder / "model.onnx").write_bytes(b"")
    np.savez(folder / "reference.npz", inputs=inputs, outputs=powers / powers.sum(axis=1, keepdims=True))
    model = ModelFiles(
        root=folder, name="toy", hash="abcdefabcdef", onnx=onnx, keras=None, saved_model=None,
        reference="reference.npz", input_shape=(3, 3, 3), layout="NHWC", onnx_input=None, onnx_output=None,
        output_kind="probabilities", classes=12, weights="seeded", weights_note="a toy",
    )  # fmt: skip
    (folder / DESCRIPTION).write_text(json.dumps(model.describe()))
    return model


def bench(tmp_path: Path, image: Path, onnx: str, precision: str = "fp32") -> list[dict[str, str]]:
    """Rows of a job of two batch sizes with the image's adapter."""
    make_model(tmp_path / "model", onnx)
    cells = [Cell(model="toy", variant=image.name, precision=precision, batch_size=size) for size in (1, 16)]
    settings = Settings(
        min_seconds=0.02, max_seconds=0.1, min_samples=16, min_images=16, precision_of_median=0.5,
        warmup_max_seconds=0.04, idle_seconds=0.0, cell_timeout_s=30.0,
    )  # fmt: skip
    job = Job(
        run_dir=str(tmp_path / "run"), model_dir=str(tmp_path / "model"), adapter=str(image / "adapter.py"),
        image=image.name, device="cpu", device_name="a CPU", device_uuid="", cache_dir=str(tmp_path / "cache"),
        runner="local", cells=cells, settings=settings,
    )  # fmt: skip
    job.write(tmp_path / "job.json")
    command = [sys.executable, "-m", "common.harness", str(tmp_path / "job.json")]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=60)
    rows = []
    for cell in cells:
        with (tmp_path / "run" / "cells" / cell.key / "cell.csv").open(newline="") as file:
            rows += list(csv.DictReader(file))
    return rows


def test_a_copy_is_measured_and_computes_the_model(tmp_path: Path, abacus: Path) -> None:
    for row in bench(tmp_path, abacus, "toy.npz"):
        assert row["status"] == "ok", row["message"]
        assert (row["image"], row["variant"]) == ("abacus", "abacus")
        assert float(row["parity_rel_l2"]) < 1e-5
        assert row["framework_version"] == np.__version__
        assert int(row["samples"]) >= 16


def test_a_real_model_is_declined_with_the_reason(tmp_path: Path, abacus: Path) -> None:
    for row in bench(tmp_path, abacus, "model.onnx"):
        assert row["status"] == "unsupported"
        assert row["message"] == "this adapter knows toy models (.npz) only, it cannot read model.onnx yet"


def test_another_precision_is_declined(tmp_path: Path, abacus: Path) -> None:
    for row in bench(tmp_path, abacus, "toy.npz", "fp16"):
        assert (row["status"], row["message"]) == ("unsupported", "numpy multiplies in fp32, not in fp16")


def test_the_word_template_is_all_that_has_to_be_replaced(abacus: Path) -> None:
    for file in abacus.iterdir():
        assert "template" not in file.read_text().lower(), file.name
    dockerfile = (abacus / "Dockerfile").read_text()
    labels = dict(LABEL.findall(dockerfile))
    assert labels["variant.abacus.precisions.cpu"] == "fp32"
    assert labels["variant.abacus.title"] == "abacus"
    copied = re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE)
    first, *others = copied
    assert first == "common/install_locked.py images/abacus/requirements*"
    assert others == ["common", "images/__init__.py", "images/abacus/*.py"]


@pytest.mark.parametrize(
    ("name", "requirements"), [("Dockerfile", "requirements.txt"), ("Dockerfile.cpu-only", "requirements-cpu.txt")]
)
def test_the_dockerfiles_have_the_house_shape(name: str, requirements: str) -> None:
    dockerfile = (TEMPLATE / name).read_text()
    arguments = re.findall(r"^ARG (\w+)(?:=(\S+))?$", dockerfile, re.MULTILINE)
    assert dict(arguments)["REQUIREMENTS"] == requirements
    assert dict(arguments)["BASE_IMAGE"]
    assert re.search(r"^USER 1000", dockerfile, re.MULTILINE)
    # The classic builder knows none of these.
    assert not re.search(r"^# *syntax=|--mount|--link|<<", dockerfile, re.MULTILINE)


def test_the_smoke_line_of_the_dockerfile_runs() -> None:
    (code,) = re.findall(r"^RUN python3 -c '(.*)'$", (TEMPLATE / "Dockerfile").read_text(), re.MULTILINE)
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == np.__version__


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-cpu.txt"])
def test_requirements_are_pinned(name: str) -> None:
    lines = [line for line in (TEMPLATE / name).read_text().splitlines() if line and not line.startswith("#")]
    assert lines and all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
