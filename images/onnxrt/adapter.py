"""ONNX Runtime: `onnxrt` (CPU and CUDA providers) and `onnxrt-trt` (TensorRT provider).

Helper modules lie beside this file and are imported as `images.onnxrt.*`: the folder that holds `common/` and
`images/` is on the module path wherever the harness runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

import numpy as np

from common.cell import Cell
from common.harness.adapter import DeviceOutOfMemory, Unsupported
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
    """Input and output are float32 in every precision, so that all of them copy the same bytes."""

    def __init__(self, variant: str, ort: Any) -> None:
        self._variant = variant
        self._ort = ort
        self._inference: Optional[Union[CpuInference, CudaInference]] = None
        self._shape_io: Optional[Tuple[Tuple[int, ...], str]] = None
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
        if model.onnx is None or model.onnx_input is None or model.onnx_output is None:
            raise Unsupported(f"{model.name} has no ONNX form")
        self._model, self._precision, self._threads = model, precision, threads
        self._names = (model.onnx_input, model.onnx_output)
        self._cache = Path(cache_dir) / self._variant
        self._path, self._rewrite = self._file(trial.Choice())
        self._worth_turning = [
            name
            for name in trial.Choice._fields
            if name != "fused_activation" or not self._rewrite.startswith(("as exported", "0 "))
        ]
        self._batch_axis = self._inspect()
        if device != "cpu":
            self._open_device(int(device.partition(":")[2] or 0))

    def _inspect(self) -> Optional[str]:
        """Name of the batch axis, None where it has none. Raises Unsupported for input or output that is not float32."""
        plain = self._ort.SessionOptions()
        plain.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        plain.log_severity_level = 4
        try:
            session = self._ort.InferenceSession(str(self._path), plain, providers=[sessions.CPU])
        except Exception as error:
            raise Unsupported(f"ONNX Runtime cannot read this model: {sessions.first_line(error)}") from error
        values = {value.name: value for value in [*session.get_inputs(), *session.get_outputs()]}
        for name in self._names:
            if name not in values:
                raise Unsupported(f"the model has no tensor '{name}' as input or output")
            if values[name].type != "tensor(float)":
                raise Unsupported(f"'{name}' is {values[name].type}, not float32")
        if len(session.get_inputs()) != 1:
            raise Unsupported(f"the model has {len(session.get_inputs())} inputs, not one")
        axis = values[self._names[0]].shape[0]
        return axis if isinstance(axis, str) else None

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

    def prepare(self, batch: np.ndarray, io: str) -> None:
        if self._inference is not None and self._shape_io == (batch.shape, io):
            self._inference.place(batch)
            return
        if self._inference is not None:
            self._inference.close()
            self._inference, self._shape_io = None, None
        try:
            self._inference = self._build(batch, io)
        except (Unsupported, DeviceOutOfMemory):
            raise
        except Exception as error:
            raise sessions.explain(error) from error
        self._shape_io = (batch.shape, io)

    def _build(self, batch: np.ndarray, io: str) -> Union[CpuInference, CudaInference]:
        self._notes = {}
        if self._cuda is None:
            return cpu_inference.build(self._ort, self._path, self._names, self._batch_axis, batch, self._threads)
        if self._variant == "onnxrt-trt":
            return self._build_cuda(batch, io, trial.Choice())
        memory = trial.ChoiceCache(self._cache / "choices.json")
        versions = self.versions()
        key = "-".join(
            [self._model.hash, self._precision, f"b{len(batch)}", versions["framework"], versions.get("cudnn", ""),
             self._cuda.device_kind()]
        )  # fmt: skip
        known = memory.get(key)
        if known is not None:
            inference = self._build_cuda(batch, io, known.choice)
        else:
            found = trial.search(
                lambda choice: self._build_cuda(batch, io, choice),
                trial.bound(),
                trial.seconds_per_run,
                self._worth_turning,
                error_of=self._expected(batch).error_of,
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

    def _expected(self, batch: np.ndarray) -> trial.Expected:
        def on_cpu(rows: np.ndarray) -> np.ndarray:
            images = batch[rows] if self._batch_axis else batch
            reference = cpu_inference.build(
                self._ort, self._model.path(self._model.onnx), self._names, self._batch_axis, images, self._threads
            )
            outputs = reference.output()
            reference.close()
            return outputs if self._batch_axis else outputs[rows]

        return trial.Expected(len(batch), on_cpu)

    def _file(self, choice: trial.Choice) -> Tuple[Path, str]:
        """The model file that a choice needs, made on first use, and what was done to it."""
        # TensorRT halves float32 itself and would rather see the whole model
        half = self._precision == "fp16" and self._variant == "onnxrt"
        source = self._model.path(self._model.onnx)
        key = f"{self._model.hash}-ort{self._ort.__version__}"
        return model_cache.rewritten(source, self._cache, key, half, choice.fused_activation)

    def _build_cuda(self, batch: np.ndarray, io: str, choice: trial.Choice) -> CudaInference:
        assert self._cuda is not None
        prefix = f"{self._model.hash}-{self._precision}-b{len(batch)}"
        providers = gpu_options.providers(
            self._variant, self._cuda.device, self._stream, self._precision, choice, self._cache, prefix
        )
        self._cache.mkdir(parents=True, exist_ok=True)
        chosen = sessions.options(self._ort, self._batch_axis, len(batch))
        session = sessions.create(self._ort, self._file(choice)[0], chosen, providers)
        sizes = session.get_outputs()[0].shape
        fixed = all(isinstance(size, int) for size in sizes[1:])
        output = (len(batch), *sizes[1:]) if fixed else (len(batch), self._model.classes)
        options = providers[0][1]
        notes = {name: value for name, value in options.items() if "path" not in name and "stream" not in name}
        return CudaInference(
            self._ort, self._cuda, session, self._stream, self._names, batch, output, io, choice.graph, notes
        )

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

    def output(self) -> np.ndarray:
        result = self._inference.output()  # type: ignore[union-attr]
        return result.reshape(len(result), -1)

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
            "batch_axis": "fixed" if self._batch_axis else "as the model has it",
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
