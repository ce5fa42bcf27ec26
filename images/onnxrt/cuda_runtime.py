"""The few calls of the CUDA runtime that an ONNX Runtime application needs beside ONNX Runtime: pinned memory, streams, events.

ONNX Runtime's Python package copies from pageable memory and waits for every copy; an application in C++ would not.
Bound with ctypes to the libcudart that ONNX Runtime itself uses, so the image needs no further package.
Method source: CUDA Runtime API reference, chapters "Memory management", "Stream management", "Event management".
"""

from __future__ import annotations

import ctypes
import weakref
from pathlib import Path
from typing import Any, Callable, List, Sequence, Tuple

import numpy as np

from common.harness.adapter import DeviceOutOfMemory

HOST_TO_DEVICE = 1
DEVICE_TO_HOST = 2
_NON_BLOCKING_STREAM = 1
_DISABLE_TIMING = 2
_MEMORY_ALLOCATION_ERROR = 2


class CudaError(RuntimeError):
    """A CUDA call failed; the text is CUDA's own."""


class DeviceBuffer:
    """Device memory: `pointer`, `size` in bytes. Freed by free(), or with the object."""

    def __init__(self, pointer: int, size: int, free: Callable[[int], int]) -> None:
        self.pointer = pointer
        self.size = size
        self.free = weakref.finalize(self, free, pointer)


def _load(names: Sequence[str]) -> Any:
    """The first library that loads: one already in the process by its path, else by the loader's own search."""
    found: List[str] = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith("libcudart.so") and path not in found:
            found.append(path)
    errors = []
    for name in [*found, *names]:
        try:
            return ctypes.CDLL(name)
        except OSError as error:  # noqa: PERF203
            errors.append(str(error))
    raise OSError(errors[-1] if errors else "no libcudart was named")


class CudaRuntime:
    """libcudart on one device.

    Raises OSError where the library cannot be loaded and CudaError where it finds no usable device.
    """

    def __init__(self, device: int, names: Sequence[str]) -> None:
        self.device = device
        self._lib = _load(names)
        self._lib.cudaGetErrorString.restype = ctypes.c_char_p
        for name in ("cudaStreamSynchronize", "cudaStreamDestroy", "cudaEventDestroy", "cudaFree", "cudaFreeHost"):
            getattr(self._lib, name).argtypes = [ctypes.c_void_p]
        self._lib.cudaEventRecord.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._lib.cudaStreamWaitEvent.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
        self._lib.cudaEventElapsedTime.argtypes = [ctypes.POINTER(ctypes.c_float), ctypes.c_void_p, ctypes.c_void_p]
        self._lib.cudaMemcpyAsync.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p,
        ]  # fmt: skip
        self._check(self._lib.cudaSetDevice(device))
        self._check(
            self._lib.cudaFree(None)
        )  # makes the context, so that its cost and memory do not count as the model's

    def _check(self, code: int) -> None:
        if code == 0:
            return
        self._lib.cudaGetLastError()
        message = f"CUDA: {self._lib.cudaGetErrorString(code).decode()}"
        raise DeviceOutOfMemory(message) if code == _MEMORY_ALLOCATION_ERROR else CudaError(message)

    def version(self) -> str:
        value = ctypes.c_int()
        self._check(self._lib.cudaRuntimeGetVersion(ctypes.byref(value)))
        return f"{value.value // 1000}.{value.value % 1000 // 10}"

    def device_kind(self) -> str:
        """Compute capability and number of multiprocessors: what the speed of a kernel depends on."""
        values = []
        for attribute in (75, 76, 16):  # compute capability major, minor; multiprocessors
            value = ctypes.c_int()
            self._check(self._lib.cudaDeviceGetAttribute(ctypes.byref(value), attribute, self.device))
            values.append(value.value)
        return f"sm{values[0]}{values[1]}x{values[2]}"

    def memory(self) -> Tuple[int, int]:
        """Free and total bytes of the device."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._check(self._lib.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)))
        return free.value, total.value

    def stream(self) -> int:
        """A stream that does not wait for the legacy default stream."""
        handle = ctypes.c_void_p()
        self._check(self._lib.cudaStreamCreateWithFlags(ctypes.byref(handle), ctypes.c_uint(_NON_BLOCKING_STREAM)))
        return int(handle.value or 0)

    def destroy_stream(self, stream: int) -> None:
        self._check(self._lib.cudaStreamDestroy(stream))

    def event(self, timing: bool = False) -> int:
        handle = ctypes.c_void_p()
        flags = ctypes.c_uint(0 if timing else _DISABLE_TIMING)
        self._check(self._lib.cudaEventCreateWithFlags(ctypes.byref(handle), flags))
        return int(handle.value or 0)

    def destroy_event(self, event: int) -> None:
        self._check(self._lib.cudaEventDestroy(event))

    def record(self, event: int, stream: int) -> None:
        self._check(self._lib.cudaEventRecord(event, stream))

    def wait(self, stream: int, event: int) -> None:
        """Work put on `stream` from now on begins after `event`; an event never recorded holds nothing up."""
        self._check(self._lib.cudaStreamWaitEvent(stream, event, 0))

    def elapsed_ns(self, start: int, end: int) -> int:
        """Time between two events that have both happened, in ns."""
        milliseconds = ctypes.c_float()
        self._check(self._lib.cudaEventElapsedTime(ctypes.byref(milliseconds), start, end))
        return round(milliseconds.value * 1e6)

    def synchronize(self, stream: int) -> None:
        self._check(self._lib.cudaStreamSynchronize(stream))

    def copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        """Copies `size` bytes; asynchronous where the host's side is pinned."""
        self._check(self._lib.cudaMemcpyAsync(target, source, size, kind, stream))

    def device_buffer(self, shape: Sequence[int], dtype: Any) -> DeviceBuffer:
        """Uninitialised device memory, freed with the object. Raises DeviceOutOfMemory."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pointer = ctypes.c_void_p()
        self._check(self._lib.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(max(size, 1))))
        return DeviceBuffer(int(pointer.value or 0), size, self._lib.cudaFree)

    def pinned_array(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """A numpy array in page-locked host memory, which lives as long as the array does."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pointer = ctypes.c_void_p()
        self._check(self._lib.cudaHostAlloc(ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)), ctypes.c_uint(0)))
        memory = (ctypes.c_byte * max(size, 1)).from_address(int(pointer.value or 0))
        # numpy keeps `memory` alive as the array's base; the pages go back with it
        weakref.finalize(memory, self._lib.cudaFreeHost, pointer.value)
        return np.frombuffer(memory, dtype=dtype, count=int(np.prod(shape))).reshape(shape)
