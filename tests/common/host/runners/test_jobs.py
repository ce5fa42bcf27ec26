"""What supervisors are handed, by whoever starts them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from common.cell import Cell
from common.host.devices import Device
from common.host.runners.jobs import Places, inside_container, job_of
from common.job import Settings

ROOT = Path(__file__).resolve().parents[4]
CELL = Cell("m", "onnxrt", "fp32", 1, "host")


@pytest.mark.parametrize(("name", "kind", "expected"), [("cpu", "cpu", "cpu"), ("gpu3", "gpu", "cuda:0")])
def test_a_supervisor_sees_its_gpu_as_the_only_one(name: str, kind: str, expected: str) -> None:
    places = Places("/run", "/models/m", "/adapter.py", "/cache")
    job = job_of([CELL], "onnxrt", Device(name, kind, "a device", "GPU-1"), places, "local", Settings(), threads=2)
    assert (job.device, job.device_name, job.device_uuid) == (expected, "a device", "GPU-1")
    assert (job.run_dir, job.model_dir, job.power_dir, job.picture, job.threads) == ("/run", "/models/m", None, None, 2)


def test_containers_see_the_same_places_whoever_starts_them() -> None:
    alone, of_compose = inside_container("onnxrt", "m"), inside_container("onnxrt", "m", "/data/run/job", picture=True)
    assert (alone.run_dir, of_compose.run_dir) == ("/data/run", "/data/run/job")
    assert alone.adapter == of_compose.adapter == "/opt/framewatt/images/onnxrt/adapter.py"
    assert (alone.picture, of_compose.picture) == (None, "/data/picture.npy")


def test_a_job_is_made_in_one_place() -> None:
    makers = {
        file.relative_to(ROOT).as_posix()
        for room in ("common/host", "analysis")
        for file in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Job"
    }
    assert makers == {"common/host/runners/jobs.py"}
