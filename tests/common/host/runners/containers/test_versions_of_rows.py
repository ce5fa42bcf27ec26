"""Rows that the host writes of cells in containers: which version of the framework they have. No engine is asked."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.host.frameworks import environments
from common.host.frameworks.registry import all_variants, load_images
from common.host.paths import IMAGES, DataFolder
from common.host.plan.jobs import make_plan
from common.host.plan.options import Options
from common.host.plan.request import Request, settings_of
from common.host.runners.base import Context
from common.host.runners.containers import images, runner
from common.host.runners.containers.limits import Limits
from common.host.runs.run import Run
from tests.common.host.compose.test_plan import the_cpu
from tests.common.host.runners.test_lost_cells import model


@pytest.mark.parametrize(
    ("variant", "installed", "asked", "known"),
    [
        ("keras", "requirements-cpu.txt", "", True),
        ("onnxrt", "requirements-cpu.txt", "", True),
        ("onnxrt", "", "", False),  # of an image that another tool or an earlier version built
        ("torch", "requirements-cpu.txt", "", False),
        ("onnxrt", "requirements-cpu.txt", "1.30", False),
    ],
)
def test_a_refused_cell_has_the_version_that_the_image_holds(
    variant: str, installed: str, asked: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = load_images(IMAGES)
    one = all_variants(every)[variant]
    built = SimpleNamespace(id="sha256:1", labels={images.REQUIREMENTS: installed} if installed else {})
    client = SimpleNamespace(info=dict)
    monkeypatch.setattr(runner.engine, "connect", lambda: client)
    monkeypatch.setattr(runner, "remove_orphans", lambda client: None)
    monkeypatch.setattr(runner.images, "inspect", lambda *arguments: built)
    monkeypatch.setattr(runner.images, "build_version", lambda *arguments: "sha256:2")
    monkeypatch.setattr(runner, "is_current", lambda *arguments: True)
    by_name = {image.name: image for image in every}
    docker = runner.DockerRunner(by_name, Limits())
    docker.prepare([one], "cpu", lambda *step: None)
    request = Request(
        variants=(one,), precisions=("fp16",), batch_sizes=(1,), io_modes=("host",), model="m", model_hash="0",
        devices=("cpu",), device_uuids=("",), replicates=1, runner="docker", settings=settings_of(Options(), "cpu"),
        versions={variant: (asked,)},
    )  # fmt: skip
    run = Run(tmp_path / "run", {})
    run.folder.mkdir()
    found = replace(model(tmp_path), onnx="m.onnx", keras="m.keras")
    context = Context(run, request, found, DataFolder(tmp_path / "data"), by_name, {"cpu": the_cpu()}, None, 0)
    events: list[Any] = []
    for planned in make_plan(request, 0):
        docker.run_job(context, planned, events.append)
    assert [event["status"] for event in events] == ["unsupported"]
    (path,) = run.folder.glob("cells/*/cell.csv")
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    locked = environments.locked_version(one, IMAGES / one.image / "requirements-cpu.txt")
    assert row["framework_version"] == (locked if known else "")
    assert bool(row["framework_version"]) == known
