"""CUPTI's activity records of this process, by NVIDIA's package `cupti-python`: the same for every framework.

Records: CUPTI, "Activity API" (https://docs.nvidia.com/cupti/): kernels, copies and memsets with their times on the GPU, inside
CUDA graphs too, each node for itself; of the host's calls those that launch, copy, set or wait.

attach() comes before the framework captures a graph: CUPTI tells the kernels of a graph only where it was there when the
graph was made. Between attach() and start() nothing is recorded.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from typing import Any, Callable, Dict, Iterable, List, Optional

from common.harness.tracing import CannotTrace, Record, Recording, clocks
from common.harness.tracing.demangling import demangle
from common.text import first_line

#: bytes of one buffer of records: large, so that none is handed over in the middle of the window
BUFFER_BYTES = 16 * 2**20
_COPIES = {1: "H2D", 2: "D2H", 8: "D2D", 10: "P2P"}  # CUpti_ActivityMemcpyKind
#: Calls of runtime and driver that are worth a record; names of CUPTI's callbacks, versions cut off.
_CALLS = (
    ("graph_launch", re.compile(r"^cu(da)?GraphLaunch")),
    ("launch", re.compile(r"^cu(da)?Launch")),
    (
        "sync",
        re.compile(r"^cu(da)?(Ctx|Device|Stream|Event)Synchronize|^cu(da)?Mem(cpy|set)(?!.*(Async|Batch|Get|Node))"),
    ),
    ("copy_call", re.compile(r"^cu(da)?Mem(cpy|set).*Async")),
)
_VERSION = re.compile(r"(_ptsz|_ptds)?(_v\d+)?(_ptsz|_ptds)?$")


def attach() -> CuptiRecorder:
    """Loads CUPTI into this process. Raises CannotTrace with the cure where that does not work."""
    try:
        from cupti import cupti  # type: ignore[import-not-found]
    except (ImportError, OSError) as error:
        raise CannotTrace(
            f"no CUPTI in the worker's Python ({first_line(error)}): python3 -m pip install cupti-python, of the CUDA version that "
            "the framework was built for"
        ) from error
    recorder = CuptiRecorder(cupti)
    try:
        recorder.enable()
        recorder.disable()
    except Exception as error:
        raise CannotTrace(cure(error)) from error
    return recorder


def cure(error: BaseException) -> str:
    """What CUPTI refused, in one line that says what to do about it."""
    text = first_line(error)
    upper = text.upper()
    if "PRIVILEGES" in upper or "PERMISSION" in upper:
        return (
            f"the driver keeps profiling for administrators ({text}): set the option "
            "NVreg_RestrictProfilingToAdminUsers=0 of the kernel module nvidia and reload it, or run as root"
        )
    if "MULTIPLE_SUBSCRIBERS" in upper:
        return f"another profiler is attached to this process ({text}): run without nsys, ncu or Kineto"
    if "NOT_COMPATIBLE" in upper or "NOT_SUPPORTED" in upper or "INVALID_DEVICE" in upper:
        return (
            f"CUPTI does not fit this driver or GPU ({text}): install the cupti-python of the CUDA that nvidia-smi names, or a "
            "newer driver"
        )
    return f"CUPTI cannot be used: {text}"


def call_kind(name: str) -> Optional[str]:
    """Kind of record for a call of CUDA by the name of its callback, None for one that is not recorded."""
    plain = _VERSION.sub("", name)
    return next((kind for kind, pattern in _CALLS if pattern.search(plain)), None)


class CuptiRecorder:
    """cupti: the module of that name. run: one inference, set by the worker."""

    source = "cupti"

    def __init__(self, cupti: Any) -> None:
        self._cupti = cupti
        self._rows: List[Record] = []
        self._registered = False
        self._begin: Optional[clocks.Reading] = None
        self._strange: Dict[str, int] = {}
        #: whether calls are chosen one by one; None until a run has shown that CUPTI then tells them
        self._choosing: Optional[bool] = None
        self.run: Callable[[], None] = lambda: None
        kinds = cupti.ActivityKind
        self._device_kinds = (kinds.CONCURRENT_KERNEL, kinds.MEMCPY, kinds.MEMCPY2, kinds.MEMSET)
        self._call_names = {
            int(kinds.RUNTIME): _call_names(getattr(cupti, "runtime_api_trace_cbid", ())),
            int(kinds.DRIVER): _call_names(getattr(cupti, "driver_api_trace_cbid", ())),
        }

    # --- on and off -------------------------------------------------------------------------------------------------

    def enable(self) -> None:
        """Records from now on. Raises what CUPTI raises."""
        if not self._registered:
            self._cupti.activity_register_callbacks(lambda: (BUFFER_BYTES, 0), self._take)
            self._registered = True
        for kind in self._device_kinds:
            self._cupti.activity_enable(kind)
        self._switch_calls(1)

    def disable(self) -> None:
        for kind in self._device_kinds:
            self._cupti.activity_disable(kind)
        self._switch_calls(0)

    def _switch_calls(self, on: int) -> None:
        """Only the calls that are recorded, where this CUPTI can choose them; else all, of which the others are dropped."""
        kinds = self._cupti.ActivityKind
        for kind, function in (
            (kinds.RUNTIME, "activity_enable_runtime_api"),
            (kinds.DRIVER, "activity_enable_driver_api"),
        ):
            choose = getattr(self._cupti, function, None) if self._choosing is not False else None
            chosen = 0
            for number in self._call_names[int(kind)] if choose else ():
                with contextlib.suppress(Exception):  # a call that this driver does not have
                    choose(number, on)  # type: ignore[misc]
                    chosen += 1
            if not chosen:
                (self._cupti.activity_enable if on else self._cupti.activity_disable)(kind)

    # --- one window -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._choosing is None:
            self._choosing = self._reports_chosen_calls()
        self._rows.clear()
        self._strange.clear()
        self._dropped()  # reading it sets it back
        self._begin = clocks.read(self._cupti.get_timestamp)
        self.enable()

    def _reports_chosen_calls(self) -> bool:
        """Tried by one inference: CUPTI 13.0 took the choice on an H200 and reported not one call, only all or none of them."""
        self._rows.clear()
        self.enable()
        try:
            self.run()
            self._cupti.activity_flush_all(1)
        finally:
            self.disable()
        return not _without_calls(self._rows)

    def stop(self) -> Recording:
        self._cupti.activity_flush_all(1)
        self.disable()
        end = clocks.read(self._cupti.get_timestamp)
        assert self._begin is not None
        line = clocks.Line(self._begin, end)
        names = demangle({row.name for row in self._rows if row.kind == "kernel"})
        rows = [
            row._replace(
                name=names.get(row.name, row.name),
                start_ns=line.monotonic_ns(row.start_ns),
                end_ns=line.monotonic_ns(row.end_ns),
            )
            for row in self._rows
        ]
        self._rows.clear()
        return Recording(rows, _version(), self._dropped(), line.error_ns, _lacks(rows, self._strange))

    def _dropped(self) -> Optional[int]:
        """Records lost since it was last asked, None where this CUPTI does not tell."""
        number = ctypes.c_size_t(0)
        try:
            self._cupti.activity_get_num_dropped_records(0, 0, ctypes.addressof(number))
        except Exception:
            return None
        return int(number.value)

    def _take(self, activities: Iterable[Any]) -> None:
        """Copies what is needed out of CUPTI's buffer, which is gone after this call. Never raises into CUPTI."""
        for activity in activities:
            try:
                row = self._row(activity)
            except Exception as error:
                name = f"{type(error).__name__}: {first_line(error)}"
                self._strange[name] = self._strange.get(name, 0) + 1
                continue
            if row is not None:
                self._rows.append(row)

    def _row(self, activity: Any) -> Optional[Record]:
        kind = int(activity.kind)
        kinds = self._cupti.ActivityKind
        if kind in self._call_names:
            name = self._call_names[kind].get(int(activity.cbid))
            if name is None:
                return None
            return Record(
                call_kind(name) or "", name, int(activity.start), int(activity.end),
                stream=int(activity.thread_id), correlation=int(activity.correlation_id),
            )  # fmt: skip
        if kind in (int(kinds.CONCURRENT_KERNEL), int(getattr(kinds, "KERNEL", -1))):
            return _on_device("kernel", str(activity.name), activity)
        if kind == int(kinds.MEMSET):
            return _on_device("memset", "memset", activity)._replace(bytes=int(activity.bytes))
        if kind in (int(kinds.MEMCPY), int(kinds.MEMCPY2)):
            direction = _COPIES.get(int(activity.copy_kind), "other")
            return _on_device("memcpy", f"memcpy {direction}", activity)._replace(
                detail=direction, bytes=int(activity.bytes)
            )
        return None


def _on_device(kind: str, name: str, activity: Any) -> Record:
    graph = int(getattr(activity, "graph_id", 0) or 0)
    return Record(
        kind, name, int(activity.start), int(activity.end),
        stream=int(activity.stream_id),
        graph=graph or None,
        graph_node=int(activity.graph_node_id) if graph else None,
        correlation=int(activity.correlation_id),
    )  # fmt: skip


def _call_names(callbacks: Any) -> Dict[int, str]:
    """Number -> name, of the callbacks of one domain whose calls are recorded."""
    found: Dict[int, str] = {}
    for callback in callbacks:
        # what clashes with a word of the package is spelt _runtime_api_trace_cbid__cudaLaunchKernel_v13000
        name = callback.name.rpartition("cbid__")[2]
        if call_kind(name):
            found[int(callback)] = _VERSION.sub("", name)
    return found


def _lacks(rows: List[Record], strange: Dict[str, int]) -> str:
    """What a reader of the records must know: kernels of graphs that CUPTI did not tell, records whose sense it kept to itself."""
    notes = [f"{count} records could not be read ({what})" for what, count in strange.items()]
    if _without_calls(rows):
        notes.append("CUPTI reported no calls of the host: launches are not counted, and its waiting is taken for work")
    launched = {row.correlation for row in rows if row.kind == "graph_launch"}
    seen = {row.correlation for row in rows if row.kind in ("kernel", "memcpy", "memset")}
    lost = len(launched - seen)
    if lost:
        notes.append(f"{lost} of {len(launched)} launches of CUDA graphs have no kernels in the records")
    no_clock = sum(row.end_ns <= row.start_ns for row in rows if row.kind in ("kernel", "memcpy", "memset"))
    if no_clock:
        notes.append(f"{no_clock} records on the GPU have no times")
    return "; ".join(notes)


def _without_calls(rows: List[Record]) -> bool:
    """Whether there are kernels, but nobody who launched them."""
    kinds = {row.kind for row in rows}
    return "kernel" in kinds and not kinds - {"kernel", "memcpy", "memset"}


def _version() -> str:
    try:
        from importlib.metadata import version

        return version("cupti-python")
    except Exception:
        return ""
