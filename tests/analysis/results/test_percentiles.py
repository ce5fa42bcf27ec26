"""One source for the fewest samples of a percentile: constants, formula and SQL agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.database.connection import SQL, Database
from analysis.results import metrics
from common.host.bench import peak_search
from common.stats.percentiles import MIN_SAMPLES_OF_PERCENTILE, fewest, samples_needed


@pytest.mark.parametrize("percentile", MIN_SAMPLES_OF_PERCENTILE)
def test_the_constants_are_what_the_formula_says(percentile: float) -> None:
    needed, p = samples_needed(percentile), percentile / 100
    assert needed == MIN_SAMPLES_OF_PERCENTILE[percentile] == fewest(1, round(1 - p, 12) if p > 0.5 else p)
    chance = [p**n + n * (1 - p) * p ** (n - 1) for n in (needed - 1, needed)]
    assert chance[0] > 0.01 >= chance[1]


def test_no_other_place_knows_them() -> None:
    numbers = [f"{count}" for count in MIN_SAMPLES_OF_PERCENTILE.values() if count > 64]
    others = [
        *SQL.glob("4*.sql"), Path(metrics.__file__), Path(peak_search.__file__), *SQL.parent.glob("output/templates/*.j2"),
    ]  # fmt: skip
    assert len(others) >= 5
    for path in others:
        text = path.read_text().replace(",", "")
        for number in numbers:
            assert not any(phrase in text for phrase in (f">= {number}", f"needs={number}", f"{number} for")), path


def test_sql_has_them_as_variables(opened: object, build: object) -> None:
    run = build()  # type: ignore[operator]
    run.cell(durations_ns=[10**6] * (MIN_SAMPLES_OF_PERCENTILE[99.0] - 1))
    run.cell("torch", durations_ns=[10**6] * MIN_SAMPLES_OF_PERCENTILE[99.0])
    with opened(run) as database:  # type: ignore[operator]
        assert isinstance(database, Database)
        found = {row["variant"]: row["p99_ms"] for row in database.query("SELECT variant, p99_ms FROM results")}
    assert found["onnxrt"] is None and found["torch"] == 1


def test_metrics_ask_for_as_many() -> None:
    assert metrics.METRICS["p99"].needs == MIN_SAMPLES_OF_PERCENTILE[99.0]
    assert metrics.METRICS["latency"].needs == MIN_SAMPLES_OF_PERCENTILE[50.0]
