"""The comparison with LoadGen, without LoadGen: a stand-in that issues queries and writes the summary that it would write."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from analysis.selfbench import loadgen

SUMMARY = """\
================================================
MLPerf Results Summary
90th percentile latency (ns)   : 777
50.00 percentile latency (ns)   : {p50}
90.00 percentile latency (ns)   : 888
99.00 percentile latency (ns)   : {p99}
99.90 percentile latency (ns)   : 999
"""


class StandIn(ModuleType):
    """Issues queries one after the other (server: all at once), times them, and reports them `slower` times as slow."""

    def __init__(self, slower: float) -> None:
        super().__init__("mlperf_loadgen")
        self.slower = slower
        self.done: dict[int, int] = {}
        self.TestSettings = self.LogSettings = lambda: SimpleNamespace(log_output=SimpleNamespace())
        self.TestMode = SimpleNamespace(PerformanceOnly="performance")
        self.TestScenario = SimpleNamespace(SingleStream="single", Server="server")
        self.ConstructSUT = lambda issue, flush: issue
        self.ConstructQSL = lambda *_: 0
        self.DestroySUT = self.DestroyQSL = lambda _: None
        self.QuerySampleResponse = lambda identity, data, size: identity

    def QuerySamplesComplete(self, responses: list[int]) -> None:
        self.done.update(dict.fromkeys(responses, time.monotonic_ns()))

    def StartTestWithLogSettings(self, sut, library, settings, log) -> None:
        self.done.clear()
        assert settings.min_query_count == settings.max_query_count
        issued = {}
        for identity in range(settings.min_query_count):
            issued[identity] = time.monotonic_ns()
            sut([SimpleNamespace(id=identity)])
            if settings.scenario == "single":
                assert identity in self.done
        while len(self.done) < len(issued):
            time.sleep(0.001)
        taken = [self.slower * (self.done[i] - issued[i]) for i in issued]
        p50, p99 = (round(value) for value in np.quantile(taken, [0.5, 0.99]))
        (Path(log.log_output.outdir) / "mlperf_log_summary.txt").write_text(SUMMARY.format(p50=p50, p99=p99))


class Adapter:
    """Takes a little time, about the same each time."""

    def run(self) -> None:
        sum(range(2000))


def test_percentiles_are_read_from_the_summary() -> None:
    text = SUMMARY.format(p50=12, p99=34)
    assert (loadgen.reported(text, 50), loadgen.reported(text, 99)) == (12, 34)
    with pytest.raises(ValueError, match="no 75th percentile"):
        loadgen.reported(text, 75)


@pytest.mark.parametrize("rate", [None, 5000.0])
def test_a_figure_that_is_far_off_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rate: float | None
) -> None:
    """LoadGen's side is measured; ours is drawn, since a busy machine's own latencies may be too alike for a p99."""
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", StandIn(1e6))
    drawn = np.random.default_rng(1).normal(1e4, 1e2, 700)
    name = "our_single_stream" if rate is None else "our_server"
    monkeypatch.setattr(loadgen, name, lambda run, queries, number, *rate: drawn + number)
    assert not loadgen.compare(Adapter(), 700, 3, rate)
    reported = capsys.readouterr().out
    assert reported.count("OUTSIDE") == 2 and "p50: ours" in reported and "p99: ours" in reported


@pytest.mark.parametrize("rate", [None, 2000.0])
def test_our_rounds_are_measured_by_the_harness(rate: float | None) -> None:
    calls: list[int] = []
    if rate is None:
        latencies_ns = loadgen.our_single_stream(lambda: calls.append(1), 100, 0)
    else:
        latencies_ns = loadgen.our_server(lambda: calls.append(1), 100, 0, rate)
    assert latencies_ns.dtype == np.int64 and len(latencies_ns) == len(calls)
    assert len(calls) in (99, 100)  # the server's last query is due at the very end
    assert (latencies_ns >= 0).all()


def test_an_interval_holds_the_figure_that_it_is_made_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = [np.random.default_rng(i).normal(5e6, 1e5, 700) for i in range(4)]
    monkeypatch.setattr(loadgen, "our_single_stream", lambda run, queries, number: rounds[number])
    monkeypatch.setattr(
        loadgen, "LoadGen", lambda run: SimpleNamespace(
            measure=lambda queries, number, rate: {p: float(np.percentile(rounds[number], p)) for p in (50, 99)}
        ),
    )  # fmt: skip
    assert loadgen.compare(Adapter(), 700, 4, None)
    assert capsys.readouterr().out.count("within") == 2


def test_too_few_queries_for_a_p99(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", StandIn(1.0))
    with pytest.raises(SystemExit, match="too few"):
        loadgen.compare(Adapter(), 100, 2, None)
