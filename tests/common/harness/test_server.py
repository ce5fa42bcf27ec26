"""The server scenario: arrivals are Poisson, waiting times are those of queueing theory, and a stall cannot hide."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from common.cell import Cell
from common.harness.scenarios import server
from tests.common.harness.conftest import QUICK, Bench

CELL = Cell("toy", "good", "fp32", 1, scenario="server", target_rate_per_s=400.0)
MILLISECOND = 1_000_000
FOREVER = 1e9


def kolmogorov_smirnov(values: np.ndarray, mean: float) -> float:
    """Chance of a distance as large as that of the values from an exponential distribution (Kolmogorov 1933)."""
    ordered = np.sort(values)
    n = len(ordered)
    wanted = 1 - np.exp(-ordered / mean)
    distance = max(np.max(np.arange(1, n + 1) / n - wanted), np.max(wanted - np.arange(n) / n))
    scaled = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    return float(min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))))


def gaps(rate: float, seed: int, count: int = 20_000, replicate: int = 0) -> np.ndarray:
    arrivals = server.Arrivals(rate, seed, replicate)
    return np.diff([0, *(arrivals.due(i) for i in range(count))])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [0.5, 200.0, 20_000.0])
def test_gaps_are_exponential_and_independent(rate: float, seed: int) -> None:
    drawn = gaps(rate, seed)
    assert kolmogorov_smirnov(drawn, 1e9 / rate) > 0.001
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 4 / math.sqrt(len(drawn))


def test_the_test_would_notice_other_gaps() -> None:
    drawn = gaps(100.0, 1)
    even = np.full(20_000, 1e7)
    jittered = np.random.default_rng(0).uniform(0, 2e7, 20_000)
    assert all(kolmogorov_smirnov(wrong, 1e7) < 1e-4 for wrong in (even, jittered, drawn * 1.05))


def test_arrivals_depend_on_seed_replicate_and_rate_alone() -> None:
    assert np.array_equal(gaps(50.0, 3), gaps(50.0, 3))
    others = [gaps(50.0, 4), gaps(50.0, 3, replicate=1), gaps(50.5, 3)]
    assert all(not np.array_equal(gaps(50.0, 3), other) for other in others)


class Simulated:
    """A server whose inferences take what service_ns(number) says, on a clock that only they and waiting move."""

    def __init__(self, service_ns) -> None:
        self.now = 5_000
        self.service_ns = service_ns
        self.inferences = 0

    def clock(self) -> int:
        return self.now

    def wait(self, instant_ns: int) -> None:
        assert instant_ns >= self.now
        self.now = instant_ns

    def run(self) -> None:
        self.now += self.service_ns(self.inferences)
        self.inferences += 1

    def serve(self, arrivals, queries: int = 0, most: int = 1, window_ns: int = 0, max_seconds: float = FOREVER):
        seen = 0

        def judge(look: server.Look) -> str | None:
            nonlocal seen
            seen += len(look.latencies_ns)
            return "enough" if queries and seen >= queries else None

        return server.serve(self.run, arrivals, most, window_ns, max_seconds, judge, self.clock, self.wait)


class Fixed:
    """Arrivals at given instants, then never again."""

    def __init__(self, *due_ns: int) -> None:
        self.due_ns = due_ns

    def due(self, number: int) -> int:
        return self.due_ns[number] if number < len(self.due_ns) else 1 << 62


@pytest.mark.parametrize("load", [0.2, 0.5, 0.7, 0.8])
def test_waiting_times_are_those_of_a_queue_with_one_server_and_fixed_service(load: float) -> None:
    """M/D/1: mean wait = load x service / (2 (1 - load)) (Pollaczek and Khinchine)."""
    service = 4 * MILLISECOND
    device = Simulated(lambda _: service)
    done = device.serve(server.Arrivals(load / service * 1e9, seed=11), queries=150_000)
    waits = np.array(done.starts_ns) - np.array(done.scheduled_ns)
    assert len(waits) >= 150_000 and done.left == 0
    assert np.mean(waits) == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)
    assert np.mean(waits == 0) == pytest.approx(1 - load, rel=0.05)  # who finds it idle
    assert set((np.array(done.ends_ns) - np.array(done.starts_ns)).tolist()) == {service}
    assert done.inference_ns == service


def test_a_stall_is_in_the_latency_of_all_who_were_due_meanwhile() -> None:
    due = [i * 10 * MILLISECOND for i in range(1, 101)]
    device = Simulated(lambda number: (500 if number == 20 else 1) * MILLISECOND)
    done = device.serve(Fixed(*due))
    latency = (np.array(done.ends_ns) - np.array(done.scheduled_ns)) / MILLISECOND
    assert len(latency) == 100  # nobody was left out
    assert np.allclose(latency[:20], 1) and latency[20] == 500
    # those who were due during the stall waited for its end, one after the other
    assert np.allclose(latency[21:70], [500 - 9 * i for i in range(1, 50)])
    assert np.sum(latency > 100) > 40


def test_a_batch_goes_when_it_is_full_or_its_first_query_has_waited() -> None:
    ms = MILLISECOND
    arrivals = Fixed(10 * ms, 11 * ms, 12 * ms, 40 * ms, 100 * ms, 101 * ms)
    done = Simulated(lambda _: 2 * ms).serve(arrivals, most=3, window_ns=20 * ms)
    waits = [(start - due) // ms for start, due in zip(done.starts_ns, done.scheduled_ns, strict=True)]
    assert waits == [2, 1, 0, 20, 20, 19]


def test_without_a_window_a_free_server_takes_what_is_there() -> None:
    ms = MILLISECOND
    arrivals = Fixed(10 * ms, 11 * ms, 12 * ms, 13 * ms, 14 * ms)
    done = Simulated(lambda _: 20 * ms).serve(arrivals, most=3)
    assert [(start - 5_000) // ms for start in done.starts_ns] == [10, 30, 30, 30, 50]


def test_time_is_up_while_queries_wait() -> None:
    arrivals = server.Arrivals(1000.0, seed=2)
    done = Simulated(lambda _: 10 * MILLISECOND).serve(arrivals, max_seconds=2.0)
    assert done.left + len(done.ends_ns) == pytest.approx(2000, rel=0.1)
    assert len(done.ends_ns) == pytest.approx(250, abs=3)  # two seconds, and a quarter more for those who waited


def test_what_cannot_be_asked() -> None:
    assert "inference at a time" in (server.unsupported(replace(CELL, streams=2)) or "")
    assert "above zero" in (server.unsupported(replace(CELL, target_rate_per_s=None)) or "")
    for rate in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="target_rate_per_s"):
            replace(CELL, target_rate_per_s=rate)
    assert server.unsupported(CELL) is None


def test_server_cells_in_a_job(bench: Bench) -> None:
    settings = replace(QUICK, min_seconds=0.3, max_seconds=0.6, batch_window_ms=5.0)
    cells = [
        CELL,
        replace(CELL, batch_size=4),
        replace(CELL, target_rate_per_s=1e9),
        replace(CELL, target_rate_per_s=1e-3),
    ]
    code, _ = bench.run(bench.job(cells=cells, settings=settings, seed=5))
    assert code == 0
    one, four = (bench.file(cell, "samples.csv") for cell in cells[:2])
    for cell, samples in zip(cells[:2], (one, four), strict=True):
        row = bench.cell(cell)
        assert (row["status"], row["message"]) == ("ok", "")
        assert int(row["samples"]) == len(samples) > 50
        assert all(int(s["scheduled_ns"]) <= int(s["start_ns"]) < int(s["end_ns"]) for s in samples)
        assert "seed 5" in json.loads(row["settings"])["arrivals"]
    begins = [int(samples[0]["scheduled_ns"]) for samples in (one, four)]
    for a, b in zip(one[:50], four[:50], strict=True):  # both met the same arrivals
        assert int(a["scheduled_ns"]) - begins[0] == int(b["scheduled_ns"]) - begins[1]
    assert len({s["start_ns"] for s in one}) == len(one)
    assert len({s["start_ns"] for s in four}) < len(four)

    impossible, idle = (bench.cell(cell) for cell in cells[2:])
    assert impossible["status"] == "timeout" and "1e+09 queries/s are more than it can serve" in impossible["message"]
    assert idle["status"] == "timeout" and "no query was due" in idle["message"]


def test_a_rate_over_the_capacity_is_given_up(bench: Bench) -> None:
    cell = replace(CELL, variant="sleeper", batch_size=2, target_rate_per_s=1600.0)  # it serves at the most 1000/s
    code, _ = bench.run(bench.job("sleeper", cells=[cell], settings=replace(QUICK, min_seconds=5.0, max_seconds=20.0)))
    assert code == 0
    row = bench.cell(cell)
    assert row["status"] == "timeout"
    assert "1600 queries/s are more than it can serve" in row["message"]
    assert int(row["samples"]) == len(bench.file(cell, "samples.csv"))
