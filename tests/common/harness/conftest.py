"""A toy model, toy adapters, and a supervisor to run them with."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.cell import Cell
from common.job import Job, Settings
from common.model_files import DESCRIPTION, ModelFiles

REPOSITORY = Path(__file__).resolve().parents[3]
ADAPTERS = Path(__file__).parent / "adapters"

QUICK = Settings(
    min_seconds=0.02,
    max_seconds=0.1,
    min_samples=16,
    min_images=32,
    precision_of_median=0.5,
    warmup_max_seconds=0.04,
    idle_seconds=0.01,
    cell_timeout_s=30.0,
    device_time_runs=3,
)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def make_toy_model(folder: Path) -> ModelFiles:
    """softmax(flat input @ weights): (4, 4, 3) images, 10 classes, 8 of them as reference."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True)
    weights = rng.normal(0, 0.05, (48, 10)).astype(np.float32)
    inputs = rng.uniform(0, 10, (8, 4, 4, 3)).astype(np.float32)
    outputs = softmax(inputs.reshape(8, -1).astype(np.float64) @ weights.astype(np.float64))
    np.savez(folder / "toy.npz", weights=weights)
    np.savez(folder / "reference.npz", inputs=inputs, outputs=outputs)
    model = ModelFiles(
        root=folder, name="toy", hash="0123456789ab", onnx="toy.npz", keras=None, saved_model=None,
        reference="reference.npz", input_shape=(4, 4, 3), layout="NHWC", onnx_input=None, onnx_output=None,
        output_kind="probabilities", classes=10, weights="seeded", weights_note="a toy",
    )  # fmt: skip
    (folder / DESCRIPTION).write_text(json.dumps(model.describe()))
    return model


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Bench:
    """Writes jobs and runs `python -m common.harness` on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.model = make_toy_model(folder / "model")

    def job(self, variant: str = "good", batch_sizes: tuple[int, ...] = (1,), **changes: object) -> Job:
        settings = changes.pop("settings", QUICK)
        frontend = changes.pop("frontend", "script")
        cell = {"model": "toy", "variant": variant, "precision": "fp32", "frontend": frontend}
        cells = [Cell(**cell, batch_size=size) for size in batch_sizes]
        job = Job(
            run_dir=str(self.run_dir), model_dir=str(self.model.root), adapter=str(ADAPTERS / "toy.py"), image="toy",
            device="cpu", device_name="a CPU", device_uuid="", cache_dir=str(self.folder / "cache"), runner="local",
            cells=cells, settings=settings, threads=1, power_dir=str(self.run_dir),
        )  # fmt: skip
        return replace(job, **changes)

    def start(self, job: Job, env: Mapping[str, str] = os.environ, **options: object) -> subprocess.Popen[str]:
        path = self.folder / "job.json"
        job.write(path)
        # A kernel that sees this variable does not capture its output as it does elsewhere.
        env = {name: value for name, value in env.items() if name != "PYTEST_CURRENT_TEST"}
        return subprocess.Popen(
            [sys.executable, "-m", "common.harness", str(path)],
            cwd=REPOSITORY,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def run(self, job: Job) -> tuple[int, list[dict]]:
        process = self.start(job)
        out, _ = process.communicate(timeout=60)
        return process.returncode, [json.loads(line) for line in out.splitlines()]

    def cell(self, cell: Cell) -> dict[str, str]:
        (row,) = read_rows(self.run_dir / "cells" / cell.key / "cell.csv")
        return row

    def file(self, cell: Cell, name: str) -> list[dict[str, str]]:
        return read_rows(self.run_dir / "cells" / cell.key / name)

    def attempts(self) -> list[dict[str, str]]:
        return read_rows(self.run_dir / "attempts.csv")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
