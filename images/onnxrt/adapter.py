"""ONNX Runtime: `onnxrt` (CPU and CUDA providers) and `onnxrt-trt` (TensorRT provider).

Helper modules lie beside this file and are imported as `images.onnxrt.*`: the folder that holds `common/` and
`images/` is on the module path wherever the harness runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from common.cell import Cell
from common.harness import choices
from common.harness.adapter import (
    Arrays,
    DeviceOutOfMemory,
    Unsupported,
    batch_size_of,
    refuse_bytes_that_come_out,
)
from common.harness.causes import raise_as
from common.model_files import ModelFiles
from common.text import brief, first_line
from images.onnxrt import cpu_inference, gpu_options, model_cache, sessions, trial
from images.onnxrt.cpu_inference import CpuInference
from images.onnxrt.cuda_inference import CudaInference
from images.onnxrt.cuda_runtime import CudaError, CudaRuntime
from images.onnxrt.stock_inference import StockInference

VARIANTS = ("onnxrt", "onnxrt-trt")
#: TensorRT fuses a hard-swish by itself, so that nothing is rewritten for it
LEVELS = {"onnxrt": ("stock", "tuned", "rewritten"), "onnxrt-trt": ("stock", "tuned")}
#: algorithms for a shape, among which a level of tuning chooses
STOCK, TUNED, REWRITTEN = "as in the tutorial", "session and provider options", "hard-swish fused"
Inference = Union[CpuInference, CudaInference, StockInference]


def create(variant: str) -> OnnxRuntimeAdapter:
    """Imports onnxruntime. Raises Unsupported where that fails and ValueError for a variant that is not one of ours."""
    if variant not in VARIANTS:
        raise ValueError(f"variant '{variant}' is not one of {', '.join(VARIANTS)}")
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise Unsupported(f"onnxruntime cannot be imported: {first_line(error)}") from error
    return OnnxRuntimeAdapter(variant, onnxruntime)


class OnnxRuntimeAdapter:
    """Inputs and outputs have the model's own types in every precision, so that all of them copy the same bytes."""

    def __init__(self, variant: str, ort: Any) -> None:
        self._variant = variant
        self._ort = ort
        self._level = "tuned"
        self._inference: Optional[Inference] = None
        self._placed: Any = None
        #: way -> (way, choice of options) of what was built last; that of the inference, and of one that served the other io
        self._identities: Dict[str, Tuple[str, Any]] = {}
        self._identity: Tuple[str, Any] = ("", None)
        self._earlier: Optional[Tuple[Tuple[str, Any], Inference]] = None
        #: of the trial that is under way
        self._comparison: Optional[trial.Expected] = None
        #: inputs that the model has as floats and that are fed as bytes
        self._cast: Tuple[str, ...] = ()
        self._cuda: Optional[CudaRuntime] = None
        self._stream = 0
        self._notes: Dict[str, str] = {}

    def tune(self, level: str) -> None:
        known = LEVELS[self._variant]
        if level not in known:
            raise Unsupported(f"{self._variant} is measured {' and '.join(known)}, not {level}")
        self._level = level

    # --- what can be done -------------------------------------------------------------------------------------------

    def supports(self, cell: Cell) -> Optional[str]:
        built_for = self._ort.get_available_providers()
        if cell.device == "cpu":
            if self._variant == "onnxrt-trt":
                return "TensorRT runs on NVIDIA GPUs only"
            return None if cell.precision == "fp32" else f"on the CPU fp32 only, not {cell.precision}"
        if cell.precision not in ("fp32", "tf32", "fp16"):
            return f"fp32, tf32 and fp16 on the GPU, not {cell.precision}"
        if sessions.CUDA not in built_for:
            return "this onnxruntime is built for the CPU; on a GPU it is the package onnxruntime-gpu"
        if self._variant == "onnxrt-trt":
            if sessions.TENSORRT not in built_for:
                return "this onnxruntime is built without the TensorRT provider"
            missing = sessions.missing_library(["libnvinfer.so.10", "libnvonnxparser.so.10"])
            if missing:
                return f"TensorRT's libraries cannot be loaded: {missing}"
        return None

    # --- model and shape --------------------------------------------------------------------------------------------

    def load(self, model: ModelFiles, precision: str, device: str, cache_dir: str, threads: Optional[int]) -> None:
        """Raises Unsupported for a model or machine that ONNX Runtime cannot take."""
        if model.onnx is None:
            raise Unsupported(model.lack("onnx"))
        self._model, self._precision, self._threads = model, precision, threads
        self._cache = Path(cache_dir) / self._variant
        # what is rewritten is one of the ways, which may fail; the axes are those of either file
        self._path, self._rewrite = self._file(False)
        self._batch_axes = self._inspect()
        if device != "cpu":
            self._open_device(int(device.partition(":")[2] or 0))

    def _inspect(self) -> List[str]:
        """Names of the batch axis, none where the batch is fixed. Raises Unsupported for a model that is not as described."""
        inputs, outputs = self._signature()
        names = {tensor.name for tensor in self._model.inputs}
        if set(inputs) != names:
            described, has = ", ".join(sorted(names)), ", ".join(sorted(inputs))
            raise Unsupported(f"the model file takes {has}, its description says {described}")
        for tensor in self._model.outputs:
            if tensor.name not in outputs:
                raise Unsupported(f"the model has no tensor '{brief(tensor.name)}' as output")
        if {tensor.name for tensor in self._model.outputs} <= names:
            raise Unsupported("every output of the model is an input of it, so there is nothing to compute")
        for tensor in self._model.inputs:
            wanted, (kind, told) = sessions.TYPES.get(tensor.dtype), inputs[tensor.name]
            if kind != wanted:
                raise Unsupported(f"'{brief(tensor.name)}' is {kind}, not {wanted or tensor.dtype}")
            if not sessions.has_batch(tensor, told):
                raise Unsupported(
                    f"'{brief(tensor.name)}' {told} of the model file has no axis {tensor.batch_axis}, which is the "
                    "batch by its description"
                )
        axes = [
            inputs[tensor.name][1][tensor.batch_axis]
            for tensor in self._model.inputs
            if tensor.batch_axis is not None and inputs[tensor.name][1]
        ]
        return sorted({axis for axis in axes if isinstance(axis, str)})

    def _signature(self) -> Tuple[Dict[str, Tuple[str, List[Any]]], List[str]]:
        """(name of an input -> type and axes, names of outputs) of the model file.

        Read by a session on the CPU, which takes a second or two for 400 MB of weights; so the cache folder keeps it for this file.
        """
        memory = choices.CacheFile(self._cache / "signatures.json")
        try:
            file = self._path.stat()
        except OSError as error:
            raise Unsupported(f"ONNX Runtime cannot read this model: {error}") from error
        key = f"{self._model.hash} {self._path.name} {file.st_size} {file.st_mtime_ns} onnxruntime {self._ort.__version__}"
        known = memory.get(key)
        if not sessions.is_signature(known, self._model.inputs):
            plain = self._ort.SessionOptions()
            plain.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            plain.log_severity_level = 4
            try:
                session = self._ort.InferenceSession(str(self._path), plain, providers=[sessions.CPU])
            except Exception as error:
                raise Unsupported(f"ONNX Runtime cannot read this model: {first_line(error)}") from error
            known = {
                "inputs": {value.name: [value.type, list(value.shape)] for value in session.get_inputs()},
                "outputs": [value.name for value in session.get_outputs()],
            }
            memory.put(key, known)
        return {name: (kind, axes) for name, (kind, axes) in known["inputs"].items()}, known["outputs"]

    def _open_device(self, ordinal: int) -> None:
        if self._precision == "fp32":
            sessions.switch_tf32_off()
        sessions.preload(self._ort)
        missing = sessions.missing_library(sessions.cuda_libraries(self._ort))
        if missing:
            raise Unsupported(f"ONNX Runtime's CUDA provider lacks a library: {missing}")
        major = sessions.cuda_major(self._ort) or "12"
        try:
            self._cuda = CudaRuntime(ordinal, [f"libcudart.so.{major}", "libcudart.so"])
        except (OSError, CudaError) as error:
            raise Unsupported(f"no usable GPU for CUDA {major}: {first_line(error)}") from error
        self._stream = self._cuda.stream()
        self._free_before = self._cuda.memory()[0]

    def prepare(self, inputs: Arrays, io: str) -> None:
        wanted = {name: (values.shape, values.dtype.name) for name, values in inputs.items()}, io
        if self._inference is not None and self._placed == wanted:
            self._inference.place(inputs)
            return
        before, self._inference = self._inference, None
        if before is not None and self._placed is not None and self._placed[0] != wanted[0]:
            before.close()
            before = None
        self._placed, self._earlier = None, None if before is None else (self._identity, before)
        self._cast = tuple(
            one.name
            for one in self._model.inputs
            if inputs[one.name].dtype == np.uint8 and np.dtype(one.dtype).kind == "f"
        )
        try:
            refuse_bytes_that_come_out(self._model, self._cast)
            self._inference = self._build(inputs, io)
        except (Unsupported, DeviceOutOfMemory):
            raise
        except Exception as error:
            raise_as(sessions.explain(error), error)
        finally:
            if self._earlier is not None:
                self._earlier[1].close()
                self._earlier = None
        self._placed = wanted

    def _build(self, inputs: Arrays, io: str) -> Inference:
        """The fastest of the algorithms that the level of tuning has, those of the level below included."""
        #: algorithm -> what it is, for the row
        notes: Dict[str, Dict[str, str]] = {}
        self._comparison = None

        def algorithm(name: str) -> choices.Algorithm:
            build = self._build_rewritten if name == REWRITTEN else self._build_algorithm
            return choices.Algorithm(name, lambda: build(name, inputs, io, notes.setdefault(name, {})))

        names = [STOCK] if self._level == "stock" else [TUNED, STOCK]
        left = self._left_as_exported() if self._level == "rewritten" else ""
        if self._level == "rewritten" and not left:
            names.insert(0, REWRITTEN)
        key = " ".join([self._level, io, self._trial_key(inputs), str(self._threads or "")])
        chosen = choices.fastest(
            [algorithm(name) for name in names], choices.AlgorithmCache(self._cache / "ways.json"), key
        )
        tried = {"way": chosen.name} if chosen.tried else {}
        if chosen.tried:
            tried["ways_tried"] = "; ".join(f"{name}: {result}" for name, result in chosen.tried.items())
            tried["ways_tried_of"] = chosen.trial_of
        if self._level == "rewritten" and chosen.name != REWRITTEN:
            was_timed = chosen.tried.get(REWRITTEN, "").endswith(" ms")
            left = left or ("the way of tuned won" if was_timed else "what was rewritten failed (ways_tried says how)")
            tried["rewritten"] = f"{left}, nothing is rewritten"
        self._notes = {**tried, **notes[chosen.name]}
        inference: Inference = chosen.inference
        self._identity = self._identities[chosen.name]
        self._comparison = None
        return inference

    def _left_as_exported(self) -> str:
        """Why there is nothing rewritten in the file that would be, "" where there is."""
        try:
            done = self._file(True)[1]
        except Unsupported as error:
            return f"what was rewritten failed: {first_line(error)}"
        if not done.startswith("as exported"):
            return ""
        failed = done.startswith("as exported: ")
        return done.partition(": ")[2] if failed else "there is no hard-swish to fuse"

    def _build_rewritten(self, algorithm: str, inputs: Arrays, io: str, notes: Dict[str, str]) -> Inference:
        """Says of what fails that it is not the user's file."""
        try:
            return self._build_algorithm(algorithm, inputs, io, notes)
        except Unsupported as error:
            raise Unsupported(f"as framewatt rewrote it, which is not the user's file: {first_line(error)}") from error

    def _reused(self, algorithm: str, choice: Any, build: Callable[[], Any], inputs: Arrays, io: str) -> Any:
        """What was built of this algorithm for the other io of the same shapes, else what `build` makes."""
        self._identities[algorithm] = identity = (algorithm, choice)
        if self._earlier is None or self._earlier[0] != identity:
            return build()
        inference, self._earlier = self._earlier[1], None
        inference.use(io)
        inference.place(inputs)
        inference.run()
        return inference

    def _build_algorithm(self, algorithm: str, inputs: Arrays, io: str, notes: Dict[str, str]) -> Inference:
        fused = algorithm == REWRITTEN
        path, rewrite = self._file(fused)
        notes.update(model=rewrite, model_file=path.name)
        if algorithm == STOCK:
            return self._reused(algorithm, None, lambda: self._build_stock(path, inputs, io), inputs, io)
        if self._cuda is None:
            return self._reused(algorithm, None, lambda: self._build_cpu(path, inputs), inputs, io)
        if self._variant == "onnxrt-trt":
            whole = trial.Choice(fused_activation=False)
            return self._reused(algorithm, whole, lambda: self._build_cuda(inputs, io, whole), inputs, io)
        start = trial.Choice(fused_activation=fused)
        choice, inference, tried, notes["trial_of"] = self._search(algorithm, start, inputs, io)
        notes["chosen"] = str(choice)
        notes["trial"] = "; ".join(f"{name}: {result}" for name, result in tried.items())
        return inference

    def _build_stock(self, path: Path, inputs: Arrays, io: str) -> StockInference:
        options = self._ort.SessionOptions()
        options.log_severity_level = 4  # what matters comes back as an exception
        if self._threads is not None and self._cuda is None:
            options.intra_op_num_threads = self._threads
        if sessions.profile_into is not None:
            options.enable_profiling, options.profile_file_prefix = True, sessions.profile_into
        device = self._cuda.device if self._cuda is not None else 0
        providers = gpu_options.stock_providers(self._variant, self._cuda is not None, device, self._precision)
        session = sessions.create(self._ort, path, options, providers)
        place = ("cpu", 0) if self._cuda is None else ("cuda", device)
        return StockInference(self._ort, session, place, self._model, inputs, io)

    def _trial_key(self, inputs: Arrays) -> str:
        versions = self.versions()
        device = self._cuda.device_kind() if self._cuda is not None else "cpu"
        parts = [self._model.hash, self._precision, f"b{batch_size_of(self._model, inputs)}", versions["framework"]]
        return "-".join([*parts, versions.get("cudnn", ""), device, *(["uint8"] if self._cast else [])])

    def _search(
        self, algorithm: str, start: trial.Choice, inputs: Arrays, io: str
    ) -> Tuple[trial.Choice, CudaInference, Dict[str, str], str]:
        """The fastest of the provider's options, from the cache folder where this shape has been tried; last when it was tried."""
        memory = trial.ChoiceCache(self._cache / "choices.json")
        key = self._trial_key(inputs) + ("" if start.fused_activation else "-unfused")
        known = memory.get(key)
        if known is not None:
            known_choice = known.choice
            inference = self._reused(
                algorithm, known_choice, lambda: self._build_cuda(inputs, io, known_choice), inputs, io
            )
            return known.choice, inference, known.tried, choices.by_an_earlier_worker(known.utc)
        utc = choices.now_utc()
        found = trial.search(
            lambda choice: self._build_cuda(inputs, io, choice),
            trial.bound(),
            trial.seconds_per_run,
            [name for name in trial.Choice._fields if name != "fused_activation"],
            error_of=self._expected(inputs).error_of,
            limit=trial.LIMITS[self._precision],
            start=start,
        )
        if trial.bound() > 0:  # without a trial nothing is known that a later run with one could use
            memory.put(key, trial.EarlierTrial(found.choice, found.tried, utc))
        self._identities[algorithm] = (algorithm, found.choice)
        return found.choice, found.inference, found.tried, choices.by_this_worker(utc)

    def _build_cpu(self, path: Path, inputs: Arrays) -> CpuInference:
        size = batch_size_of(self._model, inputs)
        return cpu_inference.build(self._ort, path, self._model, self._batch_axes, size, inputs, self._threads)

    def _expected(self, inputs: Arrays) -> trial.Expected:
        """What the choices of this shape are compared with, those of the way with rewritten operators and of the one without."""
        if self._comparison is not None:
            return self._comparison
        kinds = {one.name: one.dtype for one in self._model.inputs}

        def on_cpu(some: Arrays) -> Arrays:
            fed = {name: values.astype(kinds[name]) if name in self._cast else values for name, values in some.items()}
            reference = self._build_cpu(self._model.path(self._model.onnx), fed)
            outputs = reference.output()
            reference.close()
            return outputs

        self._comparison = trial.Expected(self._model, inputs, on_cpu)
        return self._comparison

    def _file(self, fused: bool) -> Tuple[Path, str]:
        """The model file with or without its hard-swish fused, made on first use, and what was done to it."""
        # TensorRT halves float32 itself and would rather see the whole model
        half = self._precision == "fp16" and self._variant == "onnxrt"
        source = self._model.path(self._model.onnx)
        key = f"{self._model.hash}-ort{self._ort.__version__}"
        return model_cache.rewritten(source, self._cache, key, half, fused, self._cast)

    def _build_cuda(self, inputs: Arrays, io: str, choice: trial.Choice) -> CudaInference:
        assert self._cuda is not None
        size = batch_size_of(self._model, inputs)
        prefix = f"{self._model.hash}-{self._precision}-b{size}"
        providers = gpu_options.providers(
            self._variant, self._cuda.device, self._stream, self._precision, choice, self._cache, prefix
        )
        self._cache.mkdir(parents=True, exist_ok=True)

        def open_session(axes: Sequence[str]) -> Any:
            chosen = sessions.options(self._ort, axes, size)
            return sessions.create(self._ort, self._file(choice.fused_activation)[0], chosen, providers)

        session = sessions.with_axes_fixed(open_session, self._batch_axes)
        given = {tensor.name: (inputs[tensor.name].shape, inputs[tensor.name].dtype) for tensor in self._model.inputs}
        made = {name: (self._output_shape(name, shape, size), kind) for name, shape, kind in sessions.outputs(session)}
        made = {tensor.name: made[tensor.name] for tensor in self._model.outputs}
        options = providers[0][1]
        notes = {name: value for name, value in options.items() if "path" not in name and "stream" not in name}
        return CudaInference(self._ort, self._cuda, session, self._stream, given, made, inputs, io, choice.graph, notes)

    def _output_shape(self, name: str, shape: Tuple[Any, ...], batch_size: int) -> Tuple[int, ...]:
        """Of an output at this batch size: what the session says, where that is numbers, else what the reference had."""
        if all(isinstance(size, int) for size in shape):
            return shape
        known = next((tensor.sized(batch_size) for tensor in self._model.outputs if tensor.name == name), (-1,))
        if -1 in known:
            raise Unsupported(f"the shape of output '{brief(name)}' depends on the values: {shape}")
        return known

    # --- inference --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            self._inference.run()  # type: ignore[union-attr]  # prepare() came first
        except Exception as error:
            raise_as(sessions.explain(error), error)

    def enqueue(self) -> None:
        try:
            self._inference.enqueue()  # type: ignore[union-attr]
        except Exception as error:
            raise_as(sessions.explain(error), error)

    def synchronize(self) -> None:
        self._inference.synchronize()  # type: ignore[union-attr]

    def run_timed(self) -> Optional[int]:
        return self._inference.run_timed()  # type: ignore[union-attr]

    def output(self) -> Arrays:
        return self._inference.output()  # type: ignore[union-attr]

    def operator_profiler(self) -> Any:
        from images.onnxrt.operator_profile import OrtProfiler

        return OrtProfiler(self, self._ort)

    @property
    def session(self) -> Any:
        """Of the prepared shape."""
        return self._inference.session  # type: ignore[union-attr]

    # --- facts ------------------------------------------------------------------------------------------------------

    def versions(self) -> Dict[str, str]:
        from importlib.metadata import PackageNotFoundError, version

        found = {"framework": self._ort.__version__, "onnxruntime": self._ort.__version__, "numpy": np.__version__}
        try:
            found["onnx"] = version("onnx")  # its import takes a tenth of a second of every worker's start
        except PackageNotFoundError:
            pass
        if self._cuda is not None:
            found["cuda_runtime"] = self._cuda.version()
            cudnn = sessions.cudnn_version()
            if cudnn:
                found["cudnn"] = cudnn
        return found

    def settings(self) -> Dict[str, str]:
        own = self._inference.settings() if self._inference is not None else {}
        return {
            "graph_optimization": "all",
            "io_binding": "yes",
            "model": self._rewrite,
            "model_file": self._path.name,
            "batch_axis": "fixed" if self._batch_axes else "as the model has it",
            **own,
            **self._notes,
        }

    def device_peak_bytes(self) -> Optional[int]:
        """Memory that left the device's free pool since its context was made: model, workspace and buffers.

        ONNX Runtime's arena never shrinks, so what is gone now is the peak. Other processes' allocations would count
        too; the harness keeps them off the GPU.
        """
        if self._cuda is None:
            return None
        return max(0, self._free_before - self._cuda.memory()[0])

    def close(self) -> None:
        if self._inference is not None:
            self._inference.close()
            self._inference = None
        if self._cuda is not None:
            self._cuda.destroy_stream(self._stream)
            self._cuda = None
