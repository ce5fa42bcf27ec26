"""The run-time part of TensorRT's Python API, with one engine: output[row][c] = sum of the input row + c.

Like TensorRT, it reports failures by returning None or False and by a message to the logger.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from typing import Any

import numpy as np

CLASSES = 5


class _Kind(enum.IntEnum):
    FLOAT = 0


class _Severity(enum.Enum):
    ERROR = 1
    WARNING = 2


class FakeTensorRT:
    """Stands for the module tensorrt. shared_profiles: as from TensorRT 9 on."""

    __name__ = "tensorrt"
    Severity = _Severity

    class TensorIOMode(enum.Enum):
        INPUT = 1
        OUTPUT = 2

    class TacticSource(enum.IntEnum):
        EDGE_MASK_CONVOLUTIONS = 3
        JIT_CONVOLUTIONS = 4

    class BuilderFlag(enum.IntEnum):
        FP16 = 0
        BF16 = 1
        INT8 = 2
        TF32 = 3

    class IInt8EntropyCalibrator2:
        pass

    class ILogger:
        pass

    class Logger:
        ERROR = _Severity.ERROR

        def __init__(self, severity: Any) -> None:
            pass

    def __init__(self, library: ctypes.CDLL, version: str = "10.11.0") -> None:
        self.library = library
        self.__version__ = version
        self.shared_profiles = int(version.partition(".")[0]) >= 9
        self.engines: list[_Engine] = []
        #: the next execution context fails with this message
        self.context_error = ""

    def nptype(self, kind: Any) -> Any:
        return {_Kind.FLOAT: np.float32}[kind]

    def Dims(self, shape: list[int]) -> tuple[int, ...]:
        return tuple(shape)

    def Runtime(self, logger: Any) -> _Runtime:
        return _Runtime(self, logger)


class _Runtime:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        if not plan.startswith(b"plan"):
            self._logger.log(_Severity.ERROR, "1: [runtime] Serialization assertion failed: version tag does not match")
            return None
        engine = _Engine(self._trt, self._logger, plan)
        self._trt.engines.append(engine)
        return engine


class _Engine:
    num_io_tensors = 2

    def __init__(self, trt: FakeTensorRT, logger: Any, plan: bytes) -> None:
        self.trt, self.logger, self._plan = trt, logger, plan
        self.profile_taken = False

    def serialize(self) -> bytes:
        return self._plan

    def get_tensor_name(self, i: int) -> str:
        return ("images", "scores")[i]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name == "images" else self.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return _Kind.FLOAT

    def create_execution_context(self) -> _Context | None:
        if self.trt.context_error:
            self.logger.log(_Severity.ERROR, self.trt.context_error)
            return None
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self.active_optimization_profile = 0
        if engine.profile_taken and not engine.trt.shared_profiles:
            self.active_optimization_profile = -1
        engine.profile_taken = True
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}
        self._scratch = ctypes.c_void_p()
        engine.trt.library.cuMemHostAlloc(ctypes.byref(self._scratch), ctypes.c_size_t(64), 0)

    def __del__(self) -> None:
        self._engine.trt.library.cuMemFreeHost(self._scratch)
        if self.active_optimization_profile == 0:
            self._engine.profile_taken = False

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        return False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return name == "images"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self._shape[0], CLASSES) if name == "scores" else self._shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        kernel: Callable[..., int] = self._engine.trt.library.fake_kernel
        row = 1
        for length in self._shape[1:]:
            row *= length
        pointers = [ctypes.c_void_p(value) for value in (stream, self._addresses["images"], self._addresses["scores"])]
        return kernel(*pointers, self._shape[0], row, CLASSES, self._scratch) == 0
