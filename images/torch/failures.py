"""torch's exceptions as the ones that the harness knows."""

from __future__ import annotations

import sys

from common.harness.adapter import DeviceOutOfMemory, Unsupported
from common.text import first_line
from images.torch.unsupported_node import UnsupportedNode

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed")
_UNSUPPORTED = (
    "no kernel image is available",
    "driver version is insufficient",
    "driver on your system is too old",
    "found no nvidia driver",
    "no cuda gpus are available",
    "not compiled with cuda enabled",
    "shape '[",  # a Reshape that has the batch size of the export in it
)


def is_of_device(error: BaseException) -> bool:
    """Whether memory ran out or CUDA itself failed, after which its whole context is lost: no matter of what was being run."""
    return isinstance(explain(error), DeviceOutOfMemory) or "cuda error" in str(error).lower()


def explain(error: BaseException) -> Exception:
    """DeviceOutOfMemory, Unsupported, or the exception itself where it is neither."""
    text = str(error).lower()
    line = first_line(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY):
        return DeviceOutOfMemory(line)
    if isinstance(error, (NotImplementedError, UnsupportedNode)) or any(sign in text for sign in _UNSUPPORTED):
        return Unsupported(line)
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        if "CppCompileError" in line and " " in __file__ + sys.prefix:
            line += "; the C++ part of PyTorch's compiler takes no path with a space, such as this checkout's: move it"
        return Unsupported(f"torch.compile cannot compile this model here: {line}")
    return error if isinstance(error, Exception) else RuntimeError(line)
