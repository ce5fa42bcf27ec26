"""Verdicts on cells whose truth is known. Full sizes: analysis/selfbench_statistics.py."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.selfbench import synthetic_streams as synthetic
from analysis.selfbench.operating_characteristics import comparison_figures
from common.stats.comparison import Measured, Verdict, compare_runs, compare_samples, holm


def series(seed, count=1000, noise=0.01, correlation=0.3):
    return synthetic.autoregressive(np.random.default_rng(seed), count, noise, correlation)[0]


def test_operating_characteristics():
    for figure in comparison_figures(25, seed=5):
        # 5 % of 25 pairs is 1: one more is within the luck of the draw
        assert figure.low - 0.05 <= figure.share <= figure.high + 0.03, figure


class TestVerdict:
    @pytest.mark.parametrize(
        ("factor", "verdict"), [(1.03, Verdict.SLOWER), (0.97, Verdict.FASTER), (1.0, Verdict.SAME)]
    )
    def test_is_about_b_relative_to_a(self, factor, verdict):
        result = compare_samples([series(1)], [factor * series(2)])
        assert result.verdict is verdict
        assert result.interval.low <= factor <= result.interval.high

    def test_a_difference_beyond_doubt_but_within_the_margin_is_the_same(self):
        a, b = series(1, noise=0.0005), 1.004 * series(2, noise=0.0005)
        result = compare_samples([a], [b])
        assert result.p_value < 1e-6
        assert result.verdict is Verdict.SAME
        assert compare_samples([a], [b], margin=0.002).verdict is Verdict.SLOWER

    def test_too_much_noise_is_unclear(self):
        assert compare_samples([series(1, 60, 0.3)], [series(2, 60, 0.3)]).verdict is Verdict.UNCLEAR

    def test_unequal_counts_are_ordinary(self):
        # pyperf's test raised on unequal counts and called that significant
        for count in (20, 21, 5000):
            result = compare_samples([series(1, 20)], [series(2, count)])
            assert result.verdict in (Verdict.SAME, Verdict.UNCLEAR)
            assert (result.samples_a, result.samples_b) == (20, count)

    @pytest.mark.parametrize("b", [[], [np.ones(5)], [np.ones(100), np.ones(3)]])
    def test_too_few_samples_are_unclear_and_say_so(self, b):
        result = compare_samples([series(1)], b)
        assert result.verdict is Verdict.UNCLEAR
        assert result.interval is None
        assert math.isnan(result.p_value)
        assert result.notes == ("n too small for a median",)

    def test_a_median_of_zero_is_unclear(self):
        result = compare_samples([np.zeros(100)], [np.ones(100)])
        assert result.verdict is Verdict.UNCLEAR
        assert result.notes == ("the median of A is 0",)
        assert compare_samples([np.ones(100)], [np.zeros(100)]).notes == ("the median of B is 0",)

    def test_a_constant_equals_itself(self):
        assert compare_samples([np.full(50, 3.0)], [np.full(50, 3.0)]).verdict is Verdict.SAME

    def test_a_single_replicate_is_noted(self):
        assert "single replicate" in compare_samples([series(1)], [series(2)] * 3).notes[0]
        assert compare_samples([series(i) for i in range(3)], [series(i) for i in range(3, 6)]).notes == ()

    @pytest.mark.parametrize("options", [{"margin": 0}, {"margin": 1}, {"error_rate": 0}, {"error_rate": 1}])
    def test_margin_and_error_rate_are_shares(self, options):
        with pytest.raises(ValueError, match="between 0 and 1"):
            compare_samples([series(1)], [series(2)], **options)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), factor=st.sampled_from([0.9, 1.0, 1.1]))
    def test_does_not_depend_on_the_unit(self, seed, scale, factor):
        a, b = series(seed, 200), factor * series(seed + 1, 150)
        one, other = compare_samples([a], [b]), compare_samples([a * scale], [b * scale])
        assert one.verdict is other.verdict
        assert one.interval.low == pytest.approx(other.interval.low)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_turned_around_it_says_the_opposite(self, seed):
        a, b = series(seed, 300, 0.005), 1.05 * series(seed + 1, 300, 0.005)
        assert compare_samples([a], [b]).verdict is Verdict.SLOWER
        assert compare_samples([b], [a]).verdict is Verdict.FASTER


class TestRuns:
    def test_cells_are_matched_by_identity(self):
        run_a = [Measured(("onnxrt", 1), [series(1)]), Measured(("torch", 1), [series(2)]), Measured("a", [series(3)])]
        run_b = [
            Measured(("torch", 1), [1.05 * series(4)]),
            Measured("b", [series(5)]),
            Measured(("onnxrt", 1), [series(6)]),
        ]
        result = compare_runs(run_a, run_b)
        assert list(result.cells) == [("onnxrt", 1), ("torch", 1)]
        assert result.slower == (("torch", 1),)
        assert result.only_a == ("a",)
        assert result.only_b == ("b",)

    def test_an_identity_occurs_once(self):
        with pytest.raises(ValueError, match="twice"):
            compare_runs([Measured(1, [series(1)]), Measured(1, [series(2)])], [])

    def test_nothing_in_common(self):
        result = compare_runs([Measured(1, [series(1)])], [])
        assert result.cells == {}
        assert result.only_a == (1,)
        assert result.slower == ()

    def test_correction_is_said(self):
        run = [Measured(i, [series(i, 100)]) for i in range(4)]
        assert "4 cells compared" in compare_runs(run, run).correction
        assert "Holm" in compare_runs(run, run).correction
        assert "no correction" in compare_runs(run[:1], run[:1]).correction

    def test_many_equal_cells_give_no_false_alarm(self):
        # 40 noisy cells, differences of a few per cent by chance: uncorrected p values alone would alarm about once
        run_a = [Measured(i, [series(i, 120, 0.2, 0.0)]) for i in range(40)]
        run_b = [Measured(i, [series(1000 + i, 120, 0.2, 0.0)]) for i in range(40)]
        result = compare_runs(run_a, run_b)
        verdicts = {cell.verdict for cell in result.cells.values()}
        assert verdicts == {Verdict.UNCLEAR}
        raw = [compare_samples(a.replicates, b.replicates).p_value for a, b in zip(run_a, run_b, strict=True)]
        assert [cell.p_value for cell in result.cells.values()] == pytest.approx(holm(raw))

    def test_a_slow_down_among_many_cells_is_found(self):
        run_a = [Measured(i, [series(i, 500)]) for i in range(30)]
        run_b = [Measured(i, [(1.03 if i == 7 else 1.0) * series(100 + i, 500)]) for i in range(30)]
        assert compare_runs(run_a, run_b).slower == (7,)


class TestHolm:
    def test_textbook_example(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_what_is_not_a_number_does_not_count(self):
        adjusted = holm([0.02, math.nan, 0.01])
        assert adjusted[0] == pytest.approx(0.02)
        assert math.isnan(adjusted[1])
        assert adjusted[2] == pytest.approx(0.02)

    @given(st.lists(st.floats(0, 1), max_size=20))
    def test_never_lowers_a_p_value_and_keeps_their_order(self, values):
        adjusted = holm(values)
        assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))
        order = sorted(range(len(values)), key=lambda i: values[i])
        assert [adjusted[i] for i in order] == sorted(adjusted)
