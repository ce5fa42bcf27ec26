"""CUDA graphs on a pycuda stream, through the driver API.

pycuda 2026.1 has streams, events and memory but no stream capture, so these seven driver functions are called
through ctypes. A graph replays everything that was enqueued on the stream while it was recorded: one launch, no
per-kernel launch cost on the host.
"""

from __future__ import annotations

import ctypes
from typing import Any, Callable

from common.harness.adapter import DeviceOutOfMemory

_OUT_OF_MEMORY = 2
#: only this thread's calls are checked while it captures; a monitoring thread may go on
_CAPTURE_MODE_THREAD_LOCAL = 1

_handle = ctypes.c_void_p
_SIGNATURES = {
    "cuStreamBeginCapture_v2": (_handle, ctypes.c_int),
    "cuStreamEndCapture": (_handle, ctypes.POINTER(_handle)),
    "cuGraphInstantiateWithFlags": (ctypes.POINTER(_handle), _handle, ctypes.c_ulonglong),
    "cuGraphLaunch": (_handle, _handle),
    "cuGraphExecDestroy": (_handle,),
    "cuGraphDestroy": (_handle,),
    "cuGetErrorString": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
}


class CudaError(Exception):
    """A driver call failed: its name and the driver's own text."""


class GraphDriver:
    """The driver functions, with their C signatures. Raises OSError or AttributeError where the driver lacks them
    (cuGraphInstantiateWithFlags came with CUDA 11.4)."""

    def __init__(self, library: str = "libcuda.so.1") -> None:
        driver = ctypes.CDLL(library)
        self._functions = {}
        for name, arguments in _SIGNATURES.items():
            function = getattr(driver, name)
            function.argtypes = arguments
            function.restype = ctypes.c_int
            self._functions[name] = function

    def function(self, name: str) -> Any:
        """The bare C function: returns the driver's result code, 0 for success."""
        return self._functions[name]

    def call(self, name: str, *arguments: Any) -> None:
        """Calls it; raises CudaError, or DeviceOutOfMemory."""
        result = self._functions[name](*arguments)
        if result:
            raise self.error(name, result)

    def error(self, name: str, result: int) -> Exception:
        text = ctypes.c_char_p()
        self._functions["cuGetErrorString"](result, ctypes.byref(text))
        message = f"{name} failed: {(text.value or b'unknown error').decode()} ({result})"
        return DeviceOutOfMemory(message) if result == _OUT_OF_MEMORY else CudaError(message)


class Graph:
    """What `enqueue` puts on the stream, recorded once and instantiated; `launch()` replays it on the same stream."""

    def __init__(self, driver: GraphDriver, stream_handle: int, enqueue: Callable[[], None]) -> None:
        self._driver = driver
        stream = _handle(stream_handle)
        graph = _handle()
        self._executable = _handle()
        driver.call("cuStreamBeginCapture_v2", stream, _CAPTURE_MODE_THREAD_LOCAL)
        try:
            enqueue()
        except BaseException:
            # the stream must leave capture mode, whatever went wrong; the first error is the one that explains
            driver.function("cuStreamEndCapture")(stream, ctypes.byref(graph))
            if graph:
                driver.function("cuGraphDestroy")(graph)
            raise
        driver.call("cuStreamEndCapture", stream, ctypes.byref(graph))
        try:
            driver.call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, 0)
        finally:
            driver.function("cuGraphDestroy")(graph)

        launch, executable = driver.function("cuGraphLaunch"), self._executable

        def launch_graph() -> None:
            result = launch(executable, stream)
            if result:
                raise driver.error("cuGraphLaunch", result)

        #: one replay, asynchronous; a closure over the bare C function, because this is the timed path
        self.launch = launch_graph

    def close(self) -> None:
        """Frees the graph. The stream must be idle."""
        if self._executable:
            self._driver.function("cuGraphExecDestroy")(self._executable)
            self._executable = _handle()
