"""JAX: `jax`, the model's .keras file by Keras on JAX (KERAS_BACKEND=jax), jitted and compiled ahead of time for each shape.

The weights are arguments of the jitted function, resident on the device: as constants they would be compiled in, and
XLA would compile anew for every other set of them.

precision   how
fp32        jax_default_matmul_precision=highest: no TensorFloat-32, neither in products nor in convolutions
tf32        jax_default_matmul_precision=tensorfloat32
fp16, bf16  Keras' policies mixed_float16, mixed_bfloat16; the last layer in float32

stock is `jax.jit(infer)` called with numpy's array, the weights as they come from Keras; tuned is compiled ahead of time with the
weights on the device, or as stock where that is faster. Images as bytes are cast in the jitted function.

io="host": the input is a numpy array that each run gives to the device, the output is copied into one. JAX has no public
way to page-lock numpy's memory; it stages such a copy through page-locked memory of its own. io="device": both stay.
Offline, JAX dispatches without waiting, so the inferences follow each other on the device; outputs are copied at the end.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from common.cell import Cell
from common.harness import choices
from common.harness.adapter import Arrays, DeviceOutOfMemory, Unsupported
from common.harness.causes import raise_as
from common.model_files import ModelFiles
from common.text import first_line
from images._shared.keras_file import load_model

_MATMUL = {"fp32": "highest", "tf32": "tensorfloat32"}
_GPU_PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
#: inferences that may be in flight before enqueue() waits for the oldest: their outputs take memory
_IN_FLIGHT = 32
_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "Out of memory", "failed to allocate", "bad_alloc")


def create(variant: str) -> JaxAdapter:
    """Imports JAX and Keras. Raises Unsupported where that fails and ValueError for a variant that is not ours."""
    if variant != "jax":
        raise ValueError(f"variant '{variant}' is not jax")
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # else JAX takes three quarters of the GPU at once, and its peak says nothing of the model
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    cache = os.environ.get("FRAMEWATT_CACHE_DIR")
    if cache:
        os.environ.setdefault("KERAS_HOME", str(Path(cache) / "jax" / "keras"))
    try:
        import jax

        importlib.import_module("keras")
    except (ImportError, OSError) as error:
        raise Unsupported(f"JAX and Keras cannot be imported: {first_line(error)}") from error
    return JaxAdapter(jax)


class JaxAdapter:
    def __init__(self, jax: Any) -> None:
        self._jax = jax
        self._compiled: Any = None
        self._level = "tuned"
        self._notes: Dict[str, str] = {}
        self._plain = False
        self._ahead: Any = None
        self._shape: Any = None
        self._placed: Any = None
        self._io = ""
        self._flying: List[Any] = []
        self._result: Any = None

    def tune(self, level: str) -> None:
        if level not in ("stock", "tuned"):
            raise Unsupported(f"jax is measured stock and tuned, not {level}")
        self._level = level

    def supports(self, cell: Cell) -> Optional[str]:
        if cell.device == "cpu":
            return None if cell.precision == "fp32" else f"on the CPU fp32 only, not {cell.precision}"
        if cell.precision not in _GPU_PRECISIONS:
            return f"{', '.join(_GPU_PRECISIONS)} on the GPU, not {cell.precision}"
        try:
            gpus = self._jax.devices("cuda")
        except RuntimeError as error:
            return f"JAX {self._jax.__version__} finds no GPU that it can use: {first_line(error)}"
        capability = float(getattr(gpus[0], "compute_capability", "0"))
        if cell.precision in ("tf32", "bf16") and capability < 8.0:
            return f"{cell.precision} needs compute capability 8.0 or newer, this GPU has {capability}"
        return None

    def load(self, model: ModelFiles, precision: str, device: str, cache_dir: str, threads: Optional[int]) -> None:
        """Raises Unsupported for a model without a .keras file, or a device that is not there."""
        self._made = [tensor.name for tensor in model.outputs]
        self._kinds = {tensor.name: tensor.dtype for tensor in model.inputs}
        self._memory = choices.AlgorithmCache(Path(cache_dir) / "jax" / "choices.json")
        self._about = f"{model.hash} {precision} {device} jax {self._jax.__version__} {threads}"
        jax = self._jax
        if device == "cpu":
            jax.config.update("jax_platforms", "cpu")
            if threads is not None:
                # read when XLA makes its pool of threads, with the first use of a device; it has no other option
                os.environ["NPROC"] = str(threads)
        jax.config.update("jax_default_matmul_precision", _MATMUL.get(precision))
        self._precision, self._threads = precision, threads
        try:
            self._device = jax.devices("cpu" if device == "cpu" else "cuda")[int(device.partition(":")[2] or 0)]
            with jax.default_device(self._device):
                network = load_model(model, precision, draw=False)
            weights = (
                [v.value for v in network.trainable_variables],
                [v.value for v in network.non_trainable_variables],
            )
            self._weights = jax.device_put(weights, self._device)
        except FileNotFoundError as error:
            raise Unsupported(f"Keras on JAX reads .keras files: {error}") from error
        except (RuntimeError, IndexError) as error:
            raise_as(_explained(error), error)

        # tuples in the models' order, of which each call makes less than of dicts: those are sorted by name every time
        def infer(weights: Any, inputs: Any) -> Any:
            # bytes are fed as bytes, and cast on the device
            given = {name: values.astype(self._kinds[name]) for name, values in zip(self._kinds, inputs)}
            fed = given if len(given) > 1 else next(iter(given.values()))
            made = network.stateless_call(*weights, fed, training=False)[0]
            made = made if isinstance(made, dict) else dict(zip(self._made, [made]))
            return tuple(made[name].astype("float32") for name in self._made)

        self._function = jax.jit(infer)

    def prepare(self, inputs: Arrays, io: str) -> None:
        jax = self._jax
        batch = dict(inputs)
        shapes = {name: (values.shape, values.dtype.name) for name, values in batch.items()}
        self._flying.clear()
        try:
            self._io = io
            arrays = tuple(batch[name] for name in self._kinds)
            self._inputs = arrays if io == "host" else jax.device_put(arrays, self._device)
            if self._placed != (shapes, io):
                self._placed = None
                self._choose(shapes)
                self._placed = (shapes, io)
            self.run()
        except (RuntimeError, MemoryError) as error:
            raise_as(_explained(error), error)

    def _choose(self, shapes: Dict[str, Tuple[Tuple[int, ...], str]]) -> None:
        """The fastest call of the level of tuning; what was compiled for a shape serves both kinds of io."""

        def ahead_of_time() -> _Call:
            if self._shape != shapes:
                self._ahead = None
                given = tuple(
                    self._jax.ShapeDtypeStruct(*shapes[name], sharding=self._sharding()) for name in self._kinds
                )
                self._ahead = self._function.lower(self._weights, given).compile()
                self._shape = shapes
            return _Call(self, self._ahead)

        plain = choices.Algorithm("jax.jit, called", lambda: _Call(self, self._function))
        algorithms = (
            [plain] if self._level == "stock" else [choices.Algorithm("compiled ahead of time", ahead_of_time), plain]
        )
        key = f"{self._about} {' '.join(f'{shape} {kind}' for shape, kind in shapes.values())} {self._io}"
        chosen = choices.fastest(algorithms, self._memory, key)
        self._notes = chosen.settings()
        chosen.inference.use()

    def _sharding(self) -> Any:
        return self._jax.sharding.SingleDeviceSharding(self._device)

    def _infer(self) -> Any:
        if self._plain:  # jit puts numpy's array on the default device itself
            with self._jax.default_device(self._device):
                return self._compiled(self._weights, self._inputs)
        inputs = self._jax.device_put(self._inputs, self._device) if self._io == "host" else self._inputs
        return self._compiled(self._weights, inputs)

    def run(self) -> None:
        try:
            self._land(self._infer())
        except (RuntimeError, MemoryError) as error:
            raise_as(_explained(error), error)

    def enqueue(self) -> None:
        try:
            self._flying.append(self._infer())
            if self._io == "host":
                for values in self._flying[-1]:
                    values.copy_to_host_async()
            if len(self._flying) > _IN_FLIGHT:
                self._land(self._flying.pop(0))
        except (RuntimeError, MemoryError) as error:
            raise_as(_explained(error), error)

    def _land(self, result: Any) -> None:
        if self._io == "host":
            self._result = [np.asarray(values) for values in result]
        else:
            self._result = self._jax.block_until_ready(result)

    def synchronize(self) -> None:
        try:
            for result in self._flying:
                self._land(result)
        except (RuntimeError, MemoryError) as error:
            raise_as(_explained(error), error)
        finally:
            self._flying.clear()

    def run_timed(self) -> Optional[int]:
        """None: JAX gives no access to its stream, so no event can be recorded on it."""
        self.run()
        return None

    def output(self) -> Arrays:
        return {name: np.array(values, dtype=np.float32) for name, values in zip(self._made, self._result)}

    def versions(self) -> Dict[str, str]:
        from importlib.metadata import PackageNotFoundError, version

        found = {"framework": str(self._jax.__version__), "numpy": np.__version__}
        for name in ("jax", "jaxlib", "keras", "jax-cuda13-plugin", "nvidia-cudnn-cu13"):
            try:
                found[name] = version(name)
            except PackageNotFoundError:  # noqa: PERF203
                continue
        return found

    def settings(self) -> Dict[str, str]:
        chosen = {
            "graph": "keras on jax, jax.jit"
            + ("" if self._plain else ", compiled ahead of time")
            + ", weights as arguments",
            **self._notes,
            "matmul_precision": _MATMUL.get(self._precision, "of the dtype"),
            "io": self._io,
        }
        if self._precision in ("fp16", "bf16"):
            chosen["half"] = "Keras' mixed policy, last layer in float32"
        if self._device.platform == "cpu":
            chosen["threads"] = str(self._threads) if self._threads else "XLA's default: one for each core"
        return chosen

    def device_peak_bytes(self) -> Optional[int]:
        """Peak since the process began: JAX cannot reset it. None on the CPU."""
        stats = self._device.memory_stats() if self._device.platform != "cpu" else None
        return int(stats["peak_bytes_in_use"]) if stats and "peak_bytes_in_use" in stats else None

    def close(self) -> None:
        self._flying.clear()
        self._compiled = self._ahead = self._weights = self._inputs = self._result = None


class _Call:
    """One way to call the network, for choices.fastest()."""

    def __init__(self, adapter: JaxAdapter, function: Any) -> None:
        self._adapter, self._function = adapter, function
        self.use()
        self.run()

    def use(self) -> None:
        self._adapter._compiled, self._adapter._plain = self._function, self._function is self._adapter._function

    def run(self) -> None:
        self._adapter.run()

    def close(self) -> None:
        """Nothing of its own."""


def _explained(error: BaseException) -> Exception:
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY):
        return DeviceOutOfMemory(first_line(error))
    return error if isinstance(error, Exception) else RuntimeError(text)
