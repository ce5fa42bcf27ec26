"""Queries arrive at random and wait their turn: what the users of a service see.

    due       |   |      | | |       |          a seeded Poisson process, known before anything runs
    in queue  |   |--    | |-|-----  |          start_ns - scheduled_ns
    inference |---|----  |---|-----  |---       end_ns - start_ns
    latency   end_ns - scheduled_ns             from when the query was due, whatever the server was doing then

A query is one image. The server has one inference at a time and puts up to batch_size queries into it: those that are
there when it becomes free, and with a batching window those that come within so long after the first of them. The shape
is fixed (compiled programs and graphs have one), so a batch that is not full costs what a full one does.

The schedule goes on whether or not the server keeps up, so a server that stalls collects the latencies that it causes.
The window ends when the stopping rule has finished; what was due until then is served and counted. A rate that cannot be
served has no steady state: the cell then says so instead of showing latencies that depend on how long one looked.
"""

from __future__ import annotations

import math
import time
from typing import Callable, List, NamedTuple, Optional

import numpy as np

from common.cell import Cell
from common.harness.loop import BLOCK_SECONDS, Clock
from common.harness.scenarios import Measurement, Progress, Stage, Warmup, single_stream
from common.harness.stopping import StoppingRule
from common.job import Settings

#: the rule is asked when nothing is due for so long, so that its arithmetic delays no query; but at least once a second
_QUIET_NS = 2_000_000
_LONGEST_BLOCK_NS = 1_000_000_000
#: the last stretch of a wait is spent awake: sleep(3) oversleeps by some 60 us and more
_AWAKE_NS = 200_000
#: queries that are drawn at a time
_CHUNK = 4096
#: a rate that exceeds what the warm-up or that many inferences allow by this factor is not tried further
_HOPELESS_BY_WARMUP = 2.0
_HOPELESS_BY_WINDOW = 1.1
_HOPELESS_AFTER = 32
#: what was due is served for this share of the budget after the window's end
_DRAIN_SHARE = 0.25

#: counting what was not served ends here: a rate may be anything
_MOST_LEFT = 1_000_000

Wait = Callable[[int], None]


class Arrivals:
    """When queries are due, in ns since the begin: exponential gaps with mean 1 / rate, drawn as far as they are needed.

    The same for equal (rate_per_s, seed, replicate), whatever framework is measured.
    """

    def __init__(self, rate_per_s: float, seed: int, replicate: int = 0) -> None:
        entropy = [seed, replicate, int.from_bytes(np.float64(rate_per_s).tobytes(), "little")]
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
        self._mean_ns = 1e9 / rate_per_s
        self._last = 0.0
        self._due: List[int] = []

    def due(self, number: int) -> int:
        """When query `number` is due, from 0."""
        while number >= len(self._due):
            drawn = self._last + np.cumsum(self._rng.exponential(self._mean_ns, _CHUNK))
            self._last = float(drawn[-1])
            self._due.extend(np.rint(drawn).astype(np.int64).tolist())
        return self._due[number]


class Look(NamedTuple):
    """What is new since the last look. inference_ns: mean of all inferences so far, NaN before the first."""

    latencies_ns: List[int]
    elapsed_s: float
    inferences: int
    inference_ns: float


#: None: go on; "enough": serve what is due by now and end; "hopeless": end at once
Judge = Callable[[Look], Optional[str]]


class Served(NamedTuple):
    """starts, ends, scheduled: one entry a query. inference_ns: mean, NaN without any. left: queries due but not served."""

    starts_ns: List[int]
    ends_ns: List[int]
    scheduled_ns: List[int]
    inference_ns: float
    left: int
    begin_ns: int
    end_ns: int


def unsupported(cell: Cell) -> Optional[str]:
    if cell.streams != 1:
        return f"the server has one inference at a time, not {cell.streams}"
    rate = cell.target_rate_per_s
    if rate is None or not 0 < rate < math.inf:
        return f"the server scenario needs a rate above zero, not {rate}"
    return None


warm_up = single_stream.warm_up


def wait_until(instant_ns: int) -> None:
    """Returns at that instant of CLOCK_MONOTONIC, or as soon after it as the machine lets it."""
    clock = time.monotonic_ns
    left = instant_ns - clock()
    while left > 0:
        if left > _AWAKE_NS:
            time.sleep((left - _AWAKE_NS) / 1e9)
        left = instant_ns - clock()


def serve(
    run: Callable[[], None],
    arrivals: Arrivals,
    most: int,
    window_ns: int,
    max_seconds: float,
    judge: Judge,
    clock: Clock = time.monotonic_ns,
    wait: Wait = wait_until,
) -> Served:
    """Serves queries until the judge says so, or time is up.

    run: one inference of up to `most` queries. window_ns: how long the first query of a batch may wait for others.
    """
    starts: List[int] = []
    ends: List[int] = []
    scheduled: List[int] = []
    begin = clock()
    limit = begin + round(max_seconds * 1e9)
    drain_ns = round(max_seconds * _DRAIN_SHARE * 1e9)
    block_ns = round(min(BLOCK_SECONDS, max_seconds / 16) * 1e9)
    last_due, give_up = limit, limit + drain_ns
    looked, looked_at = 0, begin
    served = inferences = 0
    busy = 0
    now = begin
    while True:
        first = begin + arrivals.due(served)
        age = now - looked_at
        if last_due == limit and ((age >= block_ns and first - now >= _QUIET_NS) or age >= _LONGEST_BLOCK_NS):
            latencies = [end - due for end, due in zip(ends[looked:], scheduled[looked:])]
            looked, looked_at = len(ends), now
            verdict = judge(
                Look(latencies, (now - begin) / 1e9, inferences, busy / inferences if inferences else math.nan)
            )
            if verdict is not None:
                last_due, give_up = now, now + (drain_ns if verdict == "enough" else 0)
        if first > last_due or now >= give_up:
            break
        # A full batch goes at once, any other when its first query has waited for the window.
        go = min(first + window_ns, begin + arrivals.due(served + most - 1)) if window_ns else first
        if go > now:
            # not past the next look, which may end it all
            wait(min(go, max(looked_at, now) + _LONGEST_BLOCK_NS))
            now = clock()
            if now < go:
                continue
        count = 1
        while count < most:
            due = begin + arrivals.due(served + count)
            if due > now or due > last_due:
                break
            count += 1
        started = clock()
        run()
        now = clock()
        scheduled.extend(begin + arrivals.due(number) for number in range(served, served + count))
        starts.extend([started] * count)
        ends.extend([now] * count)
        served += count
        inferences += 1
        busy += now - started
    left = 0
    while left < _MOST_LEFT and begin + arrivals.due(served + left) <= min(last_due, now):
        left += 1
    return Served(starts, ends, scheduled, busy / inferences if inferences else math.nan, left, begin, now)


def measure(stage: Stage, cell: Cell, settings: Settings, warmup: Warmup, progress: Progress) -> Measurement:
    rate = cell.target_rate_per_s
    assert rate is not None  # unsupported() said so
    most = cell.batch_size
    notes = {
        "arrivals": f"Poisson, seed {stage.seed}, replicate {cell.replicate}",
        "batching": f"up to {most}, waiting {settings.batch_window_ms:g} ms for them" if most > 1 else "none",
    }
    expected_ns = warmup.expected_ns
    if not math.isnan(expected_ns) and rate * expected_ns / 1e9 > _HOPELESS_BY_WARMUP * most:
        now = time.monotonic_ns()
        nothing = np.empty(0, dtype=np.int64)
        return Measurement(nothing, nothing, nothing, now, now, "budget", notes, too_much(rate, most, expected_ns))
    rule = StoppingRule(
        settings.min_seconds,
        max(settings.min_samples, settings.min_images),
        settings.max_seconds,
        settings.precision_of_median,
    )
    queries = 0

    def judge(look: Look) -> Optional[str]:
        nonlocal queries
        queries += len(look.latencies_ns)
        rule.add(np.array(look.latencies_ns, dtype=np.int64), look.elapsed_s)
        progress(queries, queries, min(1.0, look.elapsed_s / settings.max_seconds), look.elapsed_s)
        demanded = rate * look.inference_ns / 1e9 / most
        if look.inferences >= _HOPELESS_AFTER and demanded > _HOPELESS_BY_WINDOW:
            return "hopeless"
        return "enough" if rule.finished() is not None else None

    done = serve(
        stage.adapter.run,
        Arrivals(rate, stage.seed, cell.replicate),
        most,
        round(settings.batch_window_ms * 1e6) if most > 1 else 0,
        settings.max_seconds,
        judge,
    )
    failure = ""
    if not done.ends_ns:
        failure = f"no query was due within {settings.max_seconds:g} s at {rate:g}/s"
    elif done.left or rate * done.inference_ns / 1e9 >= most:
        failure = too_much(rate, most, done.inference_ns)
    return Measurement(
        np.array(done.starts_ns, dtype=np.int64),
        np.array(done.ends_ns, dtype=np.int64),
        np.array(done.scheduled_ns, dtype=np.int64),
        done.begin_ns,
        done.end_ns,
        rule.finished() or "budget",
        {**notes, "queries_not_served": str(done.left)},
        failure,
    )


def too_much(rate_per_s: float, most: int, inference_ns: float) -> str:
    """Why a rate cannot be served, in one line."""
    return (
        f"{rate_per_s:g} queries/s are more than it can serve: an inference of up to {most} took"
        f" {inference_ns / 1e6:.4g} ms, so {most * 1e9 / max(inference_ns, 1.0):.4g}/s at the most"
    )
