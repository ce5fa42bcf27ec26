"""TensorRT's own words: its messages go to standard error, and the last complaints become the reason of a failed cell."""

from __future__ import annotations

import re
import sys
from collections import deque
from typing import Any, Deque, List, Tuple

from common.harness.adapter import DeviceOutOfMemory, Unsupported

_SHOWN = ("WARNING", "ERROR", "INTERNAL_ERROR")
_OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemory|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY"
    r"|memory .{0,40}could not be allocated|[Ii]nsufficient memory"
)
_CACHE_ENTRIES = re.compile(r"(\d+) timing cache entries")
_MAX_REASON = 300


class Complaints:
    """The last warnings and errors, oldest first; pure, so that the choice of a reason can be tested without TensorRT."""

    def __init__(self) -> None:
        self._last: Deque[Tuple[str, str]] = deque(maxlen=50)
        #: what TensorRT said about entries of the timing cache, in order
        self.timing_cache: List[str] = []

    def add(self, severity: str, message: str) -> None:
        if _CACHE_ENTRIES.search(message):
            self.timing_cache.append(_one_line(message))
        if severity in _SHOWN:
            self._last.append((severity, message))

    def clear(self) -> None:
        self._last.clear()
        self.timing_cache.clear()

    def reason(self, otherwise: str) -> str:
        """The last error, else the last warning, else `otherwise`; one line of at most 300 characters."""
        errors = [text for severity, text in self._last if severity != "WARNING"]
        warnings = [text for severity, text in self._last if severity == "WARNING"]
        return _one_line((errors or warnings or [otherwise])[-1])

    def failure(self, what: str) -> Exception:
        """The exception for a step that returned nothing: DeviceOutOfMemory where memory was the cause, else Unsupported.

        TensorRT reports through its logger and returns None, and lack of memory is often followed by a general error.
        """
        text = f"{what}: {self.reason('TensorRT gave no reason')}"
        if any(_OUT_OF_MEMORY.search(message) for severity, message in self._last if severity != "WARNING"):
            return DeviceOutOfMemory(text)
        return Unsupported(text)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_REASON]


def log_line(text: str) -> None:
    """One line in the cell's log (the worker's standard error)."""
    print(f"tensorrt: {_one_line(text)}", file=sys.stderr, flush=True)


def make_logger(trt: Any, complaints: Complaints) -> Any:
    """A trt.ILogger that writes warnings and errors to the log and remembers them in `complaints`.

    The class is made here because its base exists only once TensorRT (or TensorRT-RTX) is imported. The caller keeps
    the object alive as long as anything made with it: TensorRT holds a bare pointer.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            name = severity.name
            complaints.add(name, message)
            if name in _SHOWN:
                log_line(f"[{name}] {message}")

    return Log()
