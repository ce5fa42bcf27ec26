"""One inference in flight: an execution context, a stream, buffers and a CUDA graph of its own.

Where overlap comes from (offline scenario). Each slot's stream holds a whole inference, copy in, kernels, copy out, in
order; different slots have different streams. While one slot's kernels run, the copy engine fills another slot's
input. The device is a queue of two stations, copies and kernels, that stay busy as long as not all slots are in the
same one, so throughput with copies approaches min(copies alone, kernels alone); at small batch sizes kernels of
several slots also share the device. No events between the streams are needed, because slots share no buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import numpy as np

from common.harness.adapter import DeviceOutOfMemory, Unsupported
from images.tensorrt.cuda_graph import CudaError, Graph, GraphDriver
from images.tensorrt.log import Complaints, say

_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}
#: CU_STREAM_NON_BLOCKING: no implicit waiting on the legacy default stream, which would serialize the slots
_NON_BLOCKING = 1


@dataclass
class Engine:
    """A deserialized engine and what is needed to run it."""

    trt: Any
    cuda: Any
    engine: Any
    complaints: Complaints
    #: TensorRT-RTX's store of kernels compiled at run time; None elsewhere
    runtime_config: Any = None

    def tensor(self, mode: str) -> Tuple[str, Any]:
        """Name and numpy type of the one tensor of `mode` (INPUT or OUTPUT)."""
        wanted = getattr(self.trt.TensorIOMode, mode)
        for i in range(self.engine.num_io_tensors):
            name = self.engine.get_tensor_name(i)
            if self.engine.get_tensor_mode(name) == wanted:
                kind = self.engine.get_tensor_dtype(name).name
                if kind not in _TYPES:
                    raise Unsupported(f"the model's {mode.lower()} '{name}' is of type {kind}")
                return name, _TYPES[kind]
        raise Unsupported(f"the engine has no {mode.lower()}")

    def context(self) -> Any:
        if self.runtime_config is not None:
            context = self.engine.create_execution_context(runtime_config=self.runtime_config)
        else:
            context = self.engine.create_execution_context()
        if context is None:
            raise self.complaints.failure("no execution context")
        return context


class Slot:
    """Buffers and a graph for one batch shape. Raises DeviceOutOfMemory, Unsupported."""

    def __init__(self, engine: Engine, shape: Tuple[int, ...], io: str, graphs: Optional[GraphDriver]) -> None:
        self._cuda = cuda = engine.cuda
        self._complaints = engine.complaints
        self._context = engine.context()
        self.stream = cuda.Stream(_NON_BLOCKING)
        input_name, input_type = engine.tensor("INPUT")
        output_name, output_type = engine.tensor("OUTPUT")
        if input_type is not np.float32:
            raise Unsupported(f"the model's input '{input_name}' is not float32")

        context = self._context
        if context.active_optimization_profile != 0 and not context.set_optimization_profile_async(
            0, self.stream.handle
        ):
            raise self._complaints.failure("the optimization profile cannot be used by another context")
        if not context.set_input_shape(input_name, engine.trt.Dims(list(shape))):
            raise self._complaints.failure(f"input shape {shape}")
        output_shape = tuple(context.get_tensor_shape(output_name))
        if -1 in output_shape:
            raise Unsupported(f"the shape of output '{output_name}' depends on the data: {output_shape}")

        self._io = io
        size = int(np.prod(shape)) * 4
        self._device_input = cuda.mem_alloc(size)
        self._host_output = cuda.pagelocked_empty(output_shape, output_type)
        self._device_output = cuda.mem_alloc(self._host_output.nbytes)
        self._host_input = cuda.pagelocked_empty(shape, np.float32) if io == "host" else None
        for name, memory in ((input_name, self._device_input), (output_name, self._device_output)):
            if not context.set_tensor_address(name, int(memory)):
                raise self._complaints.failure(f"address of {name}")

        # The first inference loads kernels and sets up the shape, which must not happen within a capture.
        cuda.memset_d8_async(self._device_input, 0, size, self.stream)
        if self._host_input is not None:
            self._host_input.fill(0)
        self._enqueue()
        self.stream.synchronize()
        self.graph, self.why_no_graph = self._record(graphs)
        #: starts one inference on the stream, without waiting
        self.enqueue = self.graph.launch if self.graph is not None else self._enqueue
        self._start, self._end = cuda.Event(), cuda.Event()

    def _record(self, graphs: Optional[GraphDriver]) -> Tuple[Optional[Graph], str]:
        if graphs is None:
            return None, "the driver lacks the graph functions"
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(self.stream.handle):
            return None, "TensorRT says that this engine cannot be captured"
        try:
            return Graph(graphs, self.stream.handle, self._enqueue), ""
        except (CudaError, RuntimeError, self._cuda.Error) as error:
            if isinstance(error, self._cuda.MemoryError):
                raise
            reason = f"capture failed: {error}"
            say(f"no CUDA graph, {reason}")
            return None, reason

    def _enqueue(self) -> None:
        """Everything of one inference, onto the stream: what a graph records, and what runs where there is none."""
        if self._host_input is not None:
            self._cuda.memcpy_htod_async(self._device_input, self._host_input, self.stream)
        if not self._context.execute_async_v3(self.stream.handle):
            failure = self._complaints.failure("inference")
            raise failure if isinstance(failure, DeviceOutOfMemory) else RuntimeError(str(failure))
        if self._host_input is not None:
            self._cuda.memcpy_dtoh_async(self._host_output, self._device_output, self.stream)

    def place(self, batch: np.ndarray) -> None:
        """Puts float32 images where `io` says; the slot must be idle."""
        if self._host_input is not None:
            self._host_input[...] = batch
        else:
            self._cuda.memcpy_htod_async(self._device_input, batch, self.stream)
            self.stream.synchronize()

    def run_timed(self) -> int:
        """One inference; ns between events before and after it on the stream (with io=host, its copies included)."""
        self._start.record(self.stream)
        self.enqueue()
        self._end.record(self.stream)
        self._end.synchronize()
        milliseconds: float = self._start.time_till(self._end)
        return round(milliseconds * 1e6)

    def output(self) -> np.ndarray:
        """Output of the last inference as float32, a copy; the slot must be idle."""
        if self._host_input is None:
            self._cuda.memcpy_dtoh_async(self._host_output, self._device_output, self.stream)
            self.stream.synchronize()
        return np.array(self._host_output, dtype=np.float32)

    def close(self) -> None:
        """Waits, then frees graph, context, buffers and stream, in that order."""
        self.stream.synchronize()
        self.enqueue = _closed
        if self.graph is not None:
            self.graph.close()
        self.graph = None
        self._context = None
        self._device_input.free()
        self._device_output.free()
        self._host_input = self._host_output = None
        self._start = self._end = self.stream = None


def _closed() -> None:
    raise RuntimeError("this slot is closed")


def describe_graph(slot: Optional[Slot]) -> Dict[str, str]:
    """The `cuda_graph` entry of an adapter's settings."""
    if slot is None:
        return {}
    return {"cuda_graph": "yes" if slot.graph is not None else f"no: {slot.why_no_graph}"}
