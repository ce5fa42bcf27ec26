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
    print(json.dumps(measure_overhead()))
