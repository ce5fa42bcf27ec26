"""The stopping rule on streams whose truth is known. Full sizes: analysis/selfbench/operating_characteristics.py."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.selfbench import synthetic_streams
from analysis.selfbench.operating_characteristics import run_stream, stopping_figures
from common.harness import stopping
from common.harness.stopping import StoppingRule, WarmupRule


def feed(rule: StoppingRule, stream: np.ndarray, block: int, seconds_per_sample: float) -> str | None:
    for end in range(block, len(stream) + 1, block):
        rule.add(stream[end - block : end], end * seconds_per_sample)
        if rule.finished() is not None:
            break
    return rule.finished()


def test_operating_characteristics():
    for figure in stopping_figures(40, seed=3):
        # Forty runs tell a share to a few per cent: three standard errors of slack, none where it must be 0.
        slack = 3 * math.sqrt(figure.low * (1 - figure.low) / figure.runs)
        assert figure.low - slack <= figure.share <= figure.high, figure


class TestWarmup:
    def test_is_not_steady_before_three_blocks(self):
        rule = WarmupRule()
        rule.add(100.0)
        rule.add(100.0)
        assert not rule.steady

    def test_only_the_last_three_blocks_count(self):
        rule = WarmupRule()
        for median in (900.0, 100.0, 104.0):
            rule.add(median)
        assert not rule.steady
        rule.add(105.0)
        assert rule.steady

    @pytest.mark.parametrize(("last", "steady"), [(105.0, True), (105.1, False)])
    def test_agreement_is_highest_over_lowest(self, last, steady):
        rule = WarmupRule()
        for median in (100.0, 103.0, last):
            rule.add(median)
        assert rule.steady is steady

    def test_a_steady_stream_may_become_unsteady(self):
        rule = WarmupRule(agreement=1.1, blocks=2)
        rule.add(100.0)
        rule.add(100.0)
        assert rule.steady
        rule.add(120.0)
        assert not rule.steady


class TestMinimaAndBudget:
    def test_never_before_min_seconds_nor_min_samples(self):
        constant = np.full(10, 1e6)
        rule = StoppingRule(min_seconds=5, min_samples=200, max_seconds=30)
        reasons = []
        for block in range(1, 41):
            rule.add(constant, block * 0.5)
            reasons.append(rule.finished())
        # 5 s are over after block 10, 200 samples after block 20
        first = next(i for i, reason in enumerate(reasons, start=1) if reason)
        assert 20 <= first <= 24
        assert reasons[-1] == "converged"

    def test_min_samples_not_reached_in_time_is_budget(self):
        rule = StoppingRule(min_seconds=1, min_samples=20, max_seconds=10)
        rule.add(np.array([5e9]), 5)
        assert rule.finished() is None
        rule.add(np.array([5e9]), 10)
        assert rule.finished() == "budget"

    def test_a_budget_that_ends_with_a_valid_median_is_converged(self):
        rng = np.random.default_rng(0)
        rule = StoppingRule(min_seconds=5, min_samples=20, max_seconds=5)
        rule.add(synthetic_streams.independent(rng, 5000, 0.01), 5)
        assert rule.finished() == "converged"

    def test_the_reason_stays_once_given(self):
        rule = StoppingRule(min_seconds=0, min_samples=16, max_seconds=30)
        rule.add(np.full(100, 1e6), 1)
        assert rule.finished() == "converged"
        rule.add(np.geomspace(1e6, 1e9, 1000), 40)
        assert rule.finished() == "converged"

    def test_durations_of_zero_end_with_the_budget_and_without_a_warning(self):
        rule = StoppingRule(min_seconds=0, min_samples=16, max_seconds=2)
        rule.add(np.zeros(100, dtype=np.int64), 1)
        assert rule.finished() is None
        rule.add(np.zeros(100, dtype=np.int64), 2)
        assert rule.finished() == "budget"

    def test_an_empty_block_changes_nothing(self):
        rule = StoppingRule(min_seconds=0, min_samples=16, max_seconds=2)
        rule.add(np.empty(0), 0.5)
        assert rule.finished() is None

    @pytest.mark.parametrize("precision", [0, 1, -0.1])
    def test_precision_is_a_share(self, precision):
        with pytest.raises(ValueError, match="precision"):
            StoppingRule(1, 20, 10, precision)


class TestShapes:
    def test_two_equal_modes_never_converge(self):
        rng = np.random.default_rng(1)
        outcomes = {run_stream(synthetic_streams.bimodal(rng, 5000, 0.005, 0.2, 0.5), rng)[0] for _ in range(40)}
        assert outcomes <= {"noisy", "budget"}
        assert "noisy" in outcomes

    def test_wide_noise_is_called_noisy_long_before_the_budget(self):
        rng = np.random.default_rng(2)
        rule = StoppingRule(min_seconds=5, min_samples=20, max_seconds=300)
        stream = synthetic_streams.independent(rng, 3000, 2.0, "lognormal")
        assert feed(rule, stream, 10, 0.1) == "noisy"

    def test_an_alternating_stream_is_not_seen_as_one_of_its_halves(self):
        # Keeping every second sample would have seen a constant.
        rng = np.random.default_rng(3)
        stream = np.tile([1e6, 1.5e6], 200_000) * (1 + 0.001 * rng.standard_normal(400_000))
        rule = StoppingRule(min_seconds=20, min_samples=20, max_seconds=30)
        assert feed(rule, stream, 4000, 30 / 400_000) in ("noisy", "budget")

    def test_a_step_in_the_middle_of_the_window_is_not_converged(self):
        rng = np.random.default_rng(4)
        stream = synthetic_streams.independent(rng, 2000, 0.005)
        stream[1000:] *= 1.1
        rule = StoppingRule(min_seconds=30, min_samples=20, max_seconds=30)
        assert feed(rule, stream, 100, 30 / 2000) == "unsteady"

    def test_correlation_delays_convergence(self):
        rng = np.random.default_rng(5)
        used = {r: [] for r in (0.0, 0.9)}
        for correlation, counts in used.items():
            for _ in range(8):
                stream = synthetic_streams.autoregressive(rng, 5000, 0.02, correlation)[0]
                rule = StoppingRule(min_seconds=0, min_samples=20, max_seconds=1e9)
                for end in range(100, 5001, 100):
                    rule.add(stream[end - 100 : end], end * 1e-3)
                    if rule.finished():
                        break
                counts.append(end)
        assert np.median(used[0.9]) > 2 * np.median(used[0.0])


class TestThinning:
    def test_a_million_samples_keep_a_bounded_representative_part(self):
        rng = np.random.default_rng(6)
        rule = StoppingRule(min_seconds=1e9, min_samples=20, max_seconds=1e10)
        stream = synthetic_streams.independent(rng, 1_000_000, 0.1)
        for start in range(0, len(stream), 7777):
            rule.add(stream[start : start + 7777], 1.0)
            assert rule._kept_count <= StoppingRule.MAX_KEPT
        kept = rule._kept[: rule._kept_count]
        assert rule._samples == len(stream)
        assert rule._kept_count >= StoppingRule.MAX_KEPT // 4
        assert np.median(kept) == pytest.approx(np.median(stream), rel=0.004)

    def test_time_order_is_kept(self):
        rule = StoppingRule(min_seconds=1e9, min_samples=20, max_seconds=1e10)
        for start in range(0, 300_000, 1000):
            rule.add(np.arange(start, start + 1000) + 1.0, 1.0)
        assert (np.diff(rule._kept[: rule._kept_count]) > 0).all()

    def test_one_huge_block_is_thinned_like_many_small_ones(self):
        rule = StoppingRule(min_seconds=1e9, min_samples=20, max_seconds=1e10)
        rule.add(np.arange(1_000_000) + 1.0, 1.0)
        kept = rule._kept[: rule._kept_count]
        assert StoppingRule.MAX_KEPT // 4 <= len(kept) <= StoppingRule.MAX_KEPT
        assert np.diff(kept).max() <= 2 * rule._stride


class TestArithmetic:
    @pytest.mark.parametrize(
        ("z", "freedom", "value"), [(1.959964, 5, 2.570582), (1.959964, 30, 2.042272), (3.0, 20, 3.4190)]
    )
    def test_student_quantile_matches_tables(self, z, freedom, value):
        assert stopping.student_quantile(z, freedom) == pytest.approx(value, rel=0.002)

    def test_student_quantile_falls_with_freedom(self):
        values = [stopping.student_quantile(2.8, freedom) for freedom in np.arange(0.5, 60, 0.5)]
        assert all(a >= b for a, b in itertools.pairwise(values))

    def test_slope_of_a_clean_line(self):
        series = 1e6 * (1 + 0.0002 * (np.arange(960) - 479.5))
        slope, error, _ = stopping.relative_slope(series, 48)
        assert slope == pytest.approx(0.0002, rel=1e-6)
        assert error < 1e-9

    @settings(max_examples=50, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        scale=st.floats(1e-3, 1e6),
        count=st.integers(16, 400),
        noise=st.floats(0.001, 0.3),
    )
    def test_half_width_and_slope_do_not_depend_on_the_unit(self, seed, scale, count, noise):
        series = synthetic_streams.independent(np.random.default_rng(seed), count, noise)
        width, scaled = (stopping.median_half_width(one, 2.8, 48) for one in (series, series * scale))
        assert math.isclose(width, scaled, rel_tol=1e-6) or width == scaled
        assert stopping.relative_slope(series, 48)[0] == pytest.approx(
            stopping.relative_slope(series * scale, 48)[0], rel=1e-6, abs=1e-12
        )

    @settings(max_examples=50, deadline=None)
    @given(
        blocks=st.lists(st.lists(st.floats(0, 1e12), max_size=40), max_size=30),
        max_seconds=st.floats(0.1, 100),
    )
    def test_any_stream_ends_with_the_budget_at_the_latest(self, blocks, max_seconds):
        rule = StoppingRule(0.05, 5, max_seconds)
        for i, block in enumerate(blocks):
            rule.add(np.array(block), max_seconds * ((i + 1) / len(blocks)))  # so that the last is max_seconds exactly
            assert rule.finished() in (None, "converged", "noisy", "budget")
        if blocks:
            assert rule.finished() is not None
