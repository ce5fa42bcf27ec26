"""Exports a model of the registry: Keras file, SavedModel, ONNX, reference inputs and outputs."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from common.export.inputs import CANDIDATE_IMAGES, REFERENCE_IMAGES, REFERENCE_SEED, clearest, pictures
from common.export.keras_onnx import INPUT, OUTPUT, ExportFailed, check_outputs, to_onnx
from common.export.onnx_graph import node_counts, opset
from common.export.progress import Progress
from common.export.store import Digest, existing, publish, temporary_folder
from common.export.weights import Weighted, download_timeout, weighted
from common.model_files import ModelFiles
from common.models import RegisteredModel

STEPS = 7
#: of the eight reference images, so many must differ in their top class: else agreement of classes says nothing
MIN_TOP_CLASSES = 3
#: images through ONNX's own, slow implementation
CHECKED_IMAGES = 2
CLASS_INDEX_URL = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
#: as keras.applications checks it (keras/src/applications/imagenet_utils.py)
CLASS_INDEX_MD5 = "c2c37ea517e94d9795004a39431a14cb"


def export(entry: RegisteredModel, out: Path, weights: str, reference_dtype: str, progress: Progress) -> str:
    """Exports to `out/<name>-<hash>/` and returns that folder's name; nothing is written where it exists already.

    weights: auto, imagenet or seeded. reference_dtype: float64 or float32, of the reference outputs; float32 also
    where TensorFlow has no float64 kernel for one of the layers.
    Raises UserError (weights that cannot be had, folder that cannot be written) and ExportFailed.
    """
    # Keras' bar of a download that breaks off has no end of line: the error would be glued to it
    keras.config.disable_interactive_logging()
    progress.step(f"{entry.name}: build and weights ({weights})")
    tf.config.experimental.enable_op_determinism()
    source, reference_dtype = _source(entry, weights, reference_dtype)
    progress.step("reference outputs")
    inputs, outputs = _reference(entry, source)
    _check_reference(outputs)
    digest = _digest(entry, source, inputs)
    if existing(out, entry.name, digest):
        return f"{entry.name}-{digest}"
    with temporary_folder(out) as folder:
        np.savez(str(folder / "reference.npz"), inputs=inputs, outputs=outputs)
        progress.step("Keras file")
        source.model.save(str(folder / "model.keras"))
        progress.step("SavedModel")
        source.model.export(str(folder / "saved_model"), format="tf_saved_model", verbose=False)
        progress.step("ONNX")
        proto = to_onnx(source.model)
        onnx.save(proto, str(folder / "model.onnx"))
        progress.step("check of the ONNX file")
        error = check_outputs(proto, inputs[:CHECKED_IMAGES], outputs[:CHECKED_IMAGES])
        progress.step("description")
        names = _class_names(folder) if source.origin == "imagenet" else None
        model = ModelFiles(
            root=folder,
            name=entry.name,
            hash=digest,
            onnx="model.onnx",
            keras="model.keras",
            saved_model="saved_model",
            reference="reference.npz",
            input_shape=tuple(inputs.shape[1:]),
            layout="NHWC",
            onnx_input=INPUT,
            onnx_output=OUTPUT,
            output_kind="probabilities",
            classes=int(outputs.shape[1]),
            weights=source.origin,
            weights_note=source.note,
            born=f"Keras {keras.__version__}: keras.applications.{entry.builder}",
            exporters={
                "keras": "itself",
                "saved_model": "Keras' export",
                "onnx": f"tf2onnx {tf2onnx.__version__}",
            },
        )
        extra: Dict[str, Any] = {
            "builder": f"keras.applications.{entry.builder}",
            "parameters": int(source.model.count_params()),
            "preprocessing": entry.preprocessing,
            "input_range": [0.0, 255.0],
            "class_names": names,
            "reference_dtype": str(outputs.dtype),
            "reference_top_classes": [int(top) for top in outputs.argmax(axis=1)],
            "onnx_opset": opset(proto),
            "onnx_ir_version": proto.ir_version,
            "onnx_nodes": len(proto.graph.node),
            "onnx_node_counts": node_counts(proto),
            "onnx_check_rel_l2": error,
            "versions": {
                "python": platform.python_version(),
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "tf2onnx": tf2onnx.__version__,
                "onnx": onnx.__version__,
                "numpy": np.__version__,
            },
        }
        return publish(folder, model, extra).name


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


def _digest(entry: RegisteredModel, source: Weighted, inputs: np.ndarray) -> str:
    """Hash over architecture, weights and reference inputs; layer names and versions of libraries are left out."""
    digest = Digest()
    digest.text("builder", entry.builder)
    digest.text("preprocessing", entry.preprocessing)
    for layer in source.model.layers:
        digest.text("layer", type(layer).__name__)
        for values in layer.get_weights():
            digest.array("weights", values)
    digest.array("inputs", inputs)
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
