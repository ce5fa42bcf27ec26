"""Recording and replaying through the driver's own functions."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from common.harness.adapter import DeviceOutOfMemory
from images.tensorrt.cuda_graph import CudaError, Graph, GraphDriver


@pytest.fixture
def stream(library: ctypes.CDLL) -> int:
    handle = ctypes.c_void_p()
    assert library.cuStreamCreate(ctypes.byref(handle), 1) == 0
    assert handle.value is not None
    return handle.value


def _copy(library: ctypes.CDLL, stream: int, to: Any, source: Any) -> None:
    size = ctypes.c_size_t(ctypes.sizeof(source))
    assert library.cuMemcpyHtoDAsync_v2(ctypes.byref(to), ctypes.byref(source), size, ctypes.c_void_p(stream)) == 0


def test_a_graph_replays_what_was_recorded_and_not_before_it_is_launched(
    library: ctypes.CDLL, driver_library: str, stream: int
) -> None:
    source, target = (ctypes.c_float * 2)(1, 2), (ctypes.c_float * 2)(0, 0)
    graph = Graph(GraphDriver(driver_library), stream, lambda: _copy(library, stream, target, source))
    assert list(target) == [0, 0]
    graph.launch()
    assert list(target) == [1, 2]
    source[0] = 5
    graph.launch()
    assert list(target) == [5, 2]
    graph.close()
    graph.close()
    assert library.fake_graphs() == 0


def test_an_error_while_recording_ends_the_capture(library: ctypes.CDLL, driver_library: str, stream: int) -> None:
    def fail() -> None:
        raise ValueError("no such tensor")

    with pytest.raises(ValueError, match="no such tensor"):
        Graph(GraphDriver(driver_library), stream, fail)
    assert library.cuStreamSynchronize(ctypes.c_void_p(stream)) == 0
    assert library.fake_graphs() == 0


def test_a_capture_that_cannot_begin_says_which_call_failed(
    library: ctypes.CDLL, driver_library: str, stream: int
) -> None:
    library.fake_fail(b"cuStreamBeginCapture_v2")
    with pytest.raises(CudaError, match="cuStreamBeginCapture_v2 failed: it failed \\(900\\)"):
        Graph(GraphDriver(driver_library), stream, lambda: None)


def test_lack_of_memory_for_a_graph_is_reported_as_such_and_frees_the_recording(
    library: ctypes.CDLL, driver_library: str, stream: int
) -> None:
    library.fake_fail(b"cuGraphInstantiateWithFlags")
    with pytest.raises(DeviceOutOfMemory, match="out of memory"):
        Graph(GraphDriver(driver_library), stream, lambda: None)
    assert library.fake_graphs() == 0


def test_a_launch_that_fails_raises(library: ctypes.CDLL, driver_library: str, stream: int) -> None:
    graph = Graph(GraphDriver(driver_library), stream, lambda: None)
    library.fake_fail(b"cuGraphLaunch")
    with pytest.raises(CudaError, match="cuGraphLaunch failed"):
        graph.launch()
    graph.close()


def test_a_driver_without_graphs_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        GraphDriver("libc.so.6")
