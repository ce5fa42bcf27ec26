"""Three questions to the CUDA driver that TensorFlow does not answer, by ctypes: no context is made, nothing is allocated."""

from __future__ import annotations

import ctypes
import hashlib
from typing import List, Optional

_POINTER_ATTRIBUTE_MEMORY_TYPE = 2
_MEMORY_TYPE_HOST = 1
_CAPABILITY_MAJOR = 75
_CAPABILITY_MINOR = 76


def _driver() -> Optional[ctypes.CDLL]:
    """The initialized driver library, None on a machine without one (or without a device that it can see)."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return library if library.cuInit(0) == 0 else None


def visible_gpus() -> List[str]:
    """'<name> sm<capability>' of each GPU that the process can see, in CUDA's order; empty without a driver."""
    library = _driver()
    if library is None:
        return []
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    found = []
    for ordinal in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(128)
        library.cuDeviceGet(ctypes.byref(device), ordinal)
        library.cuDeviceGetName(name, len(name), device)
        library.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
        library.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
        found.append(f"{name.value.decode(errors='replace')} sm{major.value}{minor.value}")
    return found


def fingerprint() -> str:
    """Eight hex digits for the GPUs in sight and the driver's CUDA version; "" where there is no GPU.

    Compiled code of one GPU or driver must not be loaded on another.
    """
    gpus = visible_gpus()
    library = _driver()
    if not gpus or library is None:
        return ""
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    return hashlib.sha256(repr((gpus, version.value)).encode()).hexdigest()[:8]


def is_pinned(address: int) -> Optional[bool]:
    """Whether the driver knows this host address as page-locked; None where there is no driver to ask.

    The driver answers only in a context: the primary one of device 0, which TensorFlow has made already, is borrowed.
    """
    library = _driver()
    if library is None:
        return None
    device, context, kind = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint()
    if library.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    if library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) != 0:
        return None
    try:
        if library.cuCtxPushCurrent_v2(context) != 0:
            return None
        answer = library.cuPointerGetAttribute(
            ctypes.byref(kind), _POINTER_ATTRIBUTE_MEMORY_TYPE, ctypes.c_uint64(address)
        )
        library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        # pageable memory is unknown to the driver: an error code, not another memory type
        return bool(answer == 0 and kind.value == _MEMORY_TYPE_HOST)
    finally:
        library.cuDevicePrimaryCtxRelease_v2(device)
