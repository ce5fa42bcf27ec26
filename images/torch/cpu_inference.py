"""One shape on the CPU."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from images.torch.tensors import listed, on_host


class CpuInference:
    """In inference mode, but with gradients. enqueue() computes at once: the CPU has nothing to overlap it with."""

    def __init__(self, torch: Any, module: Any, inputs: Sequence[np.ndarray], gradients: bool = False) -> None:
        self._torch = torch
        self._mode = torch.enable_grad if gradients else torch.inference_mode
        self._module = module
        arrays = [np.array(values, order="C") for values in inputs]
        # the module computes in float32, whatever the file's own type is
        arrays = [values.astype(np.float32) if values.dtype.kind == "f" else values for values in arrays]
        self._inputs = [torch.from_numpy(values) for values in arrays]
        for _ in range(2):  # compiles where the module is compiled; oneDNN chooses its kernels
            self.run()

    def place(self, inputs: Sequence[np.ndarray]) -> None:
        for tensor, values in zip(self._inputs, inputs):
            np.copyto(tensor.numpy(), values, casting="same_kind")

    def run(self) -> None:
        with self._mode():
            self._output = self._module(*self._inputs)

    enqueue = run

    def synchronize(self) -> None:
        """Nothing is ever in flight."""

    def run_timed(self) -> Optional[int]:
        self.run()
        return None

    def output(self) -> List[np.ndarray]:
        return [on_host(tensor) for tensor in listed(self._output)]

    def settings(self) -> Dict[str, str]:
        return {
            "intra_op_threads": str(self._torch.get_num_threads()),
            "onednn": str(self._torch.backends.mkldnn.is_available()),
        }

    def peak_bytes(self) -> Optional[int]:
        return None

    def close(self) -> None:
        del self._module, self._inputs, self._output
