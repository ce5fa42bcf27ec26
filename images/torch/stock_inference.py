"""One shape as PyTorch's first tutorial runs it: `model(x.to(device))`, on the default stream, from and to pageable memory.

io=host    output = model(torch.from_numpy(x).to(device)).cpu()
io=device  output = model(x); torch.cuda.synchronize()
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from images.torch.tensors import in_precision, listed, on_host


class StockCudaInference:
    """dtype: what the module computes in. The default stream orders everything, so enqueue() only leaves out the waiting."""

    def __init__(self, torch: Any, module: Any, device: Any, dtype: Any, inputs: Sequence[np.ndarray], io: str) -> None:
        self._torch, self._module, self._device, self._dtype, self._io = torch, module, device, dtype, io
        torch.cuda.reset_peak_memory_stats(device)
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.place(inputs)
        for _ in range(2):  # compiles where the module is compiled; libraries load their kernels
            self.run()

    def place(self, inputs: Sequence[np.ndarray]) -> None:
        self._host = [self._torch.from_numpy(np.array(values, order="C")) for values in inputs]
        self._resident = [tensor.to(self._device) for tensor in self._host] if self._io == "device" else []

    def _infer(self) -> List[Any]:
        given = self._resident or [tensor.to(self._device) for tensor in self._host]
        with self._torch.inference_mode():
            return listed(self._module(*in_precision(given, self._dtype)))

    def run(self) -> None:
        self._output = self._infer()
        if self._io == "host":
            self._output = [tensor.cpu() for tensor in self._output]
        else:
            self._torch.cuda.synchronize()

    def enqueue(self) -> None:
        if self._io == "host":
            self.run()
        else:
            self._output = self._infer()

    def synchronize(self) -> None:
        self._torch.cuda.synchronize()

    def run_timed(self) -> Optional[int]:
        """Time between two events around the inference and, with io=host, its copies; in ns."""
        self._start.record()
        self.run()
        self._end.record()
        self._end.synchronize()
        return round(float(self._start.elapsed_time(self._end)) * 1e6)

    def output(self) -> List[np.ndarray]:
        return [on_host(tensor) for tensor in self._output]

    def settings(self) -> Dict[str, str]:
        return {"cuda_graph": "no", "host_memory": "pageable", "in_flight": "default stream"}

    def peak_bytes(self) -> Optional[int]:
        """As CudaInference's."""
        return int(self._torch.cuda.max_memory_reserved(self._device))

    def close(self) -> None:
        self.synchronize()
        self._output = []
        del self._module, self._host, self._resident
        self._torch.cuda.empty_cache()
