"""What supervisors are handed, by whoever starts them."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from common.cell import Cell
from common.host.devices import Device
from common.host.plan.jobs import make_plan
from common.host.runners.jobs import Places, inside_container, job_of, planned_job
from common.job import Job, Settings
from tests.common.host.plan.test_jobs import REQUEST

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


def test_a_job_has_the_variables_of_its_framework_alone(tmp_path: Path) -> None:
    a, b, c = REQUEST.variants
    variants = (
        replace(a, variables=("FRAMEWATT_A", "FRAMEWATT_BOTH", "FRAMEWATT_UNSET")),
        b,
        replace(c, variables=("FRAMEWATT_BOTH",)),
    )
    values = {"FRAMEWATT_A": "1-8", "FRAMEWATT_BOTH": "2", "FRAMEWATT_OTHERS": "3", "AWS_SECRET_ACCESS_KEY": "x"}
    request = replace(REQUEST, variants=variants, environment=values)
    for planned in make_plan(request, 1):
        job = planned_job(planned, request, Device("gpu0", "gpu", "a GPU"), inside_container("image", "m"), "docker")
        job.write(tmp_path / "job.json")
        wanted = {"a": {"FRAMEWATT_A": "1-8", "FRAMEWATT_BOTH": "2"}, "b": {}, "c": {"FRAMEWATT_BOTH": "2"}}
        assert Job.read(tmp_path / "job.json").environment == job.environment == wanted[planned.variant.name]


def test_a_job_is_made_in_one_place() -> None:
    makers = {
        file.relative_to(ROOT).as_posix()
        for room in ("common/host", "analysis")
        for file in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Job"
    }
    assert makers == {"common/host/runners/jobs.py"}
