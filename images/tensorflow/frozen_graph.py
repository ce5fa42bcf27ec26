"""The SavedModel as one frozen, folded GraphDef: what `tf` and `tfxla` run.

Freezing turns variables into constants, so that a call passes one tensor instead of hundreds; Grappler's constant
folding then multiplies the batch normalization into the convolutions' weights. Half precision is a rewrite
of that graph's types, after the folding, which is done in float32.
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set

import numpy as np

from common.float16 import HAND_ON, LARGEST_FLOAT16, TAKE_LIMITED, TO_TRUTH_VALUES, TO_WHOLE_NUMBERS, refusal_of
from common.harness.adapter import Unsupported
from common.model_files import ModelFiles
from common.whole_writes import write_whole
from images.tensorflow.function_names import stable_function_names

OUTPUT = "framewatt_output"
#: Grappler's passes that fold constants; kernels and layouts are left to the run time, which knows the device
_PASSES = ("function", "constfold", "arithmetic", "dependency")


#: operators of TensorFlow -> ONNX's that compute the same, of those of common/float16.py; others have the same name
_OPERATORS = {
    "AddV2": "Add", "Select": "Where", "SelectV2": "Where", "ClipByValue": "Clip", "Maximum": "Max", "Minimum": "Min",
    "LessEqual": "LessOrEqual", "GreaterEqual": "GreaterOrEqual", "NotEqual": "Equal", "PadV2": "Pad", "ConcatV2": "Concat",
    "Pack": "Concat", "Fill": "Expand", "BroadcastTo": "Expand", "GatherV2": "Gather", "GatherNd": "GatherND", "StridedSlice": "Slice",
    "SplitV": "Split", "Unpack": "Split", "MatrixBandPart": "Trilu", "ExpandDims": "Unsqueeze",
    "AddN": "Sum", "ScatterNd": "ScatterND", "TensorScatterUpdate": "ScatterND", "TensorScatterAdd": "ScatterND",
}  # fmt: skip
#: of TensorFlow's DataType: DT_BOOL; DT_(U)INT8 to 64
_TRUTH_VALUES, _WHOLE_NUMBERS = 10, {3, 4, 5, 6, 9, 17, 22, 23}


def _node_of(name: str) -> str:
    """Node of an input as a GraphDef writes it: "^control", "node" or "node:1"."""
    return name.lstrip("^").split(":", 1)[0]


def _placeholders(graph_def: Any, names: Sequence[str]) -> List[str]:
    """The Placeholders in the order of the model's inputs; the single one of a model with one input has any name."""
    found = [str(node.name) for node in graph_def.node if node.op == "Placeholder"]
    if len(found) == len(names) == 1:
        return found
    if sorted(found) != sorted(names):
        raise Unsupported(f"the SavedModel takes {', '.join(found)}, the model's description says {', '.join(names)}")
    return list(names)


def _outputs(count: int) -> List[str]:
    """Names of the nodes that hold the results."""
    return [OUTPUT if number == 0 else f"{OUTPUT}_{number}" for number in range(count)]


def _freeze(tf: Any, saved_model: Path, names: Sequence[str]) -> Any:
    """GraphDef with a Placeholder for each input and a node of _outputs() for each result, in the order of `names`."""
    constants = importlib.import_module("tensorflow.python.framework.convert_to_constants")
    with tf.device("/CPU:0"):
        loaded = tf.saved_model.load(str(saved_model))
        signature = loaded.signatures["serving_default"]
        frozen = constants.convert_variables_to_constants_v2(signature)
    results = dict(zip(sorted(signature.structured_outputs), frozen.outputs))
    if len(results) != len(names):
        raise Unsupported(f"the SavedModel gives {len(results)} results, the model's description says {len(names)}")
    if len(names) == 1:
        results = dict(zip(names, results.values()))
    if set(results) != set(names):
        raise Unsupported(f"the SavedModel gives {', '.join(results)}, the model's description says {', '.join(names)}")
    graph_def = frozen.graph.as_graph_def()
    for node in graph_def.node:
        node.device = ""
    for target, name in zip(_outputs(len(names)), names):
        node = graph_def.node.add(name=target, op="Identity", input=[results[name].name])
        node.attr["T"].type = results[name].dtype.as_datatype_enum
    return graph_def


def _fold(tf: Any, graph_def: Any, outputs: Sequence[str]) -> Any:
    """The graph after Grappler's folding, results unchanged up to rounding."""
    grappler = importlib.import_module("tensorflow.python.grappler.tf_optimizer")
    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    rewrite = config.graph_options.rewrite_options
    rewrite.optimizers[:] = list(_PASSES)
    rewrite.min_graph_nodes = -1
    rewrite.meta_optimizer_iterations = 2
    meta_graph = tf.compat.v1.MetaGraphDef(graph_def=graph_def)
    given = [node.name for node in graph_def.node if node.op == "Placeholder"]
    meta_graph.collection_def["train_op"].node_list.value.extend([*outputs, *given])
    return grappler.OptimizeGraph(config, meta_graph)


def graph_file(tf: Any, model: ModelFiles) -> str:
    """Name of the folded graph within the cache folder."""
    return f"{model.name}-{model.hash}-tf{tf.__version__}.pb"


def inference_graph(tf: Any, model: ModelFiles, cache: Optional[Path]) -> Any:
    """The folded float32 GraphDef, from `cache` where it has been made before.

    Raises Unsupported for a SavedModel whose inputs and results are not those of the model's description.
    """
    stored = cache / graph_file(tf, model) if cache is not None else None
    if stored is not None:
        # a file that does not parse is made again
        with contextlib.suppress(OSError, importlib.import_module("google.protobuf.message").DecodeError):
            graph_def = tf.compat.v1.GraphDef.FromString(stored.read_bytes())
            if any(node.name == OUTPUT for node in graph_def.node):
                return graph_def
    names = [tensor.name for tensor in model.outputs]
    graph_def = _fold(tf, _freeze(tf, model.path(model.saved_model), names), _outputs(len(names)))
    if stored is not None:
        write_whole(stored, graph_def.SerializeToString())
    return graph_def


def _results_kept_in_float(nodes: Dict[str, Any]) -> Set[str]:
    """The results and, where there is one, the softmax before each: small, and the place where half loses most."""
    kept: Set[str] = set()
    for output in (name for name in nodes if name.startswith(OUTPUT)):
        on_path = {output}
        name = _node_of(nodes[output].input[0])
        while nodes[name].op in ("Identity", "Softmax"):
            on_path.add(name)
            if nodes[name].op == "Softmax":
                break
            name = _node_of(nodes[name].input[0])
        kept |= on_path if nodes[name].op == "Softmax" else {output}
    return kept


def _operator_of(node: Any) -> str:
    """ONNX's operator that computes the same, as common/float16.py calls it, or TensorFlow's own."""
    if node.op != "Cast":
        return _OPERATORS.get(node.op, str(node.op))
    kind = node.attr["DstT"].type
    return TO_TRUTH_VALUES if kind == _TRUTH_VALUES else TO_WHOLE_NUMBERS if kind in _WHOLE_NUMBERS else "Cast"


def _weight_readers(name: str, users: Mapping[str, Sequence[Any]], seen: Set[str]) -> Set[str]:
    """Operators for which what a node gives is no mask, of those that read it, itself or handed on; none where it is a mask."""
    found: Set[str] = set()
    for user in users.get(name, ()):
        operator = _operator_of(user)
        if user.name.startswith(OUTPUT):
            found.add("")
        elif operator in HAND_ON:
            if user.name not in seen:
                seen.add(user.name)
                found |= _weight_readers(user.name, users, seen)
        elif operator not in TAKE_LIMITED:
            found.add(user.op)
    return found


def to_half(tf: Any, graph_def: Any) -> Any:
    """A copy of the graph in float16, weights included, but for the final softmax; expects a float16 input.

    Masks beyond its range are limited, and Unsupported is raised for a weight beyond it (common/float16.py).
    """
    single, half = tf.float32.as_datatype_enum, tf.float16.as_datatype_enum
    result = tf.compat.v1.GraphDef()
    result.CopyFrom(graph_def)
    nodes = {node.name: node for node in result.node}
    users: Dict[str, List[Any]] = {}
    for node in result.node:
        for name in node.input:
            users.setdefault(_node_of(name), []).append(node)
    kept = _results_kept_in_float(nodes)
    casts: List[str] = []
    for node in list(result.node):
        if node.name in kept and nodes[node.name].attr["T"].type != single:
            continue
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
                beyond = (abs(values) > LARGEST_FLOAT16) & np.isfinite(values)
                if beyond.any():
                    readers = _weight_readers(node.name, users, set())
                    refusal = refusal_of(node.name, values, readers) if readers else None
                    if refusal is not None:
                        raise Unsupported(refusal)
                    values = np.where(beyond, values.clip(-LARGEST_FLOAT16, LARGEST_FLOAT16), values)
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
        names = _placeholders(graph_def, [tensor.name for tensor in model.inputs])
        outputs = [f"{name}:0" for name in _outputs(len(model.outputs))]
        half = precision == "fp16"
        if half:
            graph_def = to_half(tf, graph_def)
        # XLA knows no Placeholder, not even one that nothing reads
        body = tf.compat.v1.GraphDef(versions=graph_def.versions)
        body.node.extend(node for node in graph_def.node if node.op != "Placeholder")

        def inference(*inputs: Any) -> Any:
            fed = [one if one.dtype == kind else tf.cast(one, kind) for one, kind in zip(inputs, kinds)]
            fed = [tf.cast(one, tf.float16) if half and one.dtype == tf.float32 else one for one in fed]
            return tf.graph_util.import_graph_def(
                body, input_map=dict(zip(names, fed)), return_elements=outputs, name=""
            )

        kinds = [tf.as_dtype("string" if one.dtype == "str" else one.dtype) for one in model.inputs]
        self._inference, self._model, self._fed = inference, model, kinds
        self._what = f"{model.hash} {precision} {'xla' if self._jit else 'graph'}"
        self._file = graph_file(tf, model) if self._cache is not None else "none: there is no cache folder"
        self.recompile()

    def recompile(self) -> None:
        jit = True if self._jit else None
        signature = [
            self._tf.TensorSpec([None if axis == one.batch_axis else size for axis, size in enumerate(one.shape)], kind)
            for one, kind in zip(self._model.inputs, self._fed)
        ]
        bytes_in = " of bytes" if any(kind == self._tf.uint8 for kind in self._fed) else ""
        with stable_function_names(self._what + bytes_in):
            function = self._tf.function(self._inference, input_signature=signature, jit_compile=jit)
            self._function = function.get_concrete_function()

    def specialize(self, inputs: Sequence[Any]) -> None:
        """A function for other types than before; else the first inference of a shape instantiates or compiles."""
        kinds = [one.dtype for one in inputs]
        if kinds != self._fed:
            self._fed = kinds
            self.recompile()

    def infer(self, inputs: Sequence[Any]) -> List[Any]:
        result: List[Any] = self._function(*inputs)
        return result

    def to_host(self, inputs: Sequence[Any]) -> List[Any]:
        return [tensor.numpy() for tensor in self._function(*inputs)]

    def traces(self) -> int:
        return 1

    def settings(self) -> Dict[str, str]:
        return {
            "graph": "SavedModel frozen, batch normalization folded by Grappler, one concrete function",
            "graph_file": self._file,
            "xla": "jit_compile=True" if self._jit else "off",
            "fp16": "graph and weights cast to float16, softmax in float32",
        }
