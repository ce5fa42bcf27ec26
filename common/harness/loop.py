"""The timing loop. Between two inferences nothing happens but clock reads and stores into preallocated lists.

    gc frozen                    one block: 0.25 s worth of inferences                       gc back
    |--warm-up--|----------------------------- measured window -----------------------------|--------
                [ s run e s run e s run e ... ] rule, storage [ s run e s run e ... ] rule, storage
                  ^     ^                       ^
                  |     end_ns[i] = clock()     between blocks: less than 1 % of the window
                  start_ns[i] = clock()

A block is sized by the median of the one before, so that the stopping rule is asked about four times a second whether
an inference takes 1 us or 1 s. Blocks shrink before the budget's end, so that the window does not outlast it.
"""

from __future__ import annotations

import gc
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Iterator, List, Protocol, Tuple

import numpy as np

Clock = Callable[[], int]

BLOCK_SECONDS = 0.25
#: caps the memory of a block when an inference takes next to nothing
MAX_BLOCK = 1 << 18


class Stopping(Protocol):
    """What the loop asks of a stopping rule; see stopping.StoppingRule."""

    def add(self, durations_ns: np.ndarray, elapsed_s: float) -> None: ...

    def finished(self) -> object: ...


class Warming(Protocol):
    """What the loop asks of a warm-up rule; see stopping.WarmupRule."""

    def add(self, block_median_ns: float) -> None: ...

    @property
    def steady(self) -> bool: ...


@dataclass(frozen=True)
class Window:
    """One measured window. starts_ns, ends_ns: (n,) int64 on the clock given."""

    starts_ns: np.ndarray
    ends_ns: np.ndarray
    begin_ns: int
    end_ns: int


#: called between blocks with (inferences so far, seconds since the begin)
Progress = Callable[[int, float], None]


def time_block(run: Callable[[], None], starts: List[int], ends: List[int], count: int, clock: Clock) -> None:
    """The timed path, all of it. starts, ends: lists of at least `count` entries that are overwritten."""
    for i in range(count):
        starts[i] = clock()
        run()
        ends[i] = clock()


def measure(
    run: Callable[[], None],
    rule: Stopping,
    max_seconds: float,
    expected_ns: float,
    progress: Progress,
    clock: Clock = time.monotonic_ns,
) -> Window:
    """Runs blocks until the rule has finished.

    run: one inference. max_seconds: budget of the window, which shortens the last blocks (the rule ends it).
    expected_ns: what one inference is expected to take, sizes the first block.
    """
    block_seconds = min(BLOCK_SECONDS, max_seconds / 16)
    parts: List[Tuple[np.ndarray, np.ndarray]] = []
    samples = 0
    starts: List[int] = []
    ends: List[int] = []
    begin = clock()
    elapsed = 0.0
    while not rule.finished():
        share = min(block_seconds, max(0.0, max_seconds - elapsed))
        count = max(1, min(MAX_BLOCK, int(share * 1e9 / max(expected_ns, 1.0))))
        if count > len(starts):
            starts = [0] * count
            ends = [0] * count
        time_block(run, starts, ends, count, clock)
        elapsed = (clock() - begin) / 1e9
        block = np.array(starts[:count], dtype=np.int64), np.array(ends[:count], dtype=np.int64)
        parts.append(block)
        samples += count
        durations = block[1] - block[0]
        expected_ns = float(np.median(durations))
        rule.add(durations, elapsed)
        progress(samples, elapsed)
    return Window(
        np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), begin, clock()
    )


def warm_up(
    run: Callable[[], None], rule: Warming, max_seconds: float, progress: Progress, clock: Clock = time.monotonic_ns
) -> Tuple[int, str, float]:
    """Runs blocks of inferences until the rule is steady or the budget ends.

    Blocks end by time, not by number, because nothing is known yet about how long an inference takes; each holds at
    least one. Returns the number of inferences, "steady" or "budget", and the median of the last block in ns
    (NaN when the budget is 0).
    """
    block_ns = min(BLOCK_SECONDS, max_seconds / 8) * 1e9
    begin = clock()
    runs = 0
    median = math.nan
    while (clock() - begin) / 1e9 < max_seconds:
        block_begin = now = clock()
        durations: List[int] = []
        while now - block_begin < block_ns:
            started = clock()
            run()
            now = clock()
            durations.append(now - started)
        runs += len(durations)
        median = float(np.median(durations))
        rule.add(median)
        progress(runs, (now - begin) / 1e9)
        if rule.steady:
            return runs, "steady", median
    return runs, "budget", median


@contextmanager
def collector_held() -> Iterator[Callable[[], None]]:
    """Keeps Python's garbage collector out of the measured window.

    On entry (before the warm-up) everything alive is collected and frozen, which takes a tenth of a second with a
    large framework; the function given is called right before the window, finds next to nothing left to collect, and
    turns the collector off. On leaving, all is as before.
    """
    gc.collect()
    gc.freeze()

    def off() -> None:
        gc.collect()
        gc.disable()

    try:
        yield off
    finally:
        gc.enable()
        gc.unfreeze()
