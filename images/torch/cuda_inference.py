"""One shape on a GPU: fixed buffers, a CUDA graph, and two slots for overlapped inferences.

    run(), io=host      compute:  | H2D | graph | D2H |                 then wait
    enqueue(), io=host  copy in:  | H2D a | H2D b |  | H2D a | ...
                        compute:          | graph a  | graph b | ...
                        copy out:                    | D2H a | | D2H b | ...

The input crosses the bus as float32 in every precision; the graph casts it. A model that cannot be captured runs
without a graph, and settings() says so.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np

from common.harness.adapter import DeviceOutOfMemory
from images.torch.failures import explain
from images.torch.onnx_import import first_line

_WARM_UP_RUNS = 3


class _Slot:
    """Buffers and graph of one inference in flight."""

    def __init__(self, torch: Any, module: Any, host_input: Any, device: Any, dtype: Any, pool: Any) -> None:
        self._module, self._dtype = module, dtype
        self.input = host_input.to(device)
        self.filled, self.computed, self.drained = (torch.cuda.Event() for _ in range(3))
        with torch.inference_mode():
            for _ in range(_WARM_UP_RUNS):  # cuDNN chooses its algorithms, inductor compiles
                shape = self._forward().shape
        # made outside inference mode, so that they can be written outside it
        self.output = torch.empty(shape, dtype=torch.float32, device=device)
        self.host_output = torch.empty(shape, dtype=torch.float32, pin_memory=True)
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

    def _forward(self) -> Any:
        return self._module(self.input.to(self._dtype))

    def _capture(self, torch: Any, pool: Any) -> Any:
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream()):
            self.output.copy_(self._forward())
        return graph

    def compute(self, torch: Any) -> None:
        if self.graph is not None:
            self.graph.replay()
            return
        with torch.inference_mode():
            self.output.copy_(self._forward())


class CudaInference:
    """All work of run() is on one stream of ours; dtype is what the module computes in."""

    def __init__(self, torch: Any, module: Any, device: Any, dtype: Any, batch: np.ndarray, io: str) -> None:
        self._torch, self._module, self._device, self._dtype, self._io = torch, module, device, dtype, io
        torch.cuda.reset_peak_memory_stats(device)
        self._stream, self._copy_in, self._copy_out = (torch.cuda.Stream(device) for _ in range(3))
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # a stream is current for one thread; entered in each call, since the caller's thread may change
        self._on_stream = torch.cuda.stream(self._stream)
        self._host_input = torch.empty(batch.shape, dtype=torch.float32, pin_memory=True)
        np.copyto(self._host_input.numpy(), batch)
        self._slots: List[_Slot] = []
        self._slot = self._add_slot()
        self._next = 0

    def _add_slot(self) -> _Slot:
        pool = self._slots[0].graph.pool() if self._slots and self._slots[0].graph is not None else None
        with self._on_stream:
            slot = _Slot(self._torch, self._module, self._host_input, self._device, self._dtype, pool)
        self._slots.append(slot)
        return slot

    def place(self, batch: np.ndarray) -> None:
        self.synchronize()
        np.copyto(self._host_input.numpy(), batch)
        with self._on_stream:
            for slot in self._slots:
                slot.input.copy_(self._host_input, non_blocking=True)
        self._stream.synchronize()

    def _submit(self, slot: _Slot) -> None:
        if self._io == "device":
            slot.compute(self._torch)
            return
        slot.input.copy_(self._host_input, non_blocking=True)
        slot.compute(self._torch)
        slot.host_output.copy_(slot.output, non_blocking=True)

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
            slot.input.copy_(self._host_input, non_blocking=True)
            slot.filled.record()
        with self._on_stream:
            self._stream.wait_event(slot.filled)
            self._stream.wait_event(slot.drained)  # the slot's last output has left the device
            slot.compute(self._torch)
            slot.computed.record()
        with self._torch.cuda.stream(self._copy_out):
            self._copy_out.wait_event(slot.computed)
            slot.host_output.copy_(slot.output, non_blocking=True)
            slot.drained.record()

    def synchronize(self) -> None:
        for stream in (self._copy_in, self._stream, self._copy_out):
            stream.synchronize()

    def output(self) -> np.ndarray:
        if self._io == "device":
            with self._on_stream:
                self._slot.host_output.copy_(self._slot.output, non_blocking=True)
            self._stream.synchronize()
        return np.array(self._slot.host_output.numpy(), dtype=np.float32)

    def settings(self) -> Dict[str, str]:
        reason = self._slots[0].why_no_graph
        return {
            "cuda_graph": f"no: {reason}" if reason else "yes",
            "host_memory": "pinned, float32 input and output",
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
