"""Rates in the model's own items: what titles and units say."""

from __future__ import annotations

from analysis.results.metrics import METRICS, item_of, spoken_of


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
