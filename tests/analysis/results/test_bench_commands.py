"""The command in a report that measures a row again."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any

import pytest

from analysis.database.open_runs import open_runs
from analysis.results import tables
from analysis.results.bench_commands import bench_command, choices, in_one_run
from analysis.results.selection import Selection
from common.host.plan.options import Options
from tests.analysis.conftest import Build, Opened

MS = 10**6


def commands(*runs: Any) -> list[str]:
    with open_runs([run.folder for run in runs]) as database:
        found = tables.build(database, tables.load(database, Selection()), ["throughput"])
    return [bench_command(table, row) for table in found for row in table.rows]


def test_a_row_of_a_version_asks_for_it(build: Build) -> None:
    run = build("a")
    for seed, more in enumerate(
        ({"version": "1.30.0"}, {}, {"version": "1.30.0", "tuning": "stock", "input": "uint8"})
    ):
        run.cell("onnxrt", 8, durations_ns=[(seed + 1) * MS] * 20, framework_version="1.31.1", **more)
    usual = "invoke bench --model ResNet50 --framework onnxrt"
    assert sorted(commands(run)) == sorted([
        f"{usual} --version 1.30.0 --precision fp32 --batch-sizes 8 --device cpu",
        f"{usual} --version locked --precision fp32 --batch-sizes 8 --device cpu",
        f"{usual} --version 1.30.0 --precision fp32 --tuning stock --input uint8 --batch-sizes 8 --device cpu",
    ])  # fmt: skip


def test_every_option_is_one_of_bench(build: Build) -> None:
    run = build("a")
    run.cell(
        "onnxrt", 8, durations_ns=[MS] * 20, version="1.30.0", tuning="stock", input="uint8", io="device",
        scenario="multi-stream", streams=2, frontend="notebook",
    )  # fmt: skip
    run.cell("onnxrt", 1, durations_ns=[MS] * 20, scenario="server", target_rate_per_s=5.0)
    given = {word for line in commands(run) for word in shlex.split(line) if word.startswith("--")}
    assert len(given) >= 11
    assert given <= {f"--{one.name.replace('_', '-')}" for one in fields(Options)}


def test_namesakes_have_no_command_as_no_name_asks_for_one_of_them(build: Build) -> None:
    a, b = build("a"), build("b")
    key = "model_onnxrt_fp32_b0008_host_single-stream_script_cpu_r0"
    for run, digest in ((a, "aaaaaaaa11"), (b, "bbbbbbbb22")):
        run.cell("onnxrt", 8, durations_ns=[MS] * 20, model="model", model_hash=digest, cell_key=key)
    assert commands(a, b) == ["", ""]


def test_two_cells_in_one_run_are_asked_for_by_options_of_bench(build: Build, opened: Opened) -> None:
    run = build("a")
    run.cell("onnxrt", 8, durations_ns=[MS] * 20)
    run.cell("torch", 32, durations_ns=[MS] * 20, tuning="stock", io="device")
    rows = sorted(tables.load(opened(run), Selection()), key=lambda row: str(row["variant"]))
    assert in_one_run(choices(rows), 0, 1, 3) == (
        "invoke bench --model ResNet50 --framework onnxrt,torch --precision fp32 --tuning tuned,stock --io host,device "
        "--batch-sizes 8,32 --device cpu --replicates 3"
    )
    assert in_one_run(choices(rows[:1]), 0, 0, 3).startswith(
        "invoke bench --model ResNet50 --framework onnxrt --precision"
    )


@pytest.mark.parametrize(
    "fact", [{"origin": "somebody"}, {"version": "1.30.0"}, {"precision": "amp"}, {"model": "another"}]
)
def test_cells_that_no_option_asks_for_have_no_command(build: Build, opened: Opened, fact: dict[str, str]) -> None:
    run = build("a")
    run.cell("onnxrt", 8, durations_ns=[MS] * 20)
    (row,) = tables.load(opened(run), Selection())
    assert in_one_run(choices([row]), 0, 0, 3)
    assert in_one_run(choices([{**row, **fact}]), 0, 0, 3) == ""
