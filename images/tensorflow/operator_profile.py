"""TensorFlow's profiler on the CPU, as records of operators for `invoke explain`.

It tells operators of a graph by their type, those of XLA's programs by the name of their fusion, and those that Python calls
one by one as a call of the kernel inside a call of the operator.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from common.harness.tracing import CannotTrace, Record, Recording, clocks
from common.harness.tracing.nesting import Event, innermost

_FRAME = "framewatt inference"
_EAGER = "EagerLocalExecute: "
_KERNEL = "KernelAndDeviceFunc::Run"


class Call(NamedTuple):
    """One event of the host's plane. kind: type of operator where it is one; fusion: its name in an XLA program."""

    name: str
    thread: int
    start_ns: int
    end_ns: int
    kind: str = ""
    fusion: str = ""


class TensorFlowProfiler:
    source = "TensorFlow's profiler"

    def __init__(self, adapter: Any, tf: Any) -> None:
        self._adapter, self._tf = adapter, tf
        self._profiler = tf.profiler.experimental
        self._walls: List[Tuple[int, int]] = []

    def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="framewatt-")
        options = self._profiler.ProfilerOptions(host_tracer_level=2, python_tracer_level=0, device_tracer_level=0)
        self._profiler.start(self._folder.name, options=options)

    def run(self) -> None:
        with self._profiler.Trace(_FRAME):
            start_ns = time.monotonic_ns()
            self._adapter.run()
            self._walls.append((start_ns, time.monotonic_ns()))

    def stop(self) -> Recording:
        self._profiler.stop()
        files = sorted(Path(self._folder.name).rglob("*.xplane.pb"))
        if not files:
            raise CannotTrace("TensorFlow's profiler wrote no profile")
        space = _planes_module().XSpace()
        space.ParseFromString(files[-1].read_bytes())
        self._folder.cleanup()
        return recording(list(_calls(space)), self._walls, self._tf.__version__)


def _planes_module() -> Any:
    for name in ("tensorflow.tsl.profiler.protobuf.xplane_pb2", "tsl.profiler.protobuf.xplane_pb2"):
        try:
            return importlib.import_module(name)
        except ImportError:  # noqa: PERF203
            continue
    raise CannotTrace("this TensorFlow has no reader of its own profiles (xplane_pb2)")


def _calls(space: Any) -> Iterator[Call]:
    for plane in space.planes:
        if not plane.name.startswith("/host:CPU"):
            continue
        names = {number: known.name for number, known in plane.stat_metadata.items()}
        for thread, line in enumerate(plane.lines):
            for event in line.events:
                about = plane.event_metadata[event.metadata_id]
                start_ns = line.timestamp_ns + event.offset_ps // 1000
                end_ns = line.timestamp_ns + (event.offset_ps + event.duration_ps) // 1000
                fusion = next((_text(stat, names) for stat in event.stats if names[stat.metadata_id] == "hlo_op"), "")
                yield Call(about.name, thread, start_ns, end_ns, about.display_name, fusion)


def _text(stat: Any, names: Dict[int, str]) -> str:
    return stat.str_value or names.get(stat.ref_value, "")


def recording(calls: Sequence[Call], walls: Sequence[Tuple[int, int]], version: str) -> Recording:
    """The operators on CLOCK_MONOTONIC. walls: of the runs, one for each frame."""
    frames = sorted((call.start_ns, call.end_ns) for call in calls if call.name == _FRAME)
    try:
        offset, error = clocks.offset_of_frames(walls, frames)
    except ValueError as reason:
        raise CannotTrace(f"TensorFlow's profile cannot be put on the clock: {reason}") from reason
    threads: Dict[int, List[Call]] = {}
    for call in calls:
        threads.setdefault(call.thread, []).append(call)
    records: List[Record] = []
    first = 0
    for thread, some in threads.items():
        events = [
            event._replace(start_ns=event.start_ns + offset, end_ns=event.end_ns + offset) for event in operators(some)
        ]
        records += innermost(events, thread, first)
        first += len(events)
    return Recording(records, version, clock_error_ns=error)


def operators(calls: Iterable[Call]) -> Iterator[Event]:
    """Those calls of one thread that compute: of a graph, of an XLA program, or one that Python made."""
    eager: List[Call] = []
    for call in sorted(calls, key=lambda call: (call.start_ns, -call.end_ns)):
        if call.fusion:
            yield Event(call.fusion, call.start_ns, call.end_ns)
        elif call.kind and not call.kind.startswith("__inference"):
            yield Event(call.kind, call.start_ns, call.end_ns, call.name.rpartition(":")[0])
        elif call.name.startswith(_EAGER):
            eager.append(call)
        elif call.name == _KERNEL:
            operator = _caller(eager, call)
            if operator is not None and not operator.startswith("__"):
                yield Event(operator, call.start_ns, call.end_ns)


def _caller(eager: List[Call], kernel: Call) -> Optional[str]:
    """The operator whose kernel this is: the last one begun that has not ended."""
    while eager and eager[-1].end_ns < kernel.end_ns:
        eager.pop()
    return eager[-1].name[len(_EAGER) :] if eager else None
