"""`tftrt`: TensorRT inside a TensorFlow graph, as TensorFlow had it until 2.17."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from common.harness.adapter import Unsupported
from common.model_files import ModelFiles
from common.whole_writes import whole
from images.tensorflow import cuda_driver
from images.tensorflow.environment import release

LAST_RELEASE = (2, 17)
_WORKSPACE_BYTES = 4 << 30
_MIN_SEGMENT_NODES = 3


def why_unavailable(tf: Any) -> Optional[str]:
    """None, or why this TensorFlow has no TF-TRT."""
    if release(tf.__version__) > LAST_RELEASE:
        last = ".".join(str(part) for part in LAST_RELEASE)
        return f"TF-TRT ended with TensorFlow {last}; this is TensorFlow {tf.__version__}"
    if not tf.sysconfig.get_build_info().get("is_tensorrt_build", False):
        return f"this TensorFlow {tf.__version__} was built without TensorRT"
    return None


def tensorrt_version() -> str:
    """Version of the TensorRT that TensorFlow loaded, "" where it does not say."""
    try:
        bridge = importlib.import_module("tensorflow.compiler.tf2tensorrt._pywrap_py_utils")
        return ".".join(str(part) for part in bridge.get_loaded_tensorrt_version())
    except (ImportError, AttributeError):
        return ""


def _engines(function: Any) -> int:
    graph_def = function.graph.as_graph_def()
    nodes: List[Any] = list(graph_def.node)
    for definition in graph_def.library.function:
        nodes.extend(definition.node_def)
    return sum(node.op == "TRTEngineOp" for node in nodes)


class TfTrt:
    """A converted SavedModel for each batch size, its engine built for that shape and kept on disk."""

    def __init__(self, tf: Any, cache: Optional[Path]) -> None:
        self._tf = tf
        self._scratch: Optional[Path] = None
        if cache is None:
            self._scratch = cache = Path(tempfile.mkdtemp(prefix="framewatt-tftrt-"))
        self._cache = cache
        self._source = Path()
        self._key = ""
        self._precision = ""
        self._saved: Any = None
        self._function: Any = None
        self._shape: Any = None
        self._engine_count = 0

    def load(self, model: ModelFiles, precision: str) -> None:
        reason = why_unavailable(self._tf)
        if reason is not None:
            raise Unsupported(reason)
        self._source = model.path(model.saved_model)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise Unsupported("TF-TRT is fed models with one input and one output here")
        self._precision = precision
        versions = f"{self._tf.__version__} {tensorrt_version()} {cuda_driver.fingerprint()}"
        self._key = f"{model.name}-{model.hash}-{hashlib.sha256(versions.encode()).hexdigest()[:8]}-{precision}"

    def specialize(self, inputs: Sequence[Any]) -> None:
        (images,) = inputs
        if tuple(images.shape) == self._shape:
            return
        folder = self._cache / f"{self._key}-b{int(images.shape[0])}"
        try:
            self._open(folder)
        except Exception:
            # nothing there yet, or a folder that a person or an earlier version left broken: build it, in that one's place
            with whole(folder) as part:
                self._build(images, part)
            self._open(folder)
        self._shape = tuple(images.shape)
        if not self._engine_count:
            raise Unsupported("TF-TRT put no part of this model into a TensorRT engine")

    def _open(self, folder: Path) -> None:
        self._saved = self._tf.saved_model.load(str(folder))
        self._function = self._saved.signatures["serving_default"]
        self._engine_count = _engines(self._function)

    def _build(self, images: Any, folder: Path) -> None:
        trt = importlib.import_module("tensorflow.python.compiler.tensorrt.trt_convert")
        converter = trt.TrtGraphConverterV2(
            input_saved_model_dir=str(self._source),
            input_saved_model_signature_key="serving_default",
            precision_mode={"fp32": "FP32", "fp16": "FP16"}[self._precision],
            max_workspace_size_bytes=_WORKSPACE_BYTES,
            minimum_segment_size=_MIN_SEGMENT_NODES,
            maximum_cached_engines=1,
            allow_build_at_runtime=False,
        )
        converter.convert()
        converter.build(input_fn=lambda: iter([(images,)]))
        converter.save(str(folder))

    def recompile(self) -> None:
        self._shape = None

    def infer(self, inputs: Sequence[Any]) -> List[Any]:
        return list(self._function(*inputs).values())

    def to_host(self, inputs: Sequence[Any]) -> List[Any]:
        return [tensor.numpy() for tensor in self.infer(inputs)]

    def traces(self) -> int:
        return 1

    def close(self) -> None:
        self._saved = self._function = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def settings(self) -> Dict[str, str]:
        return {
            "graph": f"TrtGraphConverterV2, {self._engine_count} TensorRT engines, segments of {_MIN_SEGMENT_NODES} nodes "
            "or more, built for the batch size",
            "xla": "off",
            "fp16": "TensorRT's FP16 mode",
            "tensorrt_workspace_bytes": str(_WORKSPACE_BYTES),
        }
