"""ONNX Runtime's own profile of a session, as records of operators for `invoke explain`."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from common.harness.tracing import CannotTrace, Record, Recording, clocks
from images.onnxrt import sessions

_NODE = "_kernel_time"


class OrtProfiler:
    """A profile begins with its session, so this comes before the adapter is loaded; stop() ends it."""

    source = "ONNX Runtime's profile"

    def __init__(self, adapter: Any, ort: Any) -> None:
        self._adapter = adapter
        self._version = ort.__version__
        self._folder = tempfile.TemporaryDirectory(prefix="framewatt-")
        sessions.profile_into = str(Path(self._folder.name) / "profile")
        self._walls: List[Tuple[int, int]] = []

    def start(self) -> None:
        sessions.profile_into = None
        self._walls.clear()

    def run(self) -> None:
        start_ns = time.monotonic_ns()
        self._adapter.run()
        self._walls.append((start_ns, time.monotonic_ns()))

    def stop(self) -> Recording:
        path = Path(self._adapter.session.end_profiling())
        events = json.loads(path.read_text())
        self._folder.cleanup()
        return recording(events, self._walls, self._version)


def recording(events: Sequence[Mapping[str, Any]], walls: Sequence[Tuple[int, int]], version: str) -> Recording:
    """The profile's nodes on CLOCK_MONOTONIC. walls: of the last runs in the profile, which tell how its clock stands."""
    timed = sorted((event for event in events if "dur" in event), key=lambda event: event["ts"])
    frames = [_interval(event) for event in timed if event.get("name") == "model_run"][-len(walls) :]
    try:
        offset, error = clocks.offset_of_frames(walls, frames)
    except ValueError as reason:
        raise CannotTrace(f"ONNX Runtime's profile cannot be put on the clock: {reason}") from reason
    records = []
    for event in timed:
        if event.get("cat") == "Node" and event["name"].endswith(_NODE):
            start_ns, end_ns = _interval(event)
            operator, node = _operator(event), event["name"][: -len(_NODE)]
            records.append(Record("operator", operator, start_ns + offset, end_ns + offset, node))
    return Recording(
        [record._replace(stream=0, correlation=number) for number, record in enumerate(records)],
        version,
        clock_error_ns=error,
    )


def _interval(event: Mapping[str, Any]) -> Tuple[int, int]:
    """(start, end) in ns; the profile counts whole microseconds."""
    return event["ts"] * 1000, (event["ts"] + event["dur"]) * 1000


def _operator(event: Mapping[str, Any]) -> str:
    """The operator's type; a convolution of one input channel for each group is called depthwise."""
    arguments: Mapping[str, Any] = event.get("args", {})
    name = str(arguments.get("op_name", "")) or "unknown"
    shapes: List[Dict[str, List[int]]] = arguments.get("input_type_shape", [])
    if "Conv" in name and len(shapes) > 1:
        image, weights = (next(iter(shape.values()), []) for shape in shapes[:2])
        if len(weights) == 4 and weights[1] == 1 and len(image) == 4 and image[1] > 1:
            return f"{name} [depthwise]"
    return name
