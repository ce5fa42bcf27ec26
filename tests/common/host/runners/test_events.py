"""A line is an event when it looks like one of this job's; everything else is a line of somebody's log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.host.runners.events import job_event, sidecar_event
from common.job import EVENTS

KEYS = {"cell"}
GOOD: list[dict[str, Any]] = [
    {"event": "cell_start", "cell_key": "cell", "worker": "w"},
    {"event": "phase", "cell_key": "cell", "name": "measure"},
    {"event": "progress", "cell_key": "cell", "fraction": 0.5, "samples": 7, "images_per_s": 12.5},
    {"event": "cell_finish", "cell_key": "cell", "status": "ok", "message": ""},
    {"event": "cooling", "cell_key": "cell", "seconds": 1.0, "temperature_c": None, "target_c": 50.0, "done": False},
    {"event": "job_finish"},
    {"event": "error", "message": "the disk is full"},
]


def test_every_event_of_the_contract_is_known() -> None:
    assert {event["event"] for event in GOOD} == set(EVENTS)
    for event in GOOD:
        assert job_event(json.dumps(event), KEYS) == event


@pytest.mark.parametrize("event", GOOD, ids=lambda event: event["event"])
def test_a_field_that_is_missing_or_of_another_type_makes_it_a_line_of_the_log(event: dict[str, Any]) -> None:
    for name in set(event) - {"event"}:
        for value in (["x"], {"x": 1}, float("nan") if isinstance(event[name], float) else object):
            other = {**event, name: value} if value is not object else {key: event[key] for key in event if key != name}
            if name == "temperature_c" and value is object:
                continue  # nobody tells: null
            assert job_event(json.dumps(other), KEYS) is None, (name, value)
    stranger = {**event, "cell_key": "another"}
    assert job_event(json.dumps(stranger), KEYS) is None or "cell_key" not in event


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e400", "1e300", "NaN", "Infinity", "9" * 5000])
def test_a_number_that_nobody_counts_to_makes_it_a_line_of_the_log(number: str) -> None:
    for event in GOOD:
        for name in (name for name, value in event.items() if type(value) in (int, float)):
            line = json.dumps({**event, name: "@"}).replace('"@"', number)
            assert job_event(line, KEYS) is None, (event["event"], name)
    assert sidecar_event(f'{{"event": "done", "ended_by": "SIGTERM", "rows": {number}}}') == {}


def test_a_share_beyond_the_whole_is_the_whole() -> None:
    for sent, meant in ((7, 1.0), (-7, 0.0), (0.25, 0.25)):
        event = job_event(json.dumps({**GOOD[2], "fraction": sent}), KEYS)
        assert event is not None and event["fraction"] == meant


@pytest.mark.parametrize(
    "line",
    ["", "words", "7", "[]", "{", '{"event": 7}', '{"event": ["error"]}', '{"event": "rm -rf"}', '{"a":' * 50_000],
)
def test_anything_else_is_no_event(line: str) -> None:
    assert job_event(line, KEYS) is None
    assert sidecar_event(line) == {}


def test_texts_are_one_bounded_line_and_further_fields_are_dropped() -> None:
    event = {"event": "error", "message": "a\n\x1b[31mb" + "c" * 10_000, "more": "x"}
    found = job_event(json.dumps(event), KEYS)
    assert found is not None and set(found) == {"event", "message"}
    assert found["message"].isprintable() and len(found["message"]) <= 500


def test_what_a_sidecar_says_is_what_a_run_keeps_of_it() -> None:
    done = {
        "event": "done", "rows": 7, "cpu_seconds": 0.1, "wall_seconds": 2.0, "cpu_percent": 5.0, "ended_by": "SIGTERM",
        "missed_rounds": 0, "energy_read": {"median_us": 3.5},
    }  # fmt: skip
    assert sidecar_event(json.dumps(done)) == done
    assert sidecar_event(json.dumps({**done, "energy_read": None}))["energy_read"] is None
    assert "evil" not in sidecar_event(json.dumps({**done, "evil": "x" * 10_000}))
    for name, value in (("rows", "many"), ("ended_by", 7), ("energy_read", {"a": "b"}), ("energy_read", "x")):
        assert sidecar_event(json.dumps({**done, name: value})) == {}
    assert sidecar_event('{"event": "ready", "rapl_unavailable": null, "gpus": []}') == {
        "event": "ready", "rapl_unavailable": None,
    }  # fmt: skip
