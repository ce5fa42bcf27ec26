"""Ways to load a framework, one file each, found by name: scenario `single-stream` is `single_stream.py`.

Each module defines

    unsupported(cell: Cell) -> Optional[str]          # None, or why it cannot be run
    warm_up(adapter, cell, settings, progress) -> Warmup
    measure(adapter, cell, settings, warmup, progress) -> Measurement
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Callable, Optional, Protocol, cast

import numpy as np

from common.cell import Cell
from common.harness.adapter import Adapter
from common.job import Settings

#: called now and then with (images done, inferences done, share of the budget used, seconds since the begin)
Progress = Callable[[int, int, float, float], None]


@dataclass(frozen=True)
class Warmup:
    """runs: inferences made. stop: steady or budget. expected_ns: what one inference is expected to take; may be NaN."""

    runs: int
    stop: str
    expected_ns: float


@dataclass(frozen=True)
class Measurement:
    """starts_ns, ends_ns, scheduled_ns: (n,) int64 on CLOCK_MONOTONIC, see schema.SAMPLES; begin and end of the window."""

    starts_ns: np.ndarray
    ends_ns: np.ndarray
    scheduled_ns: Optional[np.ndarray]
    begin_ns: int
    end_ns: int
    stop_reason: str


class Scenario(Protocol):
    def unsupported(self, cell: Cell) -> Optional[str]: ...

    def warm_up(self, adapter: Adapter, cell: Cell, settings: Settings, progress: Progress) -> Warmup: ...

    def measure(
        self, adapter: Adapter, cell: Cell, settings: Settings, warmup: Warmup, progress: Progress
    ) -> Measurement: ...


def find(name: str) -> Optional[Scenario]:
    """The module of a scenario, None where this harness has none of that name."""
    module = f"{__name__}.{name.replace('-', '_')}"
    if not name.replace("-", "").isalnum() or importlib.util.find_spec(module) is None:
        return None
    return cast(Scenario, importlib.import_module(module))
