"""Opening NVML through nvidia-ml-py, and which of its errors mean what."""

from __future__ import annotations

from typing import Any, Callable, Sequence, Tuple, Type, TypeVar

T = TypeVar("T")


class NvmlUnavailable(Exception):
    """There is no NVML to ask; the message says why, in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def open_nvml() -> Any:
    """The initialised pynvml module; the caller ends with `nvmlShutdown()`. Raises NvmlUnavailable."""
    try:
        import pynvml
    except ImportError:
        raise NvmlUnavailable("the Python package nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        reasons = {
            pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver library (libnvidia-ml.so.1) on this machine",
            pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
            pynvml.NVML_ERROR_NO_PERMISSION: "no permission to talk to the NVIDIA driver",
            pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "driver library and kernel module differ in version; reboot",
        }
        raise NvmlUnavailable(reasons.get(error.value, f"NVML: {describe(error)}")) from None
    return pynvml


def describe(error: BaseException) -> str:
    """One line for people."""
    if isinstance(error, AttributeError):
        return "not in this version of nvidia-ml-py"
    return str(error) or type(error).__name__


def lost_codes(nvml: Any) -> Tuple[int, ...]:
    """Errors after which a GPU answers nothing until it, or the driver, comes back."""
    return (
        nvml.NVML_ERROR_GPU_IS_LOST,
        nvml.NVML_ERROR_RESET_REQUIRED,
        nvml.NVML_ERROR_UNINITIALIZED,
        nvml.NVML_ERROR_DRIVER_NOT_LOADED,
        nvml.NVML_ERROR_GPU_NOT_FOUND,
        nvml.NVML_ERROR_NOT_FOUND,
    )


def probe_errors(nvml: Any) -> Tuple[Type[Exception], ...]:
    """What a call into the binding may raise.

    AttributeError: an older binding without the function. NVMLLibraryMismatchError: what the binding raises, outside
    of its NVMLError family, where the driver lacks the current structure of a call. ctypes raises the others for
    values that do not fit.
    """
    mismatch = getattr(nvml, "NVMLLibraryMismatchError", None)
    errors: Tuple[Type[Exception], ...] = (nvml.NVMLError, AttributeError, TypeError, ValueError)
    return errors if mismatch is None else (*errors, mismatch)


def first_that_answers(nvml: Any, calls: Sequence[Callable[[], T]]) -> T:
    """The answer of the first call that gives one; raises the first call's error where none does."""
    first: Any = None
    for call in calls:
        try:
            return call()
        except probe_errors(nvml) as error:  # noqa: PERF203
            first = first or error
    raise first
