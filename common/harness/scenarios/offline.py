"""The device kept full: all work is there from the start, and nobody waits for a single answer.

    | enqueue enqueue enqueue ... enqueue synchronize | enqueue ... synchronize |     a group: at least 0.25 s and, where
      group 0, always two or more in flight             group 1                       the budget allows, 64 inferences

The adapter contract lets one wait only for everything enqueued, so the device drains at the end of a group. What that
costs is the part of one inference that does not overlap others (its copies), so at most a 64th where groups have 64.

samples.csv has one row an inference: start_ns is when it was handed to the framework, end_ns when its group was waited
for, which is when its output is first known to be readable. Images and length of the window are exact, and so are
throughput and energy; the time from start to end of a row is no latency, and no table shows it as one.
"""

from __future__ import annotations

import math
import time
from typing import Callable, List, Optional

import numpy as np

from common.cell import Cell
from common.harness import loop
from common.harness.scenarios import Measurement, Progress, Stage, Warmup
from common.harness.stopping import StoppingRule, WarmupRule
from common.job import Settings

GROUP_SECONDS = 0.25
GROUP_INFERENCES = 64
#: so many groups fit into the budget: the stopping rule needs some to judge by
LEAST_GROUPS = 20
#: more than any adapter has buffers: each of them is looked at once before it is timed
_SLOTS_CHECKED = 4
_PILOT = 4


def unsupported(cell: Cell) -> Optional[str]:
    if cell.streams != 1:
        return f"offline is one stream of inferences, not {cell.streams}: the adapter knows how many it keeps in flight"
    return None


def group_size(inference_ns: float, max_seconds: float) -> int:
    """Inferences between two waits, at least two. inference_ns: what one takes when many are in flight."""
    wanted_ns = max(GROUP_SECONDS * 1e9, GROUP_INFERENCES * inference_ns)
    group_ns = min(wanted_ns, max_seconds * 1e9 / LEAST_GROUPS)
    return max(2, min(loop.MAX_BLOCK, round(group_ns / max(inference_ns, 1.0))))


class Group:
    """Calling it runs one group. handed_ns: when each inference of all calls was enqueued."""

    def __init__(self, stage: Stage, size: int, clock: loop.Clock = time.monotonic_ns) -> None:
        self.size = size
        self.handed_ns: List[int] = []
        self._enqueue: Callable[[], None] = stage.adapter.enqueue
        self._synchronize: Callable[[], None] = stage.adapter.synchronize
        self._clock = clock

    def __call__(self) -> None:
        note, clock, enqueue = self.handed_ns.append, self._clock, self._enqueue
        for _ in range(self.size):
            note(clock())
            enqueue()
        self._synchronize()


def warm_up(stage: Stage, cell: Cell, settings: Settings, progress: Progress) -> Warmup:
    """Raises OutputDiffers where an enqueued inference does not give what run() gave."""
    for _ in range(_SLOTS_CHECKED):
        stage.adapter.enqueue()
        stage.adapter.synchronize()
        stage.check(stage.adapter, "the output of an enqueued inference")
    pilot = Group(stage, _PILOT)
    began = time.monotonic_ns()
    pilot()
    pilot_ns = (time.monotonic_ns() - began) / _PILOT
    group = Group(stage, group_size(pilot_ns, settings.max_seconds))
    before = _SLOTS_CHECKED + _PILOT
    budget = settings.warmup_max_seconds

    def report(groups: int, elapsed: float) -> None:
        runs = before + groups * group.size
        progress(runs * cell.batch_size, runs, min(1.0, elapsed / budget), elapsed)

    groups, stop, median_ns = loop.warm_up(group, WarmupRule(), budget, report)
    expected_ns = pilot_ns if math.isnan(median_ns) else median_ns / group.size
    return Warmup(before + groups * group.size, stop, expected_ns)


def measure(stage: Stage, cell: Cell, settings: Settings, warmup: Warmup, progress: Progress) -> Measurement:
    group = Group(stage, group_size(warmup.expected_ns, settings.max_seconds))
    least = max(settings.min_samples, math.ceil(settings.min_images / cell.batch_size))
    rule = StoppingRule(
        settings.min_seconds, math.ceil(least / group.size), settings.max_seconds, settings.precision_of_median
    )

    def report(groups: int, elapsed: float) -> None:
        runs = groups * group.size
        progress(runs * cell.batch_size, runs, min(1.0, elapsed / settings.max_seconds), elapsed)

    window = loop.measure(group, rule, settings.max_seconds, warmup.expected_ns * group.size, report)
    reason = rule.finished()
    assert reason is not None
    return Measurement(
        np.array(group.handed_ns, dtype=np.int64),
        np.repeat(window.ends_ns, group.size),
        None,
        window.begin_ns,
        window.end_ns,
        reason,
        {"offline_group": f"{group.size} inferences between two waits"},
    )
