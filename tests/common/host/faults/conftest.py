"""A data folder with a toy model, a toy framework under images/, and sweeps of it as processes."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from common.model_files import DESCRIPTION, ModelFiles
from tests.fake_nvml import build
from tests.waiting import wait_for

ROOT = Path(__file__).parents[4]
TOY = ROOT / "tests" / "common" / "harness" / "adapters" / "toy.py"
CELLS = 2 * 4 * 2  # variants, batch sizes, replicates

DOCKERFILE = """\
ARG BASE_IMAGE=none
FROM ${BASE_IMAGE}
LABEL framewatt.imports="numpy"
LABEL framewatt.variant.good.title="Good"
LABEL framewatt.variant.good.precisions.cpu="fp32"
LABEL framewatt.variant.good.precisions.gpu="fp32"
LABEL framewatt.variant.sleeper.title="Sleeper"
LABEL framewatt.variant.sleeper.precisions.cpu="fp32"
LABEL framewatt.variant.sleeper.precisions.gpu="fp32"
"""


def make_model(folder: Path) -> None:
    """softmax(flat input @ weights), under a registered name so that nothing is exported."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True)
    weights = rng.normal(0, 0.05, (48, 10)).astype(np.float32)
    inputs = rng.uniform(0, 10, (8, 4, 4, 3)).astype(np.float32)
    powers = np.exp(inputs.reshape(8, -1).astype(np.float64) @ weights)
    np.savez(folder / "toy.npz", weights=weights)
    np.savez(folder / "reference.npz", inputs=inputs, outputs=powers / powers.sum(axis=1, keepdims=True))
    model = ModelFiles(
        root=folder, name="MobileNetV3S", hash="0123456789ab", onnx="toy.npz", keras=None, saved_model=None,
        reference="reference.npz", input_shape=(4, 4, 3), layout="NHWC", onnx_input=None, onnx_output=None,
        output_kind="probabilities", classes=10, weights="seeded", weights_note="a toy",
    )  # fmt: skip
    (folder / DESCRIPTION).write_text(json.dumps(model.describe()))


def descendants(pid: int) -> dict[int, str]:
    """Process id -> command line of all that descend from a process."""
    parents: dict[int, list[int]] = {}
    commands: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parents.setdefault(parent, []).append(int(folder.name))
    found: dict[int, str] = {}
    left = [pid]
    while left:
        for child in parents.get(left.pop(), []):
            found[child] = commands[child]
            left.append(child)
    return found


def role(command: str) -> str:
    """What a process of a sweep is there for, "" for anything else."""
    for word, name in ((".harness.worker", "worker"), (".harness", "supervisor"), (".sidecar", "sidecar")):
        if f"-m common{word}" in command:
            return name
    return ""


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@dataclass
class World:
    """One data folder and one images folder."""

    data: Path
    images: Path
    environment: dict[str, str]
    runner: str = "local"
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, device: str = "gpu") -> subprocess.Popen[str]:
        sweep = Path(__file__).with_name("sweep.py")
        command = [sys.executable, str(sweep), str(self.data), str(self.images), device, self.runner]
        process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.started.append(process)
        return process

    def run(self, device: str = "gpu") -> tuple[int, str]:
        """Exit code and output of a sweep that nobody disturbs."""
        process = self.start(device)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def folders(self) -> list[Path]:
        return sorted(path.parent for path in (self.data / "results").glob("*/run.json"))

    def cells(self) -> list[Path]:
        return sorted((self.data / "results").glob("*/cells/*/cell.csv"))

    def wait_for_cells(self, count: int) -> None:
        wait_for(lambda: len(self.cells()) >= count)


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if build.compiler() is None:
        pytest.skip("no C compiler for the NVML stand-in")
    return build.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def make_world(tmp_path: Path, nvml: Path) -> Iterator[Callable[..., World]]:
    """make_world(data=None) -> World with a GPU of the NVML stand-in."""
    images = tmp_path / "images"
    (images / "toy").mkdir(parents=True)
    (images / "toy" / "Dockerfile").write_text(DOCKERFILE)
    shutil.copy(TOY, images / "toy" / "adapter.py")
    worlds: list[World] = []

    def make(data: Path | None = None) -> World:
        data = data or tmp_path / "data"
        make_model(data / "models" / "MobileNetV3S-0123456789ab")
        environment = {**os.environ, **build.library_path(nvml), "PYTHONPATH": str(ROOT)}
        worlds.append(World(data, images, environment))
        return worlds[-1]

    yield make
    for world in worlds:
        for process in world.started:
            orphans = descendants(process.pid)
            if process.poll() is None:
                process.kill()
            process.communicate()
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
