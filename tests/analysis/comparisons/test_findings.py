"""What reference runs say: pairs, verdicts that hold together, what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from analysis.comparisons.findings import (
    BYTES,
    OFFLINE,
    REWRITING,
    TUNING,
    Findings,
    first_of,
    in_order,
    newest_of_each,
    ranking,
)
from analysis.comparisons.ratios import Throughputs, count_of
from analysis.database.connection import Row
from common.stats.comparison import Verdict
from tests.analysis.conftest import Build, Opened, RunBuilder

WORKERS = 3


def measured(
    run: RunBuilder, variant: str, ms: float, batch_size: int = 8, workers: int = WORKERS, **columns: Any
) -> None:
    """A configuration whose workers lie 0.1 % apart."""
    columns.setdefault("framework_version", "1.0")
    columns.setdefault(
        "settings", '{"input_copy": "each inference"}'
    )  # else a row of TensorFlow on a GPU has the mark k
    for replicate in range(workers):
        rng = np.random.default_rng([replicate, batch_size, len(variant)])
        took = ms * 1e6 * (1 + 1e-3 * (replicate - 1)) * (1 + 1e-3 * rng.standard_normal(80))
        run.cell(variant, batch_size, [int(one) for one in took], replicate=replicate, **columns)


def found_in(opened: Opened, *runs: RunBuilder) -> tuple[Findings, Mapping[str, Row]]:
    """The findings, and the rows by framework and level."""
    database = opened(*runs)
    rows, _ = newest_of_each(database.query("SELECT * FROM comparison ORDER BY ALL"))
    return Findings(database, rows), {f"{row['variant']} {row['tuning']}": row for row in rows}


@pytest.mark.parametrize(
    ("tuned_ms", "verdict"),
    [(2.0, Verdict.FASTER), (4.0, Verdict.SAME), (5.0, Verdict.SLOWER)],
)
def test_a_step_is_judged_both_ways(build: Build, opened: Opened, tuned_ms: float, verdict: Verdict) -> None:
    run = build()
    measured(run, "torch", 4.0, tuning="stock")
    measured(run, "torch", tuned_ms)
    found, rows = found_in(opened, run)
    assert [(b["tuning"], a["tuning"]) for b, a in found.pairs_of(TUNING)] == [("tuned", "stock")]
    said = found.of(rows["torch tuned"], rows["torch stock"])
    assert said.verdict is verdict
    assert math.isclose(said.times, 4.0 / tuned_ms, rel_tol=2e-3)
    assert said.low is not None and said.high is not None
    assert said.low < said.times < said.high


def test_one_worker_is_unclear_and_has_no_interval(build: Build, opened: Opened) -> None:
    run = build()
    measured(run, "torch", 4.0, workers=1, tuning="stock")
    measured(run, "torch", 2.0, workers=1)
    found, rows = found_in(opened, run)
    said = found.of(rows["torch tuned"], rows["torch stock"])
    assert (said.verdict, said.low, said.high, said.text) == (Verdict.UNCLEAR, None, None, f"{said.times:.3f}")
    assert found.throughputs.interval(rows["torch tuned"]) is None


def test_a_pair_counts_once_whichever_way_round(build: Build, opened: Opened) -> None:
    run = build()
    measured(run, "torch", 4.0)
    measured(run, "onnxrt", 2.0)
    database = opened(run)
    onnxrt, torch = database.query("SELECT * FROM comparison ORDER BY variant")
    said = Throughputs(database, [onnxrt, torch]).judge([(onnxrt, torch), (torch, onnxrt), (onnxrt, torch)])
    assert [one.verdict for one in said.values()] == [Verdict.FASTER, Verdict.SLOWER]
    assert sum(count_of(said).values()) == 1
    there, back = said.values()
    assert math.isclose(there.times * back.times, 1.0)


def test_of_several_runs_of_a_cell_the_newest_of_several_workers_counts() -> None:
    common = dict.fromkeys(("model", "model_hash", "precision", "tuning", "io", "input", "scenario", "streams"), "x")
    common |= dict.fromkeys(("target_rate_per_s", "batch_size", "frontend", "version", "device_name"))

    def row(run: str, workers: int, utc: str, status: str = "ok", variant: str = "torch") -> Row:
        facts = {"variant": variant, "run": run, "device": "gpu0", "created_utc": utc, "status": status}
        return {**common, **facts, "replicates": workers}

    rows = [row("a", 3, "1"), row("b", 2, "2"), row("c", 3, "3", "oom"), row("d", 1, "1", variant="jax")]
    best, others = newest_of_each([*rows, row("e", 1, "4")])
    assert ([one["run"] for one in best], others) == (["b", "d"], 3)
    best, _ = newest_of_each([*rows, row("f", 3, "2")])
    assert [one["run"] for one in best] == ["f", "d"]


def test_what_several_workers_measured_on_several_cards_is_found_slowest_card_first(
    build: Build, opened: Opened
) -> None:
    runs = [build(f"run{number}", device="gpu0", device_name="Test GPU", uuid=f"GPU-{number}") for number in range(4)]
    for run, ms, workers in zip(runs, (4.0, 2.0, 3.0, 1.0), (3, 3, 3, 1), strict=True):
        measured(run, "torch", ms, workers=workers)
    measured(runs[0], "onnxrt", 4.0)
    measured(runs[1], "onnxrt", 4.0, framework_version="2.0")
    measured(runs[0], "torch", 9.0, batch_size=1)
    database = opened(*runs)
    rows = database.query("SELECT * FROM comparison ORDER BY ALL")
    best, _ = newest_of_each(rows)
    (cards,) = Findings(database, best, [row for row in rows if row not in best]).on_several_cards()
    assert [row["device_uuid"] for row in cards] == ["GPU-0", "GPU-2", "GPU-1"]


def test_what_has_one_side_alone_is_said_with_the_reason(build: Build, opened: Opened) -> None:
    run = build()
    measured(run, "torch", 4.0)
    run.cell("torch", 8, (), tuning="stock", status="oom", message="too large")
    measured(run, "tf", 4.0, tuning="stock")
    measured(run, "onnxrt", 4.0, input="uint8")
    found, _ = found_in(opened, run)
    assert {(row["variant"], why) for row, why in found.unpaired(TUNING)} == {
        ("torch", "stock oom"), ("tf", "tuned not measured")
    }  # fmt: skip
    # TensorFlow has no such level, so that it lacks none
    assert {row["variant"] for row, _ in found.unpaired(REWRITING)} == {"torch"}
    assert {(row["variant"], why) for row, why in found.unpaired(BYTES)} == {
        ("onnxrt", "float32 not measured"), ("torch", "uint8 not measured")
    }  # fmt: skip


def test_first_and_ranking_go_by_framework(build: Build, opened: Opened) -> None:
    run = build()
    measured(run, "torch", 2.0)
    measured(run, "torch", 3.0, tuning="stock")
    measured(run, "onnxrt", 4.0)
    found, _ = found_in(opened, run)
    first = first_of(found.ordinary())
    assert first is not None and first.second is not None
    assert (first.row["variant"], first.row["tuning"], first.second["variant"]) == ("torch", "tuned", "onnxrt")
    assert [row["variant"] for row in ranking(found.ordinary())] == ["torch", "onnxrt"]
    assert first_of([]) is None
    assert in_order([{"precision": "fp16"}, {"precision": "fp32"}, {"precision": "x"}], "precision") == [
        "fp32",
        "fp16",
        "x",
    ]


def gpu_run(build: Build, name: str, uuid: str = "GPU-1") -> RunBuilder:
    return build(name, device="gpu0", device_name="GPU Z", uuid=uuid)


def test_two_gpus_of_a_kind_give_a_ratio_and_no_verdict(build: Build, opened: Opened) -> None:
    """Three workers of one card say nothing of another card; and a level is not held against one on another card or version."""
    stock, tuned = gpu_run(build, "a"), gpu_run(build, "b", "GPU-2")
    measured(stock, "torch", 4.0, tuning="stock")
    measured(tuned, "torch", 3.0)
    measured(stock, "onnxrt", 2.0, framework_version="1.0", tuning="stock")
    measured(stock, "onnxrt", 1.0, framework_version="2.0")
    found, rows = found_in(opened, stock, tuned)
    assert found.pairs_of(TUNING) == []
    assert {(row["variant"], row["tuning"], why) for row, why in found.unpaired(TUNING)} == {
        ("torch", "tuned", "stock on another GPU"),
        ("onnxrt", "tuned", "stock of version 1.0"),
    }
    said = found.of(rows["onnxrt tuned"], rows["torch tuned"])
    assert (said.verdict, said.low, said.high, said.other_gpu, said.known) == (Verdict.UNCLEAR, None, None, True, False)
    assert math.isclose(said.times, 3.0, rel_tol=2e-3)
    assert set(count_of(found.said)) == {Verdict.FASTER}, "one card alone is judged: stock onnxrt over stock torch"


def test_a_step_takes_both_sides_of_one_run_where_it_can(build: Build, opened: Opened) -> None:
    """A later and larger run has the upper level alone, of as many workers; its figure is the row's, and not the pair's."""
    both, later = gpu_run(build, "a"), gpu_run(build, "b")
    gpu = {"device": "gpu0", "uuid": "GPU-1", "name": "GPU Z", "processes": []}
    later.run_json(created_utc="2026-02-01T00:00:00Z", devices=[gpu])
    measured(both, "torch", 4.0, tuning="stock")
    measured(both, "torch", 2.0)
    for variant in ("torch", "onnxrt", "tf"):
        measured(later, variant, 1.0)
    database = opened(both, later)
    every = database.query("SELECT * FROM comparison ORDER BY ALL")
    rows, _ = newest_of_each(every)
    assert {(row["tuning"], row["run"]) for row in rows} == {("stock", "a"), ("tuned", "b")}
    (pair,) = Findings(database, rows, every).pairs_of(TUNING)
    assert [row["run"] for row in pair] == ["a", "a"]
    found = Findings(database, rows)
    (pair,) = found.pairs_of(TUNING)
    assert [row["run"] for row in pair] == ["b", "a"] and found.of(*pair).other_run


@pytest.mark.parametrize(("engine", "pairs"), [("b1-32@32", 1), ("b1-512@512", 0)])
def test_offline_is_held_against_the_same_algorithm_alone(
    build: Build, opened: Opened, engine: str, pairs: int
) -> None:
    run = gpu_run(build, "a")
    measured(run, "tensorrt", 4.0, settings='{"profile": "b1-32@32", "slots": "1"}')
    settings = f'{{"profile": "{engine}", "slots": "3", "offline_group": "64 inferences"}}'
    measured(run, "tensorrt", 2.0, settings=settings, scenario="offline")
    found, _ = found_in(opened, run)
    assert len(found.pairs_of(OFFLINE)) == pairs
    assert [why for _, why in found.unpaired(OFFLINE)] == ["single-stream by another algorithm"] * (1 - pairs)


def test_offline_is_held_against_single_stream_of_the_same_input(build: Build, opened: Opened) -> None:
    run = gpu_run(build, "a")
    for scenario, fed, ms in (
        ("single-stream", "float32", 4.0),
        ("single-stream", "uint8", 3.0),
        ("offline", "uint8", 2.0),
    ):
        measured(run, "torch", ms, scenario=scenario, input=fed)
    found, _ = found_in(opened, run)
    assert [(upper["input"], lower["input"]) for upper, lower in found.pairs_of(OFFLINE)] == [("uint8", "uint8")]


def test_what_is_known_to_be_wrong_is_in_no_pair_and_no_ranking(build: Build, opened: Opened) -> None:
    run = gpu_run(build, "a")
    measured(run, "tf", 1.0, tuning="stock", settings="{}")
    measured(run, "tf", 2.0)
    measured(run, "keras", 0.5, settings="{}")
    measured(run, "torch", 4.0)
    found, _ = found_in(opened, run)
    assert [row["variant"] for row in ranking(found.ordinary())] == ["tf", "torch"]
    assert found.pairs_of(TUNING) == []
    assert [why for row, why in found.unpaired(TUNING) if row["variant"] == "tf"] == ["stock known to be wrong"]
    assert {(row["variant"], row["tuning"]) for row in found.wrong} == {("tf", "stock"), ("keras", "tuned")}
    (line,) = found.left_out
    assert line.startswith("Left out: 2 cells of ") and "input copied once" in line


def test_versions_asked_for_and_notebooks_are_said_to_be_left_out(build: Build, opened: Opened) -> None:
    run = gpu_run(build, "a")
    measured(run, "torch", 4.0)
    measured(run, "torch", 4.0, version="2.9.0")
    measured(run, "torch", 4.0, frontend="notebook")
    found, _ = found_in(opened, run)
    assert len(found.ok) == 1
    assert found.left_out == [
        "Left out: 1 cell of versions that were asked for by name.", "Left out: 1 cell measured in a notebook."
    ]  # fmt: skip


def metered(build: Build, cells: Sequence[tuple[str, int, float, float]], workers: int = WORKERS) -> RunBuilder:
    """(framework, batch size, s of an inference, W while it runs) of each configuration, whose workers draw 0.1 % more each."""
    run = build("a", device="gpu0", uuid="GPU-1")
    readings, millijoules = [], 0.0
    for variant, size, seconds, power in cells:
        for replicate in range(workers):
            begin = run.now_ns
            run.cell(variant, size, [int(seconds * 1e9 * (1 + 1e-3 * replicate))] * 40, replicate=replicate)
            for t in range(begin - 10**9 // 2, run.now_ns - 10**9 // 2, 2 * 10**7):
                millijoules += power * (1 + 1e-3 * replicate) * 20
                readings.append(
                    {"t_ns": t, "domain": "gpu", "device": 0, "uuid": "GPU-1", "power_mw": int(power * 1e3),
                     "power_source": "instant", "energy_mj": int(millijoules)}
                )  # fmt: skip
    run.power(readings)
    return run


@pytest.mark.parametrize(
    ("watts", "workers", "agree", "certain"),
    [
        (100.0, 3, True, True),
        (299.0, 3, True, False),
        (400.0, 3, False, True),
        (100.0, 1, True, False),
        (400.0, 1, False, False),
    ],
)
def test_the_most_economical_row_may_be_another_than_the_fastest(
    build: Build, opened: Opened, watts: float, workers: int, agree: bool, certain: bool
) -> None:
    """The faster framework draws `watts`, the one that takes 1.5 times as long 200 W: at 300 W their energies would be equal."""
    run = metered(build, [("onnxrt", 8, 0.4, watts), ("torch", 8, 0.6, 200.0)], workers)
    found, rows = found_in(opened, run)
    energy = found.energy_of(found.ordinary())
    assert energy is not None
    assert energy.fastest is rows["onnxrt tuned"]
    assert (energy.agree, energy.certain, energy.decidable) == (agree, certain, workers > 1)
    if certain:
        assert found.of(*energy.pair).verdict is (Verdict.FASTER if agree else Verdict.SLOWER)


@pytest.mark.parametrize(("watts", "thrifty"), [(500.0, 1), (200.0, 0)])
def test_a_smaller_batch_may_take_fewer_joules_than_the_fastest(
    build: Build, opened: Opened, watts: float, thrifty: int
) -> None:
    """Batch 32 takes half of the time per image; at 500 W that takes more joules than batch 8 at 200 W."""
    found, _ = found_in(opened, metered(build, [("torch", 8, 0.4, 200.0), ("torch", 32, 0.8, watts)]))
    pairs, several = found.thriftier_batches()
    assert (len(pairs), several) == (thrifty, 1)
    assert [(fast["batch_size"], least["batch_size"]) for fast, least in pairs] == [(32, 8)] * thrifty
