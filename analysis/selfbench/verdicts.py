"""Verdicts and intervals over workers on streams that drift, switch between clocks and stall: how often they hold.

Every worker is a fresh stream of the same process, so that workers differ as much as the process makes them. A worker that
is 3 % slower has the same stream times 1.03, which moves the interval of the ratio by just that factor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.selfbench import synthetic_streams
from analysis.selfbench.figures import Figure
from analysis.selfbench.synthetic_streams import Floats
from common.harness.stopping import StoppingRule
from common.stats.comparison import ERROR_RATE, MARGIN, Measured, Verdict, compare_runs, verdict
from common.stats.intervals import Draws, Interval, over_workers, percentile_parts, ratio, throughput_parts

Stream = Callable[[np.random.Generator, int], Floats]


@dataclass(frozen=True)
class Process:
    """stream: a fresh one. truth: median and mean in ns, where they can be computed; else they are taken from a long stream."""

    stream: Stream
    truth: tuple[float, float] | None = None


def _drift(drift: float, correlation: float) -> Process:
    return Process(lambda rng, n: synthetic_streams.wandering(rng, n, drift, correlation))


def _clocks(gap: float, dwell: float, slow_share: float) -> Process:
    # computed: in a long stream the slow share itself wanders, and with it the median, far where both have half of the time
    truth = synthetic_streams.dwelling_truth(gap, slow_share)
    return Process(lambda rng, n: synthetic_streams.dwelling(rng, n, dwell, gap, slow_share), truth)


STREAMS: dict[str, Process] = {
    "drift 0.5 %, AR 0.5": _drift(0.005, 0.5),
    "drift 1 %, AR 0.8": _drift(0.01, 0.8),
    "drift 2 %, AR 0.3": _drift(0.02, 0.3),
    "clocks 10 % apart, dwell 500": _clocks(0.10, 500, 0.5),
    "clocks 5 % apart, dwell 500": _clocks(0.05, 500, 0.3),
    "clocks 5 % apart, dwell 2,000": _clocks(0.05, 2000, 0.3),
}
#: streams on which 3 % can be seen by five workers at all: elsewhere workers differ by as much
TELLING = ("drift 0.5 %, AR 0.5", "drift 1 %, AR 0.8")
COUNTS = (700, 1500, 3000, 6000)
SLOWER = 1.03
#: samples from which the truth of a stream is taken
TRUTH_SAMPLES = 2_000_000
SEVERAL = (3, 5)


@dataclass
class _Tally:
    """What became of the runs of one stream and count: of 3 and 5 workers a side, and of one window alone."""

    false: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SEVERAL, 0))
    found: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SEVERAL, 0))
    wrong: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SEVERAL, 0))
    median: dict[int, int] = field(default_factory=lambda: dict.fromkeys((1, *SEVERAL), 0))
    throughput: dict[int, int] = field(default_factory=lambda: dict.fromkeys((1, *SEVERAL), 0))


def verdict_figures(
    runs: int, seed: int, streams: Sequence[str] = tuple(STREAMS), counts: Sequence[int] = COUNTS
) -> Iterator[Figure]:
    """False verdicts, 3 % found, wrong sign, and coverage of median and throughput, for 3 and 5 workers of `counts` samples."""
    for name in streams:
        truth = _truth(STREAMS[name], seed)
        for count in counts:
            tally = _Tally()
            for run in range(runs):
                _one_run(STREAMS[name].stream, count, np.random.default_rng([seed, count, run]), truth, tally)
            yield from _figures(f"{name}, {count:,} samples", tally, runs, name in TELLING)


def table_figures(runs: int, seed: int, cells: int = 8) -> Iterator[Figure]:
    """A table of cells of one framework and device, 3 workers each that differ by 1 %: what pooling their spread gains.

    The share is of cells; the chance of any false verdict in the table is Holm's.
    """
    rng = np.random.default_rng([seed, cells])
    tables_with_false = slower = wrong = 0
    for _ in range(runs):
        a, b = (_table(rng, cells, 3, 0.01) for _ in range(2))
        tables_with_false += any(
            one.verdict in (Verdict.FASTER, Verdict.SLOWER) for one in compare_runs(a, b).cells.values()
        )
        changed = [
            Measured(one.identity, [SLOWER * np.asarray(x) for x in one.replicates], group=one.group) for one in b
        ]
        words = [one.verdict for one in compare_runs(a, changed).cells.values()]
        slower += words.count(Verdict.SLOWER)
        wrong += words.count(Verdict.FASTER)
    what = f"{cells} cells, 3 workers a side 1 % apart, spread pooled"
    yield Figure(f"identical tables, {what}: any false verdict", tables_with_false / runs, 0, 0.05, runs)
    yield Figure(f"3 % slower, {what}: SLOWER", slower / runs / cells, 0, 1, runs * cells)
    yield Figure(f"3 % slower, {what}: FASTER", wrong / runs / cells, 0, 0.01, runs * cells)


def window_figures(runs: int, seed: int, inference_s: float = 0.006) -> Iterator[Figure]:
    """What the stopping rule calls windows of 5 to 30 s of these streams: reported, as one window shows only what moves within it."""
    for name, process in STREAMS.items():
        reasons: Counter[str] = Counter()
        for run in range(runs):
            series = process.stream(np.random.default_rng([seed, run]), round(30 / inference_s))
            reasons[_stop_reason(series * (inference_s * 1e9 / synthetic_streams.LEVEL))] += 1
        detail = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        yield Figure(f"{name}, windows of 5 to 30 s: converged", reasons["converged"] / runs, 0, 1, runs, detail)


def _stop_reason(series: Floats) -> str:
    rule, elapsed, block = StoppingRule(5.0, 20, 30.0), np.cumsum(series) / 1e9, 40
    for start in range(0, len(series), block):
        part = series[start : start + block]
        last = start + block >= len(series)
        rule.add(part, 30.0 if last else float(elapsed[start + len(part) - 1]))
        if (reason := rule.finished()) is not None:
            return reason
    raise AssertionError("the stream lasts as long as the budget")


def tail_figures(runs: int, seed: int, counts: Sequence[int] = (700, 3000)) -> Iterator[Figure]:
    """Coverage of the p99 of one window in which stalls come in runs, workers being alike."""
    long = synthetic_streams.stalling(np.random.default_rng(seed), TRUTH_SAMPLES)
    truth = float(np.quantile(long, 0.99))
    for count in counts:
        inside = 0
        for run in range(runs):
            (part,) = percentile_parts(
                [synthetic_streams.stalling(np.random.default_rng([seed, count, run]), count)], 99
            )
            inside += _covers(part.interval(), truth)
        yield Figure(f"interval of p99, stalls in runs, one window of {count:,}", inside / runs, 0.9, 0.99, runs)


def _table(rng: np.random.Generator, cells: int, workers: int, between: float) -> list[Measured]:
    return [
        Measured(
            cell,
            [
                synthetic_streams.independent(rng, 100, 0.01) * float(np.exp(between * rng.standard_normal()))
                for _ in range(workers)
            ],
            group="a framework on a device",
        )
        for cell in range(cells)
    ]


def _truth(process: Process, seed: int) -> tuple[float, float]:
    """Median in ns and inferences a second of the process itself."""
    if process.truth is not None:
        return process.truth[0], 1e9 / process.truth[1]
    long = process.stream(np.random.default_rng([seed, 0]), TRUTH_SAMPLES)
    return float(np.median(long)), 1e9 / float(long.mean())


def _one_run(stream: Stream, count: int, rng: np.random.Generator, truth: tuple[float, float], tally: _Tally) -> None:
    most = max(SEVERAL)
    series = [stream(rng, count) for _ in range(2 * most)]
    medians = percentile_parts(series, 50)
    rates = throughput_parts(series[:most], 1)
    for workers in SEVERAL:
        interval = _ratio_interval(medians[:workers], medians[most : most + workers])
        word, shifted = _word(interval), _word(_times(interval, SLOWER))
        tally.false[workers] += word in (Verdict.FASTER, Verdict.SLOWER)
        tally.found[workers] += shifted is Verdict.SLOWER
        tally.wrong[workers] += shifted is Verdict.FASTER
    for workers in (1, *SEVERAL):
        for parts, true, counted in ((medians, truth[0], tally.median), (rates, truth[1], tally.throughput)):
            drawn = over_workers(parts[:workers])
            counted[workers] += drawn is not None and _covers(drawn.interval(), true)


def _ratio_interval(a: Sequence[Draws], b: Sequence[Draws]) -> Interval:
    middle_a, middle_b = over_workers(a), over_workers(b)
    if middle_a is None or middle_b is None:
        raise AssertionError("enough samples for a median")
    return ratio(middle_b, middle_a).interval(1 - ERROR_RATE)


def _times(one: Interval, factor: float) -> Interval:
    return Interval(
        factor * one.estimate, factor * one.low, factor * one.high, one.confidence, one.samples, one.replicates
    )


def _word(one: Interval) -> Verdict:
    """As `compare` has it: p is below the error rate where the interval leaves out 1."""
    return verdict(one, 0.0 if one.low > 1 or one.high < 1 else 1.0, MARGIN, ERROR_RATE)


def _covers(one: Interval, truth: float) -> bool:
    return one.low <= truth <= one.high


def _figures(where: str, tally: _Tally, runs: int, telling: bool) -> Iterator[Figure]:
    for workers in SEVERAL:
        side = f"{workers} against {workers} workers"
        yield Figure(f"identical, {where}, {side}: false verdicts", tally.false[workers] / runs, 0, 0.05, runs)
        least = 0.9 if telling and workers == 5 else 0.0
        yield Figure(f"3 % slower, {where}, {side}: SLOWER", tally.found[workers] / runs, least, 1, runs)
        yield Figure(f"3 % slower, {where}, {side}: FASTER", tally.wrong[workers] / runs, 0, 0.01, runs)
    for workers in (1, *SEVERAL):
        # What one window can tell of a process that moves as slowly as the window is long is reported, not promised.
        low, high = (0.9, 0.98) if workers > 1 else (0.0, 1.0)
        side = f"{workers} workers" if workers > 1 else "one window alone"
        yield Figure(f"interval of p50, {where}, {side}", tally.median[workers] / runs, low, high, runs)
        yield Figure(f"interval of throughput, {where}, {side}", tally.throughput[workers] / runs, low, high, runs)
