"""The answer of a table in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from analysis.comparisons import summary
from analysis.results import sample_intervals, tables
from analysis.results.selection import Selection
from tests.analysis.conftest import CORES, Build, Opened


def concluded(run: Any, opened: Opened, here: bool = False) -> str | None:
    database = opened(run)
    rows = tables.load(database, Selection())
    (table,) = tables.build(database, rows, ["throughput"])
    return summary.conclusion(table, sample_intervals.of_rows(database, rows), here)


def test_the_conclusion_says_who_is_fastest_by_how_much_and_what_makes_that_doubtful(
    build: Build, opened: Opened
) -> None:
    run = build("a")
    for replicate in range(3):
        for batch_size, factor in ((1, 2), (8, 4)):
            run.cell("onnxrt", batch_size, [1_000_000 + replicate * 10] * 200, replicate=replicate)
            run.cell("torch", batch_size, [factor * 1_000_000 + replicate * 10] * 200, replicate=replicate)
    assert (
        concluded(run, opened, here=True) == "On this machine ONNX Runtime is fastest: 2 to 4 times PyTorch, the next."
    )


def test_the_conclusion_of_one_worker_or_under_load_says_so(build: Build, opened: Opened) -> None:
    run = build("a")
    run.cell("onnxrt", 8, [1_000_000] * 200, load_average_end=CORES + 1)
    alone = concluded(run, opened)
    assert alone == (
        "ONNX Runtime fp32 reaches 8,000 images/s at batch 8; measured while other load was on the machine (l); "
        "one worker per cell gives no verdict (--replicates 3 does)."
    )
    run.cell("torch", 8, [2_000_000] * 200)
    assert (concluded(run, opened) or "").startswith(
        "ONNX Runtime is fastest: 2 times PyTorch, the next; measured while"
    )


def test_a_conclusion_without_figures_is_none(build: Build, opened: Opened) -> None:
    run = build("a")
    run.cell("onnxrt", 8, status="oom")
    assert concluded(run, opened) is None


@pytest.mark.parametrize(("second", "measured"), [("GPU-b", "measured"), (None, "perhaps measured")])
def test_first_and_second_of_two_cards_have_no_verdict(
    build: Build, opened: Opened, second: str | None, measured: str
) -> None:
    """Nor have those of which that is not known, as one has no UUID."""
    runs = []
    for name, variant, ms, uuid in (("a", "onnxrt", 1, "GPU-a"), ("b", "torch", 2, second)):
        facts = [{"device": "gpu0", "uuid": uuid, "name": "H9"}]
        runs.append(build(name, device="gpu0", device_name="H9", uuid=uuid).run_json(devices=facts))
        for replicate in range(3):
            runs[-1].cell(variant, 8, [ms * 1_000_000 + replicate * 10] * 200, replicate=replicate)
    database = opened(*runs)
    rows = tables.load(database, Selection())
    (table,) = tables.build(database, rows, ["throughput"])
    intervals = sample_intervals.of_rows(database, rows)
    assert summary.conclusion(table, intervals) == (
        f"ONNX Runtime is fastest: 2 times PyTorch, the next; UNCLEAR at batch 8, where the first two were {measured} on two GPUs of "
        "this kind (one run on one GPU would tell)."
    )
    (found,) = summary.answers([table], intervals)
    assert found.sentences[0].endswith(
        f"; UNCLEAR, {measured} on two GPUs of this kind (one run on one GPU would tell)."
    )
    (machine,) = tables.machines(rows)
    assert machine.startswith(f"Measured on {'2' if second else '1 to 2'} H9, each cell on one of them")
    assert found.summary[0][1].endswith(": the next, PyTorch fp32 at batch 8.")
