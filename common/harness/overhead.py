"""`python -m common.harness.overhead`: what the timing loop adds to an inference, measured with an adapter that does nothing.

Two loops alternate, so that drift of the machine meets both: the real `time_block`, and the same count of bare pairs of
clock reads. The difference per iteration is what the loop costs. Prints one JSON object; times in nanoseconds.
"""

from __future__ import annotations

import gc
import json
import math
import time
from typing import Callable, Dict, Tuple

from common.harness.loop import time_block
from common.harness.one_call import one_call


class NoOp:
    """The least an adapter's run() can be: a bound method that returns at once."""

    def run(self) -> None:
        return


class _Arrays:
    """What a framework without bindings has: a method that takes an array to its place, another that gives one back."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self._array = self._result = object()
        self._inputs, self._outputs = range(inputs), range(outputs)

    def _set(self, place: int, array: object) -> None:
        return

    def _get(self, place: int) -> object:
        return self._array


class OneArray(_Arrays):
    """Feeds one array and reads one, as adapters did that took one input and gave one output."""

    def run(self) -> None:
        self._set(0, self._array)
        self._result = self._get(0)


class FiveArrays(_Arrays):
    """Three in and two out, written down for a model that has just these."""

    def run(self) -> None:
        self._set(0, self._array)
        self._set(1, self._array)
        self._set(2, self._array)
        self._result = [self._get(0), self._get(1)]


class NamedArrays(_Arrays):
    """Any number of arrays by name, as adapters feed them: names and places are looked up before (one_call.py)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self._put = one_call(self._set, [(place, self._array) for place in self._inputs])
        self._take = one_call(self._get, [(place,) for place in self._outputs])

    def run(self) -> None:
        self._put()
        self._result = self._take()


def measure_named(count: int = 10_000, rounds: int = 100) -> Dict[str, float]:
    """What arrays by name cost an inference: named_ns with one array in and one out, named_five_ns with three in and two out.

    Differences to the same written down without names, by turns; of each the best of the rounds, in time on the CPU.
    """
    costs = {}
    for key, plain, named in (
        ("named_ns", OneArray(1, 1).run, NamedArrays(1, 1).run),
        ("named_five_ns", FiveArrays(3, 2).run, NamedArrays(3, 2).run),
    ):
        without, by_name = _best_of_alternating(plain, named, count, rounds)
        costs[key] = by_name - without
    return costs


def _best_of_alternating(
    one: Callable[[], None], other: Callable[[], None], count: int, rounds: int
) -> Tuple[float, float]:
    """The least CPU time of a call, in ns, of either: rounds by turns, so that neither has the quieter machine."""
    clock = time.thread_time_ns  # of this thread alone: a neighbour's load does not show
    best = [math.inf, math.inf]
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for number, run in enumerate((one, other)):
                begin = clock()
                for _i in range(count):
                    run()
                best[number] = min(best[number], (clock() - begin) / count)
    finally:
        gc.enable()
    return best[0], best[1]


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
