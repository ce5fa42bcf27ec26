"""One shape on the CPU, in inference mode."""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np


class CpuInference:
    """enqueue() computes at once: the CPU has nothing to overlap it with."""

    def __init__(self, torch: Any, module: Any, batch: np.ndarray) -> None:
        self._torch = torch
        self._module = module
        self._input = torch.from_numpy(np.array(batch, dtype=np.float32, order="C"))
        for _ in range(2):  # compiles where the module is compiled; oneDNN chooses its kernels
            self.run()

    def place(self, batch: np.ndarray) -> None:
        np.copyto(self._input.numpy(), batch)

    def run(self) -> None:
        with self._torch.inference_mode():
            self._output = self._module(self._input)

    enqueue = run

    def synchronize(self) -> None:
        """Nothing is ever in flight."""

    def run_timed(self) -> Optional[int]:
        self.run()
        return None

    def output(self) -> np.ndarray:
        return np.array(self._output.float().numpy(), dtype=np.float32)

    def settings(self) -> Dict[str, str]:
        return {
            "intra_op_threads": str(self._torch.get_num_threads()),
            "onednn": str(self._torch.backends.mkldnn.is_available()),
        }

    def peak_bytes(self) -> Optional[int]:
        return None

    def close(self) -> None:
        del self._module, self._input, self._output
