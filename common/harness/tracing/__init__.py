"""The traced window of a cell: which kernels, copies and operators an inference is made of.

It comes after the measured window and apart from it, so that no figure of speed or energy is taken while recording. A
worker that has traced measures nothing more: what a recorder leaves in a process cannot be known.

    |-- without --|-- settle --|== recorded ==|-- without --|      each: trace_runs inferences, one after the other

On a GPU the recorder is CUPTI (`cupti_activity`), the same for every framework; on the CPU it is the framework's own
profiler, which the adapter brings (`operator_profiler`, see common/harness/adapter.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Callable, List, NamedTuple, Optional, Protocol, Sequence, Tuple

import numpy as np

Wall = Tuple[int, int]

#: inferences that are recorded and thrown away: the first ones make the recorder's buffers
SETTLE_RUNS = 3
#: at least this many, however long they take
LEAST_RUNS = 3


class Record(NamedTuple):
    """One row of kernels.csv but for its numbers; see common/schema.py. Times on CLOCK_MONOTONIC."""

    kind: str
    name: str
    start_ns: int
    end_ns: int
    detail: str = ""
    stream: Optional[int] = None
    bytes: Optional[int] = None
    graph: Optional[int] = None
    graph_node: Optional[int] = None
    correlation: Optional[int] = None


class Recorder(Protocol):
    """Records what happens between start() and stop(), once. stop() tells the records of the runs that settle too."""

    source: str

    def start(self) -> None: ...

    def run(self) -> None:
        """One inference, recorded."""

    def stop(self) -> Recording: ...


@dataclass
class Recording:
    """What a recorder saw. dropped: records that it lost, None where it does not tell. message: what the records lack."""

    records: List[Record]
    version: str = ""
    dropped: Optional[int] = None
    clock_error_ns: Optional[int] = None
    message: str = ""


@dataclass
class Trace:
    """All of a traced window. walls: (start_ns, end_ns) of the recorded inferences; untraced: of those without."""

    source: str = ""
    recording: Recording = field(default_factory=lambda: Recording([]))
    walls: Sequence[Wall] = ()
    untraced: Sequence[Wall] = ()


class CannotTrace(Exception):
    """Nothing can be recorded here: one line with the cure."""


def trace(run: Callable[[], None], recorder: Recorder, runs: int, seconds: float) -> Trace:
    """Runs the window. run: one inference that is not recorded. Raises what run and the recorder raise."""
    before = _walls(run, runs, seconds / 4)
    count = len(before)
    recorder.start()
    _walls(recorder.run, SETTLE_RUNS, None)
    walls = _walls(recorder.run, count, None)
    recording = recorder.stop()
    begin_ns = walls[0][0] - (recording.clock_error_ns or 0)
    recording.records = [record for record in recording.records if record.start_ns >= begin_ns]
    return Trace(recorder.source, recording, walls, [*before, *_walls(run, count, None)])


def _walls(run: Callable[[], None], count: int, seconds: Optional[float]) -> List[Wall]:
    """(start_ns, end_ns) of each of `count` inferences; of fewer, but LEAST_RUNS, when the time is up."""
    walls: List[Wall] = []
    begin = time.monotonic_ns()
    while len(walls) < count:
        if seconds is not None and len(walls) >= LEAST_RUNS and time.monotonic_ns() - begin > seconds * 1e9:
            break
        start_ns = time.monotonic_ns()
        run()
        walls.append((start_ns, time.monotonic_ns()))
    return walls


def inference_of(starts_ns: Sequence[int], walls: Sequence[Wall], slack_ns: int = 0) -> List[Optional[int]]:
    """For each record's start the number of the inference that it lies in, None for none.

    slack_ns: error of the recorder's clock: a record that begins so little before its inference still belongs to it.
    """
    if not walls:
        return [None] * len(starts_ns)
    begins = np.array([start for start, _ in walls], dtype=np.int64)
    ends = np.array([end for _, end in walls], dtype=np.int64)
    instants = np.array(starts_ns, dtype=np.int64)
    places = np.searchsorted(begins, instants + slack_ns, side="right") - 1
    inside = (places >= 0) & (instants <= ends[np.maximum(places, 0)] + slack_ns)
    return [int(place) if ok else None for place, ok in zip(places, inside)]
