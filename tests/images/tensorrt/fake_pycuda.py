"""The part of pycuda.driver that the adapter calls, on top of tests' driver library: pycuda has no wheels to test with."""

from __future__ import annotations

import ctypes
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np


class Pinned:
    """Host memory of the driver's, freed when no array is left that lies in it."""

    def __init__(self, outer: Driver, size: int) -> None:
        address = ctypes.c_void_p()
        outer.check("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(max(1, size)), 0)
        assert address.value is not None
        self.view = (ctypes.c_byte * max(1, size)).from_address(address.value)
        weakref.finalize(self.view, outer.check, "cuMemFreeHost", address)


class Driver:
    """Stands for the module pycuda.driver."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    def __init__(self, library: str) -> None:
        self.library = ctypes.CDLL(library)
        self.Device, self.mem_alloc = _device_class(self), _allocation_class(self)
        self.Stream, self.Event = _stream_and_event(self)
        self.event_flags = SimpleNamespace(DISABLE_TIMING=2)
        self.contexts = 0
        #: copies, events recorded and waited for, with the stream's handle, in the order of the calls
        self.log: list[tuple[str, Any, int]] = []

    def check(self, name: str, *arguments: Any) -> None:
        result = getattr(self.library, name)(*arguments)
        if result:
            raise (self.MemoryError if result == 2 else self.Error)(f"{name} failed: {result}")

    def init(self) -> None:
        self.check("cuInit", 0)

    def get_driver_version(self) -> int:
        return 13000

    def mem_get_info(self) -> tuple[int, int]:
        unused, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.check("cuMemGetInfo_v2", ctypes.byref(unused), ctypes.byref(total))
        return unused.value, total.value

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        memory = Pinned(self, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return np.frombuffer(memory.view, dtype, count=int(np.prod(shape))).reshape(shape)

    def memcpy_htod_async(self, to: Any, source: np.ndarray, stream: Any) -> None:
        self._copy("cuMemcpyHtoDAsync_v2", int(to), source.ctypes.data, source.nbytes, stream)

    def memcpy_dtoh_async(self, to: np.ndarray, source: Any, stream: Any) -> None:
        self._copy("cuMemcpyDtoHAsync_v2", to.ctypes.data, int(source), to.nbytes, stream)

    def memset_d8_async(self, to: Any, value: int, size: int, stream: Any) -> None:
        handle = ctypes.c_void_p(stream.handle)
        self.check("cuMemsetD8Async", ctypes.c_void_p(int(to)), ctypes.c_ubyte(value), ctypes.c_size_t(size), handle)

    def _copy(self, name: str, to: int, source: int, size: int, stream: Any) -> None:
        handle = ctypes.c_void_p(stream.handle)
        self.log.append((name, None, stream.handle))
        self.check(name, ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(size), handle)


def _device_class(outer: Driver) -> type:
    """The driver's class Device, with its contexts."""

    class Device:
        def __init__(self, ordinal: int) -> None:
            handle = ctypes.c_int()
            outer.check("cuDeviceGet", ctypes.byref(handle), ordinal)

        @staticmethod
        def count() -> int:
            return 1

        def name(self) -> str:
            return "Fake GPU"

        def compute_capability(self) -> tuple[int, int]:
            return (9, 0)

        def total_memory(self) -> int:
            return 8 << 30

        def retain_primary_context(self) -> Context:
            return Context()

    class Context:
        def push(self) -> None:
            outer.contexts += 1

        def pop(self) -> None:
            outer.contexts -= 1

        def detach(self) -> None:
            assert outer.contexts == 0

    return Device


def _allocation_class(outer: Driver) -> type:
    """What mem_alloc returns."""

    class Allocation:
        def __init__(self, size: int) -> None:
            self._address = ctypes.c_void_p()
            outer.check("cuMemAlloc_v2", ctypes.byref(self._address), ctypes.c_size_t(size))

        def __int__(self) -> int:
            assert self._address.value is not None
            return self._address.value

        def free(self) -> None:
            outer.check("cuMemFree_v2", self._address)
            self._address = ctypes.c_void_p()

        def __del__(self) -> None:
            if self._address:
                self.free()

    return Allocation


def _stream_and_event(outer: Driver) -> tuple[type, type]:
    """The driver's classes Stream and Event."""

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            handle = ctypes.c_void_p()
            outer.check("cuStreamCreate", ctypes.byref(handle), flags)
            self.handle = handle.value

        def synchronize(self) -> None:
            outer.check("cuStreamSynchronize", ctypes.c_void_p(self.handle))

        def wait_for_event(self, event: Event) -> None:
            outer.log.append(("wait", event, self.handle))

    class Event:
        def __init__(self, flags: int = 0) -> None:
            self.flags = flags

        def record(self, stream: Stream) -> None:
            outer.log.append(("record", self, stream.handle))

        def synchronize(self) -> None:
            pass

        def time_till(self, other: Event) -> float:
            return 1.25

    return Stream, Event
