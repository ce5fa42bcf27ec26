"""Intervals on data whose truth is known. Full sizes: analysis/selfbench/operating_characteristics.py."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.selfbench import synthetic_streams
from analysis.selfbench.operating_characteristics import coverage_figures
from common.stats import intervals, student_t
from common.stats.intervals import (
    block_length,
    percentile_draws,
    quotient_draws,
    ratio,
    samples_needed,
    throughput_draws,
    too_small,
)


def within_luck(figure):
    """Whether a share of so few runs lies where it ought to, give or take three standard errors."""
    slack = 3 * math.sqrt(0.95 * 0.05 / figure.runs)
    return figure.low - slack <= figure.share <= figure.high + slack


def stream(seed=0, count=1000, noise=0.05, correlation=0.6):
    return synthetic_streams.autoregressive(np.random.default_rng(seed), count, noise, correlation)[0]


class TestEnoughSamples:
    @pytest.mark.parametrize(("percentile", "needed"), [(50, 11), (90, 64), (95, 130), (99, 662), (99.9, 6636)])
    def test_numbers_are_those_of_loadgen(self, percentile, needed):
        assert samples_needed(percentile) == needed
        assert too_small(percentile, needed) is None
        assert percentile_draws([np.linspace(1, 2, needed)], percentile) is not None
        assert percentile_draws([np.linspace(1, 2, needed - 1)], percentile) is None

    def test_the_reason_names_both_numbers(self):
        assert too_small(99.9, 500) == "n too small (500 samples, p99.9 needs 6636)"

    def test_low_percentiles_need_as_many_as_high_ones(self):
        assert samples_needed(1) == samples_needed(99)

    def test_every_replicate_needs_enough(self):
        assert percentile_draws([np.linspace(1, 2, 1000), np.linspace(1, 2, 60)], 90) is None

    def test_no_replicate_gives_nothing(self):
        assert percentile_draws([], 50) is None
        assert throughput_draws([], 1) is None

    @pytest.mark.parametrize("percentile", [0, 100, -1, math.nan])
    def test_a_percentile_lies_between_0_and_100(self, percentile):
        with pytest.raises(ValueError, match="percentile"):
            samples_needed(percentile)

    def test_two_dimensions_are_no_series(self):
        with pytest.raises(ValueError, match="one dimension"):
            percentile_draws([np.ones((20, 2))], 50)


class TestCoverage:
    @pytest.mark.parametrize(("count", "correlation"), [(100, 0.0), (100, 0.6), (1000, 0.8)])
    def test_nominal_95_percent_on_correlated_data(self, count, correlation):
        figures = list(coverage_figures(120, 4, (count,), (correlation,), replicates=()))
        assert len(figures) >= 5
        for figure in figures:
            assert within_luck(figure), figure

    def test_nominal_95_percent_with_replicates(self):
        for figure in coverage_figures(80, 4, (), (), replicates=(4,)):
            assert within_luck(figure), figure

    def test_a_bootstrap_of_single_values_would_fail_where_blocks_do_not(self):
        # Guards the test itself: on this data, ignoring correlation covers far less than 95 %.
        rng = np.random.default_rng(7)
        inside = 0
        for one in synthetic_streams.autoregressive(rng, 300, 0.05, 0.8, 200):
            draws = np.median(rng.choice(one, (200, len(one))), axis=1)
            low, high = np.quantile(draws, (0.025, 0.975))
            inside += low <= synthetic_streams.LEVEL <= high
        assert inside / 200 < 0.75


class TestInterval:
    @settings(max_examples=60, deadline=None)
    @given(
        values=st.lists(st.floats(1, 1e9), min_size=11, max_size=200),
        percentile=st.sampled_from([50, 90]),
        seed=st.integers(0, 1000),
    )
    def test_contains_its_estimate_and_stays_within_the_samples(self, values, percentile, seed):
        draws = percentile_draws([np.array(values)], percentile, seed)
        if draws is None:
            assert percentile == 90
            assert len(values) < 64
            return
        interval = draws.interval()
        assert min(values) <= interval.low <= interval.estimate <= interval.high <= max(values)
        assert interval.estimate == pytest.approx(np.percentile(values, percentile))
        assert interval.samples == len(values)

    @settings(max_examples=40, deadline=None)
    @given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 1000), count=st.integers(64, 3000))
    def test_scales_with_the_unit(self, scale, seed, count):
        series = synthetic_streams.independent(np.random.default_rng(seed), count, 0.1, "gamma")
        for make in (lambda x: percentile_draws([x], 50), lambda x: percentile_draws([x], 90)):
            one, other = make(series).interval(), make(series * scale).interval()
            assert other.low == pytest.approx(one.low * scale, rel=1e-6)
            assert other.high == pytest.approx(one.high * scale, rel=1e-6)
        one, other = throughput_draws([series], 8).interval(), throughput_draws([series * scale], 8).interval()
        assert other.low == pytest.approx(one.low / scale, rel=1e-6)

    def test_a_seed_gives_the_same_interval_again(self):
        series = stream()
        assert percentile_draws([series], 50, 3).interval() == percentile_draws([series], 50, 3).interval()
        assert percentile_draws([series], 50, 3).interval() != percentile_draws([series], 50, 4).interval()

    def test_more_confidence_is_wider(self):
        draws = percentile_draws([stream()], 50)
        widths = [draws.interval(c).high - draws.interval(c).low for c in (0.5, 0.9, 0.95, 0.99)]
        assert widths == sorted(widths)
        assert widths[0] < widths[-1] / 3

    def test_correlation_widens(self):
        widths = []
        for correlation in (0.0, 0.9):
            interval = percentile_draws([stream(correlation=correlation, count=4000)], 50).interval()
            widths.append(interval.high - interval.low)
        assert widths[1] > 2.5 * widths[0]

    def test_a_constant_series_has_an_interval_of_no_length(self):
        interval = percentile_draws([np.full(50, 7.0)], 50).interval()
        assert (interval.low, interval.estimate, interval.high) == (7, 7, 7)

    def test_half_of_two_modes_spans_both(self):
        rng = np.random.default_rng(0)
        series = synthetic_streams.bimodal(rng, 2000, 0.001, 0.5, 0.5)
        interval = percentile_draws([series], 50).interval()
        assert interval.low < 1.01e6
        assert interval.high > 1.49e6

    def test_long_series_use_every_sample(self):
        # A spike in a million samples moves the mean, so no sample may be left out.
        series = np.full(1_000_000, 1e6)
        series[123_457] = 1e12
        assert throughput_draws([series], 1).estimate == pytest.approx(1e9 / series.mean())


class TestStatistics:
    def test_throughput_is_images_over_mean_duration(self):
        draws = throughput_draws([np.array([1e6, 3e6] * 50)], images=8)
        assert draws.estimate == pytest.approx(8 / 0.002)

    def test_joules_per_image_weighs_stretches_by_their_images(self):
        draws = quotient_draws([[10.0, 90.0]], [[10.0, 30.0]])
        assert draws.estimate == pytest.approx(2.5)

    def test_net_energy_may_be_negative(self):
        rng = np.random.default_rng(1)
        interval = quotient_draws([rng.normal(-1, 0.1, 50)], [np.full(50, 10.0)]).interval()
        assert interval.low < -0.1 < interval.high
        assert interval.high < 0

    def test_proportional_series_have_a_certain_quotient(self):
        images = np.random.default_rng(1).integers(1, 50, 60)
        interval = quotient_draws([images * 0.25], [images]).interval()
        assert interval.low == pytest.approx(0.25)
        assert interval.high == pytest.approx(0.25)

    def test_nothing_rather_than_a_division_by_zero(self):
        assert quotient_draws([[1.0, 1.0]], [[0.0, 0.0]]) is None
        assert throughput_draws([[5.0]], 1) is None

    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match="length"):
            quotient_draws([[1.0, 2.0]], [[1.0, 2.0, 3.0]])


class TestReplicates:
    def test_the_spread_between_workers_is_in_the_interval(self):
        series = [factor * stream(seed) for seed, factor in enumerate((0.97, 1.0, 1.03, 0.99, 1.01))]
        one = percentile_draws(series[:1], 50).interval()
        all_five = percentile_draws(series, 50).interval()
        assert all_five.replicates == 5
        assert all_five.samples == 5000
        assert all_five.high - all_five.low > 3 * (one.high - one.low)

    def test_a_long_replicate_counts_as_one(self):
        draws = percentile_draws([np.full(10_000, 1.0), np.full(20, 3.0)], 50)
        assert draws.estimate == pytest.approx(2.0)

    def test_two_replicates_know_little(self):
        series = [factor * stream(seed, noise=0.001) for seed, factor in enumerate((0.99, 1.01, 0.99, 1.01))]
        two, four = percentile_draws(series[:2], 50).interval(), percentile_draws(series, 50).interval()
        assert two.high - two.low > 4 * (four.high - four.low)


class TestRatio:
    def test_of_a_series_with_its_double(self):
        interval = ratio(percentile_draws([2 * stream(1)], 50, 1), percentile_draws([stream(2)], 50, 2)).interval()
        assert interval.low < 2 < interval.high
        assert interval.high - interval.low < 0.2

    def test_p_value_agrees_with_the_interval(self):
        draws = ratio(percentile_draws([1.01 * stream(1)], 50, 1), percentile_draws([stream(2)], 50, 2))
        p = draws.p_value(1.0)
        assert 0 < p < 1
        at_p = draws.interval(1 - p)
        nearest = min(abs(at_p.low - 1), abs(at_p.high - 1))
        assert nearest < 1e-4

    def test_a_divisor_that_may_be_zero_leaves_the_ratio_open(self):
        rng = np.random.default_rng(0)
        near_zero = quotient_draws([rng.normal(0.3, 1, 30)], [np.ones(30)], 1)
        certain = quotient_draws([rng.normal(5, 0.1, 30)], [np.ones(30)], 2)
        assert near_zero.estimate > 0
        assert ratio(certain, near_zero).interval().high == math.inf


class TestBlockLength:
    def test_independent_values_need_no_blocks(self):
        lengths = [block_length(stream(seed, correlation=0.0)) for seed in range(40)]
        assert np.median(lengths) <= 2

    def test_grows_with_correlation(self):
        medians = [
            np.median([block_length(stream(seed, correlation=r)) for seed in range(20)]) for r in (0.0, 0.5, 0.9)
        ]
        assert medians[0] < medians[1] < medians[2]

    def test_is_near_the_optimum_for_a_known_process(self):
        # AR(1), r = 0.5: (1.5 (2 r / (1 - r**2))**2 n) ** (1/3) = 13.9 for n = 1000 (Patton, Politis and White 2009)
        lengths = [block_length(np.log(stream(seed, correlation=0.5))) for seed in range(60)]
        assert 8 <= np.median(lengths) <= 20

    def test_a_constant_has_length_one(self):
        assert block_length(np.ones(100)) == 1


class TestStudent:
    @pytest.mark.parametrize(
        ("confidence", "freedom", "value"),
        [(0.95, 1, 12.7062), (0.95, 4, 2.77645), (0.99, 4, 4.60409), (0.999, 30, 3.64596), (0.95, 1e9, 1.95996)],
    )
    def test_quantiles_match_tables(self, confidence, freedom, value):
        assert student_t.two_sided_quantile(confidence, freedom) == pytest.approx(value, rel=1e-5)

    @given(confidence=st.floats(0.01, 0.9999), freedom=st.floats(0.5, 5000))
    @settings(max_examples=50, deadline=None)
    def test_quantile_and_p_are_inverse(self, confidence, freedom):
        quantile = student_t.two_sided_quantile(confidence, freedom)
        assert student_t.two_sided_p(quantile, freedom) == pytest.approx(1 - confidence, rel=1e-6)

    def test_far_tails_stay_exact(self):
        # Cauchy: P(|T| > t) = 1 - 2/pi atan(t)
        assert student_t.two_sided_p(1e9, 1) == pytest.approx(2 / math.pi * 1e-9, rel=1e-6)

    def test_what_is_not_a_number_stays_so(self):
        assert math.isnan(student_t.two_sided_p(math.nan, 5))


def test_long_series_are_averaged_before_blocks_are_drawn():
    assert len(intervals.percentile_draws([stream(count=20_000)], 50).values(1.0)) == intervals.DRAWS
