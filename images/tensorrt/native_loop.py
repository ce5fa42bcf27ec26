"""TensorRT without framewatt, for `invoke verify`: `native_loop.py REQUEST.json`, see common/alternation.py.

The engine file that the adapter keeps in its cache folder, TensorRT's runtime API and pycuda, as NVIDIA's samples use them.
Where the adapter replays a CUDA graph this loop captures its own, by the four driver functions that pycuda lacks.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np  # noqa: E402

from common.interleaving import Refusal, plain_loop, serve  # noqa: E402

_TYPES = {"FLOAT": np.float32, "HALF": np.float16}


def load_tensorrt() -> Any:
    """Version 8.6's libraries find each other only in the global symbol table."""
    sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)
    return importlib.import_module("tensorrt")


class EngineLoop:
    """One execution context with its buffers."""

    def __init__(self, request: Dict[str, Any]) -> None:
        if request["variant"] != "tensorrt":
            raise Refusal(f"no independent loop for {request['variant']}")
        if request["device"] == "cpu":
            raise Refusal("TensorRT runs on NVIDIA GPUs only")
        trt = load_tensorrt()
        cuda: Any = importlib.import_module("pycuda.driver")
        cuda.init()
        self._device_context = cuda.Device(int(request["device"].partition(":")[2] or 0)).retain_primary_context()
        self._device_context.push()
        self._cuda, self._copies = cuda, request["io"] == "host"
        batch = np.load(request["input"])
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(Path(request["model_file"]).read_bytes())
        self._context = self._engine.create_execution_context()
        given, taken = self._names(trt)
        self._context.set_input_shape(given, batch.shape)
        shape = tuple(self._context.get_tensor_shape(taken))
        self._given = cuda.pagelocked_empty(batch.shape, np.float32)
        self._given[...] = batch
        self._taken = cuda.pagelocked_empty(shape, _TYPES[self._engine.get_tensor_dtype(taken).name])
        self._input, self._output = cuda.mem_alloc(self._given.nbytes), cuda.mem_alloc(self._taken.nbytes)
        self._context.set_tensor_address(given, int(self._input))
        self._context.set_tensor_address(taken, int(self._output))
        self._stream = cuda.Stream()
        cuda.memcpy_htod(self._input, self._given)
        self._launch = self._submit
        self._infer()
        graph = request["settings"]["cuda_graph"] == "yes"
        if graph:
            self._capture()
            self._infer()
        cuda.memcpy_dtoh(self._taken, self._output)
        np.save(request["output"], np.asarray(self._taken, dtype=np.float32).reshape(len(batch), -1))
        loop = "CUDA graph of execute_async_v3" if graph else "execute_async_v3"
        self.facts: Dict[str, Any] = {"loop": loop, "clock": "perf_counter"}

    def _names(self, trt: Any) -> Tuple[str, str]:
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        return inputs[0], outputs[0]

    def _submit(self) -> None:
        if self._copies:
            self._cuda.memcpy_htod_async(self._input, self._given, self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise RuntimeError("execute_async_v3 failed")
        if self._copies:
            self._cuda.memcpy_dtoh_async(self._taken, self._output, self._stream)

    def _capture(self) -> None:
        driver = ctypes.CDLL("libcuda.so.1")
        stream, graph, executable = ctypes.c_void_p(self._stream.handle), ctypes.c_void_p(), ctypes.c_void_p()
        _check(driver.cuStreamBeginCapture_v2(stream, 1))
        self._submit()
        _check(driver.cuStreamEndCapture(stream, ctypes.byref(graph)))
        _check(driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)))
        self._launch = lambda: _check(driver.cuGraphLaunch(executable, stream))

    def _infer(self) -> None:
        self._launch()
        self._stream.synchronize()

    def block(self, seconds: float) -> List[int]:
        return plain_loop(self._infer, seconds)


def _check(result: int) -> None:
    if result:
        raise RuntimeError(f"a driver call failed with result {result}")


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    serve(lambda: EngineLoop(asked))
    os._exit(0)  # pycuda would complain about a context that is still there, loudly
