"""One shape on a GPU: fixed buffers, a stream of our own, CUDA graphs, and two slots for overlapped inferences.

run(), io=host      compute:  | H2D | inference | D2H |                 then wait
enqueue(), io=host  copy in:  | H2D a | H2D b |       | H2D a | ...
                    compute:          | inference a   | inference b | ...
                    copy out:                         | D2H a |     | D2H b | ...
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from common.harness.adapter import Arrays
from images.onnxrt.cuda_runtime import DEVICE_TO_HOST, HOST_TO_DEVICE, CudaRuntime

_NO_GRAPH = "-1"


#: name -> shape and numpy type
Shapes = Mapping[str, Tuple[Tuple[int, ...], Any]]


class _Slot:
    """Buffers and bindings of one inference in flight."""

    def __init__(
        self, ort: Any, cuda: CudaRuntime, session: Any, given: Shapes, made: Shapes, host: Arrays, graph_id: str
    ) -> None:
        self.inputs = {name: cuda.device_buffer(*one) for name, one in given.items()}
        # an output that is an input of the graph too is never written to the address that it is bound to: it lies there already
        self.handed_on = handed_on = [name for name in made if name in given]
        self.outputs = {
            name: self.inputs[name] if name in handed_on else cuda.device_buffer(*one) for name, one in made.items()
        }
        self.host_outputs = {name: cuda.pinned_array(*one) for name, one in made.items()}
        self.filled, self.computed, self.drained = cuda.event(), cuda.event(), cuda.event()
        device = cuda.device
        self.binding = session.io_binding()
        for name, (shape, kind) in given.items():
            self.binding.bind_input(name, "cuda", device, kind.type, shape, self.inputs[name].pointer)
        for name, (shape, kind) in made.items():
            if name in handed_on:
                continue
            self.binding.bind_output(name, "cuda", device, kind.type, shape, self.outputs[name].pointer)
        #: target, source and bytes of each copy, ready for the call
        self.copies_in = [(self.inputs[name].pointer, host[name].ctypes.data, self.inputs[name].size) for name in given]
        self.copies_out = [
            (self.host_outputs[name].ctypes.data, self.outputs[name].pointer, self.outputs[name].size) for name in made
        ]
        self.options = ort.RunOptions()
        # the stream is ours: we wait for it once, after the copy of the output
        self.options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.options.add_run_config_entry("gpu_graph_id", graph_id)

    def events(self) -> List[int]:
        return [self.filled, self.computed, self.drained]


class CudaInference:
    """A session on a stream of ours, for one shape. graph: the session captures a CUDA graph for each slot."""

    def __init__(
        self,
        ort: Any,
        cuda: CudaRuntime,
        session: Any,
        stream: int,
        given: Shapes,
        made: Shapes,
        inputs: Arrays,
        io: str,
        graph: bool,
        notes: Mapping[str, str],
    ) -> None:
        self._ort, self._cuda, self._session, self._stream = ort, cuda, session, stream
        self._given, self._made = given, made
        self._io, self._graph, self._notes = io, graph, dict(notes)
        self._copy_in, self._copy_out = cuda.stream(), cuda.stream()
        self._start, self._end = cuda.event(timing=True), cuda.event(timing=True)
        self._host_inputs = {name: cuda.pinned_array(*one) for name, one in given.items()}
        self._slots: List[_Slot] = []
        self._slot = self._add_slot()
        self._next = 0
        self.place(inputs)
        self._warm_up(self._slot)

    def _add_slot(self) -> _Slot:
        graph_id = str(len(self._slots) + 1) if self._graph else _NO_GRAPH
        self._slots.append(
            _Slot(self._ort, self._cuda, self._session, self._given, self._made, self._host_inputs, graph_id)
        )
        return self._slots[-1]

    def _fill(self, slot: _Slot, stream: int) -> None:
        for target, source, size in slot.copies_in:
            self._cuda.copy(target, source, size, HOST_TO_DEVICE, stream)

    def _drain(self, slot: _Slot, stream: int) -> None:
        for target, source, size in slot.copies_out:
            self._cuda.copy(target, source, size, DEVICE_TO_HOST, stream)

    def _warm_up(self, slot: _Slot) -> None:
        """Searches algorithms and captures the graph (onnxruntime does so within its second run of a binding)."""
        self._fill(slot, self._stream)
        for _ in range(3):
            self._session.run_with_iobinding(slot.binding, slot.options)
            self._cuda.synchronize(self._stream)

    def place(self, inputs: Arrays) -> None:
        self.synchronize()
        for name, held in self._host_inputs.items():
            np.copyto(held, inputs[name])
        for slot in self._slots:
            self._fill(slot, self._stream)
        self._cuda.synchronize(self._stream)

    def use(self, io: str) -> None:
        """Copies are beside the session: one that is built, with its graphs, serves both kinds of io."""
        self.synchronize()
        self._io = io

    def _submit(self, slot: _Slot) -> None:
        """One inference on the compute stream, with its copies where the input lies in host memory."""
        if self._io == "device":
            self._session.run_with_iobinding(slot.binding, slot.options)
            return
        self._fill(slot, self._stream)
        self._session.run_with_iobinding(slot.binding, slot.options)
        self._drain(slot, self._stream)

    def run(self) -> None:
        self._slot = self._slots[0]
        self._submit(self._slot)
        self._cuda.synchronize(self._stream)

    def run_timed(self) -> Optional[int]:
        """Time between two events around the inference and, with io=host, its copies; in ns."""
        self._slot = self._slots[0]
        self._cuda.record(self._start, self._stream)
        self._submit(self._slot)
        self._cuda.record(self._end, self._stream)
        self._cuda.synchronize(self._stream)
        return self._cuda.elapsed_ns(self._start, self._end)

    def enqueue(self) -> None:
        """Copies on streams of their own; each slot's buffers are touched only after the event that frees them."""
        if self._io == "device":
            self._submit(self._slots[0])
            return
        if len(self._slots) < 2:
            self.synchronize()
            self._warm_up(self._add_slot())
        cuda, slot = self._cuda, self._slots[self._next]
        self._slot, self._next = slot, 1 - self._next
        # the slot's last inference has read its input, and what is an output too has left the device
        cuda.wait(self._copy_in, slot.drained if slot.handed_on else slot.computed)
        self._fill(slot, self._copy_in)
        cuda.record(slot.filled, self._copy_in)
        cuda.wait(self._stream, slot.filled)
        cuda.wait(self._stream, slot.drained)  # the slot's last output has left the device
        self._session.run_with_iobinding(slot.binding, slot.options)
        cuda.record(slot.computed, self._stream)
        cuda.wait(self._copy_out, slot.computed)
        self._drain(slot, self._copy_out)
        cuda.record(slot.drained, self._copy_out)

    def synchronize(self) -> None:
        for stream in (self._copy_in, self._stream, self._copy_out):
            self._cuda.synchronize(stream)

    def output(self) -> Arrays:
        slot = self._slot
        if self._io == "device":
            self._drain(slot, self._stream)
            self._cuda.synchronize(self._stream)
        return {name: values.copy() for name, values in slot.host_outputs.items()}

    def settings(self) -> Dict[str, str]:
        types = ", ".join(sorted({held.dtype.name for held in self._host_inputs.values()}))
        return {
            **self._notes,
            "cuda_graph": "yes" if self._graph else "no",
            "host_memory": f"pinned, {types} inputs, outputs of the model's own types",
            "in_flight": "two slots, copies on streams of their own" if self._io == "host" else "one stream",
        }

    def close(self) -> None:
        """Order matters: the graph refers to the buffers, the session to the stream."""
        self.synchronize()
        slots, self._slots = self._slots, []
        for slot in slots:
            del slot.binding
            for event in slot.events():
                self._cuda.destroy_event(event)
        del self._session
        for slot in slots:
            for buffer in (*slot.inputs.values(), *slot.outputs.values()):
                buffer.free()
        for event in (self._start, self._end):
            self._cuda.destroy_event(event)
        for stream in (self._copy_in, self._copy_out):
            self._cuda.destroy_stream(stream)
