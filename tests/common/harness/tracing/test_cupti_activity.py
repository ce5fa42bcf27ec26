"""CUPTI's recorder against a module that behaves as cupti-python does: what it switches, keeps and says."""

from __future__ import annotations

import ctypes
import enum
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from common.harness.tracing import CannotTrace, cupti_activity
from common.harness.tracing.cupti_activity import CuptiRecorder, call_kind, cure


class Kind(enum.IntEnum):
    MEMCPY, MEMSET, KERNEL, DRIVER, RUNTIME, CONCURRENT_KERNEL, MEMCPY2 = 1, 2, 3, 4, 5, 10, 22


class Runtime(enum.IntEnum):
    cudaMalloc_v3020 = 20
    cudaLaunchKernel_v7000 = 211
    cudaMemcpyAsync_v3020 = 41
    cudaStreamSynchronize_v3020 = 131
    cudaGraphLaunch_v10000 = 311


class Driver(enum.IntEnum):
    cuLaunchKernelEx = 652


class FakeCupti:
    """Calls back at a flush with what the test has put in."""

    ActivityKind = Kind
    runtime_api_trace_cbid = Runtime
    driver_api_trace_cbid = Driver

    def __init__(self) -> None:
        self.on: set[int] = set()
        self.apis: set[tuple[str, int]] = set()
        self.pending: list[Any] = []
        self.dropped = 0
        self.offset = 5 * 10**17

    def activity_register_callbacks(self, request: Any, complete: Any) -> None:
        self.complete = complete
        assert request()[0] >= 2**20

    def activity_enable(self, kind: int) -> None:
        self.on.add(int(kind))

    def activity_disable(self, kind: int) -> None:
        self.on.discard(int(kind))

    def activity_enable_runtime_api(self, number: int, on: int) -> None:
        (self.apis.add if on else self.apis.discard)(("runtime", number))

    def activity_enable_driver_api(self, number: int, on: int) -> None:
        (self.apis.add if on else self.apis.discard)(("driver", number))

    def activity_flush_all(self, flag: int) -> None:
        self.complete(self.pending)
        self.pending = []

    def activity_get_num_dropped_records(self, context: int, stream: int, address: int) -> None:
        ctypes.c_size_t.from_address(address).value = self.dropped
        self.dropped = 0

    def get_timestamp(self) -> int:
        return time.monotonic_ns() + self.offset


def device(kind: Kind, start: int, end: int, **more: Any) -> SimpleNamespace:
    values = {"stream_id": 7, "correlation_id": 1, "graph_id": 0, "graph_node_id": 0}
    return SimpleNamespace(**{"kind": kind, "start": start, "end": end, **values, **more})


def call(cbid: int, start: int, correlation: int, kind: Kind = Kind.RUNTIME) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, cbid=cbid, start=start, end=start + 5, thread_id=9, correlation_id=correlation)


def recorded(*activities: Any, dropped: int = 0) -> Any:
    cupti = FakeCupti()
    recorder = CuptiRecorder(cupti)
    recorder.start()
    assert cupti.on
    cupti.pending, cupti.dropped = list(activities), dropped
    recording = recorder.stop()
    assert not cupti.on
    assert not cupti.apis
    return recording


def test_kernels_copies_sets_and_calls_are_kept_with_what_they_tell():
    now = time.monotonic_ns() + 5 * 10**17
    recording = recorded(
        device(Kind.CONCURRENT_KERNEL, now, now + 100, name="nvjet_hsh_64x8", graph_id=3, graph_node_id=12),
        device(Kind.MEMCPY, now + 200, now + 300, copy_kind=1, bytes=4096),
        device(Kind.MEMSET, now + 300, now + 310, bytes=64),
        call(211, now - 50, 1),
        call(20, now - 60, 2),
        call(652, now - 40, 1, Kind.DRIVER),
        dropped=0,
    )
    kinds = [(row.kind, row.name) for row in recording.records]
    assert kinds == [
        ("kernel", "nvjet_hsh_64x8"), ("memcpy", "memcpy H2D"), ("memset", "memset"), ("launch", "cudaLaunchKernel"),
        ("launch", "cuLaunchKernelEx"),
    ]  # fmt: skip
    kernel, copy = recording.records[:2]
    assert (kernel.graph, kernel.graph_node, kernel.end_ns - kernel.start_ns) == (3, 12, 100)
    assert (copy.detail, copy.bytes, copy.graph) == ("H2D", 4096, None)
    assert abs(kernel.start_ns - time.monotonic_ns()) < 10**9  # on CLOCK_MONOTONIC
    assert recording.dropped == 0
    assert recording.message == ""


def test_dropped_records_are_reported():
    assert recorded(dropped=17).dropped == 17


def test_a_graph_without_kernels_and_a_record_in_riddles_are_reported():
    recording = recorded(call(311, 10, 5), SimpleNamespace(kind=Kind.MEMCPY))
    assert "1 of 1 launches of CUDA graphs have no kernels" in recording.message
    assert "1 records could not be read" in recording.message


def test_an_old_package_that_cannot_choose_calls_gets_them_all(monkeypatch):
    monkeypatch.delattr(FakeCupti, "activity_enable_runtime_api")
    cupti = FakeCupti()
    CuptiRecorder(cupti).enable()
    assert Kind.RUNTIME in cupti.on
    assert Kind.DRIVER not in cupti.on


@pytest.mark.parametrize("tells", [False, True])
def test_calls_are_chosen_only_where_an_inference_shows_that_cupti_then_tells_them(tells):
    cupti = FakeCupti()
    recorder = CuptiRecorder(cupti)
    kernel = device(Kind.CONCURRENT_KERNEL, 10, 20, name="k")

    def run() -> None:
        cupti.pending = [kernel, *([call(211, 5, 1)] if tells or Kind.RUNTIME in cupti.on else [])]

    recorder.run = run  # type: ignore[method-assign]
    recorder.start()
    assert ((Kind.RUNTIME in cupti.on), bool(cupti.apis)) == (not tells, tells)
    run()
    recording = recorder.stop()
    assert (recording.message, len(recording.records)) == ("", 2)
    assert not cupti.on and not cupti.apis


def test_kernels_that_nobody_launched_are_reported():
    kernel = device(Kind.CONCURRENT_KERNEL, 10, 20, name="k")
    assert "no calls of the host" in recorded(kernel).message
    assert recorded(kernel, call(211, 5, 1)).message == ""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cudaLaunchKernelExC_ptsz_v11060", "launch"), ("cuGraphLaunch_ptsz", "graph_launch"), ("cudaMemcpyAsync_v3020", "copy_call"),
        ("cudaMemcpy_v3020", "sync"), ("cuMemcpyDtoH_v2", "sync"), ("cuMemsetD8Async", "copy_call"), ("cudaEventSynchronize", "sync"),
        ("cudaGetDevice_v3020", None), ("cudaMemGetInfo", None), ("cuStreamWaitEvent", None), ("cudaGraphMemcpyNodeGetParams", None),
    ],
)  # fmt: skip
def test_only_calls_that_launch_copy_or_wait_are_recorded(name, kind):
    assert call_kind(name) == kind


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES (35)", "NVreg_RestrictProfilingToAdminUsers=0"),
        ("CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED", "without nsys"),
        ("CUPTI_ERROR_NOT_COMPATIBLE", "newer driver"),
        ("something else", "something else"),
    ],
)
def test_each_refusal_has_its_cure_in_one_line(error, says):
    reported = cure(RuntimeError(error + "\nmore"))
    assert says in reported
    assert "\n" not in reported


def test_without_the_package_the_cure_is_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupti", None)
    with pytest.raises(CannotTrace, match="pip install cupti-python"):
        cupti_activity.attach()


def test_attaching_switches_on_and_off_at_once(monkeypatch):
    package, cupti = ModuleType("cupti"), FakeCupti()
    package.cupti = cupti  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupti", package)
    assert cupti_activity.attach().source == "cupti"
    assert not cupti.on
