"""PyTorch: `torch` (eager kernels, replayed as a CUDA graph on a GPU), `torchcompile` (inductor's kernels, likewise) and
`keras-torch` (Keras on PyTorch: the .keras file with KERAS_BACKEND=torch, called layer by layer as it is).

The model of the first two comes from its ONNX form through onnx2torch. Helper modules lie beside this file and are imported as
`images.torch.*`: the folder that holds `common/` and `images/` is on the module path wherever the harness runs.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import importlib
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from common import torch_modules
from common.cell import Cell
from common.errors import UserError
from common.harness import choices
from common.harness.adapter import Arrays, Unsupported
from common.harness.causes import raise_as
from common.model_files import ModelFiles
from common.text import first_line
from images._shared.keras_file import load_model
from images.torch import failing_node, onnx_import, run_options
from images.torch.cpu_inference import CpuInference
from images.torch.cuda_inference import CudaInference
from images.torch.failures import explain
from images.torch.fixed_sizes import Sizes
from images.torch.stock_inference import StockCudaInference
from images.torch.tensors import Casting, Named, listed, on_host

VARIANTS = ("torch", "torchcompile", "keras-torch")
LEVELS = {"torch": ("stock", "tuned", "rewritten")}
Inference = Union[CpuInference, CudaInference, StockCudaInference]
#: names -> shape and numpy's type of what is fed, and io
Placed = Tuple[Dict[str, Tuple[Tuple[int, ...], str]], str]


def create(variant: str) -> TorchAdapter:
    """Imports torch. Raises Unsupported where that fails and ValueError for a variant that is not one of ours."""
    if variant not in VARIANTS:
        raise ValueError(f"variant '{variant}' is not one of {', '.join(VARIANTS)}")
    try:
        import torch

        if variant == "keras-torch":
            os.environ["KERAS_BACKEND"] = "torch"
            if os.environ.get("FRAMEWATT_CACHE_DIR"):
                os.environ.setdefault("KERAS_HOME", str(Path(os.environ["FRAMEWATT_CACHE_DIR"]) / "torch" / "keras"))
            importlib.import_module("keras")
    except (ImportError, OSError) as error:
        raise Unsupported(f"{variant} cannot be imported: {first_line(error)}") from error
    return TorchAdapter(variant, torch)


class TorchAdapter:
    """Inputs have the model's own types and floating-point outputs are float32 in every precision: all copy the same bytes."""

    def __init__(self, variant: str, torch: Any) -> None:
        self._variant = variant
        self._torch = torch
        self._level = "tuned"
        self._inference: Optional[Inference] = None
        self._placed: Optional[Placed] = None
        self._settings: Dict[str, str] = {}
        self._chosen: Optional[choices.Chosen] = None
        self._run = run_options.Run()
        #: how it is run -> module in that layout, compiled, with its convolutions; and what these are, as settings
        self._modules: Dict[run_options.Run, Tuple[Any, Dict[str, str]]] = {}
        #: what half precision changed in the graph besides its weights
        self._typed: Dict[str, int] = {}
        #: whether something is folded into convolutions; and the module without that, with its settings, where it was asked for
        self._folds = False
        self._unfolded: Optional[Tuple[Any, Dict[str, str]]] = None
        #: what was built for this shape, in order, and the device memory that it took by then
        self._built: Dict[run_options.Run, int] = {}
        #: what was begun to be built for this shape, in order: one that fails halfway has taken memory too
        self._begun: List[run_options.Run] = []
        #: of a model that computes sizes while it runs
        self._sizes: Optional[Sizes] = None

    def tune(self, level: str) -> None:
        known = LEVELS.get(self._variant, ("stock", "tuned"))
        if level not in known:
            raise Unsupported(f"{self._variant} is measured {' and '.join(known)}, not {level}")
        self._level = level

    # --- what can be done -------------------------------------------------------------------------------------------

    def supports(self, cell: Cell) -> Optional[str]:
        if cell.device == "cpu":
            if cell.precision != "fp32":
                return f"on the CPU fp32 only, not {cell.precision}"
        else:
            reason = self._refusal_of_gpu(cell.precision)
            if reason:
                return reason
        return self._refusal_of_compiler(cell.device) if self._variant == "torchcompile" else None

    def _refusal_of_gpu(self, precision: str) -> Optional[str]:
        cuda = self._torch.cuda
        if self._torch.version.cuda is None:
            return f"torch {self._torch.__version__} is built without CUDA"
        known = ("fp32", "tf32") if self._variant == "keras-torch" else ("fp32", "tf32", "fp16", "bf16")
        if precision not in known:
            return f"{', '.join(known)} on the GPU, not {precision}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what it would warn of is said below
                cuda.init()
                capability = cuda.get_device_capability()
        except Exception as error:
            return f"CUDA {self._torch.version.cuda} finds no usable GPU: {first_line(error)}"
        if not covered(capability, cuda.get_arch_list()):
            built, wanted = ", ".join(cuda.get_arch_list()), f"{capability[0]}.{capability[1]}"
            return f"torch {self._torch.__version__} has no kernels for compute capability {wanted}, only {built}"
        if precision in ("tf32", "bf16") and capability < (8, 0):
            return f"{precision} needs compute capability 8.0 or newer, this GPU has {capability[0]}.{capability[1]}"
        return None

    def _refusal_of_compiler(self, device: str) -> Optional[str]:
        names = (
            [os.environ.get("CXX", ""), "g++", "clang++"]
            if device == "cpu"
            else [os.environ.get("CC", ""), "cc", "gcc", "clang"]
        )
        if not any(name and shutil.which(name) for name in names):
            return f"torch.compile needs a C{'++' if device == 'cpu' else ''} compiler, and there is none here"
        if device != "cpu":
            try:
                import triton  # type: ignore[import-not-found]  # noqa: F401
            except ImportError as error:
                return f"torch.compile needs triton: {first_line(error)}"
        return None

    # --- model and shape --------------------------------------------------------------------------------------------

    def load(self, model: ModelFiles, precision: str, device: str, cache_dir: str, threads: Optional[int]) -> None:
        """Raises Unsupported for a model that onnx2torch cannot convert or a device that does not work."""
        torch = self._torch
        if self._variant != "keras-torch" and model.onnx is None and torch_modules.FORM not in (model.forms or {}):
            raise Unsupported(model.lack("onnx"))
        text = [tensor.name for tensor in (*model.inputs, *model.outputs) if tensor.dtype == "str"]
        if text:
            raise Unsupported(f"PyTorch has no tensors of text, as '{text[0]}' is")
        self._precision, self._hash = precision, model.hash
        self._memory = choices.AlgorithmCache(Path(cache_dir) / "torch" / "choices.json")
        self._dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
        self._on_gpu = device != "cpu"
        if self._variant == "torchcompile":
            cache = Path(cache_dir) / "torchcompile"
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
            os.environ["TRITON_CACHE_DIR"] = str(cache / "triton")
            self._headers = cache / "inductor" / "precompiled_headers"
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            imported = self._read(model, precision)
            self._given, self._made = imported.inputs, imported.outputs
            self._wanted = [tensor.name for tensor in model.outputs]
            self._kinds = {tensor.name: tensor.dtype for tensor in model.inputs}
            if self._on_gpu:
                torch.cuda.set_device(device)
                self._allow_tf32(precision == "tf32")
            self._device = torch.device(device)
            self._module = self._onto_device(imported.module)
            self._take(imported)
        except Unsupported:
            raise
        except Exception as error:
            raise_as(explain(error), error)

    def _read(self, model: ModelFiles, precision: str) -> onnx_import.Imported:
        """The network as a torch.nn.Module, what was done to have it, and the names of what it takes and returns."""
        if self._variant != "keras-torch":
            if torch_modules.FORM in (model.forms or {}):
                return self._native(model)
            units = {tensor.name: tensor.shape for tensor in model.inputs}
            self._path = model.path(model.onnx)
            imported, self._sizes = Sizes.read(self._path, units, self._level != "stock")
            return imported
        try:
            settings = {"model": "keras on torch, model(images), eager"}
            names = [[tensor.name for tensor in tensors] for tensors in (model.inputs, model.outputs)]
            module = load_model(model, precision)
            if max(map(len, names)) > 1:
                module = Named(self._torch, module, *names)
            return onnx_import.Imported(module, settings, *names)
        except FileNotFoundError as error:
            raise Unsupported(f"Keras on PyTorch reads .keras files: {error}") from error

    def _onto_device(self, module: Any) -> Any:
        if self._dtype != self._torch.float32 and hasattr(module, "graph"):
            from images.torch import compute_type  # needs torch, which this module must do without

            self._typed = compute_type.compute_in(module, self._dtype)
            return module.to(device=self._device)
        return module.to(device=self._device, dtype=self._dtype)

    def _take(self, imported: onnx_import.Imported) -> None:
        """What is known of the module on the device, which was just placed there."""
        self._folds, self._unfolded, self._fixed = imported.folded > 0, None, imported.sizes
        self._settings = {**imported.settings, **self._half_precision()}

    def _half_precision(self) -> Dict[str, str]:
        told = ", ".join(f"{number} {what}" for what, number in self._typed.items())
        return {"half_precision": told} if any(self._typed.values()) else {}

    def _without_folding(self) -> Tuple[Any, Dict[str, str]]:
        """The module that the level stock has, and its settings; read when it is first asked for."""
        if self._unfolded is None:
            imported = onnx_import.load(self._path, self._fixed, False)
            module = self._onto_device(imported.module)
            self._unfolded = module, {**imported.settings, **self._half_precision()}
        return self._unfolded

    def _fit_sizes(self, inputs: Sequence[np.ndarray]) -> None:
        """Reads a model that computes sizes while it runs with those of these inputs."""
        if self._sizes is None:
            return

        def run(module: Any) -> List[np.ndarray]:
            with self._torch.inference_mode():
                return [on_host(one) for one in listed(module(*self._as_fed(inputs)))]

        self._module = self._unfolded = None
        gc.collect()  # a graph's module refers to itself: until then its weights stay on the device
        given = dict(zip(self._given, inputs))
        imported = self._sizes.fit(given, self._onto_device, run, self._precision)
        self._module = imported.module
        self._take(imported)
        self._given, self._made = imported.inputs, imported.outputs
        if self._on_gpu:
            self._torch.cuda.empty_cache()  # what was compared is no part of the cell's peak

    def _native(self, model: ModelFiles) -> onnx_import.Imported:
        """A model that was born in PyTorch, as it is."""
        try:
            module = torch_modules.load(model.form(torch_modules.FORM))
        except UserError as error:
            raise Unsupported(str(error)) from error
        names = [[tensor.name for tensor in tensors] for tensors in (model.inputs, model.outputs)]
        return onnx_import.Imported(module, {"model": "the module itself"}, *names)

    def _allow_tf32(self, allowed: bool) -> None:
        """For matrix products and convolutions; torch's default allows it for convolutions, silently."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer torch has another name for it; inductor still reads this one
            self._torch.backends.cuda.matmul.allow_tf32 = allowed
            self._torch.backends.cudnn.allow_tf32 = allowed

    def prepare(self, inputs: Arrays, io: str) -> None:
        fed = {name: (values.shape, values.dtype.name) for name, values in inputs.items()}
        values = [inputs[name] for name in self._given]
        try:
            if self._inference is not None and self._placed == (fed, io):
                self._inference.place(values)
                return
            if self._inference is not None:
                self._inference.close()
                self._inference = None
            before, self._placed = self._placed, None  # what fails below leaves nothing in place
            if before is None or before[0] != fed:
                self._forget_modules()
                self._fit_sizes(values)
            self._inference = self._fastest(values, io, fed)
            self._placed = (fed, io)
        except Unsupported:
            raise
        except Exception as error:
            raise_as(explain(error), error)

    def _forget_modules(self) -> None:
        """What was compiled serves one shape, with copies and without."""
        self._modules.clear()
        if self._variant == "torchcompile":
            # each shape is its own specialised program; past a limit of them torch would quietly run eagerly
            self._torch._dynamo.reset()

    def _fastest(self, inputs: Sequence[np.ndarray], io: str, fed: Any) -> Inference:
        single = self._dtype == self._torch.float32
        ways = run_options.possible(self._variant, self._level, self._on_gpu, single, self._folds)
        runs = {one.name: one for one in ways}
        if not hasattr(self._module, "graph"):  # a module of PyTorch's own, whose convolutions stay what they are
            runs = {name: one for name, one in runs.items() if not one.own_convolutions}
        self._key = self._key_of(fed, io)
        self._built.clear()
        self._begun.clear()
        try:
            self._chosen = choices.fastest(
                [choices.Algorithm(name, lambda run=run: self._build(run, inputs, io)) for name, run in runs.items()],
                self._memory,
                self._key,
            )
        except Exception as error:
            raise_as(failing_node.explained(self._torch, self._module, lambda: self._as_fed(inputs), error), error)
        self._run = runs[self._chosen.name]
        self._search_algorithms(self._run)
        if self._begun == [self._run]:
            chosen: Inference = self._chosen.inference
            return chosen
        return self._as_without_trial(inputs, io)

    def _as_without_trial(self, inputs: Sequence[np.ndarray], io: str) -> Inference:
        """The chosen inference as in the next worker, which finds the choice in the cache folder and builds nothing else.

        On a GPU one that was built after others is built anew: they were in its memory, and in its peak.
        """
        assert self._chosen is not None
        chosen: Inference = self._chosen.inference
        anew = self._on_gpu and (self._begun[0] != self._run or self._begun.count(self._run) > 1)
        self._chosen = self._chosen._replace(inference=None)
        if anew:
            chosen.close()
            self._forget_modules()
        self._modules = {run: kept for run, kept in self._modules.items() if run == self._run}
        if self._run.folded:
            self._unfolded = None
        gc.collect()
        if self._on_gpu:
            self._torch.cuda.empty_cache()
            self._torch.cuda.reset_peak_memory_stats(self._device)
        return self._build(self._run, inputs, io) if anew else chosen

    def _key_of(self, fed: Any, io: str) -> str:
        """Of what was tried: all that decides which run is the fastest, also what the importer made of the file."""
        torch = self._torch
        device = torch.cuda.get_device_name(self._device) if self._on_gpu else f"cpu-{torch.get_num_threads()}"
        io = io if self._on_gpu else "host"  # on the CPU both run the same: what was tried for one is not tried again
        made = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self._hash} {self._variant} {self._level} {self._precision} {fed} {io} torch {torch.__version__} {device} {made}"

    def _search_algorithms(self, run: run_options.Run) -> None:
        """cuDNN's exhaustive search of algorithms for each shape: a switch of the process, off as it comes."""
        if self._on_gpu:
            self._torch.backends.cudnn.benchmark = not run.plain

    def _build(self, run: run_options.Run, inputs: Sequence[np.ndarray], io: str) -> Inference:
        self._begun.append(run)
        self._search_algorithms(run)
        if run not in self._modules:
            self._modules[run] = self._module_for(run, inputs)
        inference = self._inference_of(run, self._modules[run][0], inputs, io)
        self._built[run] = inference.peak_bytes() or 0
        return inference

    def _inference_of(self, run: run_options.Run, module: Any, inputs: Sequence[np.ndarray], io: str) -> Inference:
        if not self._on_gpu:
            # a tutorial of Keras' calls the model as it is, gradients and all
            gradients = self._variant == "keras-torch" and run.plain
            return CpuInference(self._torch, module, inputs, gradients)
        if run.graph:
            return CudaInference(self._torch, module, self._device, self._dtype, inputs, io)
        return StockCudaInference(self._torch, module, self._device, self._dtype, inputs, io)

    def _module_for(self, run: run_options.Run, inputs: Sequence[np.ndarray]) -> Tuple[Any, Dict[str, str]]:
        """The module as this run has it, and how its convolutions are computed, as settings."""
        base = self._without_folding()[0] if self._folds and not run.folded else self._module
        module, own = self._in_layout(base, run.layout), {}  # type: Any, Dict[str, str]
        if run.own_convolutions:
            own = self._own_convolutions(module, run, inputs)
        cast = [
            values.dtype.kind != "f" and np.dtype(self._kinds.get(name, "str")).kind == "f"
            for name, values in zip(self._given, inputs)
        ]
        if any(cast):  # bytes of images: the device casts them
            module = Casting(self._torch, module, cast, self._dtype)
        if self._variant == "torchcompile":
            self._keep_headers()
            if run.plain:
                module = self._torch.compile(module)
            else:
                module = self._torch.compile(module, dynamic=False, options=self._compile_options())
        return module, own

    def _keep_headers(self) -> None:
        """Lets inductor keep the C++ headers that it compiles for its kernels in the cache as well.

        It has them in $TMPDIR, which is another for each worker, and compiles them before it looks for a kernel: 7 s of a CPU,
        even where all kernels are in the cache. No option of it names another folder.
        """
        if self._on_gpu:
            return
        codecache: Any = importlib.import_module("torch._inductor.codecache")
        if hasattr(codecache, "_HEADER_DIR"):  # older ones have no such headers
            codecache._HEADER_DIR = str(self._headers)
            codecache._HEADER_LOCK_DIR = str(self._headers / "locks")

    def _in_layout(self, base: Any, layout: str) -> Any:
        if layout not in run_options.LAYOUTS:
            return base
        module = copy.deepcopy(base)
        if layout == "channels-last":
            return module.to(memory_format=self._torch.channels_last)
        if not hasattr(module, "graph"):
            return module  # a module of PyTorch's own takes channels first
        from images.torch import plain_numbers  # needs torch, which this module must do without

        if not plain_numbers.make_first_transpose_contiguous(module):
            raise Unsupported("the model has no transposition in front that could give channels-first images")
        return module

    def _own_convolutions(self, module: Any, run: run_options.Run, inputs: Sequence[np.ndarray]) -> Dict[str, str]:
        """Chooses how each convolution is computed, or takes what was chosen before for this shape."""
        from images.torch import (  # needs torch, which this module must do without
            convolution_choice,
            convolution_wrapping,
            convolutions,
        )

        convolution_wrapping.wrap_convolutions(module)
        key = f"{self._key} {run.name}"
        known = self._memory.get(key)
        try:
            if known is not None:
                convolutions.set_algorithms(module, known.name)
                return convolutions.settings(module)
        except ValueError:  # another importer made other layers of the model
            pass
        convolution_choice.choose(module, self._as_fed(inputs))
        chosen = convolutions.settings(module)
        self._memory.put(key, chosen["convolutions_in_order"], {})
        return chosen

    def _as_fed(self, inputs: Sequence[np.ndarray]) -> List[Any]:
        """The inputs as tensors on the device, in the types that the imported module computes with."""
        tensors = [self._torch.from_numpy(np.array(values, order="C")).to(self._device) for values in inputs]
        return [
            tensor.to(self._dtype) if np.dtype(self._kinds.get(name, "str")).kind == "f" else tensor
            for name, tensor in zip(self._given, tensors)
        ]

    def _compile_options(self) -> Dict[str, Any]:
        """freezing makes the weights constants, so that their layout is chosen once; graphs are captured by us."""
        options: Dict[str, Any] = {"freezing": True}
        if self._on_gpu:
            # Convolutions and products stay with cuDNN and cuBLAS, inductor fuses what lies between them: searching
            # Triton templates takes 4 to 6 s for each operation of each shape (seen on an H200), so minutes a cell.
            options["triton.cudagraphs"] = False
        known = set(self._torch._inductor.list_options())
        return {name: value for name, value in options.items() if name in known}

    # --- inference --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            self._inference.run()  # type: ignore[union-attr]  # prepare() came first
        except Exception as error:
            raise_as(explain(error), error)

    def enqueue(self) -> None:
        try:
            self._inference.enqueue()  # type: ignore[union-attr]
        except Exception as error:
            raise_as(explain(error), error)

    def synchronize(self) -> None:
        self._inference.synchronize()  # type: ignore[union-attr]

    def run_timed(self) -> Optional[int]:
        return self._inference.run_timed()  # type: ignore[union-attr]

    def output(self) -> Arrays:
        made = dict(zip(self._made, self._inference.output()))  # type: ignore[union-attr]
        return {name: made[name] for name in self._wanted}

    def operator_profiler(self) -> Any:
        from images.torch.operator_profile import TorchProfiler

        return TorchProfiler(self, self._torch)

    # --- facts ------------------------------------------------------------------------------------------------------

    def versions(self) -> Dict[str, str]:
        from importlib.metadata import PackageNotFoundError, version

        found = {"framework": self._torch.__version__, "torch": self._torch.__version__, "numpy": np.__version__}
        for name in ("onnx", "onnx2torch", "triton", "keras"):
            try:
                found[name] = version(name)
            except PackageNotFoundError:  # noqa: PERF203
                continue
        if self._torch.version.cuda is not None:
            found["cuda_runtime"] = self._torch.version.cuda
            cudnn = self._torch.backends.cudnn.version()
            if cudnn:
                found["cudnn"] = str(cudnn)
        return found

    def settings(self) -> Dict[str, str]:
        run = self._run
        of_model = self._unfolded[1] if self._unfolded is not None and not run.folded else self._settings
        chosen = {"mode": "inference", "dtype": str(self._dtype).rpartition(".")[2], **of_model}
        chosen["layout"] = run.layout or ("as Keras has it" if self._variant == "keras-torch" else "as imported")
        chosen.update(self._modules[run][1] if run in self._modules else {})
        if self._variant == "torchcompile":
            options = {} if run.plain else self._compile_options()
            chosen["compile"] = (
                ", ".join(f"{name}={value}" for name, value in options.items()) or "torch.compile(model)"
            )
        if self._chosen is not None:
            chosen.update(self._chosen.settings())
        if self._level == "rewritten" and not set(chosen.get("convolutions_in_order", "")) - {"c"}:
            chosen["rewritten"] = run_options.NOT_REWRITTEN[run.own_convolutions]
        if self._on_gpu:
            chosen["cudnn_benchmark"] = "no" if run.plain else "yes"
            chosen["tf32"] = "yes" if self._precision == "tf32" else "no"
        return {**chosen, **(self._inference.settings() if self._inference is not None else {})}

    def device_peak_bytes(self) -> Optional[int]:
        since = self._inference.peak_bytes() if self._inference is not None else None
        return (
            None if since is None else max(since, self._built.get(self._run, 0))
        )  # a trial of others began to count anew

    def close(self) -> None:
        if self._inference is not None:
            self._inference.close()
            self._inference = None
        self._modules.clear()
        self._module = self._unfolded = None


def covered(capability: Tuple[int, int], built_for: List[str]) -> bool:
    """Whether code for these targets runs on this GPU: sm_XY within the same major version, compute_XY on any later."""
    for target in built_for:
        kind, _, digits = target.partition("_")
        digits = digits.rstrip("af")
        if not digits.isdigit():
            continue
        built = (int(digits[:-1]), int(digits[-1]))
        if kind == "sm" and built[0] == capability[0] and built[1] <= capability[1]:
            return True
        if kind == "compute" and built <= capability:
            return True
    return False
