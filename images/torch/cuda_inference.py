"""One shape on a GPU: fixed buffers, a CUDA graph, and two slots for overlapped inferences.

    run(), io=host      compute:  | H2D | graph | D2H |                 then wait
    enqueue(), io=host  copy in:  | H2D a | H2D b |  | H2D a | ...
                        compute:          | graph a  | graph b | ...
                        copy out:                    | D2H a | | D2H b | ...

The inputs cross the bus as they are in every precision; the graph casts floating-point ones. A model that cannot be captured runs
without a graph, and settings() says so.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from common.harness.adapter import DeviceOutOfMemory
from common.text import first_line
from images.torch.failures import explain
from images.torch.tensors import in_precision, listed, on_host

_WARM_UP_RUNS = 3


class _Slot:
    """Buffers and graph of one inference in flight."""

    def __init__(self, torch: Any, module: Any, host_inputs: Sequence[Any], device: Any, dtype: Any, pool: Any) -> None:
        self._module, self._dtype = module, dtype
        self.inputs = [tensor.to(device) for tensor in host_inputs]
        self.filled, self.computed, self.drained = (torch.cuda.Event() for _ in range(3))
        with torch.inference_mode():
            for _ in range(_WARM_UP_RUNS):  # cuDNN chooses its algorithms, inductor compiles
                made = self._forward()
        # made outside inference mode, so that they can be written outside it
        kinds = [torch.float32 if tensor.is_floating_point() else tensor.dtype for tensor in made]
        self.outputs = [torch.empty(tensor.shape, dtype=kind, device=device) for tensor, kind in zip(made, kinds)]
        self.host_outputs = [
            torch.empty(tensor.shape, dtype=kind, pin_memory=True) for tensor, kind in zip(made, kinds)
        ]
        torch.cuda.current_stream().synchronize()
        self.graph = None
        self.why_no_graph = ""
        try:
            self.graph = self._capture(torch, pool)
        except Exception as error:
            known = explain(error)
            if isinstance(known, DeviceOutOfMemory):
                raise known from error
            self.why_no_graph = first_line(error)
            torch.cuda.synchronize()

    def _forward(self) -> List[Any]:
        return listed(self._module(*in_precision(self.inputs, self._dtype)))

    def _infer(self) -> None:
        for target, tensor in zip(self.outputs, self._forward()):
            target.copy_(tensor)

    def fill(self, host_inputs: Sequence[Any]) -> None:
        """Copies of the inputs to the device, onto the current stream."""
        for target, tensor in zip(self.inputs, host_inputs):
            target.copy_(tensor, non_blocking=True)

    def drain(self) -> None:
        """Copies of the outputs to the host, onto the current stream."""
        for target, tensor in zip(self.host_outputs, self.outputs):
            target.copy_(tensor, non_blocking=True)

    def _capture(self, torch: Any, pool: Any) -> Any:
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream()):
            self._infer()
        return graph

    def compute(self, torch: Any) -> None:
        if self.graph is not None:
            self.graph.replay()
            return
        with torch.inference_mode():
            self._infer()


class CudaInference:
    """All work of run() is on one stream of ours; dtype is what the module computes in."""

    def __init__(self, torch: Any, module: Any, device: Any, dtype: Any, inputs: Sequence[np.ndarray], io: str) -> None:
        self._torch, self._module, self._device, self._dtype, self._io = torch, module, device, dtype, io
        torch.cuda.reset_peak_memory_stats(device)
        self._stream, self._copy_in, self._copy_out = (torch.cuda.Stream(device) for _ in range(3))
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # a stream is current for one thread; entered in each call, since the caller's thread may change
        self._on_stream = torch.cuda.stream(self._stream)
        self._host_inputs = [torch.from_numpy(np.array(values, order="C")).pin_memory() for values in inputs]
        self._slots: List[_Slot] = []
        self._slot = self._add_slot()
        self._next = 0

    def _add_slot(self) -> _Slot:
        pool = self._slots[0].graph.pool() if self._slots and self._slots[0].graph is not None else None
        with self._on_stream:
            slot = _Slot(self._torch, self._module, self._host_inputs, self._device, self._dtype, pool)
        self._slots.append(slot)
        return slot

    def place(self, inputs: Sequence[np.ndarray]) -> None:
        self.synchronize()
        for tensor, values in zip(self._host_inputs, inputs):
            np.copyto(tensor.numpy(), values)
        with self._on_stream:
            for slot in self._slots:
                slot.fill(self._host_inputs)
        self._stream.synchronize()

    def _submit(self, slot: _Slot) -> None:
        if self._io == "device":
            slot.compute(self._torch)
            return
        slot.fill(self._host_inputs)
        slot.compute(self._torch)
        slot.drain()

    def run(self) -> None:
        self._slot = self._slots[0]
        with self._on_stream:
            self._submit(self._slot)
        self._stream.synchronize()

    def run_timed(self) -> Optional[int]:
        """Time between two events around the inference and, with io=host, its copies; in ns."""
        self._slot = self._slots[0]
        with self._on_stream:
            self._start.record()
            self._submit(self._slot)
            self._end.record()
        self._stream.synchronize()
        return round(float(self._start.elapsed_time(self._end)) * 1e6)

    def enqueue(self) -> None:
        """Copies on streams of their own; each slot's buffers are touched only after the event that frees them."""
        if self._io == "device":
            with self._on_stream:
                self._submit(self._slots[0])
            return
        if len(self._slots) < 2:
            self.synchronize()
            self._add_slot()
        slot = self._slots[self._next]
        self._slot, self._next = slot, 1 - self._next
        with self._torch.cuda.stream(self._copy_in):
            self._copy_in.wait_event(slot.computed)  # the slot's last inference has read its input
            slot.fill(self._host_inputs)
            slot.filled.record()
        with self._on_stream:
            self._stream.wait_event(slot.filled)
            self._stream.wait_event(slot.drained)  # the slot's last output has left the device
            slot.compute(self._torch)
            slot.computed.record()
        with self._torch.cuda.stream(self._copy_out):
            self._copy_out.wait_event(slot.computed)
            slot.drain()
            slot.drained.record()

    def synchronize(self) -> None:
        for stream in (self._copy_in, self._stream, self._copy_out):
            stream.synchronize()

    def output(self) -> List[np.ndarray]:
        if self._io == "device":
            with self._on_stream:
                self._slot.drain()
            self._stream.synchronize()
        return [on_host(tensor) for tensor in self._slot.host_outputs]

    def settings(self) -> Dict[str, str]:
        reason = self._slots[0].why_no_graph
        types = ", ".join(sorted({str(tensor.dtype).rpartition(".")[2] for tensor in self._host_inputs}))
        return {
            "cuda_graph": f"no: {reason}" if reason else "yes",
            "host_memory": f"pinned, {types} inputs, float32 outputs",
            "in_flight": "two slots, copies on streams of their own" if self._io == "host" else "one stream",
        }

    def peak_bytes(self) -> Optional[int]:
        """Most that torch's allocator held at once: tensors and what it keeps for graphs; without the CUDA context."""
        return int(self._torch.cuda.max_memory_reserved(self._device))

    def close(self) -> None:
        self.synchronize()
        self._slots.clear()
        del self._slot, self._module
        self._torch.cuda.empty_cache()
