"""From a recorder's clock to CLOCK_MONOTONIC."""

from __future__ import annotations

import time
from typing import Callable, List, NamedTuple, Sequence, Tuple


class Reading(NamedTuple):
    """Both clocks at one instant. error_ns: how far apart they may have been read."""

    theirs_ns: int
    monotonic_ns: int
    error_ns: int


def read(theirs: Callable[[], int], tries: int = 9) -> Reading:
    """Reads both clocks at once, as well as that goes: the best of some tries."""
    best: List[Reading] = []
    for _ in range(tries):
        before = time.monotonic_ns()
        value = theirs()
        after = time.monotonic_ns()
        best.append(Reading(value, (before + after) // 2, (after - before + 1) // 2))
    return min(best, key=lambda reading: reading.error_ns)


class Line(NamedTuple):
    """The straight line through two readings, at the begin and the end of a window: clocks drift."""

    begin: Reading
    end: Reading

    def monotonic_ns(self, theirs_ns: int) -> int:
        span = self.end.theirs_ns - self.begin.theirs_ns
        passed = theirs_ns - self.begin.theirs_ns
        if span <= 0:
            return self.begin.monotonic_ns + passed
        # whole numbers: a double has no room for nanoseconds since 1970
        drift = (self.end.monotonic_ns - self.begin.monotonic_ns) - span
        return self.begin.monotonic_ns + passed + drift * passed // span

    @property
    def error_ns(self) -> int:
        return max(self.begin.error_ns, self.end.error_ns)


def offset_of_frames(outer: Sequence[Tuple[int, int]], inner: Sequence[Tuple[int, int]]) -> Tuple[int, int]:
    """(offset, error) that puts frames of another clock into their walls on CLOCK_MONOTONIC.

    outer: walls of the inferences; inner: in the same order what the profiler saw of each, on its own clock. Of the two one lies
    inside the other, so each pair bounds the offset from both sides; the bounds of all pairs together leave little room, of
    which the middle is taken and half the width reported. Raises ValueError where there are not as many of the one as of the other.
    """
    if len(outer) != len(inner) or not outer:
        raise ValueError(f"the profiler tells {len(inner)} inferences of {len(outer)}")
    bounds = [sorted((wall[0] - frame[0], wall[1] - frame[1])) for wall, frame in zip(outer, inner)]
    low, high = max(bound[0] for bound in bounds), min(bound[1] for bound in bounds)
    return (low + high) // 2, (abs(high - low) + 1) // 2
