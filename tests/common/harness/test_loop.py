"""The timing loop against a clock that moves only when an inference runs."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest

from common.harness import loop
from common.harness.stopping import StoppingRule, WarmupRule


class FakeDevice:
    """Each run takes the next duration, and each look at the clock one nanosecond."""

    def __init__(self, durations_ns) -> None:
        self.now = 1_000
        self.durations = durations_ns
        self.runs = 0

    def clock(self) -> int:
        self.now += 1
        return self.now

    def run(self) -> None:
        self.now += int(self.durations(self.runs))
        self.runs += 1


class StopAfter:
    """A stopping rule that ends after so many samples or seconds, and notes its blocks."""

    def __init__(self, samples: int, seconds: float = math.inf) -> None:
        self.samples, self.seconds = samples, seconds
        self.blocks: list[np.ndarray] = []
        self.elapsed: list[float] = []

    def add(self, durations_ns: np.ndarray, elapsed_s: float) -> None:
        self.blocks.append(durations_ns)
        self.elapsed.append(elapsed_s)

    def finished(self):
        enough = sum(map(len, self.blocks)) >= self.samples
        return "converged" if enough else "budget" if self.elapsed and self.elapsed[-1] >= self.seconds else None


def quiet(*_: object) -> None:
    pass


def test_every_inference_has_its_own_start_and_end() -> None:
    device = FakeDevice(lambda i: 1_000_000 + i % 7)
    rule = StopAfter(3000)
    window = loop.measure(device.run, rule, 30.0, 1e6, quiet, device.clock)
    durations = window.ends_ns - window.starts_ns
    assert len(durations) == device.runs >= 3000
    assert durations.tolist() == [1_000_001 + i % 7 for i in range(device.runs)]
    assert np.all(window.starts_ns[1:] > window.ends_ns[:-1])
    assert window.begin_ns < window.starts_ns[0] and window.ends_ns[-1] < window.end_ns
    assert np.array_equal(np.concatenate(rule.blocks), durations)


@pytest.mark.parametrize("duration_ns", [2_000, 1_000_000, 40_000_000])
def test_blocks_last_a_quarter_of_a_second_whatever_an_inference_takes(duration_ns: int) -> None:
    device = FakeDevice(lambda i: duration_ns)
    rule = StopAfter(10**9, seconds=3.0)
    loop.measure(device.run, rule, 30.0, 1e8, quiet, device.clock)  # the guess is wrong; the second block knows
    lasted = [len(block) * duration_ns / 1e9 for block in rule.blocks[1:]]
    assert all(0.1 <= seconds <= 0.5 for seconds in lasted)


def test_a_slow_inference_is_a_block_of_its_own() -> None:
    device = FakeDevice(lambda i: 2_000_000_000)
    rule = StopAfter(4)
    loop.measure(device.run, rule, 30.0, 2e9, quiet, device.clock)
    assert [len(block) for block in rule.blocks] == [1, 1, 1, 1]


def test_the_window_does_not_outlast_its_budget_by_more_than_an_inference() -> None:
    device = FakeDevice(lambda i: 7_000_000)
    rule = StopAfter(10**9, seconds=2.0)
    window = loop.measure(device.run, rule, 2.0, 7e6, quiet, device.clock)
    assert 2.0 <= (window.end_ns - window.begin_ns) / 1e9 <= 2.0 + 0.0071


def test_blocks_shrink_when_inferences_become_slow() -> None:
    device = FakeDevice(lambda i: 1_000_000 if i < 500 else 100_000_000)
    rule = StopAfter(10**9, seconds=40.0)
    loop.measure(device.run, rule, 60.0, 1e6, quiet, device.clock)
    assert all(len(block) <= 3 for block in rule.blocks[4:])


def test_the_memory_of_a_block_is_bounded() -> None:
    device = FakeDevice(lambda i: 0)
    rule = StopAfter(loop.MAX_BLOCK + 1)
    loop.measure(device.run, rule, 30.0, 1.0, quiet, device.clock)
    assert max(len(block) for block in rule.blocks) == loop.MAX_BLOCK


def test_progress_counts_up() -> None:
    reported: list[tuple[int, float]] = []
    device = FakeDevice(lambda i: 10_000_000)
    loop.measure(device.run, StopAfter(200), 30.0, 1e7, lambda runs, s: reported.append((runs, s)), device.clock)
    assert reported == sorted(reported) and reported[-1][0] == device.runs


def test_the_real_rule_ends_a_steady_stream_as_converged_after_both_minima() -> None:
    noise = np.random.default_rng(1).normal(1e6, 1e4, 1 << 16)
    device = FakeDevice(lambda i: noise[i])
    rule = StoppingRule(min_seconds=2.0, min_samples=4000, max_seconds=30.0, precision=0.01)
    window = loop.measure(device.run, rule, 30.0, 1e6, quiet, device.clock)
    assert rule.finished() == "converged"
    assert (window.end_ns - window.begin_ns) / 1e9 >= 2.0
    assert 4000 <= len(window.starts_ns) < 10_000


def test_the_real_rule_calls_a_drifting_stream_unsteady_when_its_budget_ends() -> None:
    device = FakeDevice(lambda i: 1e6 * (1 + i / 1000))
    rule = StoppingRule(min_seconds=0.5, min_samples=20, max_seconds=3.0, precision=0.01)
    window = loop.measure(device.run, rule, 3.0, 1e6, quiet, device.clock)
    assert rule.finished() == "unsteady"
    assert (window.end_ns - window.begin_ns) / 1e9 >= 3.0


def test_warm_up_ends_when_three_blocks_agree() -> None:
    device = FakeDevice(lambda i: max(5_000_000 - i * 10_000, 1_000_000))
    runs, stop, median = loop.warm_up(device.run, WarmupRule(), 10.0, quiet, device.clock)
    assert (stop, runs) == ("steady", device.runs)
    assert median == pytest.approx(1e6, rel=1e-3)
    assert runs > 400


def test_warm_up_that_never_settles_ends_by_budget() -> None:
    device = FakeDevice(lambda i: 1_000_000 * 1.001**i)
    runs, stop, _ = loop.warm_up(device.run, WarmupRule(), 2.0, quiet, device.clock)
    assert stop == "budget"
    assert runs == device.runs


def test_warm_up_of_slow_inferences_runs_one_a_block() -> None:
    device = FakeDevice(lambda i: 4_000_000_000)
    assert loop.warm_up(device.run, WarmupRule(), 30.0, quiet, device.clock)[:2] == (3, "steady")


def test_no_warm_up_at_all() -> None:
    device = FakeDevice(lambda i: 1)
    runs, stop, median = loop.warm_up(device.run, WarmupRule(), 0.0, quiet, device.clock)
    assert (runs, stop, device.runs) == (0, "budget", 0)
    assert math.isnan(median)


def test_the_collector_is_off_in_the_window_and_back_after_an_error() -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(ZeroDivisionError), loop.collector_held() as off:
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
        off()
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
