"""OpenVINO's counters of a compiled model, as records of operators for `invoke explain`.

https://docs.openvino.ai: ov::enable_profiling ("PERF_COUNT") and InferRequest.profiling_info, in which nodes stand in the order
of their execution. When a node began is not told, nor how long it took in one inference: a node's time is its mean over all
inferences since the model was compiled, whichever request ran them (perf_count.h of OpenVINO's CPU plugin: each is cut to whole
microseconds, so is the mean). Therefore the model is compiled anew for the window, and the counters are read twice: after the
inferences that settle, and at the end. n * mean(n) - m * mean(m) is a node's time in the n - m recorded inferences.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from common.harness.tracing import SETTLE_RUNS, CannotTrace, Record, Recording


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
        self._walls: List[Tuple[int, int]] = []
        self._counted = 0
        self._settled: Sequence[Node] = ()

    def start(self) -> None:
        self._walls.clear()
        self._settled = ()
        self._counted = self._adapter.count_from_zero()

    def run(self) -> None:
        start_ns = time.monotonic_ns()
        self._adapter.run()
        self._walls.append((start_ns, time.monotonic_ns()))
        if len(self._walls) == SETTLE_RUNS:
            self._settled = _executed(self._adapter.counters())

    def stop(self) -> Recording:
        settled = self._counted + SETTLE_RUNS
        nodes = between(self._settled, settled, _executed(self._adapter.counters()), self._counted + len(self._walls))
        return recording(self._walls[SETTLE_RUNS:], nodes, self._version)


def between(before: Sequence[Node], before_runs: int, after: Sequence[Node], after_runs: int) -> List[Node]:
    """The nodes with their mean time in the inferences between two readings, whose times are means since the first inference."""
    earlier: Dict[str, int] = {node.name: node.duration_ns for node in before}
    nodes = []
    for node in after:
        total_ns = after_runs * node.duration_ns - before_runs * earlier.get(node.name, 0)
        nodes.append(node._replace(duration_ns=max(0, total_ns) // (after_runs - before_runs)))
    return nodes


def recording(walls: Sequence[Tuple[int, int]], nodes: Sequence[Node], version: str) -> Recording:
    """walls: (start_ns, end_ns) of each inference. nodes: with their mean time in these. They are put one after the other from the
    inference's begin, in an inference that took longer than the mean one longer, so that their sum over all is OpenVINO's.

    What the counters tell beyond the inferences' walls is cut off and said. Raises CannotTrace where no node was executed.
    """
    mean_wall_ns = sum(end_ns - start_ns for start_ns, end_ns in walls) / max(1, len(walls))
    records: List[Record] = []
    for start_ns, end_ns in walls:
        share = (end_ns - start_ns) / mean_wall_ns
        at = 0.0
        for node in nodes:
            begin_ns = start_ns + round(at)
            at += node.duration_ns * share
            until_ns = min(start_ns + round(at), end_ns)
            name = f"{node.kind} [depthwise]" if "_dw_" in f"{node.kernel}_" else node.kind
            if until_ns > begin_ns:
                records.append(
                    Record("operator", name, begin_ns, until_ns, node.name, stream=0, correlation=len(records))
                )
    if not records:
        raise CannotTrace("OpenVINO's counters tell no operator that was executed")
    # of a node each inference is cut by up to 1 us, and the mean of all those since the compilation once more
    missing_us = len(nodes) * (2 + (SETTLE_RUNS + 1) / len(walls))
    notes = [
        "OpenVINO tells how long each operator took in the mean of the recorded inferences, not when: they stand in a row from the "
        f"inference's begin; it cuts times to whole microseconds, so up to {missing_us:.0f} us of operators an inference are missing"
    ]
    beyond_ns = sum(node.duration_ns for node in nodes) - mean_wall_ns
    if beyond_ns >= 1:
        notes.append(f"{beyond_ns / 1000:.0f} us of operators an inference did not fit into it and are left out")
    return Recording(records, version, message="; ".join(notes))


def _executed(counters: Sequence[Any]) -> List[Node]:
    """Of ov.ProfilingInfo: the nodes that were executed; what was fused into another has no time of its own."""
    return [
        Node(one.node_type, one.node_name, one.exec_type, round(one.real_time.total_seconds() * 1e6) * 1000)
        for one in counters
        if one.status == type(one.status).EXECUTED
    ]
