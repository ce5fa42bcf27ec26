"""Takes a user's own ONNX file into data/models: checks what framewatt needs of it, and computes its reference outputs.

Runs where onnx and onnxruntime are installed (the ONNX Runtime image).
"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import onnx
import onnxruntime

from common.errors import UserError
from common.export import external_data
from common.export.inputs import REFERENCE_IMAGES, REFERENCE_SEED, clearest, pictures
from common.export.onnx_graph import lift_constants, name_batch_axis, node_counts, opset, real_inputs
from common.export.progress import Progress
from common.export.store import Digest, existing, file_sha256, publish, temporary_folder
from common.model_files import ModelFiles

STEPS = 4
#: a message with its weights must stay under protobuf's limit
MAX_BYTES = 2**31 - 1
#: Of one image: a batch of them, in float32, has to fit into memory many times.
MAX_INPUT_VALUES = 32 * 10**6
IMAGE_CHANNELS = (3, 1)
NOTE = "The model and its weights are the user's own ONNX file."
REEXPORT = (
    "re-export it with a dynamic batch axis (PyTorch: torch.onnx.export(..., dynamic_axes={'%s': {0: 'batch'}}); "
    "tf2onnx: None as the first dimension of the input signature)"
)


def input_range(text: str) -> Tuple[float, float]:
    """ "LOW,HIGH" as two numbers. Raises UserError for anything else."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--input-range takes LOW,HIGH, two numbers like 0,255 or -1,1, not '{text}'") from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise UserError(f"--input-range takes LOW,HIGH with LOW below HIGH, not '{text}'")
    return low, high


def export(file: Path, out: Path, value_range: Tuple[float, float], progress: Progress) -> str:
    """Exports to `out/<stem>-<hash>/` and returns that folder's name; nothing is written where it exists already.

    value_range: what the model expects of black (0) and white (255); pictures are scaled to it linearly.
    Constants become initializers and the batch axis gets a name; the graph is otherwise left as it is.
    Raises UserError, naming file and tensor, for a file that is no ONNX model, or one that has more than one input, an
    input that is not float32 and image-like, a fixed batch axis, no 2-D output, or that ONNX Runtime cannot run.
    """
    progress.step(f"{file.name}: read and check")
    proto = _read(file)
    name, shape, layout = _image_input(file, proto)
    lift_constants(proto)
    name_batch_axis(next(value for value in proto.graph.input if value.name == name))
    progress.step("reference outputs")
    inputs = _reference_inputs(shape, layout, value_range)
    output, outputs = _reference_outputs(file, proto, name, inputs)
    chosen = clearest(outputs)
    inputs, outputs = np.ascontiguousarray(inputs[chosen]), outputs[chosen]
    digest = _digest(proto, inputs)
    title = stem(file)
    if existing(out, title, digest):
        return f"{title}-{digest}"
    with temporary_folder(out) as folder:
        progress.step("ONNX file")
        np.savez(str(folder / "reference.npz"), inputs=inputs, outputs=outputs)
        onnx.save(proto, str(folder / "model.onnx"))
        progress.step("description")
        model = ModelFiles(
            root=folder,
            name=title,
            hash=digest,
            onnx="model.onnx",
            keras=None,
            saved_model=None,
            reference="reference.npz",
            input_shape=shape,
            layout=layout,
            onnx_input=name,
            onnx_output=output,
            output_kind="probabilities" if _are_probabilities(outputs) else "raw",
            classes=int(outputs.shape[1]),
            weights="user",
            weights_note=NOTE,
        )
        extra: Dict[str, Any] = {
            "source": file.name,
            "source_sha256": file_sha256(file),
            "input_range": list(value_range),
            "reference_dtype": str(outputs.dtype),
            "reference_top_classes": [int(top) for top in outputs.argmax(axis=1)],
            "onnx_opset": opset(proto),
            "onnx_ir_version": proto.ir_version,
            "onnx_nodes": len(proto.graph.node),
            "onnx_node_counts": node_counts(proto),
            "versions": {
                "python": platform.python_version(),
                "onnx": onnx.__version__,
                "onnxruntime": onnxruntime.__version__,
                "numpy": np.__version__,
            },
        }
        return publish(folder, model, extra).name


def stem(file: Path) -> str:
    """The model's name: the file's stem, safe in folder names and cell keys."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", file.stem).strip("-.") or "model"


def _read(file: Path) -> Any:
    if not file.is_file():
        raise UserError(f"{file} does not exist" if not file.exists() else f"{file} is not a file")
    if file.stat().st_size > MAX_BYTES:
        raise UserError(f"{file} is larger than 2 GiB, which one ONNX file cannot be")
    try:
        proto = onnx.load(str(file), load_external_data=False)
        external_data.check(file, proto, MAX_BYTES)
        onnx.load_external_data_for_model(proto, str(file.parent))
    except UserError:
        raise
    except (FileNotFoundError, onnx.checker.ValidationError) as error:
        raise UserError(f"{file} keeps its weights in another file that cannot be read: {error}") from error
    except PermissionError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except Exception as error:  # protobuf's DecodeError, whose home differs between its versions
        raise UserError(f"{file} is not an ONNX file: {error}") from error
    if not proto.graph.node or not opset(proto):
        raise UserError(f"{file} is not an ONNX file: it has no graph")
    if proto.ByteSize() > MAX_BYTES:
        raise UserError(f"{file} is larger than 2 GiB with its weights, which one ONNX file cannot hold")
    return proto


def _image_input(file: Path, proto: Any) -> Tuple[str, Tuple[int, ...], str]:
    """Name, shape of one image and layout (NHWC or NCHW) of the only input."""
    inputs = real_inputs(proto)
    if len(inputs) != 1:
        names = ", ".join(f"'{value.name}'" for value in inputs) or "none"
        raise UserError(f"{file} has {len(inputs)} inputs ({names}); framewatt feeds models with one")
    (value,) = inputs
    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise UserError(f"{file}: input '{value.name}' is {kind}; framewatt feeds float32 ('float' in ONNX)")
    axes = list(tensor.shape.dim) if tensor.HasField("shape") else []
    sizes: List[int] = [axis.dim_value if axis.HasField("dim_value") else 0 for axis in axes]
    written = "(" + ", ".join(str(size) if size > 0 else axis.dim_param or "?" for size, axis in zip(sizes, axes)) + ")"
    if len(axes) != 4:
        raise UserError(f"{file}: input '{value.name}' has the shape {written}; an image has 4 axes, batch included")
    if sizes[0] > 0:
        raise UserError(
            f"{file}: axis 0 of input '{value.name}' {written} is fixed at {sizes[0]}, and framewatt varies the batch; "
            + REEXPORT % value.name
        )
    for index in (1, 2, 3):
        if sizes[index] < 1:
            raise UserError(
                f"{file}: axis {index} of input '{value.name}' {written} is not fixed; "
                "re-export it with fixed height, width and channels"
            )
    shape = tuple(sizes[1:])
    if int(np.prod(shape, dtype=object)) > MAX_INPUT_VALUES:
        raise UserError(
            f"{file}: input '{value.name}' {written} has more than {MAX_INPUT_VALUES // 10**6} million values an image"
        )
    if shape[0] in IMAGE_CHANNELS:
        return value.name, shape, "NCHW"
    if shape[2] in IMAGE_CHANNELS:
        return value.name, shape, "NHWC"
    raise UserError(
        f"{file}: input '{value.name}' {written} is no image: neither axis 1 nor axis 3 has 3 or 1 channels"
    )


def _reference_inputs(shape: Tuple[int, ...], layout: str, value_range: Tuple[float, float]) -> np.ndarray:
    height, width, channels = shape if layout == "NHWC" else (shape[1], shape[2], shape[0])
    images = pictures(2 * REFERENCE_IMAGES, height, width, channels, REFERENCE_SEED)
    low, high = value_range
    if value_range != (0.0, 255.0):
        images = (low + images * ((high - low) / 255)).astype(np.float32)
    return images if layout == "NHWC" else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _reference_outputs(file: Path, proto: Any, name: str, inputs: np.ndarray) -> Tuple[str, np.ndarray]:
    """Name and values of the first 2-D output, by ONNX Runtime on the CPU with its optimisations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for every status
        raise UserError(f"{file}: ONNX Runtime does not accept it: {_first_line(error)}") from error
    names = [output.name for output in session.get_outputs()]
    try:
        one = session.run(None, {name: inputs[:1]})
        all_of_them = session.run(None, {name: inputs})
    except Exception as error:
        raise UserError(
            f"{file}: ONNX Runtime cannot run it with {len(inputs)} images: {_first_line(error)}"
        ) from error
    shapes: List[str] = []
    for output, single, values in zip(names, one, all_of_them):
        shapes.append(f"'{output}' {getattr(values, 'shape', type(values).__name__)}")
        if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind == "f":
            if len(values) != len(inputs) or len(single) != 1:
                raise UserError(f"{file}: output '{output}' has the shape {values.shape} for {len(inputs)} images")
            if not np.isfinite(values).all():
                raise UserError(
                    f"{file}: output '{output}' is not finite for pictures of {inputs.min():g} to {inputs.max():g}; "
                    "give the range that the model expects as --input-range"
                )
            return output, values.astype(np.float32)
    raise UserError(f"{file} has no output of floating-point (batch, classes): {', '.join(shapes)}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _are_probabilities(outputs: np.ndarray) -> bool:
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3) and outputs.shape[1] > 1)


def _digest(proto: Any, inputs: np.ndarray) -> str:
    digest = Digest()
    digest.data("onnx", proto.SerializeToString(deterministic=True))
    digest.array("inputs", inputs)
    return digest.short()
