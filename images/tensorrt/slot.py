"""One inference in flight: an execution context, a stream, buffers and a CUDA graph of its own.

Where overlap comes from (offline scenario): while one slot's kernels run, the copy engine fills another slot's input. The
device is a queue of two stations, copies and kernels, that stay busy as long as not all slots are in the same one, so
throughput with copies approaches min(copies alone, kernels alone). There are two ways to queue kernels:

side by side   Each slot's stream holds a whole inference, copy in, kernels, copy out. Kernels of several slots share the
               device, which fills it at small batch sizes. Slots share no buffer, so no events are needed.
in turn        All kernels are on one stream, copies on the slots' own; events order them. At large batch sizes kernels
               that share the device disturb each other (H100, batch 512: 12 % slower side by side than one by one).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple

import numpy as np

from common.harness.adapter import Arrays, DeviceOutOfMemory, Unsupported
from common.text import brief
from images.tensorrt.cuda_graph import CudaError, Graph, GraphDriver
from images.tensorrt.log import Complaints, log_line

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
NON_BLOCKING = 1
#: the two ways to queue the kernels of several slots, as rows record them
SIDE_BY_SIDE = "side by side"
SERIAL = "in turn"


@dataclass
class Engine:
    """A deserialized engine and what is needed to run it."""

    trt: Any
    cuda: Any
    engine: Any
    complaints: Complaints
    #: TensorRT-RTX's store of kernels compiled at run time; None elsewhere
    runtime_config: Any = None

    def tensors(self, mode: str) -> Dict[str, Any]:
        """Name -> numpy type of the tensors of `mode` (INPUT or OUTPUT)."""
        wanted = getattr(self.trt.TensorIOMode, mode)
        found: Dict[str, Any] = {}
        for i in range(self.engine.num_io_tensors):
            name = self.engine.get_tensor_name(i)
            if self.engine.get_tensor_mode(name) == wanted:
                kind = self.engine.get_tensor_dtype(name).name
                if kind not in _TYPES:
                    raise Unsupported(f"the model's {mode.lower()} '{brief(name)}' is of type {kind}")
                found[name] = _TYPES[kind]
        if not found:
            raise Unsupported(f"the engine has no {mode.lower()}")
        return found

    def context(self) -> Any:
        if self.runtime_config is not None:
            context = self.engine.create_execution_context(runtime_config=self.runtime_config)
        else:
            context = self.engine.create_execution_context()
        if context is None:
            raise self.complaints.failure("no execution context")
        return context


@dataclass
class _SerialQueue:
    """What a slot needs to queue its kernels behind those of other slots."""

    stream: Any
    graph: Optional[Graph]
    launch: Callable[[], None]
    copied: Any
    computed: Any


class Slot:
    """Buffers and a graph for one batch size. Raises DeviceOutOfMemory, Unsupported.

    shapes: of the inputs, by name. plain: as NVIDIA's quick start has it: inputs in numpy's own memory, no graph.
    """

    def __init__(
        self,
        engine: Engine,
        shapes: Mapping[str, Tuple[int, ...]],
        io: str,
        graphs: Optional[GraphDriver],
        plain: bool = False,
    ) -> None:
        self._cuda = cuda = engine.cuda
        self._complaints = engine.complaints
        self._context = engine.context()
        self.stream = cuda.Stream(NON_BLOCKING)
        given, made = engine.tensors("INPUT"), engine.tensors("OUTPUT")
        if set(given) != set(shapes):
            raise Unsupported(f"the engine takes {', '.join(given)}, the model's description says {', '.join(shapes)}")

        made_shapes = self._set_shapes(engine, shapes, made)
        self._io, self._plain = io, plain
        # in the types that the engine takes: TensorRT 8 has int32 where the model has int64
        zeros = {name: np.zeros(shape, given[name]) for name, shape in shapes.items()}
        self._host_inputs = (
            {
                name: np.empty(one.shape, one.dtype) if plain else cuda.pagelocked_empty(one.shape, one.dtype)
                for name, one in zeros.items()
            }
            if io == "host"
            else {}
        )
        self._types = given
        self._device_inputs = {name: cuda.mem_alloc(max(one.nbytes, 1)) for name, one in zeros.items()}
        self._host_outputs = {name: cuda.pagelocked_empty(made_shapes[name], kind) for name, kind in made.items()}
        self._device_outputs = {name: cuda.mem_alloc(max(one.nbytes, 1)) for name, one in self._host_outputs.items()}
        self._copies_in = [(self._device_inputs[name], self._host_inputs[name]) for name in self._host_inputs]
        self._copies_out = [(self._host_outputs[name], self._device_outputs[name]) for name in made]
        for name, memory in {**self._device_inputs, **self._device_outputs}.items():
            if not self._context.set_tensor_address(name, int(memory)):
                raise self._complaints.failure(f"address of {name}")

        # The first inference loads kernels and sets up the shape, which must not happen within a capture.
        for name, one in zeros.items():
            cuda.memset_d8_async(self._device_inputs[name], 0, one.nbytes, self.stream)
        for host in self._host_inputs.values():
            host.fill(0)
        self._enqueue()
        self.stream.synchronize()
        self.graph, self.why_no_graph = None, "as the quick start has it"
        if not plain:
            self.graph, self.why_no_graph = self._record(graphs, self.stream, self._enqueue)
        #: starts one inference on the stream, without waiting
        self.enqueue = self.graph.launch if self.graph is not None else self._enqueue
        self._start, self._end = cuda.Event(), cuda.Event()
        self._graphs = graphs
        self._serial_queue: Optional[_SerialQueue] = None

    def _set_shapes(
        self, engine: Engine, shapes: Mapping[str, Tuple[int, ...]], made: Iterable[str]
    ) -> Dict[str, Tuple[int, ...]]:
        """Gives the context its profile and the shapes of the inputs; returns those of the outputs, `made`."""
        context = self._context
        if context.active_optimization_profile != 0 and not context.set_optimization_profile_async(
            0, self.stream.handle
        ):
            raise self._complaints.failure("the optimization profile cannot be used by another context")
        for name, shape in shapes.items():
            if not context.set_input_shape(name, engine.trt.Dims(list(shape))):
                raise self._complaints.failure(f"input shape {shape}")
        made_shapes = {name: tuple(context.get_tensor_shape(name)) for name in made}
        for name, shape in made_shapes.items():
            if -1 in shape:
                raise Unsupported(f"the shape of output '{brief(name)}' depends on the data: {shape}")
        return made_shapes

    def _record(
        self, graphs: Optional[GraphDriver], stream: Any, enqueue: Callable[[], None]
    ) -> Tuple[Optional[Graph], str]:
        if graphs is None:
            return None, "the driver lacks the graph functions"
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(stream.handle):
            return None, "TensorRT says that this engine cannot be captured"
        try:
            return Graph(graphs, stream.handle, enqueue), ""
        except (CudaError, RuntimeError, self._cuda.Error) as error:
            if isinstance(error, self._cuda.MemoryError):
                raise
            reason = f"capture failed: {error}"
            log_line(f"no CUDA graph, {reason}")
            return None, reason

    def _enqueue(self) -> None:
        """Everything of one inference, onto the stream: what a graph records, and what runs where there is none."""
        self._copy_in()
        self._execute(self.stream)
        if self._io == "host":
            self._copy_out()

    def _copy_in(self) -> None:
        for target, source in self._copies_in:  # none where the inputs stay on the device
            self._cuda.memcpy_htod_async(target, source, self.stream)

    def _copy_out(self) -> None:
        for target, source in self._copies_out:
            self._cuda.memcpy_dtoh_async(target, source, self.stream)

    def _execute(self, stream: Any) -> None:
        """The kernels alone, onto a stream."""
        if not self._context.execute_async_v3(stream.handle):
            failure = self._complaints.failure("inference")
            raise failure if isinstance(failure, DeviceOutOfMemory) else RuntimeError(str(failure))

    def serialize_on(self, stream: Any) -> None:
        """Prepares enqueue_serial(): the kernels of all slots go onto this stream. The slot and the stream must be idle."""
        self._execute(stream)
        stream.synchronize()
        graph = None if self._plain else self._record(self._graphs, stream, lambda: self._execute(stream))[0]
        no_timing = self._cuda.event_flags.DISABLE_TIMING
        self._serial_queue = _SerialQueue(
            stream=stream,
            graph=graph,
            launch=graph.launch if graph is not None else lambda: self._execute(stream),
            copied=self._cuda.Event(no_timing),
            computed=self._cuda.Event(no_timing),
        )

    def enqueue_serial(self) -> None:
        """One inference, without waiting: copies on the slot's stream, kernels after those of the slots before."""
        queue = self._serial_queue
        assert queue is not None
        if self._io != "host":
            queue.launch()
            return
        self._copy_in()
        queue.copied.record(self.stream)
        queue.stream.wait_for_event(queue.copied)
        queue.launch()
        queue.computed.record(queue.stream)
        self.stream.wait_for_event(queue.computed)
        self._copy_out()

    def place(self, inputs: Arrays) -> None:
        """Puts the inputs where `io` says; the slot must be idle."""
        for name, kind in self._types.items():
            values = inputs[name]
            if self._io == "host":
                np.copyto(self._host_inputs[name], values, casting="same_kind")
            else:
                held = np.array(values, dtype=kind, order="C")
                self._cuda.memcpy_htod_async(self._device_inputs[name], held, self.stream)
                self.stream.synchronize()

    def run_timed(self) -> int:
        """One inference; ns between events before and after it on the stream (with io=host, its copies included)."""
        self._start.record(self.stream)
        self.enqueue()
        self._end.record(self.stream)
        self._end.synchronize()
        milliseconds: float = self._start.time_till(self._end)
        return round(milliseconds * 1e6)

    def output(self) -> Dict[str, np.ndarray]:
        """Outputs of the last inference, copies, floats as float32; the slot must be idle."""
        if self._io != "host":
            self._copy_out()
            self.stream.synchronize()
        return {
            name: np.array(values, dtype=np.float32 if values.dtype.kind == "f" else values.dtype)
            for name, values in self._host_outputs.items()
        }

    def close(self) -> None:
        """Waits, then frees graph, context, buffers and stream, in that order."""
        self.stream.synchronize()
        self.enqueue = _closed
        if self._serial_queue is not None:
            self._serial_queue.stream.synchronize()
            if self._serial_queue.graph is not None:
                self._serial_queue.graph.close()
        self._serial_queue = None
        if self.graph is not None:
            self.graph.close()
        self.graph = None
        self._context = None
        for memory in (*self._device_inputs.values(), *self._device_outputs.values()):
            memory.free()
        self._copies_in, self._copies_out = [], []
        self._host_inputs, self._host_outputs = {}, {}
        self._start = self._end = self.stream = None


def _closed() -> None:
    raise RuntimeError("this slot is closed")


def describe_graph(slot: Optional[Slot]) -> Dict[str, str]:
    """The `cuda_graph` entry of an adapter's settings."""
    if slot is None:
        return {}
    return {"cuda_graph": "yes" if slot.graph is not None else f"no: {slot.why_no_graph}"}
