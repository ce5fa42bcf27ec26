"""TensorFlow and Keras: five ways to run the same model.

| variant    | what is called in the loop                                             | made from    | precisions, GPU |
|------------|------------------------------------------------------------------------|--------------|-----------------|
| `tf`       | one concrete function: frozen variables, batch normalization folded    | SavedModel   | fp32 tf32 fp16  |
| `tfxla`    | the same graph with `jit_compile=True`, compiled by XLA for each shape | SavedModel   | fp32 tf32 fp16  |
| `keras`    | `model(images, training=False)`, eager                                 | .keras       | fp32 tf32 fp16  |
| `kerasxla` | `model.compile(jit_compile=True)`, `model.predict_on_batch(images)`    | .keras       | fp32 tf32 fp16  |
| `tftrt`    | signature of the SavedModel that `TrtGraphConverterV2` made            | SavedModel   | fp32 fp16       |

These are the calls of `tuned`; keras and kerasxla may also be one tf.function for each shape, and all what `stock` has where that
is faster: the SavedModel's signature (tfxla: in a tf.function with jit_compile=True), `model(inputs)`,
`model.compile(jit_compile=True)`.

All run in fp32 on the CPU, but for tftrt, which needs a GPU and TensorFlow 2.17 or older.
fp16 is a cast of the whole graph (tf, tfxla), the policy mixed_float16 (keras, kerasxla), TensorRT's FP16 mode (tftrt).
fp32 switches TensorFloat-32 off, tf32 switches it on.

io="host" on a GPU: the input is a tensor in TensorFlow's page-locked host pool (GPUOptions.force_gpu_compatible; TensorFlow
has no public way to pin one buffer), copied to the device in each run; the output is copied back by `.numpy()`, through the
same pool. Whether the input really is page-locked is asked of the driver and stands in the settings.
io="device": the input stays on the device, and run() waits by `SyncDevice` (the stream is idle), which copies nothing.
On the CPU both begin with a numpy array and end with one that shares the output's memory, but io="host" copies the input.

Offline: TensorFlow launches kernels without waiting, so Python and launches of one batch overlap the inference of the one
before. Copies do not overlap: TensorFlow makes its copy stream wait for the compute stream. On the CPU enqueue() is run().
"""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Protocol, Sequence

import numpy as np

from common.cell import Cell
from common.harness import choices
from common.harness.adapter import Adapter, Arrays, DeviceOutOfMemory, Unsupported
from common.model_files import ModelFiles
from images.tensorflow import cuda_driver, environment, tftrt
from images.tensorflow.frozen_graph import FrozenGraph
from images.tensorflow.keras_calls import KerasCall, KerasFunction, KerasXla
from images.tensorflow.stock import Signature

VARIANTS = ("tf", "tfxla", "keras", "kerasxla", "tftrt")
#: networks among which the level `tuned` chooses for each shape, that of `stock` last
CALLS = {
    "tf": ("frozen and folded", "SavedModel's signature"),
    "tfxla": ("frozen and folded", "SavedModel's signature"),
    "keras": ("tf.function", "model(inputs)"),
    "kerasxla": ("predict_on_batch", "tf.function"),
    "tftrt": ("converted",),
}
#: precisions in which XLA leaves convolution and bias apart, and why. In the frozen graph each convolution has a bias, of the batch
#: normalization folded into it; Keras' layers in mixed_float16 normalize apart, and compile with XLA's own choice.
_SLOW_TO_COMPILE = "minutes to compile a shape"
_APART = {
    "tfxla": {"fp32": "not without TensorFloat-32", "tf32": _SLOW_TO_COMPILE, "fp16": _SLOW_TO_COMPILE},
    "kerasxla": {"fp32": "not without TensorFloat-32", "tf32": _SLOW_TO_COMPILE},
}
_XLA_VARIANTS = ("tfxla", "kerasxla")
_GPU_PRECISIONS = {
    variant: ("fp32", "fp16") if variant == "tftrt" else ("fp32", "tf32", "fp16") for variant in VARIANTS
}
#: outputs that enqueue() leaves on the device before it reads them back all at once; 64 MB for 1000 classes at batch 512
_MAX_UNREAD_OUTPUTS = 32
_OUT_OF_MEMORY = (
    "out of memory",
    "OUT_OF_MEMORY",
    "ALLOC_FAILED",
    "failed to allocate",
    "Failed to allocate",
    "OOM when",
    # of a copy to the device that found no room there
    "Dst tensor is not initialized",
)


class Network(Protocol):
    """The model as one variant calls it. `inputs` are tensors in the order of model.inputs, results in that of model.outputs."""

    def load(self, model: ModelFiles, precision: str) -> None:
        """Nothing batch-specific."""

    def specialize(self, inputs: Sequence[Any]) -> None:
        """What must be made for this shape before its first inference."""

    def recompile(self) -> None:
        """Forgets what was compiled: the next inference compiles under other names."""

    def infer(self, inputs: Sequence[Any]) -> List[Any]:
        """The output tensors, where the model ran; on a GPU not waited for."""

    def to_host(self, inputs: Sequence[Any]) -> List[np.ndarray]:
        """The outputs as numpy arrays."""

    def traces(self) -> int:
        """How many times Python has been traced into a graph for the prepared shape."""

    def settings(self) -> Dict[str, str]:
        """The variant's own settings: `graph`, `xla`, and how fp16 is done under `fp16`."""


def create(variant: str) -> Adapter:
    """Imports TensorFlow, with the caches of $FRAMEWATT_CACHE_DIR: XLA reads their place while it is loaded.

    Raises ValueError for a variant that is not in VARIANTS, ImportError without TensorFlow.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant}; there is {', '.join(VARIANTS)}")
    caches = environment.configure(os.environ.get("FRAMEWATT_CACHE_DIR"))
    return TensorFlowAdapter(variant, environment.import_tensorflow(), caches)


class TensorFlowAdapter:
    """See the module's docstring. One device for each process: TensorFlow cannot change it once it has run."""

    def __init__(self, variant: str, tf: Any, caches: Optional[environment.Caches]) -> None:
        self._variant = variant
        self._tf = tf
        self._caches = caches
        self._level = "tuned"
        self._network: Optional[Network] = None
        #: call -> network, of those that have been needed
        self._networks: Dict[str, Network] = {}
        self._notes: Dict[str, str] = {}
        self._gpu = False
        self._precision = ""
        self._device = "/CPU:0"
        self._io = ""
        self._arrays: List[np.ndarray] = []
        self._inputs: List[Any] = []
        self._result: List[Any] = []
        self._unread: List[List[Any]] = []
        self._names: List[str] = []
        self._made: List[str] = []
        self._pinned: Optional[bool] = None
        self._fused_convolutions = True
        # RuntimeError: what a copy to the device raises, whatever went wrong
        self._failures = (tf.errors.OpError, MemoryError, RuntimeError)

    def tune(self, level: str) -> None:
        known = ("tuned",) if self._variant == "tftrt" else ("stock", "tuned")
        if level not in known:
            raise Unsupported(f"{self._variant} is measured {' and '.join(known)}, not {level}")
        self._level = level

    # -- what can run

    def supports(self, cell: Cell) -> Optional[str]:
        if cell.device == "cpu":
            if self._variant == "tftrt":
                return tftrt.why_unavailable(self._tf) or "TF-TRT needs a GPU"
            if cell.precision != "fp32":
                return f"{self._variant} runs in fp32 on the CPU, not in {cell.precision}"
            return None
        if self._variant == "tftrt":
            reason = tftrt.why_unavailable(self._tf)
            if reason is not None:
                return reason
        if cell.precision not in _GPU_PRECISIONS[self._variant]:
            return f"{self._variant} runs in {', '.join(_GPU_PRECISIONS[self._variant])}, not in {cell.precision}"
        gpus = self._tf.config.list_physical_devices("GPU")
        if not gpus:
            build = "built with CUDA" if self._tf.test.is_built_with_cuda() else "built without CUDA"
            return f"TensorFlow {self._tf.__version__}, {build}, finds no GPU that it can use"
        if cell.precision == "tf32":
            capability = self._tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
            if tuple(capability) < (8, 0):
                return "tf32 needs a GPU of compute capability 8.0 or newer"
        return None

    def load(self, model: ModelFiles, precision: str, device: str, cache_dir: str, threads: Optional[int]) -> None:
        """Raises Unsupported for a model without the form that the variant reads, or a GPU that is not there."""
        self._gpu = device != "cpu"
        self._precision = precision
        if not self._gpu and precision != "fp32":
            raise Unsupported(f"{self._variant} runs in fp32 on the CPU, not in {precision}")
        if self._gpu:
            self._use_gpu(int(device.rpartition(":")[2]))
        else:
            self._use_cpu(threads)
        caches = self._caches or (environment.locate_caches(cache_dir) if cache_dir else None)
        if caches is not None:
            caches.graphs.mkdir(parents=True, exist_ok=True)
            caches.tftrt.mkdir(parents=True, exist_ok=True)
        self._model, self._graph_caches = model, caches
        folder = Path(cache_dir) if cache_dir else None
        self._memory = choices.AlgorithmCache(folder / "tensorflow" / "choices.json") if folder is not None else None
        names = CALLS[self._variant]
        # a graph in half precision is made by the adapter: the signature has none
        whole = len(names) > 1 and not (precision == "fp16" and self._variant in ("tf", "tfxla"))
        self._calls = [self._stock_call()] if self._level == "stock" else list(names if whole else names[:1])
        self._network = self._loaded_network(self._calls[0])
        self._names = [tensor.name for tensor in model.inputs]
        self._made = [tensor.name for tensor in model.outputs]

    def _stock_call(self) -> str:
        """The documented switch of Keras with XLA is model.compile(jit_compile=True); all others have theirs last."""
        return CALLS[self._variant][0 if self._variant == "kerasxla" else -1]

    def _loaded_network(self, call: str) -> Network:
        if call not in self._networks:
            network, model = self._make_network(call), self._model
            try:
                network.load(model, self._precision)
            except FileNotFoundError as error:
                raise Unsupported(f"{self._variant} needs a Keras model, which {model.name} is not") from error
            except self._failures as error:
                self._raise_out_of_memory(error)
                raise
            self._networks[call] = network
        return self._networks[call]

    def _make_network(self, call: str) -> Network:
        caches, jit = self._graph_caches, self._variant in _XLA_VARIANTS
        if call == "tf.function":
            return KerasFunction(self._tf, jit)
        if call == "SavedModel's signature":
            return Signature(self._tf, jit)
        if self._variant == "keras":
            return KerasCall(self._tf)
        if self._variant == "kerasxla":
            return KerasXla(self._tf)
        if self._variant == "tftrt":
            return tftrt.TfTrt(self._tf, caches.tftrt if caches else None)
        return FrozenGraph(self._tf, jit, caches.graphs if caches else None)

    def _use_cpu(self, threads: Optional[int]) -> None:
        config = self._tf.config
        config.set_visible_devices([], "GPU")
        if threads is not None:
            config.threading.set_intra_op_parallelism_threads(threads)
            # the model is one chain: a second pool would only take the first one's cores
            config.threading.set_inter_op_parallelism_threads(1)

    def _use_gpu(self, ordinal: int) -> None:
        config = self._tf.config
        gpus = config.list_physical_devices("GPU")
        if ordinal >= len(gpus):
            raise Unsupported(
                f"TensorFlow {self._tf.__version__} finds {len(gpus)} GPUs; number {ordinal} was asked for"
            )
        config.set_visible_devices([gpus[ordinal]], "GPU")
        config.experimental.set_memory_growth(gpus[ordinal], True)
        config.experimental.enable_tensor_float_32_execution(self._precision == "tf32")
        # GPUOptions.force_gpu_compatible: host tensors come from page-locked memory. No public function sets it in
        # TensorFlow 2, where sessions are gone; the eager context merges this proto into its own.
        context = importlib.import_module("tensorflow.python.eager.context").context()
        options = self._tf.compat.v1.GPUOptions(force_gpu_compatible=True)
        with contextlib.suppress(AttributeError):
            context._config = self._tf.compat.v1.ConfigProto(gpu_options=options)
        self._device = "/GPU:0"
        if self._precision in _APART.get(self._variant, {}):
            self._fused_convolutions = not environment.without_fused_convolutions()

    # -- one shape

    def prepare(self, inputs: Arrays, io: str) -> None:
        self._loaded()
        self._drop_results()
        arrays = [inputs[name] for name in self._names]
        same = self._io == io and [(a.shape, a.dtype) for a in self._arrays] == [(a.shape, a.dtype) for a in arrays]
        self._arrays = arrays
        self._io = io
        if not same and self._gpu:
            self._tf.config.experimental.reset_memory_stats("GPU:0")
        try:
            self._inputs = [self._place(values, io) for values in arrays]
            if not same:
                self._choose()
        except self._failures as error:
            self._raise_out_of_memory(error)
            raise

    def _place(self, values: np.ndarray, io: str) -> Any:
        tf = self._tf
        if io == "device" or not self._gpu:
            with tf.device(self._device):
                return tf.constant(values)
        with tf.device("/CPU:0"):
            # only what an op allocates comes from the page-locked pool; tf.constant takes numpy's kind of memory
            held = tf.raw_ops.DeepCopy(x=tf.constant(values))
        self._pinned = cuda_driver.is_pinned(np.asarray(held).__array_interface__["data"][0])
        return held

    def _choose(self) -> None:
        """The fastest network of the level of tuning for this shape."""
        shapes = [(one.shape, one.dtype.name) for one in self._arrays]
        device = f"cpu-{self._tf.config.threading.get_intra_op_parallelism_threads() or ''}"
        if self._gpu:
            gpu = self._tf.config.get_visible_devices("GPU")[0]
            device = str(self._tf.config.experimental.get_device_details(gpu).get("device_name", "gpu"))
        about = f"{self._model.hash} {self._variant} {self._precision} {shapes} {device}"
        chosen = choices.fastest(
            [choices.Algorithm(call, lambda call=call: _OneOf(self, call)) for call in self._calls],  # type: ignore[misc]
            self._memory,
            f"{about} tensorflow {self._tf.__version__}",
        )
        self._notes = chosen.settings()
        self._network = self._loaded_network(chosen.name)
        self._drop_results()
        self.run()

    def _compile(self, network: Network) -> None:
        try:
            self._first(network)
        except self._tf.errors.OpError as error:
            if self._variant not in _XLA_VARIANTS or self._caches is None or self._is_out_of_memory(error):
                raise
            if not self._caches.forget_executables():
                raise
            # XLA remembers under the function's name that it could not be compiled
            network.recompile()
            self._first(network)

    def _first(self, network: Network) -> None:
        network.specialize(self._on_device())
        self.run()

    # -- one inference

    def _on_device(self) -> List[Any]:
        """The inputs where the model runs: copies to the device (CPU: in memory) where io is host."""
        if self._io == "device":
            return self._inputs
        if not self._gpu:
            return [self._tf.constant(values) for values in self._arrays]
        # Not tf.identity: what an op copies for itself TensorFlow keeps beside the tensor (a mirror) and takes again in the
        # next run, so that only the first run would copy. This is how tf.constant brings an array to the device.
        return [tensor._copy_nograd(device_name=self._device.lstrip("/")) for tensor in self._inputs]

    def _wait(self) -> None:
        """Until all kernels launched so far are done; copies nothing (one eager op and one wait for the stream)."""
        if self._gpu:
            with self._tf.device("/GPU:0"):
                self._tf.raw_ops.SyncDevice()

    def run(self) -> None:
        network = self._loaded()
        try:
            if self._io == "host":
                self._result = network.to_host(self._on_device())
            else:
                self._result = network.infer(self._inputs)
                self._wait()
        except self._failures as error:
            self._raise_out_of_memory(error)
            raise

    def enqueue(self) -> None:
        if not self._gpu:
            self.run()
            return
        network = self._loaded()
        try:
            self._result = network.infer(self._on_device())
            if self._io == "host":
                self._unread.append(self._result)
                if len(self._unread) >= _MAX_UNREAD_OUTPUTS:
                    self._read_back()
        except self._failures as error:
            self._raise_out_of_memory(error)
            raise

    def _read_back(self) -> None:
        for result in self._unread:
            self._result = [tensor.numpy() for tensor in result]
        self._unread.clear()

    def synchronize(self) -> None:
        try:
            self._read_back()
            self._wait()
        except self._failures as error:
            self._raise_out_of_memory(error)
            raise

    def run_timed(self) -> Optional[int]:
        """None: TensorFlow gives no access to its stream, so no event can be recorded on it."""
        return None

    def output(self) -> Arrays:
        made = [one if isinstance(one, np.ndarray) else one.numpy() for one in self._result]
        return {
            name: values.astype(np.float32) if values.dtype.kind == "f" else values
            for name, values in zip(self._made, made)
        }

    def operator_profiler(self) -> Any:
        from images.tensorflow.operator_profile import TensorFlowProfiler

        return TensorFlowProfiler(self, self._tf)

    # -- about it

    def traces(self) -> int:
        """Traces made for the prepared shape: it must not rise in the loop."""
        return self._loaded().traces()

    def versions(self) -> Dict[str, str]:
        tf = self._tf
        build = tf.sysconfig.get_build_info()
        keras = str(importlib.import_module("keras").__version__)
        found = {
            # what the variant is called after; the other stands beside it
            "framework": keras if self._variant in ("keras", "kerasxla") else tf.__version__,
            "tensorflow": tf.__version__,
            "keras": keras,
            "numpy": np.__version__,
            "cuda": str(build.get("cuda_version", "")),
            "cudnn": str(build.get("cudnn_version", "")),
            "tensorrt": tftrt.tensorrt_version() if self._variant == "tftrt" else "",
        }
        return {name: version for name, version in found.items() if version}

    def settings(self) -> Dict[str, str]:
        tf = self._tf
        own = dict(self._network.settings()) if self._network is not None else {}
        half = own.pop("fp16", "")
        result = {**own, "io": self._io, **self._notes}
        if self._precision == "fp16":
            result["fp16"] = half
        if self._gpu:
            result["tf32"] = str(tf.config.experimental.tensor_float_32_execution_enabled()).lower()
            result["memory_growth"] = "true"
            result["cudnn_autotune"] = os.environ.get("TF_CUDNN_USE_AUTOTUNE", "1 (TensorFlow's default)")
            if self._io == "host":
                memory = {True: "page-locked", False: "pageable", None: "unknown"}[self._pinned]
                result["host_memory"] = f"{memory} (asked of the driver)"
                # rows without it are of the time when only the first inference copied: analysis/sql marks them
                result["input_copy"] = "each inference"
                result["wait"] = "output read back"
            else:
                result["wait"] = "SyncDevice"
        else:
            for name in ("intra", "inter"):
                threads = getattr(tf.config.threading, f"get_{name}_op_parallelism_threads")()
                result[f"{name}_op_threads"] = str(threads or "TensorFlow's default")
            result["onednn"] = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default")
        if self._variant in _XLA_VARIANTS:
            flag = environment.flag_value
            if self._gpu:
                result["xla_autotune_level"] = flag("XLA_FLAGS", "xla_gpu_autotune_level") or "XLA's default"
                autotuned = flag("XLA_FLAGS", "xla_gpu_per_fusion_autotune_cache_dir")
                result["xla_autotune_cache"] = "on" if autotuned else "off"
                result["xla_fused_convolutions"] = (
                    "on" if self._fused_convolutions else f"off: {_APART[self._variant][self._precision]}"
                )
            kept = flag("TF_XLA_FLAGS", "tf_xla_persistent_cache_directory")
            result["xla_persistent_cache"] = "on" if kept else "off"
        return result

    def device_peak_bytes(self) -> Optional[int]:
        """By TensorFlow's own allocator, which also holds XLA's buffers; cuDNN's and CUDA's own memory is not in it."""
        if not self._gpu:
            return None
        return int(self._tf.config.experimental.get_memory_info("GPU:0")["peak"])

    def close(self) -> None:
        self._drop_results()
        self._inputs = []
        for network in self._networks.values():
            closing = getattr(network, "close", None)
            if closing is not None:
                closing()
        self._networks.clear()
        self._network = None

    # -- helpers

    def _loaded(self) -> Network:
        if self._network is None:
            raise RuntimeError("load() comes first")
        return self._network

    def _drop_results(self) -> None:
        self._unread.clear()
        self._result = []

    def _is_out_of_memory(self, error: BaseException) -> bool:
        if isinstance(error, (self._tf.errors.ResourceExhaustedError, MemoryError)):
            return True
        # XLA and cuDNN report it as an internal error with one of these texts
        return any(text in str(error) for text in _OUT_OF_MEMORY)

    def _raise_out_of_memory(self, error: BaseException) -> None:
        if self._is_out_of_memory(error):
            raise DeviceOutOfMemory((str(error) or "out of memory").splitlines()[0]) from error


class _OneOf:
    """A network compiled for the prepared shape, for choices.fastest()."""

    def __init__(self, adapter: TensorFlowAdapter, call: str) -> None:
        self._adapter = adapter
        adapter._network = network = adapter._loaded_network(call)
        adapter._compile(network)
        self.run = adapter.run

    def close(self) -> None:
        """The networks are the adapter's: the next shape may need another one of them."""
        self._adapter._drop_results()
