"""A cell that goes well, and one whose output is wrong: what lands in its files."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from common import schema
from common.harness.adapter import Unsupported
from common.harness.reference import Reference
from common.host.runners.cell_check import checked_row
from common.job import Job
from common.model_files import DESCRIPTION
from tests.common.harness.conftest import ADAPTERS, QUICK, Bench


@pytest.fixture
def measured(bench: Bench) -> tuple[Bench, Job, list[dict[str, Any]], np.ndarray]:
    """Three batch sizes: smaller than the reference set and no divisor of it, one, and larger."""
    picture = bench.folder / "picture.npy"
    with np.load(bench.model.path(bench.model.reference)) as arrays:
        np.save(picture, arrays["inputs"][3:4])
        wanted = arrays["outputs"][3]
    job = bench.job("device-clock", (3, 1, 19), picture=str(picture))
    bench.run_dir.mkdir()
    (bench.run_dir / "power.csv").write_text(schema.to_csv("power.csv", []))  # a sidecar writes
    code, events = bench.run(job)
    assert code == 0
    return bench, job, events, wanted


def test_a_good_cell_has_all_its_facts(measured) -> None:
    bench, job, _events, wanted = measured
    best = [int(c) for c in np.argsort(-wanted)[:3]]
    for cell in job.cells:
        row = bench.cell(cell)
        samples = bench.file(cell, "samples.csv")
        phases = bench.file(cell, "phases.csv")
        assert row["status"] == "ok", row["message"]
        assert row["message"] == ""
        assert row["cell_key"] == cell.key
        assert (row["framework_version"], json.loads(row["versions"])) == ("1.2.3", {"framework": "1.2.3"})
        assert json.loads(row["settings"])["loads"] == "1"
        assert json.loads(row["settings"])["keras_home"].startswith(job.cache_dir)
        assert float(row["parity_rel_l2"]) < 1e-4
        assert (row["parity_metric"], row["parity_top1"], row["parity_top5"]) == ("logits", "1.0", "1.0")
        assert [c for c, _ in json.loads(row["top3"])] == best
        assert json.loads(row["top3"])[0][1] == pytest.approx(wanted[best[0]], abs=1e-5)
        assert row["stop_reason"] in schema.STOP_REASONS
        assert row["warmup_stop"] in ("steady", "budget")
        assert int(row["warmup_runs"]) > 0
        assert int(row["host_peak_bytes"]) > 1 << 20
        assert row["device_peak_bytes"] == "" and row["device_uuid"] == ""
        assert row["origin"] == "framewatt"

        assert [phase["phase"] for phase in phases] == [
            "import", "load", "compile", "first", "parity", "idle_before", "warmup", "measure", "device", "idle",
        ]  # fmt: skip
        spans = [(int(phase["start_ns"]), int(phase["end_ns"])) for phase in phases]
        assert all(start <= end for start, end in spans)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))

        assert int(row["samples"]) == len(samples) >= max(16, 32 // cell.batch_size)
        assert [int(sample["i"]) for sample in samples] == list(range(len(samples)))
        edges = [int(sample[name]) for sample in samples for name in ("start_ns", "end_ns")]
        assert edges == sorted(edges)
        begin, end = spans[7]
        assert begin <= edges[0] and edges[-1] <= end
        assert {sample["scheduled_ns"] for sample in samples} == {""}

        times = bench.file(cell, "device_times.csv")
        assert [time["device_ns"] for time in times] == ["1234"] * 3


def test_import_and_load_are_shared_by_the_cells_of_a_worker(measured) -> None:
    bench, job, _events, _ = measured
    shared = {tuple(phase.values()) for cell in job.cells for phase in bench.file(cell, "phases.csv")[:2]}
    assert len(shared) == 2
    assert len({bench.cell(cell)["worker"] for cell in job.cells}) == 1


def test_the_events_tell_the_course_of_a_cell(measured) -> None:
    bench, job, events, _ = measured
    of_first = [event for event in events if event.get("cell_key") == job.cells[0].key]
    worker = bench.cell(job.cells[0])["worker"]
    assert of_first[0] == {"event": "cell_start", "cell_key": job.cells[0].key, "worker": worker}
    assert [event["name"] for event in of_first if event["event"] == "phase"] == [
        "import", "load", "compile", "first", "parity", "idle_before", "warmup", "measure", "device", "idle",
    ]  # fmt: skip
    progress = [event for event in of_first if event["event"] == "progress"]
    assert progress
    assert all(set(e) == {"event", "cell_key", "fraction", "samples", "images_per_s"} for e in progress)
    assert all(0 <= e["fraction"] <= 1 for e in progress)
    samples = bench.file(job.cells[0], "samples.csv")
    seconds = (int(samples[-1]["end_ns"]) - int(samples[0]["start_ns"])) / 1e9
    rate = len(samples) * job.cells[0].batch_size / seconds
    assert progress[-1]["images_per_s"] == pytest.approx(rate, rel=1e-3), "the last one is the table's throughput"
    assert of_first[-1] == {"event": "cell_finish", "cell_key": job.cells[0].key, "status": "ok", "message": ""}
    assert (bench.run_dir / "logs" / f"{worker}.log").is_file()


@pytest.mark.parametrize(("metered", "seconds"), [(False, 0.01), (True, 0.0)])
def test_nobody_idles_where_nobody_reads_it(bench: Bench, metered: bool, seconds: float) -> None:
    bench.run_dir.mkdir()
    if metered:
        (bench.run_dir / "power-gpu0.csv").write_text(schema.to_csv("power.csv", []))
    job = bench.job("good", settings=replace(QUICK, idle_seconds=seconds))
    bench.run(job)
    assert {p["phase"] for p in bench.file(job.cells[0], "phases.csv")}.isdisjoint({"idle_before", "idle"})


def test_a_framework_without_device_time_has_no_such_phase_or_file(bench: Bench) -> None:
    job = bench.job("good")
    bench.run(job)
    assert "device" not in {p["phase"] for p in bench.file(job.cells[0], "phases.csv")}
    assert not (bench.run_dir / "cells" / job.cells[0].key / "device_times.csv").exists()


def test_an_adapter_that_converts_does_so_once_a_worker_before_it_loads_and_is_reported_of_each_cell(
    bench: Bench,
) -> None:
    job = bench.job(adapter=str(ADAPTERS / "converts.py"))
    cells = [job.cells[0], replace(job.cells[0], scenario="multi-stream", streams=2)]
    job = replace(job, cells=cells)
    bench.run(job)
    names = [[phase["phase"] for phase in bench.file(cell, "phases.csv")] for cell in cells]
    assert all(phases[:4] == ["import", "convert", "load", "compile"] for phases in names), names
    assert len({tuple(phase.values()) for cell in cells for phase in bench.file(cell, "phases.csv")[:3]}) == 3
    rows = [bench.cell(cell) for cell in cells]
    assert [row["status"] for row in rows] == ["ok", "ok"], rows
    assert [json.loads(row["settings"])["prepared_for"] for row in rows] == ["single-stream x1", "multi-stream x2"]


@pytest.mark.parametrize(("scenario", "streams"), [("single-stream", 1), ("offline", 1), ("multi-stream", 2)])
def test_a_cell_feeds_the_type_that_its_row_names(bench: Bench, scenario: str, streams: int) -> None:
    """Rows of uint8 were once measured with float32: the adapters took bytes, but none were given to them."""
    picture = bench.folder / "picture.npy"
    with np.load(bench.model.path(bench.model.reference)) as arrays:
        np.save(picture, arrays["inputs"][:1])
    job = bench.job("keeps-types", (3,), adapter=str(ADAPTERS / "keeps_types.py"), picture=str(picture))
    (usual,) = job.cells
    # the later cell has the shape of the one before, and another type
    cells = [replace(usual, scenario=scenario, streams=streams, input=one) for one in ("float32", "uint8")]
    bench.run(replace(job, cells=cells))
    given = [json.loads(bench.cell(cell)["settings"])["given"].split() for cell in cells]
    later = given[1][len(given[0]) :]
    assert len(given[0]) >= 5, "three batches of the parity check, the picture, and the first batch again"
    assert set(given[0]) == {"float32"}
    assert len(later) >= 5 and set(later) == {"uint8"}


@pytest.mark.parametrize("variant", ["wrong", "nan"])
def test_wrong_output_is_measured_and_marked(bench: Bench, variant: str) -> None:
    job = bench.job(variant, (16,))
    bench.run(job)
    row = bench.cell(job.cells[0])
    assert row["status"] == "parity_failed"
    words = {"wrong": "relative L2 error of logits of output", "nan": "holds NaN in "}
    assert words[variant] in row["message"]
    assert (row["parity_rel_l2"] == "") is (variant == "nan")
    assert int(row["samples"]) > 0
    # the host takes the files: an infinite error was refused there, and the row said "crashed"
    assert checked_row(bench.run_dir / "cells" / row["cell_key"], job.cells[0], job, bench.model) == row


def test_a_picture_of_another_size_is_named(bench: Bench) -> None:
    picture = bench.folder / "picture.npy"
    np.save(picture, np.zeros((1, 5, 5, 3), np.float32))
    job = bench.job(picture=str(picture))
    bench.run(job)
    assert bench.cell(job.cells[0])["message"] == (
        "ValueError: the picture has shape (1, 5, 5, 3), the model takes (1, 4, 4, 3)"
    )


@pytest.mark.parametrize(
    ("variant", "own", "workers"),
    [
        ("good", "", 1),
        ("absent", "; absent: this version has no GPU support", 1),
        ("none-fits", "; none-fits: DeviceOutOfMemory: no room for this one", 2),
    ],
)
def test_a_model_without_a_reference_is_a_row_that_says_why(bench: Bench, variant: str, own: str, workers: int) -> None:
    why = "ONNX Runtime does not know far.away::Operator, so that there is no reference to compare with"
    model = replace(bench.model, unmeasurable=why)
    (model.root / DESCRIPTION).write_text(json.dumps(model.describe()))
    np.savez(model.path(model.reference))
    job = bench.job(variant, (1, 2))
    bench.run(job)
    for cell in job.cells:
        row = bench.cell(cell)
        assert row["status"] == "unsupported"
        assert row["message"] == f"{why}{own}"
        assert bench.file(cell, "samples.csv") == []
    assert len({bench.cell(cell)["worker"] for cell in job.cells}) == workers, "one that ran out of memory is replaced"
    with pytest.raises(Unsupported, match=r"far\.away::Operator"):
        Reference.read(model)


@pytest.mark.parametrize(
    ("forms", "advice"),
    [
        (
            None,
            "the model's batch size is fixed at 1; --batch-sizes 1 measures it, and --rebatch tries to make it dynamic",
        ),
        (
            {"torch": "torch"},
            "the module takes batches of 1 alone, as its example inputs are; --batch-sizes 1 measures it",
        ),
    ],
)
def test_a_fixed_batch_comes_with_advice_that_can_be_followed(
    bench: Bench, forms: dict[str, str] | None, advice: str
) -> None:
    model = replace(bench.model, fixed_batch=1, forms=forms)
    (bench.folder / "model" / "torch").mkdir()
    (model.root / DESCRIPTION).write_text(json.dumps(model.describe()))
    job = bench.job("good", (2,))
    bench.run(job)
    assert bench.cell(job.cells[0])["message"] == advice
