"""ONNX Runtime: `onnxrt` (CPU and CUDA providers) and `onnxrt-trt` (TensorRT provider).

Helper modules lie beside this file and are imported as `images.onnxrt.*`: the folder that holds `common/` and
`images/` is on the module path wherever the harness runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from common.cell import Cell
from common.harness.adapter import Arrays, DeviceOutOfMemory, Unsupported, batch_size_of
from common.model_files import ModelFiles
from images.onnxrt import cpu_inference, gpu_options, model_cache, sessions, trial
from images.onnxrt.cpu_inference import CpuInference
from images.onnxrt.cuda_inference import CudaInference
from images.onnxrt.cuda_runtime import CudaError, CudaRuntime

VARIANTS = ("onnxrt", "onnxrt-trt")


def create(variant: str) -> OnnxRuntimeAdapter:
    """Imports onnxruntime. Raises Unsupported where that fails and ValueError for a variant that is not one of ours."""
    if variant not in VARIANTS:
        raise ValueError(f"variant '{variant}' is not one of {', '.join(VARIANTS)}")
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise Unsupported(f"onnxruntime cannot be imported: {sessions.first_line(error)}") from error
    return OnnxRuntimeAdapter(variant, onnxruntime)


class OnnxRuntimeAdapter:
    """Inputs and outputs have the model's own types in every precision, so that all of them copy the same bytes."""

    def __init__(self, variant: str, ort: Any) -> None:
        self._variant = variant
        self._ort = ort
        self._inference: Optional[Union[CpuInference, CudaInference]] = None
        self._shapes_io: Optional[Tuple[Dict[str, Tuple[int, ...]], str]] = None
        self._cuda: Optional[CudaRuntime] = None
        self._stream = 0
        self._notes: Dict[str, str] = {}

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
            raise Unsupported(f"{model.name} has no ONNX form")
        self._model, self._precision, self._threads = model, precision, threads
        self._cache = Path(cache_dir) / self._variant
        self._path, self._rewrite = self._file(trial.Choice())
        self._worth_turning = [
            name
            for name in trial.Choice._fields
            if name != "fused_activation" or not self._rewrite.startswith(("as exported", "0 "))
        ]
        self._batch_axes = self._inspect()
        if device != "cpu":
            self._open_device(int(device.partition(":")[2] or 0))

    def _inspect(self) -> List[str]:
        """Names of the batch axis, none where the batch is fixed. Raises Unsupported for a model that is not as described."""
        plain = self._ort.SessionOptions()
        plain.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        plain.log_severity_level = 4
        try:
            session = self._ort.InferenceSession(str(self._path), plain, providers=[sessions.CPU])
        except Exception as error:
            raise Unsupported(f"ONNX Runtime cannot read this model: {sessions.first_line(error)}") from error
        inputs = {value.name: value for value in session.get_inputs()}
        outputs = {value.name for value in session.get_outputs()}
        names = {tensor.name for tensor in self._model.inputs}
        if set(inputs) != names:
            told, has = ", ".join(sorted(names)), ", ".join(sorted(inputs))
            raise Unsupported(f"the model file takes {has}, its description says {told}")
        for tensor in self._model.outputs:
            if tensor.name not in outputs:
                raise Unsupported(f"the model has no tensor '{tensor.name}' as output")
        for tensor in self._model.inputs:
            wanted = sessions.TYPES.get(tensor.dtype)
            if inputs[tensor.name].type != wanted:
                raise Unsupported(f"'{tensor.name}' is {inputs[tensor.name].type}, not {wanted or tensor.dtype}")
        axes = [
            inputs[tensor.name].shape[tensor.batch_axis]
            for tensor in self._model.inputs
            if tensor.batch_axis is not None
        ]
        return sorted({axis for axis in axes if isinstance(axis, str)})

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
            raise Unsupported(f"no usable GPU for CUDA {major}: {sessions.first_line(error)}") from error
        self._stream = self._cuda.stream()
        self._free_before = self._cuda.memory()[0]

    def prepare(self, inputs: Arrays, io: str) -> None:
        wanted = {name: values.shape for name, values in inputs.items()}, io
        if self._inference is not None and self._shapes_io == wanted:
            self._inference.place(inputs)
            return
        if self._inference is not None:
            self._inference.close()
            self._inference, self._shapes_io = None, None
        try:
            self._inference = self._build(inputs, io)
        except (Unsupported, DeviceOutOfMemory):
            raise
        except Exception as error:
            raise sessions.explain(error) from error
        self._shapes_io = wanted

    def _build(self, inputs: Arrays, io: str) -> Union[CpuInference, CudaInference]:
        self._notes = {}
        if self._cuda is None:
            return self._build_cpu(self._path, inputs)
        if self._variant == "onnxrt-trt":
            return self._build_cuda(inputs, io, trial.Choice())
        memory = trial.ChoiceCache(self._cache / "choices.json")
        versions = self.versions()
        key = "-".join(
            [self._model.hash, self._precision, f"b{batch_size_of(self._model, inputs)}", versions["framework"],
             versions.get("cudnn", ""), self._cuda.device_kind()]
        )  # fmt: skip
        known = memory.get(key)
        if known is not None:
            inference = self._build_cuda(inputs, io, known.choice)
        else:
            found = trial.search(
                lambda choice: self._build_cuda(inputs, io, choice),
                trial.bound(),
                trial.seconds_per_run,
                self._worth_turning,
                error_of=self._expected(inputs).error_of,
                limit=trial.LIMITS[self._precision],
            )
            known, inference = trial.Kept(found.choice, found.tried), found.inference
            memory.put(key, known)
        self._path, self._rewrite = self._file(known.choice)
        self._notes = {
            "chosen": str(known.choice),
            "trial": "; ".join(f"{way}: {result}" for way, result in known.tried.items()),
        }
        return inference

    def _build_cpu(self, path: Path, inputs: Arrays) -> CpuInference:
        size = batch_size_of(self._model, inputs)
        return cpu_inference.build(self._ort, path, self._model, self._batch_axes, size, inputs, self._threads)

    def _expected(self, inputs: Arrays) -> trial.Expected:
        def on_cpu(some: Arrays) -> Arrays:
            reference = self._build_cpu(self._model.path(self._model.onnx), some)
            outputs = reference.output()
            reference.close()
            return outputs

        return trial.Expected(self._model, inputs, on_cpu)

    def _file(self, choice: trial.Choice) -> Tuple[Path, str]:
        """The model file that a choice needs, made on first use, and what was done to it."""
        # TensorRT halves float32 itself and would rather see the whole model
        half = self._precision == "fp16" and self._variant == "onnxrt"
        source = self._model.path(self._model.onnx)
        key = f"{self._model.hash}-ort{self._ort.__version__}"
        return model_cache.rewritten(source, self._cache, key, half, choice.fused_activation)

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
            return sessions.create(self._ort, self._file(choice)[0], chosen, providers)

        session = sessions.with_axes_fixed(open_session, self._batch_axes)
        given = {tensor.name: (inputs[tensor.name].shape, np.dtype(tensor.dtype)) for tensor in self._model.inputs}
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
            raise Unsupported(f"the shape of output '{name}' depends on the values: {shape}")
        return known

    # --- inference --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            self._inference.run()  # type: ignore[union-attr]  # prepare() came first
        except Exception as error:
            raise sessions.explain(error) from error

    def enqueue(self) -> None:
        try:
            self._inference.enqueue()  # type: ignore[union-attr]
        except Exception as error:
            raise sessions.explain(error) from error

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
        found = {"framework": self._ort.__version__, "onnxruntime": self._ort.__version__, "numpy": np.__version__}
        try:
            import onnx

            found["onnx"] = onnx.__version__
        except ImportError:
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
