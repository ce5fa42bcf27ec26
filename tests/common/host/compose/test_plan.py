"""Second service of a sweep: what it leaves for the frameworks' services."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.cell import Cell
from common.host.compose.plan import in_words, request_of, write_job, write_refused_rows
from common.host.devices import the_cpu
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES
from common.host.plan.jobs import make_plan
from common.host.plan.options import Options
from common.host.plan.request import Request, settings_of
from common.host.runs.run import Run
from tests.common.host.plan.test_model_terms import model as bytes_model
from tests.common.host.runners.staged_job import model


def test_cells_that_labels_refuse_are_rows_before_any_service_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (variant,) = (v for image in load_images(IMAGES) for v in image.variants if v.name == "onnxrt")
    request = Request(
        variants=(variant,), precisions=("fp32", "fp16"), batch_sizes=(1,), io_modes=("host",), model="m", model_hash="0",
        devices=("cpu",), device_uuids=("",), replicates=1, runner="compose", settings=settings_of(Options(), "cpu"),
    )  # fmt: skip
    run, board = Run(tmp_path / "run", {}), tmp_path / "board"
    for folder in (run.folder / "jobs", board):
        folder.mkdir(parents=True)
    found = replace(model(tmp_path), onnx="m.onnx")
    for planned in make_plan(request, 0):
        write_refused_rows(run, planned, request, the_cpu(), found)
        write_job(run, planned, request, the_cpu(), found, 0, board)
    refused = Cell("m", "onnxrt", "fp16", 1)
    assert run.existing_cells() == {refused.key}
    with (run.folder / "cells" / refused.key / "cell.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["status"], row["message"]) == ("unsupported", "onnxrt runs in fp32 on a CPU, not in fp16")
    assert row["python_version"] == "", "no worker ran, and this interpreter is the host's"
    assert capsys.readouterr().out == f"{refused.key}: unsupported: onnxrt runs in fp32 on a CPU, not in fp16\n"
    done = {path.name.split("_")[1]: json.loads(path.read_text())["done"] for path in board.glob("*.json")}
    assert done == {"fp16": [refused.key], "fp32": []}


def test_the_model_decides_under_compose_too(tmp_path: Path) -> None:
    found = replace(bytes_model("uint8"), fixed_batch=4)
    options = Options(framework="onnxrt", device="cpu", precision="fp32", quick=True)
    fits = request_of(options, load_images(IMAGES), the_cpu(), found)
    assert (fits.inputs, fits.batch_sizes) == (("uint8",), (4,))


@pytest.mark.parametrize(
    ("cells", "done", "words"),
    [(3, 0, "3 cells on H100"), (1, 0, "1 cell on H100"), (1200, 1, "1,200 cells on H100, 1 of them done already")],
)
def test_nothing_is_said_of_cells_that_are_done_where_none_is(cells: int, done: int, words: str) -> None:
    assert in_words(cells, done, "H100") == words
