"""The traced window as the worker sees it: which recorder, and rows for the cell's files."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from common.harness import tracing
from common.harness.adapter import Adapter
from common.harness.tracing import CannotTrace, Recorder, Recording, Trace
from common.job import Settings


def attach_to_gpu() -> Recorder:
    """CUPTI, ready before the adapter is made anew. Raises CannotTrace."""
    from common.harness.tracing import cupti_activity

    return cupti_activity.attach()


def profiler_of(adapter: Adapter) -> Recorder:
    """The framework's own profiler of operators on the CPU. Raises CannotTrace where the adapter brings none.

    adapter: fresh, not loaded: some profilers must be on when the model is.
    """
    hook: Optional[Callable[[], Optional[Recorder]]] = getattr(adapter, "operator_profiler", None)
    recorder = hook() if hook is not None else None
    if recorder is None:
        raise CannotTrace(
            "this adapter has no profiler of operators for the CPU: images/_template/README.md says how to add one"
        )
    return recorder


def record(plain: Adapter, adapter: Adapter, recorder: Recorder, settings: Settings) -> Trace:
    """The window of two prepared adapters (or one); what goes wrong in it becomes its message.

    plain: runs what is not recorded. adapter: what is; a framework's own profiler has its own way to run it.
    """
    if recorder.source == "cupti":
        recorder.run = adapter.run  # type: ignore[method-assign]
    try:
        return tracing.trace(plain.run, recorder, settings.trace_runs, settings.trace_seconds)
    except CannotTrace as error:
        return failed(error, recorder.source)
    except Exception as error:
        if recorder.source == "cupti":
            from common.harness.tracing.cupti_activity import cure

            return failed(CannotTrace(cure(error)), recorder.source)
        return failed(error, recorder.source)


def failed(error: BaseException, source: str = "") -> Trace:
    text = str(error).strip().splitlines()
    name = "" if isinstance(error, CannotTrace) else f"{type(error).__name__}: "
    return Trace(source, Recording([], message=name + (text[0] if text else "no reason given")))


def rows(trace: Trace) -> Dict[str, Iterator[Dict[str, Any]]]:
    """File of the cell -> its rows; kernels.csv and traced.csv are left out where nothing was recorded."""
    files: Dict[str, Iterator[Dict[str, Any]]] = {"trace.csv": iter([_facts(trace)])}
    if trace.walls:
        files["traced.csv"] = _walls(trace)
        files["kernels.csv"] = _kernels(trace)
    return files


def _facts(trace: Trace) -> Dict[str, Any]:
    recording = trace.recording
    return {
        "source": trace.source or None,
        "source_version": recording.version or None,
        "message": recording.message or None,
        "records": len(recording.records),
        "dropped": recording.dropped,
        "clock_error_ns": recording.clock_error_ns,
    }


def _walls(trace: Trace) -> Iterator[Dict[str, Any]]:
    groups: Tuple[Tuple[int, Any], ...] = ((0, trace.untraced), (1, trace.walls))
    for traced, walls in groups:
        for i, (start_ns, end_ns) in enumerate(walls):
            yield {"i": i, "traced": traced, "start_ns": start_ns, "end_ns": end_ns}


def _kernels(trace: Trace) -> Iterator[Dict[str, Any]]:
    records = sorted(trace.recording.records, key=lambda record: (record.start_ns, record.end_ns))
    starts = [record.start_ns for record in records]
    inferences = tracing.inference_of(starts, trace.walls, trace.recording.clock_error_ns or 0)
    threads: Dict[Optional[int], int] = {}
    lines: List[Dict[str, Any]] = []
    for i, (record, inference) in enumerate(zip(records, inferences)):
        row = {name: value if value != "" else None for name, value in record._asdict().items()}
        if record.kind not in ("kernel", "memcpy", "memset"):
            row["stream"] = threads.setdefault(record.stream, len(threads))
        lines.append({"i": i, "inference": inference, **row})
    return iter(lines)
