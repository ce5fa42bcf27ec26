"""The SavedModel as one frozen, folded GraphDef: what `tf` and `tfxla` run.

Freezing turns variables into constants, so that a call passes one tensor instead of hundreds; Grappler's constant
folding then multiplies the batch normalization into the convolutions' weights. Half precision is a rewrite
of that graph's types, after the folding, which is done in float32.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from common.harness.adapter import Unsupported
from common.model_files import ModelFiles
from images.tensorflow.function_names import stable_function_names

OUTPUT = "framewatt_output"
#: Grappler's passes that fold constants; kernels and layouts are left to the run time, which knows the device
_PASSES = ("function", "constfold", "arithmetic", "dependency")


def _node_of(name: str) -> str:
    """Node of an input as a GraphDef writes it: "^control", "node" or "node:1"."""
    return name.lstrip("^").split(":", 1)[0]


def _placeholder(graph_def: Any) -> str:
    names = [node.name for node in graph_def.node if node.op == "Placeholder"]
    if len(names) != 1:
        raise Unsupported(f"the SavedModel takes {len(names)} inputs; exactly one can be fed")
    return str(names[0])


def _freeze(tf: Any, saved_model: Path) -> Any:
    """GraphDef with one Placeholder and, as OUTPUT, one result."""
    constants = importlib.import_module("tensorflow.python.framework.convert_to_constants")
    with tf.device("/CPU:0"):
        loaded = tf.saved_model.load(str(saved_model))
        frozen = constants.convert_variables_to_constants_v2(loaded.signatures["serving_default"])
    results = list(frozen.outputs)
    if len(results) != 1:
        raise Unsupported(f"the SavedModel gives {len(results)} results; exactly one can be compared")
    graph_def = frozen.graph.as_graph_def()
    for node in graph_def.node:
        node.device = ""
    node = graph_def.node.add(name=OUTPUT, op="Identity", input=[results[0].name])
    node.attr["T"].type = results[0].dtype.as_datatype_enum
    return graph_def


def _fold(tf: Any, graph_def: Any) -> Any:
    """The graph after Grappler's folding, results unchanged up to rounding."""
    grappler = importlib.import_module("tensorflow.python.grappler.tf_optimizer")
    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    rewrite = config.graph_options.rewrite_options
    rewrite.optimizers[:] = list(_PASSES)
    rewrite.min_graph_nodes = -1
    rewrite.meta_optimizer_iterations = 2
    meta_graph = tf.compat.v1.MetaGraphDef(graph_def=graph_def)
    meta_graph.collection_def["train_op"].node_list.value.extend([OUTPUT, _placeholder(graph_def)])
    return grappler.OptimizeGraph(config, meta_graph)


def graph_file(tf: Any, model: ModelFiles) -> str:
    """Name of the folded graph within the cache folder."""
    return f"{model.name}-{model.hash}-tf{tf.__version__}.pb"


def inference_graph(tf: Any, model: ModelFiles, cache: Optional[Path]) -> Any:
    """The folded float32 GraphDef, from `cache` where it has been made before.

    Raises Unsupported for a SavedModel without exactly one input and one result.
    """
    stored = cache / graph_file(tf, model) if cache is not None else None
    if stored is not None:
        # a file that does not parse is made again
        with contextlib.suppress(OSError, importlib.import_module("google.protobuf.message").DecodeError):
            graph_def = tf.compat.v1.GraphDef.FromString(stored.read_bytes())
            if any(node.name == OUTPUT for node in graph_def.node):
                return graph_def
    graph_def = _fold(tf, _freeze(tf, model.path(model.saved_model)))
    if stored is not None:
        part = stored.with_name(f"{stored.name}.{os.getpid()}")
        try:
            part.write_bytes(graph_def.SerializeToString())
            part.replace(stored)
        except BaseException:  # a full disk, say
            part.unlink(missing_ok=True)
            raise
    return graph_def


def _results_kept_in_float(nodes: Dict[str, Any]) -> Set[str]:
    """The result and, where it is one, the softmax before it: small, and the place where half loses most."""
    kept = {OUTPUT}
    name = _node_of(nodes[OUTPUT].input[0])
    while nodes[name].op in ("Identity", "Softmax"):
        kept.add(name)
        if nodes[name].op == "Softmax":
            break
        name = _node_of(nodes[name].input[0])
    return kept if nodes[name].op == "Softmax" else {OUTPUT}


def to_half(tf: Any, graph_def: Any) -> Any:
    """A copy of the graph in float16, weights included, but for the final softmax; expects a float16 input.

    Raises Unsupported where a constant does not fit into float16.
    """
    single, half = tf.float32.as_datatype_enum, tf.float16.as_datatype_enum
    result = tf.compat.v1.GraphDef()
    result.CopyFrom(graph_def)
    nodes = {node.name: node for node in result.node}
    kept = _results_kept_in_float(nodes)
    casts: List[str] = []
    for node in list(result.node):
        if node.name in kept:
            source = node.input[0]
            if _node_of(source) not in kept:
                casts.append(source)
                node.input[0] = f"{node.name}/to_float"
                cast = result.node.add(name=node.input[0], op="Cast", input=[source])
                cast.attr["SrcT"].type, cast.attr["DstT"].type = half, single
            continue
        for attribute in node.attr.values():
            if attribute.type == single:
                attribute.type = half
            for i, kind in enumerate(attribute.list.type):
                if kind == single:
                    attribute.list.type[i] = half
            if attribute.HasField("tensor") and attribute.tensor.dtype == single:
                values = tf.make_ndarray(attribute.tensor)
                if (abs(values) > tf.float16.max).any():
                    raise Unsupported(f"the constant {node.name} does not fit into float16")
                attribute.tensor.CopyFrom(tf.make_tensor_proto(values.astype("float16")))
    return result


class FrozenGraph:
    """`tf`, and with jit `tfxla`. One trace for all batch sizes; XLA compiles for each shape that comes."""

    def __init__(self, tf: Any, jit: bool, cache: Optional[Path]) -> None:
        self._tf = tf
        self._jit = jit
        self._cache = cache
        self._function: Any = None
        self._inference: Any = None
        self._signature: List[Any] = []
        self._what = ""
        self._file = ""

    def load(self, model: ModelFiles, precision: str) -> None:
        tf = self._tf
        graph_def = inference_graph(tf, model, self._cache)
        name = _placeholder(graph_def)
        dtype = tf.float32
        if precision == "fp16":
            graph_def = to_half(tf, graph_def)
            dtype = tf.float16
        # XLA knows no Placeholder, not even one that nothing reads
        body = tf.compat.v1.GraphDef(versions=graph_def.versions)
        body.node.extend(node for node in graph_def.node if node.op != "Placeholder")

        def inference(images: Any) -> Any:
            fed = tf.cast(images, dtype)
            return tf.graph_util.import_graph_def(
                body, input_map={name: fed}, return_elements=[OUTPUT + ":0"], name=""
            )[0]

        self._inference = inference
        self._signature = [tf.TensorSpec([None, *model.input_shape], tf.float32)]
        self._what = f"{model.hash} {precision} {'xla' if self._jit else 'graph'}"
        self._file = graph_file(tf, model) if self._cache is not None else "none: there is no cache folder"
        self.recompile()

    def recompile(self) -> None:
        jit = True if self._jit else None
        with stable_function_names(self._what):
            function = self._tf.function(self._inference, input_signature=self._signature, jit_compile=jit)
            self._function = function.get_concrete_function()

    def specialize(self, images: Any) -> None:
        """Nothing: the first inference of a shape instantiates or compiles."""

    def infer(self, images: Any) -> Any:
        return self._function(images)

    def to_host(self, images: Any) -> Any:
        return self._function(images).numpy()

    def traces(self) -> int:
        return 1

    def settings(self) -> Dict[str, str]:
        return {
            "graph": "SavedModel frozen, batch normalization folded by Grappler, one concrete function",
            "graph_file": self._file,
            "xla": "jit_compile=True" if self._jit else "off",
            "fp16": "graph and weights cast to float16, softmax in float32",
        }
