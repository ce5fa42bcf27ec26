"""One shape as ONNX Runtime's first tutorial runs it: a session with its providers named, and nothing else set.

io=host    session.run(outputs, {name: array}), from and to numpy
io=device  session.run_with_iobinding(binding), OrtValues on the device; it returns when the device is done
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np

from common.harness.adapter import Arrays
from common.model_files import ModelFiles
from images.onnxrt import sessions


class StockInference:
    """place: ("cpu", 0) or ("cuda", ordinal). enqueue() computes at once."""

    def __init__(self, ort: Any, session: Any, place: Any, model: ModelFiles, inputs: Arrays, io: str) -> None:
        self._ort, self._session, self._place, self._io = ort, session, place, io
        self._names = [one.name for one in model.outputs]
        self._loose = sessions.loose_outputs(model)
        self._made: List[Any] = []
        self._binding: Any = None
        self.place(inputs)
        for _ in range(2):
            self.run()

    @property
    def session(self) -> Any:
        return self._session

    def place(self, inputs: Arrays) -> None:
        # a copy of its own: the caller may go on writing into its arrays
        self._inputs = {
            name: values.astype(object) if values.dtype.kind in "US" else np.array(values, order="C")
            for name, values in inputs.items()
        }
        if self._io == "host":
            return
        self._binding = self._session.io_binding()
        for name, values in self._inputs.items():
            if values.dtype.kind == "O":
                self._binding.bind_cpu_input(name, values)
            else:
                self._binding.bind_ortvalue_input(name, self._ort.OrtValue.ortvalue_from_numpy(values, *self._place))
        for name in self._names:
            self._binding.bind_output(name, *self._place)

    def use(self, io: str) -> None:
        """place() comes next: it binds what this io needs."""
        self._io = io

    def run(self) -> None:
        if self._io == "host":
            self._made = self._session.run(self._names, self._inputs)
        else:
            for name in self._loose:  # else it stays bound to what the last run made, which may have another size
                self._binding.bind_output(name, *self._place)
            self._session.run_with_iobinding(self._binding)

    enqueue = run

    def synchronize(self) -> None:
        """Nothing is ever in flight."""

    def run_timed(self) -> Optional[int]:
        """None: the session has a stream of its own, on which no event can be recorded."""
        self.run()
        return None

    def output(self) -> Arrays:
        made = self._made if self._io == "host" else self._binding.copy_outputs_to_cpu()
        return {name: np.asarray(values) for name, values in zip(self._names, made)}

    def settings(self) -> Dict[str, str]:
        return {
            "graph_optimization": "onnxruntime's default",
            "io_binding": "no" if self._io == "host" else "yes",
            "batch_axis": "as the model has it",
            "cuda_graph": "no",
            "host_memory": "pageable",
        }

    def close(self) -> None:
        self._made = []
        self._binding = None
        del self._session
