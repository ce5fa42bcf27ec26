"""Exports a model of the registry: Keras file, SavedModel, ONNX, reference inputs and outputs."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from common.errors import UserError
from common.export import transformers
from common.export.inputs import CANDIDATE_IMAGES, REFERENCE_IMAGES, REFERENCE_SEED, clearest, pictures
from common.export.keras_onnx import INPUT, OUTPUT, ExportFailed, check_outputs, to_onnx, transformer_to_onnx
from common.export.onnx_graph import node_counts, opset
from common.export.progress import Progress
from common.export.store import Digest, existing, publish, temporary_folder
from common.export.weights import Weighted, download_timeout, weighted
from common.harness.reference import archive
from common.model_files import ModelFiles, Tensor
from common.models import KERAS_HUB, RegisteredModel

STEPS = 7
#: of the eight reference images, so many must differ in their top class: else agreement of classes says nothing
MIN_TOP_CLASSES = 3
#: through ONNX's own, slow implementation
CHECKED_SAMPLES = 2
CLASS_INDEX_URL = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
#: as keras.applications checks it (keras/src/applications/imagenet_utils.py)
CLASS_INDEX_MD5 = "c2c37ea517e94d9795004a39431a14cb"


@dataclass(frozen=True)
class Made:
    """A registered model before it is written. inputs, outputs: tensor -> (samples, ...), outputs in the reference's precision."""

    model: Any
    inputs: Dict[str, np.ndarray]
    outputs: Dict[str, np.ndarray]
    #: of the first output
    kind: str
    item: str
    origin: str
    note: str
    digest: str
    to_onnx: Callable[[], Any]


def export(
    entry: RegisteredModel,
    out: Path,
    weights: str,
    reference_dtype: str,
    progress: Progress,
    axis_sizes: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Exports to `out/<name>-<hash>/` and returns that folder's name; nothing is written where it exists already.

    weights: auto, imagenet or seeded. reference_dtype: float64 or float32, of the reference outputs; float32 also
    where TensorFlow has no float64 kernel for one of the layers. axis_sizes: of axes that it leaves open.
    Raises UserError (weights that cannot be had, an axis that there is not, folder that cannot be written) and ExportFailed.
    """
    axes = entry.sized(axis_sizes)
    # Keras' bar of a download that breaks off has no end of line: the error would be glued to it
    keras.config.disable_interactive_logging()
    progress.step(f"{entry.name}: build and weights ({weights})")
    tf.config.experimental.enable_op_determinism()
    if entry.is_transformer:
        made = _transformer(entry, weights, axes, reference_dtype, progress)
    else:
        made = _application(entry, weights, reference_dtype, progress)
    if existing(out, entry.name, made.digest):
        return f"{entry.name}-{made.digest}"
    with temporary_folder(out) as folder:
        progress.step("Keras file")
        made.model.save(str(folder / "model.keras"))
        progress.step("SavedModel")
        made.model.export(str(folder / "saved_model"), format="tf_saved_model", verbose=False)
        progress.step("ONNX")
        proto = made.to_onnx()
        onnx.save(proto, str(folder / "model.onnx"))
        progress.step("check of the ONNX file")
        error = check_outputs(
            proto,
            *({name: one[:CHECKED_SAMPLES] for name, one in part.items()} for part in (made.inputs, made.outputs)),
        )
        progress.step("description")
        names = _class_names(folder) if made.origin == "imagenet" else None
        model = _described(entry, made, folder)
        np.savez(str(folder / "reference.npz"), **_archived(model, made))  # type: ignore[arg-type]
        extra = _facts(entry, made, proto, error, axes, names)
        return publish(folder, model, extra).name


def _facts(
    entry: RegisteredModel, made: Made, proto: Any, error: float, axes: Mapping[str, int], names: Optional[str]
) -> Dict[str, Any]:
    """What model.json says beside the model itself. error: relative L2 of the ONNX file's outputs. names: the file of class names."""
    first = next(iter(made.outputs.values()))
    found: Dict[str, Any] = {
        "builder": f"{entry.package}.{entry.builder}",
        "parameters": int(made.model.count_params()),
        "onnx_opset": opset(proto),
        "onnx_ir_version": proto.ir_version,
        "onnx_nodes": len(proto.graph.node),
        "onnx_node_counts": node_counts(proto),
        "onnx_check_rel_l2": error,
        "reference_dtype": str(first.dtype),
        "reference_by": f"Keras on TensorFlow {tf.__version__}, {first.dtype}",
        "axes": axes,
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "tf2onnx": tf2onnx.__version__,
            "onnx": onnx.__version__,
            "numpy": np.__version__,
        },
    }
    if entry.is_transformer:
        found["config"] = dict(entry.config)
        found["versions"]["keras-hub"] = metadata.version("keras-hub")
    if entry.size:
        found["input_range"] = [0.0, 255.0]
        found["preprocessing"] = entry.preprocessing
        found["class_names"] = names
        found["reference_top_classes"] = [int(top) for top in first.argmax(axis=1)]
    return found


def _described(entry: RegisteredModel, made: Made, folder: Path) -> ModelFiles:
    inputs = tuple(Tensor(name, one.dtype.name, (1, *one.shape[1:])) for name, one in made.inputs.items())
    outputs = tuple(Tensor(name, "float32", (1, *one.shape[1:]), kind=made.kind) for name, one in made.outputs.items())
    is_transformer = entry.is_transformer
    package = f"keras-hub {metadata.version('keras-hub')}" if is_transformer else "keras.applications"
    return ModelFiles(
        root=folder,
        name=entry.name,
        hash=made.digest,
        onnx="model.onnx",
        keras="model.keras",
        saved_model="saved_model",
        reference="reference.npz",
        input_shape=inputs[0].shape[1:],
        layout="NHWC" if entry.size else "",
        onnx_input=inputs[0].name,
        onnx_output=outputs[0].name,
        output_kind=made.kind,
        classes=outputs[0].shape[1] if len(outputs[0].shape) == 2 else 0,
        weights=made.origin,
        weights_note=made.note,
        inputs=inputs if is_transformer else (),
        outputs=outputs if is_transformer else (),
        item=made.item,
        born=f"Keras {keras.__version__}: {package}"
        + (f", {entry.builder}" if is_transformer else f".{entry.builder}"),
        exporters={
            "keras": "itself",
            "saved_model": "Keras' export",
            "onnx": f"tf2onnx {tf2onnx.__version__}",
        },
        needs=(KERAS_HUB,) if is_transformer else (),
    )


def _archived(model: ModelFiles, made: Made) -> Dict[str, np.ndarray]:
    if len(made.inputs) == len(made.outputs) == 1:
        return {"inputs": next(iter(made.inputs.values())), "outputs": next(iter(made.outputs.values()))}
    units = range(len(next(iter(made.inputs.values()))))
    given, results = (
        [{name: one[unit : unit + 1] for name, one in part.items()} for unit in units]
        for part in (made.inputs, made.outputs)
    )
    return archive(model, given, results)


def _application(entry: RegisteredModel, weights: str, reference_dtype: str, progress: Progress) -> Made:
    source, reference_dtype = _source(entry, weights, reference_dtype)
    progress.step("reference outputs")
    inputs, outputs = _reference(entry, source)
    _check_reference(outputs)
    return Made(
        source.model,
        {INPUT: inputs},
        {OUTPUT: outputs},
        "probabilities",
        "image",
        source.origin,
        source.note,
        _digest(entry, source.model, {INPUT: inputs}),
        lambda: to_onnx(source.model),
    )


def _transformer(
    entry: RegisteredModel, weights: str, axes: Mapping[str, int], reference_dtype: str, progress: Progress
) -> Made:
    if weights == "imagenet":
        raise UserError(f"there are no published weights of {entry.name} that could be had; take seeded ones")
    source = transformers.make(entry, axes, reference_dtype)
    progress.step("reference outputs")
    infer = tf.function(lambda given: source.reference(given, training=False))
    parts: Dict[str, List[np.ndarray]] = {name: [] for name in source.outputs}
    for unit in range(REFERENCE_IMAGES):  # one at a time: in float64 a batch would take gigabytes
        one = {name: tf.constant(values[unit : unit + 1]) for name, values in source.inputs.items()}
        result = infer(one if len(one) > 1 else one.popitem()[1])
        for name, made in result.items() if isinstance(result, dict) else zip(source.outputs, [result]):
            parts[name].append(np.asarray(made))
    outputs = {name: np.concatenate(made) for name, made in parts.items()}
    for name, values in outputs.items():
        if not np.isfinite(values).all() or np.ptp(values, axis=0).max() < 0.01:
            raise ExportFailed(f"the reference's output {name} is not finite, or the same for all samples")
    model, inputs, names = source.model, source.inputs, source.outputs
    return Made(
        model,
        inputs,
        outputs,
        "raw",
        "image" if entry.size else "sequence",
        "seeded",
        transformers.NOTE,
        _digest(entry, model, inputs),
        lambda: transformer_to_onnx(model, inputs, names),  # without the reference, which may go
    )


def _source(entry: RegisteredModel, weights: str, reference_dtype: str) -> Tuple[Weighted, str]:
    if reference_dtype == "float64":
        try:
            source = weighted(entry, weights, "float64")
            source.reference(np.zeros((1, entry.size, entry.size, 3), np.float32), training=False)
            return source, "float64"
        except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.UnimplementedError):
            pass  # a layer without a float64 kernel on this CPU
    return weighted(entry, weights, "float32"), "float32"


def _reference(entry: RegisteredModel, source: Weighted) -> Tuple[np.ndarray, np.ndarray]:
    """The clearest of the seeded pictures, and what the reference model says of them."""
    candidates = pictures(CANDIDATE_IMAGES, entry.size, entry.size, 3, REFERENCE_SEED)
    infer = tf.function(lambda batch: source.reference(batch, training=False))
    step = REFERENCE_IMAGES  # a large model in float64 takes gigabytes for more at a time
    parts = [np.asarray(infer(tf.constant(candidates[i : i + step]))) for i in range(0, CANDIDATE_IMAGES, step)]
    outputs = np.concatenate(parts)
    chosen = clearest(outputs)
    return np.ascontiguousarray(candidates[chosen]), outputs[chosen]


def _check_reference(outputs: np.ndarray) -> None:
    if not np.isfinite(outputs).all():
        raise ExportFailed("the reference outputs are not finite")
    if not np.allclose(outputs.sum(axis=1), 1, atol=1e-4):
        raise ExportFailed("the reference outputs are no probabilities")
    tops = len(set(outputs.argmax(axis=1).tolist()))
    if tops < MIN_TOP_CLASSES:
        raise ExportFailed(
            f"the {len(outputs)} reference images have {tops} different top classes, fewer than {MIN_TOP_CLASSES}: "
            "agreement between frameworks would mean nothing"
        )


def _digest(entry: RegisteredModel, model: Any, inputs: Mapping[str, np.ndarray]) -> str:
    """Hash over architecture, weights and reference inputs; layer names and versions of libraries are left out."""
    digest = Digest()
    digest.text("builder", entry.builder)
    digest.text("preprocessing", entry.preprocessing)
    for layer in model.layers:
        digest.text("layer", type(layer).__name__)
        for values in layer.get_weights():
            digest.array("weights", values)
    if entry.config:
        digest.text("config", json.dumps(dict(entry.config), sort_keys=True))
    for values in inputs.values():
        digest.array("inputs", values)
    return digest.short()


def _class_names(folder: Path) -> Optional[str]:
    """Writes ImageNet's class names, one a line, where Keras' index can be had. Returns the file's name."""
    try:
        with download_timeout():
            index = keras.utils.get_file(
                "imagenet_class_index.json", CLASS_INDEX_URL, cache_subdir="models", file_hash=CLASS_INDEX_MD5
            )
        classes: Dict[str, List[str]] = json.loads(Path(index).read_text())
    except Exception:  # keras raises bare Exception for a failed download; numbers serve without names
        return None
    (folder / "classes.txt").write_text("".join(f"{classes[str(i)][1]}\n" for i in range(len(classes))))
    return "classes.txt"
