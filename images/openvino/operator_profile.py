"""OpenVINO's counters of a request, as records of operators for `invoke explain`.

https://docs.openvino.ai: ov::enable_profiling ("PERF_COUNT") and InferRequest.profiling_info, in which nodes stand in the order
of their execution, each with the duration of the last inference in whole microseconds. When a node began is not told.
"""

from __future__ import annotations

import time
from typing import Any, List, NamedTuple, Sequence, Tuple

from common.harness.tracing import CannotTrace, Record, Recording


class Node(NamedTuple):
    """One node that was executed. kernel: OpenVINO's own name of what computed it, such as brgconv_avx512_1x1_f32."""

    kind: str
    name: str
    kernel: str
    duration_ns: int


class OpenVinoProfiler:
    """Counters belong to the compiled model, so this comes before the adapter compiles."""

    source = "OpenVINO's counters"

    def __init__(self, adapter: Any, version: str) -> None:
        self._adapter, self._version = adapter, version
        self._runs: List[Tuple[int, int, Sequence[Any]]] = []

    def start(self) -> None:
        self._runs.clear()

    def run(self) -> None:
        """The counters are read after the inference's end: the next one overwrites them."""
        start_ns = time.monotonic_ns()
        self._adapter.run()
        end_ns = time.monotonic_ns()
        self._runs.append((start_ns, end_ns, self._adapter.counters()))

    def stop(self) -> Recording:
        runs = [(start_ns, end_ns, _executed(counters)) for start_ns, end_ns, counters in self._runs]
        self._runs.clear()
        return recording(runs, self._version)


def recording(runs: Sequence[Tuple[int, int, Sequence[Node]]], version: str) -> Recording:
    """runs: (start_ns, end_ns, nodes) of each inference. The nodes are put one after the other from the inference's begin.

    What the counters tell beyond the inference's wall is cut off and said. Raises CannotTrace where no node was executed.
    """
    records: List[Record] = []
    beyond_ns = 0
    for start_ns, end_ns, nodes in runs:
        at_ns = start_ns
        for node in nodes:
            until_ns = min(at_ns + node.duration_ns, end_ns)
            beyond_ns += at_ns + node.duration_ns - until_ns
            name = f"{node.kind} [depthwise]" if "_dw_" in f"{node.kernel}_" else node.kind
            if until_ns > at_ns:
                records.append(Record("operator", name, at_ns, until_ns, node.name, stream=0, correlation=len(records)))
            at_ns = until_ns
    if not records:
        raise CannotTrace("OpenVINO's counters tell no operator that was executed")
    notes = ["OpenVINO tells how long each operator took, not when: they stand in a row from the inference's begin"]
    if beyond_ns:
        notes.append(
            f"{beyond_ns / len(runs) / 1000:.0f} us of operators an inference did not fit into it and are left out"
        )
    return Recording(records, version, message="; ".join(notes))


def _executed(counters: Sequence[Any]) -> List[Node]:
    """Of ov.ProfilingInfo: the nodes that were executed; what was fused into another has no time of its own."""
    return [
        Node(one.node_type, one.node_name, one.exec_type, round(one.real_time.total_seconds() * 1e6) * 1000)
        for one in counters
        if one.status == type(one.status).EXECUTED
    ]
