"""Making ONNX Runtime sessions that run where they were asked to, or say why they cannot."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from common.harness.adapter import DeviceOutOfMemory, Unsupported
from common.model_files import ModelFiles, Tensor
from common.text import first_line

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

#: numpy's name of a type -> ONNX Runtime's
TYPES = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "float16": "tensor(float16)",
    "bool": "tensor(bool)",
    "str": "tensor(string)",
    **{f"{sign}int{bits}": f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
#: operators that only compute shapes: ONNX Runtime puts them on the CPU on purpose, and that costs nothing
_SHAPE_OPERATORS = {
    *("Shape", "Size", "Gather", "Concat", "Slice", "Squeeze", "Unsqueeze", "Cast", "Constant", "ConstantOfShape"),
    *("Range", "Reshape", "Mul", "Add", "Sub", "Div", "Equal", "Where", "Identity", "ReduceProd"),
}
_OUT_OF_MEMORY = ("failed to allocate memory", "out of memory", "bfcarena::", "bad_alloc", "cuda failure 2")

#: where sessions made from now on write a profile of their operators, None: they write none (operator_profile.py)
profile_into: Optional[str] = None


def explain(error: BaseException) -> Exception:
    """An exception of ONNX Runtime as the one that the harness knows: out of memory, or itself."""
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MEMORY):
        return DeviceOutOfMemory(first_line(error))
    return error if isinstance(error, Exception) else RuntimeError(text)


def cuda_major(ort: Any) -> str:
    """Major version of the CUDA that this onnxruntime was built for, "" where it does not say."""
    try:
        from onnxruntime.capi import build_and_package_info as info

        return str(getattr(info, "cuda_version", "")).split(".")[0]
    except ImportError:
        return ""


def preload(ort: Any) -> None:
    """Loads CUDA and cuDNN from NVIDIA's wheels, wherever on sys.path they are; the loader's own path otherwise.

    onnxruntime.preload_dlls() looks beside onnxruntime only; an installed torch may have brought them elsewhere. It
    prints what it misses, which is of no use here: missing_library() names it where it matters.
    """
    if not hasattr(ort, "preload_dlls"):  # before 1.21
        return
    folders = [str(lib) for entry in sys.path for lib in sorted(Path(entry or ".").glob("nvidia/*/lib"))]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        # cuBLAS before cuDNN, which needs it; the rest in any order
        for folder in sorted(folders, key=lambda name: ("cudnn" in name, name)):
            ort.preload_dlls(directory=folder)
        if not folders:
            ort.preload_dlls()


def missing_library(names: Sequence[str]) -> Optional[str]:
    """The loader's words about the first shared library that cannot be loaded, None when all can."""
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError as error:  # noqa: PERF203
            return str(error)
    return None


def cuda_libraries(ort: Any) -> List[str]:
    """What the CUDA provider of this onnxruntime links to, by file name."""
    major = cuda_major(ort)
    if not major:
        return []
    return [f"libcudart.so.{major}", f"libcublasLt.so.{major}", f"libcublas.so.{major}", "libcudnn.so.9"]


def outputs(session: Any) -> List[Tuple[str, Tuple[Any, ...], Any]]:
    """Name, shape (numbers, names or None) and numpy type of every output that is a tensor of numbers."""
    kinds = {text: np.dtype(name) for name, text in TYPES.items() if name != "str"}
    return [(one.name, tuple(one.shape), kinds[one.type]) for one in session.get_outputs() if one.type in kinds]


def loose_outputs(model: ModelFiles) -> Set[str]:
    """Outputs that cannot be bound to memory of a known size and filled there.

    One has a size that depends on the values (-1 in model.json); another is an input of the graph too, which ONNX Runtime
    hands on and never writes to the address that it was bound to.
    """
    given = {one.name for one in model.inputs}
    return {one.name for one in model.outputs if -1 in one.shape or one.name in given}


def has_batch(tensor: Tensor, axes: Sequence[Any]) -> bool:
    """Whether the batch's axis of the description can be among these, as a session tells them: none where they are unknown."""
    return tensor.batch_axis is None or not axes or tensor.batch_axis < len(axes)


def is_signature(known: Any, described: Sequence[Tensor]) -> bool:
    """Whether what a cache folder holds has the shape of a model file's signature: {inputs: {name: [type, axes]}, outputs: [name]}.

    described: the model's inputs, whose batch axes it has.
    """
    if not isinstance(known, dict) or set(known) != {"inputs", "outputs"}:
        return False
    inputs, outputs = known["inputs"], known["outputs"]
    if not isinstance(inputs, dict) or not isinstance(outputs, list):
        return False
    is_told = all(
        isinstance(one, list)
        and len(one) == 2
        and isinstance(one[0], str)
        and isinstance(one[1], list)
        and all(axis is None or isinstance(axis, (int, str)) for axis in one[1])
        for one in inputs.values()
    )
    if not is_told or not all(isinstance(name, str) for name in outputs):
        return False
    return all(has_batch(tensor, inputs[tensor.name][1]) for tensor in described if tensor.name in inputs)


def options(ort: Any, batch_axes: Sequence[str], batch_size: int, threads: Optional[int] = None) -> Any:
    """Session options: all graph optimisations, the batch axis fixed, one inference at a time."""
    chosen = ort.SessionOptions()
    chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    chosen.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    chosen.inter_op_num_threads = 1
    if threads is not None:
        chosen.intra_op_num_threads = threads
    chosen.log_severity_level = 4  # what matters comes back as an exception
    if profile_into is not None:
        chosen.enable_profiling = True
        chosen.profile_file_prefix = profile_into
    for axis in batch_axes:
        # shapes computed from the batch become constants, so that nothing of them is left to run
        chosen.add_free_dimension_override_by_name(axis, batch_size)
    return chosen


def with_axes_fixed(open_session: Callable[[Sequence[str]], Any], batch_axes: Sequence[str]) -> Any:
    """A session with its batch axes fixed; with them open where a branch that is not taken has no valid shape then."""
    try:
        return open_session(batch_axes)
    except Unsupported:
        if not batch_axes:
            raise
        try:
            return open_session([])
        except Unsupported:
            pass
        raise


def create(ort: Any, path: Path, session_options: Any, providers: Sequence[Tuple[str, Mapping[str, str]]]) -> Any:
    """A session on the first provider. Raises Unsupported where it or a part of the model would run elsewhere."""
    wanted = providers[0][0]
    if wanted != CPU:
        session_options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
            session_options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(
            str(path),
            session_options,
            providers=[name for name, _ in providers],
            provider_options=[dict(choices) for _, choices in providers],
            enable_fallback=0,  # else a provider that fails is silently replaced by the CPU
        )
    except Exception as error:
        known = explain(error)
        if isinstance(known, DeviceOutOfMemory):
            raise known from error
        raise Unsupported(f"ONNX Runtime cannot take this model: {first_line(error)}") from error
    if wanted not in session.get_providers():
        needed = cuda_libraries(ort) + (["libnvinfer.so.10"] if wanted == TENSORRT else [])
        raise Unsupported(f"ONNX Runtime's {wanted} did not load: {missing_library(needed) or 'see its log'}")
    if wanted != CPU:
        elsewhere = sorted(assignment(session).get(CPU, set()) - _SHAPE_OPERATORS)
        if elsewhere:
            raise Unsupported(f"ONNX Runtime would run parts of this model on the CPU: {', '.join(elsewhere)}")
    return session


def assignment(session: Any) -> Dict[str, Set[str]]:
    """Provider -> operators that it runs; empty where this onnxruntime cannot tell (older ones refuse at creation)."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    found: Dict[str, Set[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, set()).update(node.op_type for node in part.get_nodes())
    return found


def switch_tf32_off() -> None:
    """TensorRT has no option for TF32 in ONNX Runtime, but NVIDIA's libraries read this when they start."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"


def cudnn_version() -> Optional[str]:
    """Version of the cuDNN in this process, None where there is none."""
    try:
        number = int(ctypes.CDLL("libcudnn.so.9").cudnnGetVersion())
    except OSError:
        return None
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
