"""Ways to load a framework, one file each, found by name: scenario `single-stream` is `single_stream.py`.

Each module defines

    unsupported(cell: Cell) -> Optional[str]          # None, or why it cannot be run
    warm_up(stage, cell, settings, progress) -> Warmup
    measure(stage, cell, settings, warmup, progress) -> Measurement
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, Optional, Protocol, cast

import numpy as np

from common.cell import Cell
from common.harness import parity
from common.harness.adapter import Adapter, Arrays
from common.job import Settings

#: called now and then with (images done, inferences done, share of the budget used, seconds since the begin)
Progress = Callable[[int, int, float, float], None]


class OutputDiffers(Exception):
    """An inference as this scenario runs it gives another output than run(): a `parity_failed` row with this message."""


@dataclass(frozen=True)
class Stage:
    """What a scenario has to play with.

    adapter: prepared for the cell's shape, its input in place, its parity known; for use in the thread that was given it.
    expected: its outputs of run() for that input, by name. precision: of the cell.
    another: makes one more adapter like it (framework already imported), loaded and prepared, with the same input in
        place; is called in the thread that will use it, and closed there. Raises what an adapter may raise.
    seed: of the job; equal for all frameworks, so that all meet the same arrivals.
    """

    adapter: Adapter
    expected: Arrays
    precision: str
    another: Callable[[], Adapter]
    seed: int

    def check(self, adapter: Adapter, what: str) -> None:
        """Raises OutputDiffers unless the adapter's last output is what run() gave, within the precision's tolerance."""
        tolerance = parity.TOLERANCES[self.precision][1]
        got = adapter.output()
        for name, wanted in self.expected.items():
            error = parity.differing(np.asarray(got[name]), wanted)
            if not error <= tolerance:  # written so that NaN fails
                which = f" ('{name}')" if len(self.expected) > 1 else ""
                raise OutputDiffers(
                    f"{what}{which} differs from run() by {error:.3g} (relative L2), over {tolerance:g}"
                )


def held(outputs: Arrays) -> Arrays:
    """A copy of an adapter's outputs, which it may overwrite; floats as float32."""
    return {
        name: np.array(values, dtype=np.float32 if values.dtype.kind == "f" else values.dtype)
        for name, values in outputs.items()
    }


@dataclass(frozen=True)
class Warmup:
    """runs: inferences made. stop: steady or budget. expected_ns: what one inference is expected to take; may be NaN.

    carried: what warm_up() hands on to measure() of the same scenario.
    """

    runs: int
    stop: str
    expected_ns: float
    carried: Any = None


@dataclass(frozen=True)
class Measurement:
    """starts_ns, ends_ns, scheduled_ns: (n,) int64 on CLOCK_MONOTONIC, see schema.SAMPLES; begin and end of the window.

    notes: choices of the scenario, for the column `settings`. failure: why the scenario's demand was not met, "" where it was;
    the cell is then a `timeout` row with this message.
    """

    starts_ns: np.ndarray
    ends_ns: np.ndarray
    scheduled_ns: Optional[np.ndarray]
    begin_ns: int
    end_ns: int
    stop_reason: str
    notes: Dict[str, str] = field(default_factory=dict)
    failure: str = ""


class Scenario(Protocol):
    def unsupported(self, cell: Cell) -> Optional[str]: ...

    def warm_up(self, stage: Stage, cell: Cell, settings: Settings, progress: Progress) -> Warmup: ...

    def measure(
        self, stage: Stage, cell: Cell, settings: Settings, warmup: Warmup, progress: Progress
    ) -> Measurement: ...


def find(name: str) -> Optional[Scenario]:
    """The module of a scenario, None where this harness has none of that name."""
    module = f"{__name__}.{name.replace('-', '_')}"
    if not name.replace("-", "").isalnum() or importlib.util.find_spec(module) is None:
        return None
    return cast(Scenario, importlib.import_module(module))


def for_one_adapter(cell: Cell) -> Cell:
    """The cell as one adapter shall see it: multi-stream gives each stream an adapter with one inference in flight."""
    return replace(cell, scenario="single-stream", streams=1) if cell.scenario == "multi-stream" else cell
