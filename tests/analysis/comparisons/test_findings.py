"""What reference runs say: pairs, verdicts that hold together, what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from analysis.comparisons.findings import (
    BYTES,
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


def test_of_several_runs_of_a_cell_the_one_of_more_workers_counts_then_the_newest() -> None:
    common = dict.fromkeys(("model", "model_hash", "precision", "tuning", "io", "input", "scenario", "streams"), "x")
    common |= dict.fromkeys(("target_rate_per_s", "batch_size", "frontend", "version", "device_name"))

    def row(run: str, workers: int, utc: str, status: str = "ok", variant: str = "torch") -> Row:
        return {**common, "variant": variant, "run": run, "replicates": workers, "created_utc": utc, "status": status}

    rows = [row("a", 3, "1"), row("b", 2, "2"), row("c", 3, "3", "oom"), row("d", 1, "1", variant="jax")]
    best, others = newest_of_each(rows)
    assert ([one["run"] for one in best], others) == (["a", "d"], 2)
    best, _ = newest_of_each([*rows, row("e", 3, "2")])
    assert [one["run"] for one in best] == ["e", "d"]


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


@pytest.mark.parametrize(
    ("watts", "agree", "certain"), [(100.0, True, True), (300.0, True, False), (400.0, False, True)]
)
def test_the_most_economical_row_may_be_another_than_the_fastest(
    build: Build, opened: Opened, watts: float, agree: bool, certain: bool
) -> None:
    """The faster framework draws `watts`, the one that takes 1.5 times as long 200 W."""
    run = build("a", device="gpu0", uuid="GPU-1")
    readings, millijoules = [], 0.0
    for variant, seconds, power in (("onnxrt", 0.4, watts), ("torch", 0.6, 200.0)):
        for replicate in range(WORKERS):
            begin = run.now_ns
            run.cell(variant, 8, [int(seconds * 1e9)] * 40, replicate=replicate)
            for t in range(begin - 10**9 // 2, run.now_ns - 10**9 // 2, 2 * 10**7):
                millijoules += power * (1 + 1e-3 * replicate) * 20
                readings.append(
                    {"t_ns": t, "domain": "gpu", "device": 0, "uuid": "GPU-1", "power_mw": int(power * 1e3),
                     "power_source": "instant", "energy_mj": int(millijoules)}
                )  # fmt: skip
    run.power(readings)
    found, rows = found_in(opened, run)
    energy = found.energy_of(found.ordinary())
    assert energy is not None
    assert energy.fastest is rows["onnxrt tuned"]
    assert (energy.agree, energy.certain) == (agree, certain)
