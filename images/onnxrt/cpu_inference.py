"""One shape on the CPU: inputs and outputs bound once to fixed memory, so that a run is one call."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import numpy as np

from common.harness.adapter import Arrays
from common.model_files import ModelFiles, Tensor
from images.onnxrt import sessions


class CpuInference:
    """A session with its buffers. enqueue() computes at once: the CPU has nothing to overlap it with."""

    def __init__(self, ort: Any, session: Any, model: ModelFiles, inputs: Arrays) -> None:
        self._session = session
        self._binding = session.io_binding()
        # arrays of our own, bound by address: OrtValue would copy, and its memory cannot be written from numpy
        self._inputs = {tensor.name: self._bind(tensor, inputs[tensor.name]) for tensor in model.inputs}
        self._outputs: Dict[str, np.ndarray] = {}
        self._names = [tensor.name for tensor in model.outputs]
        for name in self._names:
            self._binding.bind_output(name, "cpu")
        session.run_with_iobinding(self._binding)
        first = dict(zip(self._names, self._binding.copy_outputs_to_cpu()))
        texts = {name for name, values in first.items() if values.dtype.kind in "OUS"}
        #: bound to no memory of ours: ONNX Runtime allocates them anew in each run
        self._loose = sessions.loose_outputs(model) | texts
        self._binding.clear_binding_outputs()
        for name in self._names:
            self._bind_output(name, first[name])
        self.run()

    @property
    def session(self) -> Any:
        return self._session

    def _bind(self, tensor: Tensor, values: np.ndarray) -> np.ndarray:
        if tensor.dtype == "str":
            self._binding.bind_cpu_input(tensor.name, values.astype(object))
            return values
        held = np.array(values, order="C")  # of the model's type, or bytes that the graph casts
        self._binding.bind_input(tensor.name, "cpu", 0, held.dtype.type, held.shape, held.ctypes.data)
        return held

    def _bind_output(self, name: str, like: np.ndarray) -> None:
        if name in self._loose:
            self._binding.bind_output(name, "cpu")
            return
        self._outputs[name] = held = np.empty(like.shape, dtype=like.dtype)
        self._binding.bind_output(name, "cpu", 0, held.dtype.type, held.shape, held.ctypes.data)

    def place(self, inputs: Arrays) -> None:
        for name, held in self._inputs.items():
            if held.dtype.kind in "US":
                self._binding.bind_cpu_input(name, inputs[name].astype(object))
            else:
                np.copyto(held, inputs[name])

    def use(self, io: str) -> None:
        """Both kinds of io are one: memory of the host."""

    def run(self) -> None:
        for name in self._loose:  # else it stays bound to what the last run made, which may have another size
            self._binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(self._binding)

    enqueue = run

    def synchronize(self) -> None:
        """Nothing is ever in flight."""

    def run_timed(self) -> Optional[int]:
        self.run()
        return None

    def output(self) -> Arrays:
        held = {name: values.copy() for name, values in self._outputs.items()}
        if self._loose:
            made = dict(zip(self._names, self._binding.copy_outputs_to_cpu()))
            held.update({name: np.asarray(made[name]) for name in self._loose})
        return {name: held[name] for name in self._names}

    def settings(self) -> Dict[str, str]:
        threads = self._session.get_session_options().intra_op_num_threads
        return {"intra_op_threads": str(threads) if threads else "onnxruntime's default: one for each core"}

    def peak_bytes(self) -> Optional[int]:
        return None

    def close(self) -> None:
        del self._binding, self._session


def build(
    ort: Any,
    path: Any,
    model: ModelFiles,
    batch_axes: Sequence[str],
    batch_size: int,
    inputs: Arrays,
    threads: Optional[int],
) -> CpuInference:
    """batch_axes: names of the axes that are `batch_size` long in `inputs`."""

    def open_session(axes: Sequence[str]) -> Any:
        chosen = sessions.options(ort, axes, batch_size, threads)
        return sessions.create(ort, path, chosen, [(sessions.CPU, {})])

    return CpuInference(ort, sessions.with_axes_fixed(open_session, batch_axes), model, inputs)
