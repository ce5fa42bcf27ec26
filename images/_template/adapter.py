"""template: a softmax over one matrix product, in numpy.

It is complete and is measured like any other framework, but it knows only a toy model: a .npz file where the ONNX file
would be. What a real framework puts in its place stands in a comment beginning with "Yours:". The binding description
of every method is common/harness/adapter.py.
"""

from __future__ import annotations

from typing import Dict, Optional

import numpy as np

from common.cell import Cell
from common.harness.adapter import Arrays, Unsupported, only
from common.model_files import ModelFiles


def create(variant: str) -> Adapter:
    """The adapter of a variant named in the Dockerfile's labels."""
    # Yours: import the framework here, not at the top, so that the `import` phase times it.
    if variant != "template":
        raise Unsupported(f"this image has no variant {variant}")
    return Adapter()


class Adapter:
    """Yours: one class for all variants, or one each where they differ in more than a flag."""

    def supports(self, cell: Cell) -> Optional[str]:
        # Yours: what this version and this device cannot do, as a sentence for people.
        if cell.precision != "fp32":
            return f"numpy multiplies in fp32, not in {cell.precision}"
        if cell.device != "cpu":
            return "numpy runs on the CPU only"
        return None

    def load(self, model: ModelFiles, precision: str, device: str, cache_dir: str, threads: Optional[int]) -> None:
        # Yours: read model.path(model.onnx), .keras or .saved_model; keep whatever is built (engines, timing caches)
        # below cache_dir, under a name that holds model.hash, versions and device; set the number of threads.
        self._made = model.outputs[0].name
        path = model.path(model.onnx)
        if path.suffix != ".npz":
            raise Unsupported(f"this adapter knows toy models (.npz) only, it cannot read {path.name} yet")
        with np.load(path) as arrays:
            self._weights = np.asarray(arrays["weights"], dtype=np.float32)

    def prepare(self, inputs: Arrays, io: str) -> None:
        # Yours: compile for these shapes unless they are those already prepared, allocate inputs and outputs once
        # (pinned when io is "host", on the device when it is "device"), capture a graph; then place the inputs.
        # only() is for adapters that feed models with one input; with several, inputs[name] is one of them.
        batch = only(inputs)
        if getattr(self, "_output", np.empty(0)).shape[0] != len(batch):
            self._output = np.empty((len(batch), self._weights.shape[1]), dtype=np.float32)
        self._input = batch.reshape(len(batch), -1)

    def run(self) -> None:
        # Yours: with io "host", copy in, infer, copy out and wait; with "device", infer and wait. Nothing else:
        # this is what is timed.
        np.matmul(self._input, self._weights, out=self._output)
        self._output -= self._output.max(axis=1, keepdims=True)
        np.exp(self._output, out=self._output)
        self._output /= self._output.sum(axis=1, keepdims=True)

    def enqueue(self) -> None:
        # Yours: the same without waiting. numpy knows no queue, so here an inference is done when it is enqueued.
        self.run()

    def synchronize(self) -> None:
        # Yours: wait for all that was enqueued. Here nothing is ever left to wait for.
        return

    def run_timed(self) -> Optional[int]:
        # Yours: the device's own time by its events, in ns. A CPU has no clock of its own, hence None.
        self.run()
        return None

    def output(self) -> Arrays:
        return {self._made: self._output}

    def versions(self) -> Dict[str, str]:
        return {"framework": np.__version__, "numpy": np.__version__}

    def settings(self) -> Dict[str, str]:
        # Yours: every choice that matters for speed.
        return {"allocation": "output reused"}

    def device_peak_bytes(self) -> Optional[int]:
        return None

    def close(self) -> None:
        # Yours: free what lives on the device.
        return
