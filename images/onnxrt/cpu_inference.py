"""One shape on the CPU: input and output bound once to fixed memory, so that a run is one call."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import numpy as np

from images.onnxrt import sessions


class CpuInference:
    """A session with its buffers. enqueue() computes at once: the CPU has nothing to overlap it with."""

    def __init__(self, ort: Any, session: Any, input_name: str, output_name: str, batch: np.ndarray) -> None:
        self._session = session
        # arrays of our own, bound by address: OrtValue would copy, and its memory cannot be written from numpy
        self._input = np.array(batch, dtype=np.float32, order="C")
        self._binding = session.io_binding()
        self._binding.bind_input(input_name, "cpu", 0, np.float32, self._input.shape, self._input.ctypes.data)
        self._binding.bind_output(output_name, "cpu")
        session.run_with_iobinding(self._binding)
        first = self._binding.copy_outputs_to_cpu()[0]
        self._output = np.empty(first.shape, dtype=np.float32)
        self._binding.bind_output(output_name, "cpu", 0, np.float32, first.shape, self._output.ctypes.data)
        self.run()

    @property
    def session(self) -> Any:
        return self._session

    def place(self, batch: np.ndarray) -> None:
        np.copyto(self._input, batch)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    enqueue = run

    def synchronize(self) -> None:
        """Nothing is ever in flight."""

    def run_timed(self) -> Optional[int]:
        self.run()
        return None

    def output(self) -> np.ndarray:
        return self._output.copy()

    def settings(self) -> Dict[str, str]:
        threads = self._session.get_session_options().intra_op_num_threads
        return {"intra_op_threads": str(threads) if threads else "onnxruntime's default: one for each core"}

    def peak_bytes(self) -> Optional[int]:
        return None

    def close(self) -> None:
        del self._binding, self._session


def build(
    ort: Any, path: Any, names: Sequence[str], batch_axis: Optional[str], batch: np.ndarray, threads: Optional[int]
) -> CpuInference:
    """names: input and output of the graph. batch: float32, (batch_size, ...)."""
    chosen = sessions.options(ort, batch_axis, len(batch), threads)
    session = sessions.create(ort, path, chosen, [(sessions.CPU, {})])
    return CpuInference(ort, session, names[0], names[1], batch)
