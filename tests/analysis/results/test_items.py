"""Rates in the model's own items: what titles and units say."""

from __future__ import annotations

import io

from rich.console import Console

from analysis.comparisons.question import Question
from analysis.comparisons.recommend import recommend
from analysis.comparisons.runs import compare_cells
from analysis.database.open_runs import open_runs
from analysis.results import tables
from analysis.results.metrics import METRICS, item_of, spoken_of, worded
from analysis.results.selection import Selection
from tests.analysis.conftest import Build


def test_titles_and_units_name_the_item_within_the_block_alone() -> None:
    before = dict(METRICS)
    with spoken_of("token"):
        assert METRICS["throughput"].unit == "tokens/s"
        assert METRICS["joules_per_image"].title == "energy per token"
        assert METRICS["images_per_s_per_watt"].unit == "tokens/s/W"
        assert METRICS["latency"] == before["latency"]
    assert before == METRICS
    with spoken_of("image"):
        assert before == METRICS


def test_the_item_of_rows() -> None:
    assert item_of([]) == "image"
    assert item_of([{}, {"item": None}, {"item": "image"}]) == "image"
    assert item_of([{"item": "token"}, {"item": "token"}]) == "token"
    assert item_of([{"item": "token"}, {}]) == "item"


def test_sentences_speak_of_the_item_too() -> None:
    assert worded("energy cost of a million images", "token") == "energy cost of a million tokens"
    assert worded("ms an image", "sequence") == "ms a sequence"
    assert worded("ms an image") == "ms an image"
    with spoken_of("window"):
        assert worded("Most images per second") == "Most windows per second"


def test_a_recommendation_and_a_comparison_speak_of_the_item(build: Build) -> None:
    run = build("tokens")
    for variant, batch_size in (("onnxrt", 8), ("torch", 4)):
        run.cell(variant, batch_size, [10**6] * 60, item="sequence")
    out = Console(file=io.StringIO(), width=200)
    recommend([run.folder], Question(objective="cost", price_per_kwh=0.3), out)
    recommend([run.folder], Question(), out)
    compare_cells([run.folder], "framework=onnxrt, batch=8", "framework=torch, batch=4", out)
    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert "sequences/s" in text
    assert "ms a sequence" in text
    assert "image" not in text


def test_a_comparison_of_batch_sizes_is_of_an_item_also_where_a_sample_holds_several(build: Build) -> None:
    run = build("tokens")
    for variant, batch_size in (("onnxrt", 8), ("torch", 4)):
        run.cell(variant, batch_size, [64 * 10**6] * 60, item="token", items_per_sample=16)
    out = Console(file=io.StringIO(), width=200)
    compare_cells([run.folder], "framework=onnxrt, batch=8", "framework=torch, batch=4", out)
    assert isinstance(out.file, io.StringIO)
    heading, line = (
        line for line in out.file.getvalue().splitlines() if "ms a token" in line or "ONNX Runtime" in line
    )
    assert "A, ms a token" in heading
    assert " 0.5000 " in line, "64 ms / (8 samples of 16 tokens)"
    assert " 1.000 " in line


def test_the_innermost_block_counts() -> None:
    with spoken_of("item"), spoken_of("sequence"):
        assert METRICS["throughput"].unit == "sequences/s"
    with spoken_of("item"), spoken_of("image"):
        assert METRICS["throughput"].unit == "images/s"


def test_each_table_of_several_models_counts_in_its_own_items(build: Build) -> None:
    run = build("both")
    run.cell("onnxrt", 8, [10**6] * 60, model="BERT-base", item="sequence")
    run.cell("onnxrt", 8, [10**6] * 60)
    with open_runs([run.folder]) as database:
        rows = tables.load(database, Selection())
        with spoken_of(item_of(rows)):
            found = tables.build(database, rows, ["throughput"])
    units = {str(table.group["model"]): table.metric.unit for table in found}
    assert units == {"BERT-base": "sequences/s", "ResNet50": "images/s"}
