"""Verdicts on cells whose truth is known. Full sizes: analysis/selfbench/operating_characteristics.py."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.selfbench import synthetic_streams
from analysis.selfbench.operating_characteristics import comparison_figures
from analysis.selfbench.verdicts import table_figures, verdict_figures
from common.stats.comparison import (
    FROM_OTHERS,
    ONE_WORKER,
    RULE,
    Measured,
    Verdict,
    compare_runs,
    compare_samples,
    holm,
)
from common.stats.workers import Spread, pool


def series(seed, count=1000, noise=0.01, correlation=0.3):
    return synthetic_streams.autoregressive(np.random.default_rng(seed), count, noise, correlation)[0]


def workers(seed, count=1000, noise=0.01, correlation=0.3, factor=1.0, between=0.0, number=3):
    rng = np.random.default_rng([seed, 7])
    return [
        factor * float(np.exp(between * rng.standard_normal())) * series(100 * seed + i, count, noise, correlation)
        for i in range(number)
    ]


def test_operating_characteristics():
    for figure in comparison_figures(25, seed=5):
        # 5 % of 25 pairs is 1: one more is within the luck of the draw
        assert figure.low - 0.05 <= figure.share <= figure.high + 0.03, figure


def test_verdicts_hold_on_streams_that_drift_and_switch():
    for figure in verdict_figures(20, 3, ("drift 0.5 %, AR 0.5", "clocks 5 % apart, dwell 500"), (700,)):
        # one in twenty more or less is the luck of the draw, and three for coverage, which lies in the middle
        assert figure.low - 0.15 <= figure.share <= figure.high + 0.05, figure


def test_a_table_tells_more_than_its_cells():
    found = {"pooled": 0, None: 0}
    for table in range(4):
        for group in found:
            run_a, run_b = (
                [
                    Measured(i, workers(1000 * table + start + i, 100, 0.01, 0, factor, 0.01), group=group)
                    for i in range(8)
                ]
                for start, factor in ((0, 1.0), (100, 1.04))
            )
            found[group] += len(compare_runs(run_a, run_b).slower)
    assert found["pooled"] > 2 * found[None] and found["pooled"] >= 16, found
    false, _, wrong = table_figures(8, seed=2)
    assert false.share <= 1 / 8 and wrong.share == 0


class TestVerdict:
    @pytest.mark.parametrize(
        ("factor", "verdict"), [(1.03, Verdict.SLOWER), (0.97, Verdict.FASTER), (1.0, Verdict.SAME)]
    )
    def test_is_about_b_relative_to_a(self, factor, verdict):
        result = compare_samples(workers(1), workers(2, factor=factor))
        assert result.verdict is verdict
        assert result.interval.low <= factor <= result.interval.high
        assert result.interval.confidence == 0.98 and result.interval.over_workers

    def test_a_difference_beyond_doubt_but_within_the_margin_is_the_same(self):
        a, b = workers(1, noise=0.0005), workers(2, noise=0.0005, factor=1.004)
        result = compare_samples(a, b)
        assert result.p_value < 1e-3
        assert result.verdict is Verdict.SAME
        assert compare_samples(a, b, margin=0.002).verdict is Verdict.SLOWER

    @pytest.mark.parametrize("factor", [0.5, 0.97, 1.0, 1.03, 1.1])
    @pytest.mark.parametrize("between", [0.0, 0.005, 0.02])
    def test_the_interval_that_is_shown_decides(self, factor, between):
        for seed in range(8):
            one = compare_samples(
                workers(seed, 200, between=between), workers(seed + 20, 200, factor=factor, between=between)
            )
            inside = one.interval.low <= 1 <= one.interval.high
            beyond = not 1 / 1.01 <= one.interval.estimate <= 1.01
            same = one.interval.low >= 1 / 1.01 and one.interval.high <= 1.01
            told_apart = Verdict.SLOWER if one.interval.estimate > 1 else Verdict.FASTER
            expected = Verdict.SAME if same else told_apart if beyond and not inside else Verdict.UNCLEAR
            assert one.verdict is expected, one

    def test_too_much_noise_is_unclear(self):
        assert compare_samples(workers(1, 60, 0.3), workers(2, 60, 0.3)).verdict is Verdict.UNCLEAR

    def test_unequal_counts_are_ordinary(self):
        # pyperf's test raised on unequal counts and called that significant
        for count in (20, 21, 5000):
            result = compare_samples(workers(1, 20), workers(2, count))
            assert result.verdict in (Verdict.SAME, Verdict.UNCLEAR)
            assert (result.samples_a, result.samples_b) == (60, 3 * count)

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
        assert compare_samples([np.full(50, 3.0)] * 3, [np.full(50, 3.0)] * 3).verdict is Verdict.SAME

    @pytest.mark.parametrize("options", [{"margin": 0}, {"margin": 1}, {"error_rate": 0}, {"error_rate": 1}])
    def test_margin_and_error_rate_are_shares(self, options):
        with pytest.raises(ValueError, match="between 0 and 1"):
            compare_samples([series(1)], [series(2)], **options)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), factor=st.sampled_from([0.9, 1.0, 1.1]))
    def test_does_not_depend_on_the_unit(self, seed, scale, factor):
        a, b = workers(seed, 200), workers(seed + 1, 150, factor=factor)
        one, other = compare_samples(a, b), compare_samples([x * scale for x in a], [x * scale for x in b])
        assert one.verdict is other.verdict
        assert one.interval.low == pytest.approx(other.interval.low)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_turned_around_it_says_the_opposite(self, seed):
        a, b = workers(seed, 300, 0.005), workers(seed + 1, 300, 0.005, factor=1.05)
        assert compare_samples(a, b).verdict is Verdict.SLOWER
        assert compare_samples(b, a).verdict is Verdict.FASTER


class TestOneWorker:
    def test_gives_no_verdict_however_large_the_difference(self):
        for a, b in (
            ([series(1)], [3 * series(2)]),
            ([series(1)], workers(2, factor=3)),
            (workers(1), [3 * series(2)]),
        ):
            result = compare_samples(a, b)
            assert result.verdict is Verdict.UNCLEAR
            assert result.notes == (ONE_WORKER,) and "--replicates 3" in ONE_WORKER
            assert math.isnan(result.p_value) and not result.interval.over_workers
            assert result.interval.low <= 3 <= result.interval.high or result.interval.estimate == pytest.approx(
                3, rel=0.01
            )

    def test_nor_does_its_sameness(self):
        assert compare_samples([np.full(50, 3.0)], [np.full(50, 3.0)]).verdict is Verdict.UNCLEAR

    def test_a_difference_above_the_known_floor_is_reported(self):
        floor = pool([Spread(0.01**2, 4)] * 6)
        assert compare_samples([series(1)], [1.02 * series(2)], pooled=floor).verdict is Verdict.UNCLEAR
        result = compare_samples([series(1)], [1.1 * series(2)], pooled=floor)
        assert result.verdict is Verdict.SLOWER and result.notes == (FROM_OTHERS,)

    def test_floors_are_those_of_the_framework_and_device(self):
        a, b = [Measured(1, [series(1)], group="torch")], [Measured(1, [1.1 * series(2)], group="torch")]
        floor = pool([Spread(0.01**2, 4)] * 6)
        assert compare_runs(a, b, floors={"torch": floor}).slower == (1,)
        assert compare_runs(a, b, floors={"onnxrt": floor}).slower == ()
        assert compare_runs(a, b).slower == ()

    def test_what_is_known_to_be_wrong_tells_other_cells_nothing(self):
        """Of cell 1 each side has one worker; the several workers of cell 2 tell how far they lie apart, unless they are wrong."""
        for wrong, slower in ((None, (1,)), ("copied once", ())):
            sides = [
                [
                    Measured(1, [factor * series(seed)], group="tf"),
                    Measured(2, workers(seed, between=0.002), group="tf", wrong=wrong),
                ]
                for seed, factor in ((1, 1.0), (2, 1.5))
            ]
            assert compare_runs(*sides).slower == slower, wrong

    def test_two_workers_are_noted(self):
        assert "two workers" in compare_samples(workers(1, number=2), workers(2)).notes[0]
        assert compare_samples(workers(1), workers(2)).notes == ()


class TestRuns:
    def test_cells_are_matched_by_identity(self):
        run_a = [Measured(("onnxrt", 1), workers(1)), Measured(("torch", 1), workers(2)), Measured("a", workers(3))]
        run_b = [
            Measured(("torch", 1), workers(4, factor=1.05)),
            Measured("b", workers(5)),
            Measured(("onnxrt", 1), workers(6)),
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
        run = [Measured(i, workers(i, 100)) for i in range(4)]
        assert "4 cells compared" in compare_runs(run, run).correction
        assert "Holm" in compare_runs(run, run).correction
        assert "1 cell compared, no correction" in compare_runs(run[:1], run[:1]).correction
        alone = [Measured(i, [series(i)]) for i in range(9, 11)]
        assert "2 cells have both sides, and none could be judged; intervals are at 98 %" in (
            compare_runs(alone, alone).correction
        )
        assert "2 more could not be judged" in compare_runs(run + alone, run + alone).correction
        assert "No cell ran on both sides" in compare_runs(run, []).correction
        assert RULE in compare_runs(run, run).correction and "98% interval" in RULE

    def test_many_equal_cells_give_no_false_alarm(self):
        # 40 noisy cells, differences of a few per cent by chance: uncorrected p values alone would alarm about once
        run_a = [Measured(i, workers(i, 120, 0.2, 0.0), group="g") for i in range(40)]
        run_b = [Measured(i, workers(1000 + i, 120, 0.2, 0.0), group="g") for i in range(40)]
        result = compare_runs(run_a, run_b)
        verdicts = {cell.verdict for cell in result.cells.values()}
        assert verdicts == {Verdict.UNCLEAR}
        assert all(cell.interval.confidence == pytest.approx(1 - 0.02 / 40) for cell in result.cells.values())

    def test_a_slow_down_among_many_cells_is_found(self):
        run_a = [Measured(i, workers(i, 500), group="g") for i in range(30)]
        run_b = [Measured(i, workers(100 + i, 500, factor=1.03 if i == 7 else 1.0), group="g") for i in range(30)]
        result = compare_runs(run_a, run_b)
        assert result.slower == (7,)
        for cell in result.cells.values():  # one level for the table, and what it shows decides
            assert (cell.verdict is Verdict.SLOWER) == (cell.interval.low > 1 and cell.interval.estimate > 1.01)
            assert cell.interval.confidence == pytest.approx(1 - 0.02 / 29)

    def test_passes_of_one_side_make_means_of_both(self):
        run_a = [Measured(1, [[1.0, 1.1, 1.2]] * 3, passes=True)]
        run_b = [Measured(1, [[1.0, 1.0, 4.0]] * 3)]
        (one,) = compare_runs(run_a, run_b).cells.values()
        assert one.interval.estimate == pytest.approx(2 / 1.1)


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
