"""Scenarios, streams and rates as typed."""

from __future__ import annotations

import pytest

from common.errors import UserError
from common.host.plan.loads import Load, parse_loads


def test_each_scenario_has_its_own_loads() -> None:
    assert parse_loads("", "", "") == (Load(),)
    assert parse_loads("offline,single-stream", "", "") == (Load("offline"), Load())
    assert parse_loads("multi-stream", "", "") == (Load("multi-stream", streams=2),)
    assert parse_loads("multi-stream,server", "4, 1,4", "10,2.5") == (
        Load("multi-stream", streams=4),
        Load("multi-stream", streams=1),
        Load("server", rate=10.0),
        Load("server", rate=2.5),
    )


@pytest.mark.parametrize(
    ("scenario", "streams", "rate", "words"),
    [
        ("servr", "", "", "unknown scenario 'servr'.*Did you mean server"),
        ("server", "", "", "needs --rate"),
        ("server", "", ",", "no rate given"),
        ("server", "", "0", "--rate must be more than zero, not 0"),
        ("server", "", "-5", "--rate must be more than zero, not -5"),
        ("server", "", "nan", "--rate must be more than zero"),
        ("server", "", "inf", "--rate must be more than zero"),
        ("server", "", "fast", "--rate 'fast' is not a number"),
        ("server", "", "1000000,1000000.1", "six digits"),
        ("multi-stream", "0", "", "--streams must be at least 1, not 0"),
        ("multi-stream", "-2", "", "--streams must be at least 1, not -2"),
        ("multi-stream", "two", "", "--streams 'two' is not a whole number"),
        ("multi-stream", "100000", "", "more than framewatt handles"),
        ("multi-stream", ",", "", "no number of streams"),
        ("offline", "2", "", "--streams is for --scenario multi-stream"),
        ("offline", "", "9", "--rate is for --scenario server"),
    ],
)
def test_what_cannot_be(scenario: str, streams: str, rate: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_loads(scenario, streams, rate)
