"""One inference after the other, each waited for: what a program that has one picture after another sees."""

from __future__ import annotations

import math
from typing import Optional

from common.cell import Cell
from common.harness import loop
from common.harness.scenarios import Measurement, Progress, Stage, Warmup
from common.harness.stopping import StoppingRule, WarmupRule
from common.job import Settings

#: sizes the first block when there was no warm-up to learn from
_GUESS_NS = 1e8


def unsupported(cell: Cell) -> Optional[str]:
    if cell.streams != 1:
        return f"single-stream keeps one inference in flight, not {cell.streams}"
    return None


def warm_up(stage: Stage, cell: Cell, settings: Settings, progress: Progress) -> Warmup:
    budget = settings.warmup_max_seconds

    def report(runs: int, elapsed: float) -> None:
        progress(runs * cell.batch_size, runs, min(1.0, elapsed / budget), elapsed)

    return Warmup(*loop.warm_up(stage.adapter.run, WarmupRule(), budget, report))


def measure(stage: Stage, cell: Cell, settings: Settings, warmup: Warmup, progress: Progress) -> Measurement:
    least = max(settings.min_samples, math.ceil(settings.min_images / cell.batch_size))
    rule = StoppingRule(settings.min_seconds, least, settings.max_seconds, settings.precision_of_median)

    def report(runs: int, elapsed: float) -> None:
        progress(runs * cell.batch_size, runs, min(1.0, elapsed / settings.max_seconds), elapsed)

    expected = _GUESS_NS if math.isnan(warmup.expected_ns) else warmup.expected_ns
    window = loop.measure(stage.adapter.run, rule, settings.max_seconds, expected, report)
    reason = rule.finished()
    assert reason is not None
    return Measurement(window.starts_ns, window.ends_ns, None, window.begin_ns, window.end_ns, reason)
