"""LiteRT (formerly TensorFlow Lite) on the CPU: `litert`, XNNPACK's kernels, from the model's TFLite forms.

fp32 reads the form `tflite`, int8-dynamic the form `tflite-int8-dynamic`: weights in int8, activations quantized while it
runs by the range that they have. Both are made of the SavedModel by TensorFlow's converter when first needed
(common/export/forms.py). The interpreter owns the memory of its input and output. io="host": each run copies the input
into it and the output out of it, which is what its users do; io="device": neither.

stock is an interpreter with nothing set, which computes in one thread; tuned has as many as the process may use CPUs, or
one where that is faster.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from common.cell import Cell
from common.harness import choices
from common.harness.adapter import Arrays, DeviceOutOfMemory, Unsupported
from common.harness.causes import raise_as
from common.harness.one_call import one_call
from common.model_files import ModelFiles
from common.text import first_line

FORMS = {"fp32": "tflite", "int8-dynamic": "tflite-int8-dynamic"}


def create(variant: str) -> LiteRtAdapter:
    """Imports LiteRT. Raises Unsupported where that fails and ValueError for a variant that is not ours."""
    if variant != "litert":
        raise ValueError(f"variant '{variant}' is not litert")
    try:
        from ai_edge_litert import interpreter
    except (ImportError, OSError) as error:
        raise Unsupported(f"ai_edge_litert cannot be imported: {first_line(error)}") from error
    return LiteRtAdapter(interpreter)


class LiteRtAdapter:
    def __init__(self, litert: Any) -> None:
        self._litert = litert
        self._interpreter: Any = None
        self._shape: Tuple[Tuple[int, ...], ...] = ()
        self._threads = 1
        self._level = "tuned"
        self._notes: Dict[str, str] = {}

    def tune(self, level: str) -> None:
        if level not in ("stock", "tuned"):
            raise Unsupported(f"litert is measured stock and tuned, not {level}")
        self._level = level

    def supports(self, cell: Cell) -> Optional[str]:
        if cell.device != "cpu":
            return "LiteRT does not run on NVIDIA GPUs"
        if cell.precision not in FORMS:
            return f"fp32 and int8-dynamic on the CPU, not {cell.precision}"
        return None

    def load(self, model: ModelFiles, precision: str, device: str, cache_dir: str, threads: Optional[int]) -> None:
        """Raises Unsupported for a model that has no TFLite form: a user's ONNX file has no SavedModel to make it of."""
        self._names = [[tensor.name for tensor in tensors] for tensors in (model.inputs, model.outputs)]
        form = FORMS[precision]
        try:
            path = model.form(form)
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise Unsupported(f"LiteRT needs the form {form}: {error}") from error
        # LiteRT's own default is one thread; all others take what the process may use
        most = threads or len(os.sched_getaffinity(0))
        self._file, self._content = path.name, content
        self._kinds = {tensor.name: tensor.dtype for tensor in model.inputs}
        self._candidates = [1] if self._level == "stock" else list(dict.fromkeys([most, 1]))
        self._memory = choices.AlgorithmCache(Path(cache_dir) / "litert" / "choices.json")
        self._about = f"{model.hash} {precision} of {most} threads, litert {version('ai-edge-litert')}"
        self._open(self._candidates[0])

    def _open(self, threads: int) -> None:
        self._threads, self._shape = threads, ()
        self._put = self._take = None  # they hold the interpreter that is replaced
        given = {} if self._level == "stock" else {"num_threads": threads}
        try:
            self._interpreter = self._litert.Interpreter(model_content=self._content, **given)
        except (RuntimeError, ValueError) as error:
            raise Unsupported(f"LiteRT cannot read this model: {first_line(error)}") from error
        self._inputs, self._outputs = self._indices()

    def _indices(self) -> List[Dict[str, int]]:
        """Name -> number of the tensor, of the inputs and of the outputs, as the SavedModel's signature has them."""
        found = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        indices = []
        signature = next(iter(self._interpreter.get_signature_list().values()), {})
        for names, details, part in zip(self._names, found, ("inputs", "outputs")):
            if len(names) == len(details) == 1:
                indices.append({names[0]: int(details[0]["index"])})
                continue
            if sorted(signature.get(part, ())) != sorted(names):
                raise Unsupported(
                    f"the TFLite file's {part} are {', '.join(signature.get(part, ()))}: not {', '.join(names)}"
                )
            runner = self._interpreter.get_signature_runner()
            of_names = runner.get_input_details() if part == "inputs" else runner.get_output_details()
            indices.append({name: int(of_names[name]["index"]) for name in names})
        return indices

    def prepare(self, inputs: Arrays, io: str) -> None:
        batch = dict(inputs)
        for name, values in batch.items():
            if values.dtype.name != self._kinds[name]:
                raise Unsupported(f"the TFLite file takes {self._kinds[name]}, not {values.dtype.name}")
        if self._shape == _shapes(batch) or len(self._candidates) == 1:
            self._place(batch, io)
            return

        def with_threads(count: int) -> LiteRtAdapter:
            self._open(count)
            self._place(batch, io)
            return self

        chosen = choices.fastest(
            [
                choices.Algorithm(_words(count), lambda count=count: _OneOf(with_threads(count)))  # type: ignore[misc]
                for count in self._candidates
            ],
            self._memory,
            f"{self._about} {' '.join(str(shape) for shape in _shapes(batch))} {io}",
        )
        self._notes = chosen.settings()
        if chosen.name != _words(self._threads):
            with_threads(next(count for count in self._candidates if _words(count) == chosen.name))

    def _place(self, batch: Dict[str, np.ndarray], io: str) -> None:
        fed = [(self._inputs[name], values) for name, values in batch.items()]
        self._put = one_call(self._interpreter.set_tensor, fed)
        if self._shape != _shapes(batch):
            self._shape = ()
            try:
                for index, values in fed:
                    self._interpreter.resize_tensor_input(index, list(values.shape), strict=True)
                self._interpreter.allocate_tensors()
                self._put()
                self._interpreter.invoke()  # XNNPACK packs its weights and takes its memory now
            except (RuntimeError, ValueError, MemoryError) as error:
                raise_as(_explained(error), error)
            self._take = one_call(self._interpreter.get_tensor, [(place,) for place in self._outputs.values()])
            self._result = self._take()
            self._shape = _shapes(batch)
        self._io = io
        self._put()

    def run(self) -> None:
        if self._io == "host":
            self._put()
            self._interpreter.invoke()
            self._result = self._take()
        else:
            self._interpreter.invoke()

    def enqueue(self) -> None:
        """Computes at once: an interpreter runs one inference, with all its threads."""
        self.run()

    def synchronize(self) -> None:
        """Nothing is ever in flight."""

    def run_timed(self) -> Optional[int]:
        self.run()
        return None

    def output(self) -> Arrays:
        made = self._result if self._io == "host" else self._take()
        values = made if len(self._outputs) > 1 else [made]
        return {name: np.asarray(one, dtype=np.float32) for name, one in zip(self._outputs, values)}

    def versions(self) -> Dict[str, str]:
        return {"framework": version("ai-edge-litert"), "numpy": np.__version__}

    def settings(self) -> Dict[str, str]:
        return {
            "kernels": "XNNPACK",
            "model_form": self._file,
            "threads": str(self._threads),
            "batch_axis": "resized once for each shape",
            **self._notes,
        }

    def device_peak_bytes(self) -> Optional[int]:
        return None

    def close(self) -> None:
        self._interpreter = self._put = self._take = None


def _shapes(batch: Arrays) -> Tuple[Tuple[int, ...], ...]:
    return tuple(values.shape for values in batch.values())


class _OneOf:
    """What choices.fastest() tries: the adapter as it is now; only one interpreter is alive at a time."""

    def __init__(self, adapter: LiteRtAdapter) -> None:
        self.run = adapter.run

    def close(self) -> None:
        """The next one, or the choice, replaces the interpreter."""


def _words(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _explained(error: BaseException) -> Exception:
    text = first_line(error)
    if isinstance(error, MemoryError) or "allocate" in text.lower():
        return DeviceOutOfMemory(text)
    return Unsupported(f"LiteRT cannot run this model with this batch size: {text}")
