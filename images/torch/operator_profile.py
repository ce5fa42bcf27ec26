"""torch.profiler on the CPU, as records of operators for `invoke explain`."""

from __future__ import annotations

import time
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from common.harness.tracing import CannotTrace, Record, Recording, clocks
from common.harness.tracing.nesting import Event, innermost

#: name of the frame around each inference
_FRAME = "framewatt inference"


class Call(NamedTuple):
    """One event of Kineto. shapes: of the operator's inputs."""

    name: str
    thread: int
    start_ns: int
    end_ns: int
    shapes: Sequence[Sequence[int]] = ()


class TorchProfiler:
    source = "torch.profiler"

    def __init__(self, adapter: Any, torch: Any) -> None:
        self._adapter, self._torch = adapter, torch
        self._walls: List[Tuple[int, int]] = []

    def start(self) -> None:
        profiler = self._torch.profiler
        self._profile = profiler.profile(activities=[profiler.ProfilerActivity.CPU], record_shapes=True)
        self._profile.start()

    def run(self) -> None:
        with self._torch.profiler.record_function(_FRAME):
            start_ns = time.monotonic_ns()
            self._adapter.run()
            self._walls.append((start_ns, time.monotonic_ns()))

    def stop(self) -> Recording:
        self._profile.stop()
        calls = [
            Call(
                event.name(),
                event.start_thread_id(),
                event.start_ns(),
                event.start_ns() + event.duration_ns(),
                _shapes(event),
            )
            for event in self._profile.profiler.kineto_results.events()
        ]
        return recording(calls, self._walls, self._torch.__version__)


def _shapes(event: Any) -> Sequence[Sequence[int]]:
    return [list(shape) for shape in event.shapes()]


def recording(calls: Sequence[Call], walls: Sequence[Tuple[int, int]], version: str) -> Recording:
    """The calls on CLOCK_MONOTONIC, so that no two of a thread overlap. walls: of the runs, one for each frame."""
    frames = sorted((call.start_ns, call.end_ns) for call in calls if call.name == _FRAME)
    try:
        offset, error = clocks.offset_of_frames(walls, frames)
    except ValueError as reason:
        raise CannotTrace(f"torch.profiler cannot be put on the clock: {reason}") from reason
    threads: Dict[int, List[Event]] = {}
    for call in calls:
        name = _operator(call)
        event = Event(name, call.start_ns + offset, call.end_ns + offset, ignored=name == _FRAME)
        threads.setdefault(call.thread, []).append(event)
    records: List[Record] = []
    first = 0
    for thread, events in threads.items():
        records += innermost(events, thread, first)
        first += len(events)
    return Recording(records, version, clock_error_ns=error)


def _operator(call: Call) -> str:
    """The operator's name; a convolution of one input channel for each group is called depthwise."""
    if "conv" in call.name and len(call.shapes) > 1:
        image, weights = call.shapes[:2]
        if len(weights) == 4 and weights[1] == 1 and len(image) == 4 and image[1] > 1:
            return f"{call.name} [depthwise]"
    return call.name
