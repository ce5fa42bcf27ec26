"""OpenVINO on the CPU: `openvino`, from the model's ONNX file.

| scenario      | performance hint | what is in flight                                                           |
|---------------|------------------|-----------------------------------------------------------------------------|
| single-stream | LATENCY          | one request, all threads work at one inference                              |
| server        | LATENCY          | likewise                                                                    |
| offline       | THROUGHPUT       | as many requests as OpenVINO asks for, shared out to its own streams        |
| multi-stream  | THROUGHPUT       | one request for each stream of the scenario, all of one compiled model      |

Precisions: fp32 (INFERENCE_PRECISION_HINT f32: nothing is computed in less), bf16 where the CPU has instructions for it.
stock is `compiled_model(array)` of `core.compile_model(model, "CPU")` with the precision named and nothing else; tuned as above, or
as stock where that is faster. Images as bytes: OpenVINO's own preprocessing converts them in the graph.
The input is numpy's own memory, the output OpenVINO's, which numpy reads in place: nothing is copied, whatever `io` says.
"""

from __future__ import annotations

import threading
import weakref
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple, Union

import numpy as np

from common.cell import Cell
from common.harness import choices
from common.harness.adapter import Arrays, Unsupported
from common.model_files import ModelFiles
from common.text import brief
from images.openvino.requests import Compiled, PlainCall, Requests

#: precision -> OpenVINO's name of the element type
TYPES = {"fp32": "f32", "bf16": "bf16"}
#: scenarios in which more than one inference is in flight
_MANY = ("offline", "multi-stream")
_MAKING = threading.Lock()
#: compiled models for several requests, while one of their users lives: streams of a process share one, as their users would
_SHARED: weakref.WeakValueDictionary[Tuple[Any, ...], Compiled] = weakref.WeakValueDictionary()


def create(variant: str) -> OpenVinoAdapter:
    """Imports OpenVINO. Raises Unsupported where that fails and ValueError for a variant that is not ours."""
    if variant != "openvino":
        raise ValueError(f"variant '{variant}' is not openvino")
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise Unsupported(f"openvino cannot be imported: {_last_line(error)}") from error
    return OpenVinoAdapter(openvino)


class OpenVinoAdapter:
    def __init__(self, ov: Any) -> None:
        self._ov = ov
        self._core = ov.Core()
        self._level = "tuned"
        self._notes: Dict[str, str] = {}
        self._inference: Optional[Union[Requests, PlainCall]] = None
        self._shape: Optional[Tuple[Any, ...]] = None
        self._scenario, self._streams = "single-stream", 1
        self._counting = False
        #: while counting: makes the inference that was chosen once more
        self._build: Optional[Callable[[], Any]] = None

    def tune(self, level: str) -> None:
        if level not in ("stock", "tuned"):
            raise Unsupported(f"openvino is measured stock and tuned, not {level}")
        self._level = level

    def supports(self, cell: Cell) -> Optional[str]:
        if cell.device != "cpu":
            return "OpenVINO does not run on NVIDIA GPUs"
        if cell.precision not in TYPES:
            return f"fp32 and bf16 on the CPU, not {cell.precision}"
        if cell.precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return "this CPU has no instructions for bf16 (AVX-512 BF16 or AMX)"
        return None

    def expect(self, cell: Cell) -> None:
        self._scenario, self._streams = cell.scenario, cell.streams

    def load(self, model: ModelFiles, precision: str, device: str, cache_dir: str, threads: Optional[int]) -> None:
        """Raises Unsupported for a model that OpenVINO cannot read."""
        self._precision, self._threads, self._hash = precision, threads, model.hash
        try:
            path = model.form("onnx")
            self._model = self._core.read_model(str(path))
        except (FileNotFoundError, RuntimeError) as error:
            raise Unsupported(f"OpenVINO cannot read this model: {_last_line(error)}") from error
        text = [tensor.name for tensor in (*model.inputs, *model.outputs) if tensor.dtype == "str"]
        if text:
            raise Unsupported(f"'{text[0]}' is of text, which OpenVINO does not take")
        self._outputs = [tensor.name for tensor in model.outputs]
        self._kinds = {tensor.name: tensor.dtype for tensor in model.inputs}
        self._memory = choices.AlgorithmCache(Path(cache_dir) / "openvino" / "choices.json")

    def prepare(self, inputs: Arrays, io: str) -> None:
        batch = dict(inputs)
        streams = self._streams if self._scenario in _MANY else 0
        shape = (_shapes(batch), self._scenario in _MANY, streams)
        if self._inference is None or self._shape != shape:
            self._inference, self._shape = None, None  # freed before the next one is made
            self._inference = self._fastest(batch, streams)
            self._shape = shape
        self._inference.place(batch)

    def _fastest(self, batch: Arrays, streams: int) -> Union[Requests, PlainCall]:
        """The call of the level of tuning; one inference at a time may also be called as the tutorial does."""

        def hinted() -> Requests:
            compiled = self._compiled(batch, streams)
            count = compiled.requests if self._scenario == "offline" else 1
            return Requests(self._ov, compiled, self._outputs, batch, count)

        plain = choices.Algorithm("plain call", lambda: PlainCall(self._compile_plain(batch), self._outputs, batch))
        algorithms = [choices.Algorithm("performance hint, static shape", hinted), plain]
        algorithms = [plain] if self._level == "stock" else algorithms[:1] if streams else algorithms
        key = f"{self._hash} {self._precision} {_shapes(batch)} {self._threads} openvino {version('openvino')}"
        chosen = choices.fastest(algorithms, self._memory, key)
        self._notes = chosen.settings()
        if self._counting:
            self._build = next(one.build for one in algorithms if one.name == chosen.name)
        inference: Union[Requests, PlainCall] = chosen.inference
        return inference

    def _compiled(self, batch: Arrays, streams: int) -> Compiled:
        """streams: 0 for one inference at a time, else the scenario's streams."""
        if not streams:
            return self._compile(batch, streams)
        key = (self._hash, self._precision, self._threads, self._counting, _shapes(batch), streams)
        with _MAKING:
            compiled = _SHARED.get(key)
            if compiled is None:
                compiled = _SHARED[key] = self._compile(batch, streams)
            return compiled

    def _network(self, batch: Arrays) -> Any:
        """The model; where it is fed bytes in place of numbers, with their conversion in front."""
        model = self._model.clone()
        as_bytes = [name for name, values in batch.items() if values.dtype.name != self._kinds[name]]
        if as_bytes:
            steps = self._ov.preprocess.PrePostProcessor(model)
            for name in as_bytes:
                steps.input(name).tensor().set_element_type(self._ov.Type.u8)
            model = steps.build()
        return model

    def _options(self) -> Dict[str, Any]:
        """Of every compilation, whatever its hint."""
        options: Dict[str, Any] = {"INFERENCE_PRECISION_HINT": TYPES[self._precision]}
        if self._threads is not None:
            options["INFERENCE_NUM_THREADS"] = str(self._threads)
        if self._counting:
            options["PERF_COUNT"] = True
        return options

    def _compile_plain(self, batch: Arrays) -> Any:
        options = self._options()
        try:
            return self._core.compile_model(self._network(batch), "CPU", options)
        except RuntimeError as error:
            raise Unsupported(f"OpenVINO cannot compile this model: {_last_line(error)}") from error

    def _compile(self, batch: Arrays, streams: int) -> Compiled:
        model = self._network(batch)
        options = {**self._options(), "PERFORMANCE_HINT": "THROUGHPUT" if streams else "LATENCY"}
        if streams > 1:
            options["PERFORMANCE_HINT_NUM_REQUESTS"] = str(streams)
        try:
            model.reshape({name: self._ov.PartialShape(list(values.shape)) for name, values in batch.items()})
            return Compiled(self._core.compile_model(model, "CPU", options))
        except RuntimeError as error:
            shapes = ", ".join(f"'{brief(name)}' {values.shape}" for name, values in batch.items())
            raise Unsupported(f"OpenVINO cannot compile this model for {shapes}: {_last_line(error)}") from error

    def run(self) -> None:
        self._inference.run()  # type: ignore[union-attr]  # prepare() came first

    def enqueue(self) -> None:
        self._inference.enqueue()  # type: ignore[union-attr]

    def synchronize(self) -> None:
        self._inference.synchronize()  # type: ignore[union-attr]

    def run_timed(self) -> Optional[int]:
        self.run()
        return None

    def output(self) -> Arrays:
        return self._inference.output()  # type: ignore[union-attr]

    def operator_profiler(self) -> Any:
        from images.openvino.operator_profile import OpenVinoProfiler

        self._counting = True
        return OpenVinoProfiler(self, version("openvino"))

    def count_from_zero(self) -> int:
        """Compiles what prepare() chose anew, since nothing else sets counters to zero; returns how many inferences they have seen."""
        assert self._build is not None
        self._inference = None  # freed before the next one is made
        self._inference = self._build()
        return 1  # each kind runs once when it is made

    def counters(self) -> Any:
        """OpenVINO's counters since the model was compiled: times are means of all inferences since then."""
        return self._inference.counters()  # type: ignore[union-attr]

    def versions(self) -> Dict[str, str]:
        return {"framework": version("openvino"), "openvino_build": self._ov.__version__, "numpy": np.__version__}

    def settings(self) -> Dict[str, str]:
        own = self._inference.settings() if self._inference is not None else {}
        return {"device": "CPU", "model_file": "model.onnx", "batch_axis": "fixed", **own, **self._notes}

    def device_peak_bytes(self) -> Optional[int]:
        return None

    def close(self) -> None:
        self._inference, self._shape, self._build = None, None, None
        self._model = None


def _shapes(batch: Arrays) -> Tuple[Any, ...]:
    return tuple((name, values.shape, values.dtype.name) for name, values in batch.items())


def _last_line(error: BaseException) -> str:
    """The last line that says something: OpenVINO puts places in its own sources before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
