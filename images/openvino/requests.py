"""A compiled model and the requests through which it is run."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np

from common.harness.adapter import Arrays

_SHOWN = {
    "PERFORMANCE_HINT": "performance_hint",
    "INFERENCE_PRECISION_HINT": "inference_precision",
    "NUM_STREAMS": "streams_of_openvino",
    "INFERENCE_NUM_THREADS": "threads",
    "ENABLE_CPU_PINNING": "cpu_pinning",
}


class Compiled:
    """OpenVINO's compiled model, in an object that a weak reference can point to.

    requests: how many OpenVINO wants in flight, at least two, so that the next one is there when one ends.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.requests = max(2, int(model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))

    def settings(self) -> Dict[str, str]:
        values = {shown: self.model.get_property(name) for name, shown in _SHOWN.items()}
        return {name: _plain(value) for name, value in values.items()}


class Requests:
    """One shape, its inputs in arrays that all requests read. run() uses the first request alone."""

    def __init__(self, ov: Any, compiled: Compiled, outputs: Sequence[str], batch: Arrays, count: int) -> None:
        self._compiled = compiled
        self._inputs = {name: np.array(values, order="C") for name, values in batch.items()}
        self._requests: List[Any] = [compiled.model.create_infer_request() for _ in range(count)]
        self._outputs = {name: compiled.model.output(name) for name in outputs}
        for request in self._requests:
            for name, values in self._inputs.items():
                request.set_tensor(name, ov.Tensor(values, shared_memory=True))
        self._last = self._requests[0]
        self._next = 0
        for request in self._requests:  # each has its memory then
            request.infer(share_outputs=True)

    def place(self, batch: Arrays) -> None:
        for name, values in self._inputs.items():
            np.copyto(values, batch[name])

    def run(self) -> None:
        self._last = self._requests[0]
        self._last.infer(share_outputs=True)

    def enqueue(self) -> None:
        """Waits for a request that is still in flight when all are."""
        self._last = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        self._last.wait()
        self._last.start_async()

    def synchronize(self) -> None:
        for request in self._requests:
            request.wait()

    def output(self) -> Dict[str, np.ndarray]:
        return {name: _own(self._last.get_tensor(port).data) for name, port in self._outputs.items()}

    def counters(self) -> Any:
        return self._last.profiling_info

    def close(self) -> None:
        self._requests.clear()
        del self._last

    def settings(self) -> Dict[str, str]:
        return {**self._compiled.settings(), "requests": str(len(self._requests))}


class PlainCall:
    """`compiled_model(array)`, or of a dict by name, as OpenVINO's first tutorial has it; the input's shape is whatever comes."""

    def __init__(self, model: Any, outputs: Sequence[str], batch: Arrays) -> None:
        self._model, self._outputs = model, {name: model.output(name) for name in outputs}
        self.place(batch)
        self.run()

    def place(self, batch: Arrays) -> None:
        arrays = {name: np.array(values, order="C") for name, values in batch.items()}
        self._input = arrays if len(arrays) > 1 else next(iter(arrays.values()))

    def run(self) -> None:
        self._result = self._model(self._input)

    enqueue = run

    def synchronize(self) -> None:
        """Nothing is ever in flight."""

    def output(self) -> Dict[str, np.ndarray]:
        return {name: _own(self._result[port]) for name, port in self._outputs.items()}

    def settings(self) -> Dict[str, str]:
        own = {shown: _plain(self._model.get_property(name)) for name, shown in _SHOWN.items()}
        return {**own, "batch_axis": "as the model has it", "requests": "1"}

    def counters(self) -> Any:
        """Of the request that the compiled model keeps for its calls and shows to nobody."""
        request = getattr(self._model, "_infer_request", None)
        return request.profiling_info if request is not None else []

    def close(self) -> None:
        del self._model, self._outputs


def _own(values: Any) -> np.ndarray:
    """A copy, of floats in float32."""
    array = np.asarray(values)
    return np.array(array, dtype=np.float32 if array.dtype.kind == "f" else array.dtype)


def _plain(value: Any) -> str:
    """`f32` of `<Type: 'float32'>`, `LATENCY` of `PerformanceMode.LATENCY`."""
    return str(value.to_string() if hasattr(value, "to_string") else value).rpartition(".")[2]
