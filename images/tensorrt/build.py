"""ONNX in, serialized engine out: for TensorRT 8.6 to 11 and TensorRT-RTX, which share this part of their API.

Two ways to a precision. Up to TensorRT 10 a builder flag (FP16, BF16, INT8) allows it, and the builder chooses layer
by layer. TensorRT 11 and TensorRT-RTX have no such flags; their networks are strongly typed, so the ONNX graph is
converted to the precision first (retype). TF32 is a flag in both and is cleared for fp32.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from common import onnx_rewrites
from common.harness.adapter import Unsupported
from common.model_files import Tensor
from common.text import brief
from images.tensorrt.cache import read_blob, write_blob
from images.tensorrt.log import Complaints, log_line
from images.tensorrt.profile import Profile, shapes_of
from images.tensorrt.retype import retype

_FLAGS = {"fp32": (), "tf32": (), "fp16": ("FP16",), "bf16": ("BF16",), "int8": ("INT8", "FP16")}


@dataclass(frozen=True)
class Request:
    """What to build. Sizes in bytes."""

    onnx: Path
    #: names of the ONNX outputs to keep; none: the first
    outputs: Tuple[str, ...]
    precision: str
    profile: Profile
    #: for IBuilderConfig.set_tactic_sources; None leaves TensorRT's own
    tactic_mask: Optional[int]
    #: None leaves TensorRT's own
    workspace_bytes: Optional[int]
    builder_level: Optional[int]
    compute_capability: Tuple[int, int]
    #: None where the library keeps none (TensorRT-RTX)
    timing_cache: Optional[Path]
    #: makes the int8 calibrator; called only for int8
    calibrator: Optional[Callable[[], Any]] = None
    calibration_batch: int = 0
    #: the model's inputs by name; one that is not named here has its batch in front and no other open axis
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    #: inputs that are fed as bytes: a cast layer stands in front of each
    cast: Tuple[str, ...] = ()


def strongly_typed(trt: Any) -> bool:
    """Whether this library has lost the precision flags, so that the ONNX file's types decide."""
    return not hasattr(trt.BuilderFlag, "FP16")


def retyped(trt: Any, precision: str) -> bool:
    """Whether the network is made of the ONNX file in another type (retype.py)."""
    return strongly_typed(trt) and precision in ("fp16", "bf16")


def unsupported_precision(trt: Any, precision: str) -> Optional[str]:
    """None, or why this library cannot build this precision at all."""
    typed = strongly_typed(trt)
    if precision == "int8" and (typed or not hasattr(trt, "IInt8EntropyCalibrator2")):
        return (
            f"{trt.__name__} {trt.__version__} has no int8 calibration; it needs an ONNX file with quantization nodes"
        )
    if precision == "bf16" and not (typed or hasattr(trt.BuilderFlag, "BF16")):
        return f"{trt.__name__} {trt.__version__} has no bf16; TensorRT 9 and newer have"
    return None


def build(trt: Any, logger: Any, complaints: Complaints, request: Request) -> Tuple[bytes, Dict[str, Any]]:
    """The serialized engine, and facts: build_seconds, layers, timing_cache.

    Raises Unsupported with TensorRT's own text for a model that it cannot parse or build, DeviceOutOfMemory.
    """
    complaints.clear()
    started = time.monotonic()
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # pybind11's way to say that the factory returned nothing
        raise complaints.failure("TensorRT cannot start") from error
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    tensors = _parse(trt, parser, network, request, complaints)

    config = builder.create_builder_config()
    _configure(trt, config, request)
    profile = builder.create_optimization_profile()
    for tensor in tensors:
        profile.set_shape(
            tensor.name, *shapes_of(tuple(tensor.shape), request.profile, request.inputs.get(tensor.name))
        )
    if config.add_optimization_profile(profile) < 0:
        raise complaints.failure(f"profile {request.profile}")
    calibrator = None
    if request.precision == "int8":
        calibrator = _calibrate(builder, config, tensors[0], request)
    cache, read = _attach_timing_cache(config, request.timing_cache)

    log_line(f"building {request.precision} {request.profile}; this takes minutes the first time")
    plan = builder.build_serialized_network(network, config)
    del calibrator  # kept until here: TensorRT holds a bare pointer
    if plan is None:
        raise complaints.failure(f"no engine for {request.precision} {request.profile}")
    if cache is not None and request.timing_cache is not None:
        write_blob(request.timing_cache, bytes(cache.serialize()))
    seconds = time.monotonic() - started
    log_line(f"built {request.precision} {request.profile} in {seconds:.0f} s")
    facts = {
        "build_seconds": round(seconds, 1),
        "layers": network.num_layers,
        # TensorRT reports no hits; its words about entries stand in for them
        "timing_cache": "; ".join([f"{read} bytes read", *complaints.timing_cache]) if cache is not None else "none",
    }
    return bytes(plan), facts


def _network_flags(trt: Any) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if strongly_typed(trt):
        return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0
    return 1 << int(flags.EXPLICIT_BATCH)


def _parse(trt: Any, parser: Any, network: Any, request: Request, complaints: Complaints) -> List[Any]:
    """Fills the network, leaves the outputs that are wanted, returns the input tensors."""
    if retyped(trt, request.precision):
        parsed = parser.parse(retype(request.onnx, request.precision, request.cast))
    elif request.cast:
        parsed = parser.parse(_with_bytes(request))
    else:
        parsed = parser.parse_from_file(str(request.onnx))
    if not parsed:
        reason = _parser_error(parser.get_error(0)) if parser.num_errors else complaints.reason("it gave no reason")
        raise Unsupported(f"TensorRT cannot parse the model: {reason}")
    if network.num_inputs == 0:  # some versions parse any file that protobuf does not refuse
        raise Unsupported("TensorRT cannot parse the model: it finds no input in the file")
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    for tensor in inputs:
        if getattr(tensor, "is_shape_tensor", False):
            raise Unsupported(
                f"input '{brief(tensor.name)}' decides shapes: TensorRT would need its values when it builds"
            )
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    keep = request.outputs or (outputs[0].name,)
    for name in keep:
        if name not in [tensor.name for tensor in outputs]:
            raise Unsupported(f"the model has no output '{brief(name)}'")
    for tensor in outputs:
        if tensor.name not in keep:
            network.unmark_output(tensor)
    return inputs


def _with_bytes(request: Request) -> bytes:
    try:
        import onnx
    except ImportError as error:
        raise Unsupported(f"an input of bytes needs the onnx package: {error}") from error
    model = onnx.load(str(request.onnx))
    onnx_rewrites.take_bytes(model, request.cast)
    serialized: bytes = model.SerializeToString()
    return serialized


def _parser_error(error: Any) -> str:
    """The parser's own text, and the node where it stopped: by name and operator from TensorRT 10 on, else its number."""
    text = " ".join(error.desc().split())[:250]
    if hasattr(error, "node_operator"):
        return f"{text} (node '{error.node_name()}', {error.node_operator()})"
    return f"{text} (node {error.node()})"


def _configure(trt: Any, config: Any, request: Request) -> None:
    """Flags and limits. TF32 is on by default in TensorRT: fp32 must clear it."""
    flags = trt.BuilderFlag
    if request.precision == "fp32":
        config.clear_flag(flags.TF32)
    else:
        config.set_flag(flags.TF32)
    if not strongly_typed(trt):
        for name in _FLAGS[request.precision]:
            config.set_flag(getattr(flags, name))
    if request.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    if request.builder_level is not None:
        config.builder_optimization_level = request.builder_level
    if request.tactic_mask is not None and not config.set_tactic_sources(request.tactic_mask):
        raise Unsupported("TensorRT refuses these tactic sources (FRAMEWATT_TRT_TACTIC_SOURCES)")
    if hasattr(config, "set_compute_capability"):  # TensorRT-RTX builds for a card that need not be here
        config.num_compute_capabilities = 1
        target = getattr(trt.ComputeCapability, "SM{}{}".format(*request.compute_capability))
        if not config.set_compute_capability(target, 0):
            raise Unsupported(f"TensorRT-RTX refuses to build for {target.name}")


def _calibrate(builder: Any, config: Any, tensor: Any, request: Request) -> Any:
    """Sets the calibrator and the shape that it feeds; returns it, because TensorRT holds only a bare pointer."""
    if request.calibrator is None:
        raise Unsupported("int8 needs calibration images")
    calibrator = request.calibrator()
    config.int8_calibrator = calibrator
    profile = builder.create_optimization_profile()
    batch = request.calibration_batch
    profile.set_shape(tensor.name, *shapes_of(tuple(tensor.shape), Profile(batch, batch, batch)))
    if not config.set_calibration_profile(profile):
        raise Unsupported("TensorRT refuses the calibration profile")
    return calibrator


def _attach_timing_cache(config: Any, path: Optional[Path]) -> Tuple[Any, int]:
    """The cache that the build reads and extends, and how many bytes of it came from disk.

    One of another version or GPU is refused by TensorRT and replaced by an empty one.
    """
    if path is None:
        return None, 0
    stored = read_blob(path)
    cache = config.create_timing_cache(stored)
    if stored and (cache is None or not config.set_timing_cache(cache, False)):
        log_line(f"timing cache {path.name} does not fit here and is started anew")
        stored = b""
        cache = config.create_timing_cache(stored)
    if not stored and (cache is None or not config.set_timing_cache(cache, False)):
        return None, 0
    return cache, len(stored)
