"""`python -m common.harness.overhead`: what the timing loop adds to an inference, measured with an adapter that does nothing.

Two loops alternate, so that drift of the machine meets both: the real `time_block`, and the same count of bare pairs of
clock reads. The difference per iteration is what the loop costs. Prints one JSON object; times in nanoseconds.
"""

from __future__ import annotations

import gc
import json
import time
from typing import Dict

from common.harness.loop import time_block


class NoOp:
    """The least an adapter's run() can be: a bound method that returns at once."""

    def run(self) -> None:
        return


class OneArray:
    """Feeds one array and reads one, as adapters did that took one input and gave one output."""

    def __init__(self) -> None:
        self._array = self._result = object()

    def _set(self, place: int, array: object) -> None:
        return

    def _get(self, place: int) -> object:
        return self._array

    def run(self) -> None:
        self._set(0, self._array)
        self._result = self._get(0)


class NamedArrays(OneArray):
    """The same of arrays by name, one of each, as an adapter feeds them that has no binding: places are looked up once."""

    def __init__(self) -> None:
        super().__init__()
        self._fed = [(0, self._array)]
        self._places = [0]

    def run(self) -> None:
        for place, array in self._fed:
            self._set(place, array)
        self._result = [self._get(place) for place in self._places]


def measure_named(count: int = 100_000, rounds: int = 15) -> Dict[str, float]:
    """named_ns: what arrays by name cost an inference more than one array in and one out, by turns, median of
    the rounds, in time on the CPU."""
    clock = time.thread_time_ns  # of this thread alone: a neighbour's load does not show
    one, named = OneArray().run, NamedArrays().run
    costs = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            begin = clock()
            for _i in range(count):
                one()
            middle = clock()
            for _i in range(count):
                named()
            costs.append((clock() - 2 * middle + begin) / count)
    finally:
        gc.enable()
    return {"named_ns": sorted(costs)[rounds // 2]}


def measure_overhead(count: int = 200_000, rounds: int = 15) -> Dict[str, float]:
    """clock_reads_ns: two bare clock reads; loop_ns: an iteration of the timing loop; call_ns: calling run(); added_ns: loop - reads.

    Medians over the rounds, each `count` iterations long.
    """
    clock = time.monotonic_ns
    run = NoOp().run
    starts, ends = [0] * count, [0] * count
    reads, calls, loops = [], [], []
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            begin = clock()
            for _i in range(count):
                clock()
                clock()
            middle = clock()
            for _i in range(count):
                run()
            called = clock()
            time_block(run, starts, ends, count, clock)
            end = clock()
            reads.append((middle - begin) / count)
            calls.append((called - middle) / count)
            loops.append((end - called) / count)
    finally:
        gc.enable()
    reads_ns, calls_ns, loops_ns = (sorted(values)[rounds // 2] for values in (reads, calls, loops))
    return {"clock_reads_ns": reads_ns, "call_ns": calls_ns, "loop_ns": loops_ns, "added_ns": loops_ns - reads_ns}


if __name__ == "__main__":
    print(json.dumps({**measure_overhead(), **measure_named()}))
