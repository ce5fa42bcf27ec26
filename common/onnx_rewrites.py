"""Exact rewrites of ONNX graphs, for frameworks that do not make them on their own.

Exporters spell out what newer operators say in one word, and leave constants where some importers do not look. Each
function changes the model in place and returns how many nodes it changed; what the model computes stays the same up to
the rounding of constants. They need the package `onnx`, which only some images have, and import it when called.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np


class _Graph:
    """Who makes and who reads each tensor of the top-level graph, and the values of constants.

    A node with nested graphs reads whatever they name: what they make themselves, too, which does no harm.
    """

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self._to_array = numpy_helper.to_array
        self._from_array = numpy_helper.from_array
        self.proto = model.graph
        self.initializers: Dict[str, Any] = {tensor.name: tensor for tensor in self.proto.initializer}
        self.makers: Dict[str, Any] = {name: node for node in self.proto.node for name in node.output}
        self.readers: Dict[str, List[Any]] = {}
        for node in self.proto.node:
            for name in (*node.input, *(name for nested in nested_graphs(node) for name in names_in(nested))):
                self.readers.setdefault(name, []).append(node)
        self.taken = names_in(self.proto)
        self.outputs: Set[str] = {value.name for value in self.proto.output}
        # an initializer that is also an input may be overridden by the caller: it is no constant
        self._overridable: Set[str] = {value.name for value in self.proto.input}

    def constant(self, name: str) -> Optional[np.ndarray]:
        """Value of an initializer or of a Constant node, None for anything else."""
        tensor = self.initializers.get(name)
        if tensor is None:
            maker = self.makers.get(name)
            return _value_of(maker, self._to_array) if _is(maker, "Constant") else None
        return None if name in self._overridable else self._to_array(tensor)

    def only_reader(self, name: str) -> Any:
        """The single node that reads a tensor that is no output of the graph, else None."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def split(self, node: Any) -> Optional[Tuple[str, np.ndarray]]:
        """(variable input, constant value) of a commutative node with one of each, else None."""
        if len(node.input) != 2:
            return None
        values = [self.constant(name) for name in node.input]
        for variable, value, other in ((node.input[0], values[1], values[0]), (node.input[1], values[0], values[1])):
            if value is not None and other is None:
                return variable, value
        return None

    def add_initializer(self, base: str, value: np.ndarray) -> str:
        """Under that name, or one like it that nothing of the model has; which."""
        name = fresh_name(base, self.taken)
        self.put_initializer(name, value)
        return name

    def put_initializer(self, name: str, value: np.ndarray) -> None:
        tensor = self._from_array(
            np.asarray(value, order="C"), name
        )  # ascontiguousarray() would give a lone number an axis
        self.proto.initializer.append(tensor)
        self.initializers[name] = self.proto.initializer[-1]

    def remove(self, nodes: List[Any]) -> None:
        """Takes nodes out, and constants that nobody reads any more."""
        gone = {id(node) for node in nodes}
        kept = [node for node in self.proto.node if id(node) not in gone]
        # a nested graph may read an outer constant by name: with subgraphs present all of them stay
        nested = any(list(nested_graphs(node)) for node in kept)
        if not nested:
            names = {name for node in kept for name in node.input} | self.outputs
            kept = [node for node in kept if not _is(node, "Constant") or node.output[0] in names]
        kept_copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del self.proto.node[:]
        self.proto.node.extend(kept_copies)
        if nested:
            return
        # one that is an input, too, is the value of what the caller leaves out
        read = {name for node in self.proto.node for name in node.input} | self.outputs | self._overridable
        tensors = [tensor for tensor in self.proto.initializer if tensor.name not in read]
        for tensor in tensors:
            self.proto.initializer.remove(tensor)


def lift_constants(model: Any) -> int:
    """Turns Constant nodes that hold a tensor or plain numbers into initializers; importers look only there."""
    from onnx import numpy_helper

    graph = _Graph(model)
    lifted = []
    for node in graph.proto.node:
        if not _is(node, "Constant") or node.output[0] in graph.outputs:
            continue
        value = _value_of(node, numpy_helper.to_array)
        if value is None:
            continue
        graph.proto.initializer.append(numpy_helper.from_array(value, node.output[0]))
        lifted.append(node)
    if lifted:
        graph.remove(lifted)
    return len(lifted)


def _value_of(constant: Any, to_array: Callable[[Any], np.ndarray]) -> Optional[np.ndarray]:
    """What a Constant node holds; None for strings and sparse tensors: no framework here computes with them."""
    attribute = constant.attribute[0]
    if attribute.name == "value":
        return to_array(attribute.t)
    if attribute.name in ("value_float", "value_floats"):
        return np.array(attribute.f if attribute.name == "value_float" else attribute.floats, dtype=np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.array(attribute.i if attribute.name == "value_int" else attribute.ints, dtype=np.int64)
    return None


#: what is computed in advance holds at most so many values: a table that is only broadcast stays small
_MOST_FOLDED = 1 << 24
#: operators whose result is no function of their inputs alone, or that are left for the framework to see
_NOT_FOLDED = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}


def fold_constants(model: Any, beyond: Optional[float] = None) -> int:
    """Computes the nodes whose inputs are all constants, by onnx's own evaluator: an Identity around a weight, most often.

    Importers look for weights among the initializers, and find them there afterwards, under the name that the node gave. beyond:
    only nodes that read or make a finite floating-point number larger than this, whose sign does not matter, and those that are
    left without a reader then.
    """
    graph = _Graph(model)
    values = {name: graph.constant(name) for name in graph.initializers}
    known = {name: value for name, value in values.items() if value is not None}
    folded: List[Any] = []
    computed: List[Any] = []
    for node in graph.proto.node:
        nested = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if node.domain not in ("", "ai.onnx") or nested or node.op_type in _NOT_FOLDED or not node.input:
            continue
        names = [name for name in node.input if name]
        if any(name not in known for name in names) or graph.outputs.intersection(node.output):
            continue
        reads_beyond = beyond is None or any(_reaches(known[name], beyond) for name in names)
        if not reads_beyond and sum(known[name].size for name in names) > _MOST_FOLDED:
            continue
        made = _computed(model, node, {name: known[name] for name in names})
        if made is None:
            continue
        known.update(zip([name for name in node.output if name], made))
        if not reads_beyond and not (beyond is not None and any(_reaches(value, beyond) for value in made)):
            computed.append(node)
            continue
        for name in filter(None, node.output):
            del graph.makers[name]
            graph.put_initializer(name, known[name])
        folded.append(node)
    gone = {id(node) for node in folded}
    for node in reversed(computed if folded else []):
        if all(id(reader) in gone for name in node.output for reader in graph.readers.get(name, [])):
            gone.add(id(node))
            folded.append(node)
    if folded:
        graph.remove(folded)
    return len(folded)


def _computed(model: Any, node: Any, given: Mapping[str, np.ndarray]) -> Optional[List[np.ndarray]]:
    """What a node makes of constants; None where that is no tensors, more than is kept, or the evaluator has not the operator."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    values = [given[name] for name in node.input if name]
    if node.op_type == "Identity":
        made: List[Any] = values
    elif node.op_type == "DequantizeLinear" and not _attribute(node, "block_size"):
        made = [_dequantized(values, _attribute(node, "axis", 1))]
    else:
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(one.dtype), None)
            for name, one in given.items()
        ]
        outputs = [helper.make_tensor_value_info(name, 0, None) for name in node.output if name]
        alone = helper.make_model(
            helper.make_graph([node], "one", inputs, outputs),
            opset_imports=list(model.opset_import), ir_version=model.ir_version,
        )  # fmt: skip
        try:
            made = list(ReferenceEvaluator(alone).run(None, dict(given)))
        except Exception:
            return None
    return None if any(not isinstance(one, np.ndarray) or one.size > _MOST_FOLDED for one in made) else made


def _reaches(values: np.ndarray, beyond: float) -> bool:
    return values.dtype.kind == "f" and bool((np.isfinite(values) & (np.abs(values) > beyond)).any())


def _attribute(node: Any, name: str, default: int = 0) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _dequantized(given: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """(x - zero point) * scale: onnx's evaluator has no DequantizeLinear before opset 19."""
    values, scale = given[:2]
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = -1
    zero = given[2].reshape(shape).astype(scale.dtype) if len(given) > 2 else scale.dtype.type(0)
    made: np.ndarray = (values.astype(scale.dtype) - zero) * scale.reshape(shape)
    return made


def give_outputs_nodes_of_their_own(model: Any) -> int:
    """Puts an Identity before every output of the graph, each with a name of its own, where they could be mistaken.

    onnx2torch returns what nodes return: two outputs of one node, or an output that is an input too, it cannot tell apart.
    An output that no node makes, an input or a constant, gets another name: their order stays.
    """
    from onnx import helper

    graph = model.graph
    del graph.value_info[:]
    makers = [node for node in graph.node for value in graph.output if value.name in node.output]
    if len(graph.output) == len(makers) == 1 and len(makers[0].output) == 1:
        return 0
    taken = names_in(graph)
    renamed: Dict[str, str] = {}
    copies: Dict[str, str] = {}
    made_here = {name for node in graph.node for name in node.output}
    for value in graph.output:
        (renamed if value.name in made_here else copies)[value.name] = fresh_name(value.name, taken)
    rename_reads(graph, renamed)
    for node in graph.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for number, value in enumerate(graph.output):
        source = renamed.get(value.name, value.name)
        target = copies.get(value.name, value.name)
        name = fresh_name(f"framewatt_output_{number}", taken)
        graph.node.append(helper.make_node("Identity", [source], [target], name=name))
        value.name = target
    return len(graph.output)


def fold_scale_and_shift(model: Any) -> int:
    """Folds `Conv -> Mul(per channel)` and `Conv -> Add(per channel)`, a batch normalisation spelt out, into the Conv.

    Method: conv(x, W) * s + b == conv(x, W * s) + b, s and b of shape (1, C, 1, ...), (C, 1, ...) or one value.
    """
    folded: List[Any] = []
    graph = _Graph(model)
    for conv in graph.proto.node:
        if not _is(conv, "Conv"):
            continue
        weight = graph.constant(conv.input[1])
        bias = graph.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
        if weight is None or (len(conv.input) > 2 and conv.input[2] and bias is None):
            continue
        channels, rank = weight.shape[0], weight.ndim
        changed = False
        while True:
            follower = graph.only_reader(conv.output[0])
            if not _is(follower, "Mul", "Add"):
                break
            parts = graph.split(follower)
            vector = None if parts is None else _per_channel(parts[1], channels, rank)
            if vector is None:
                break
            if follower.op_type == "Mul":
                weight = weight * vector.reshape((channels,) + (1,) * (rank - 1))
                bias = None if bias is None else bias * vector
            else:
                bias = vector if bias is None else bias + vector
            conv.output[0] = follower.output[0]
            folded.append(follower)
            changed = True
        if changed:
            conv.input[1] = graph.add_initializer(conv.input[1] + "_folded", weight)
            if bias is not None:
                name = graph.add_initializer(conv.output[0] + "_bias", bias)
                del conv.input[2:]
                conv.input.append(name)
    if folded:
        graph.remove(folded)
    return len(folded)


def fold_batch_normalisation(model: Any) -> int:
    """Folds `Conv -> BatchNormalization` of constants into the Conv.

    Method: (conv(x, W) + b - mean) * s + beta == conv(x, W * s) + (b - mean) * s + beta, s = gamma / sqrt(variance + epsilon).
    """
    graph = _Graph(model)
    folded: List[Any] = []
    for norm in graph.proto.node:
        if not _is(norm, "BatchNormalization") or any(norm.output[1:]):
            continue
        conv: Any = graph.makers.get(norm.input[0])
        if not _is(conv, "Conv") or graph.only_reader(conv.output[0]) is not norm:
            continue
        attributes = {attribute.name: attribute for attribute in norm.attribute}
        bias = graph.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else np.float32(0)
        numbers: List[Any] = [graph.constant(conv.input[1]), bias, *(graph.constant(name) for name in norm.input[1:5])]
        if any(one is None for one in numbers) or ("training_mode" in attributes and attributes["training_mode"].i):
            continue
        weight, shift, gamma, beta, mean, variance = numbers
        if any(
            one.shape != weight.shape[:1] for one in numbers[2:]
        ):  # before opset 9 they may differ from place to place
            continue
        epsilon = attributes["epsilon"].f if "epsilon" in attributes else 1e-5
        scale = gamma / np.sqrt(variance.astype(np.float64) + epsilon)
        added = ((shift - mean) * scale + beta).astype(weight.dtype)
        weight = (weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1))).astype(weight.dtype)
        names = [graph.add_initializer(f"{norm.output[0]}_{what}", one) for what, one in (("w", weight), ("b", added))]
        del conv.input[1:]
        conv.input.extend(names)
        conv.output[0] = norm.output[0]
        folded.append(norm)
    if folded:
        graph.remove(folded)
    return len(folded)


def _per_channel(value: np.ndarray, channels: int, rank: int) -> Optional[np.ndarray]:
    """The (channels,) vector that a broadcast constant is, None where it is none. rank: axes of the convolution's output."""
    if value.size == 1 and value.ndim <= rank:
        return np.full(channels, value.reshape(-1)[0], dtype=value.dtype)
    aligned = (1,) * (rank - value.ndim) + value.shape
    if len(aligned) == rank and aligned == (1, channels) + (1,) * (rank - 2):
        return value.reshape(channels)
    return None


def fuse_hard_swish(model: Any) -> int:
    """Writes `x * (clip(x + 3, 0, 6) / 6)` as HardSwish(x) and `clip(x + 3, 0, 6) / 6` alone as HardSigmoid(x).

    One kernel and one pass over memory instead of four and two. HardSwish exists from opset 14 on; older models stay.
    Method: the definitions of HardSwish-14 and HardSigmoid-6 in ONNX's operator list.
    """
    from onnx import helper

    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < 14:
        return 0
    graph = _Graph(model)
    removed: List[Any] = []
    ranks: Dict[str, int] = {}
    fused = 0
    for clip in list(graph.proto.node):
        found = _hard_sigmoid_of(graph, clip)
        if found is None:
            continue
        x, add, scale, constants = found
        if any(one.ndim for one in constants):
            ranks = ranks or _ranks(model)
            if max(one.ndim for one in constants) > ranks.get(x, 0):  # what they are added to would get their rank
                continue
        gate = graph.only_reader(scale.output[0])
        name = clip.name or clip.output[0]
        if _is(gate, "Mul") and sorted(gate.input) == sorted([x, scale.output[0]]):
            name = fresh_name(f"{name}_HardSwish", graph.taken)
            replacement = helper.make_node("HardSwish", [x], [gate.output[0]], name=name)
            last = gate
            removed += [add, clip, scale]
        else:
            name = fresh_name(f"{name}_HardSigmoid", graph.taken)
            replacement = helper.make_node("HardSigmoid", [x], [scale.output[0]], name=name, alpha=1.0 / 6.0, beta=0.5)
            last = scale
            removed += [add, clip]
        last.CopyFrom(replacement)  # in the last node's place, so that the order of nodes stays topological
        fused += 1
    if fused:
        graph.remove(removed)
    return fused


def _hard_sigmoid_of(graph: _Graph, clip: Any) -> Optional[Tuple[str, Any, Any, List[np.ndarray]]]:
    """(x, the Add, the node that scales, the constants) where this node is the middle of clip(x + 3, 0, 6) / 6, else None."""
    if not _is(clip, "Clip") or len(clip.input) != 3:
        return None
    add: Any = graph.makers.get(clip.input[0])
    scale = graph.only_reader(clip.output[0])
    if not _is(add, "Add") or not _is(scale, "Mul", "Div") or graph.only_reader(add.output[0]) is not clip:
        return None
    shifted, scaled = graph.split(add), graph.split(scale)
    if shifted is None or scaled is None or (scale.op_type == "Div" and scale.input[0] != clip.output[0]):
        return None
    constants = [shifted[1], scaled[1], graph.constant(clip.input[1]), graph.constant(clip.input[2])]
    whole = [one for one in constants if one is not None and one.size == 1 and one.dtype.kind == "f"]
    if len(whole) < len(constants):
        return None
    shift, factor, low, high = (float(one.reshape(-1)[0]) for one in whole)
    factor = 1.0 / factor if scale.op_type == "Div" and factor else factor
    if (shift, low, high) != (3.0, 0.0, 6.0) or abs(factor - 1.0 / 6.0) > 1e-7:
        return None
    return shifted[0], add, scale, whole


def _ranks(model: Any) -> Dict[str, int]:
    """How many axes each tensor of the top-level graph has, of those of which that can be said."""
    from onnx import shape_inference

    try:
        graph = shape_inference.infer_shapes(model).graph
    except Exception:  # beyond protobuf's 2 GB, or an operator that it does not know
        graph = model.graph
    kinds = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return {name: len(kind.shape.dim) for name, kind in kinds.items() if kind.HasField("shape")}


def _is(node: Any, *operators: str) -> bool:
    """Whether there is such a node, and it is one of these operators of ONNX's own."""
    return node is not None and node.op_type in operators and node.domain in ("", "ai.onnx")


def take_bytes(model: Any, names: Sequence[str]) -> None:
    """Turns inputs of numbers, in place, into inputs of bytes (uint8) with a Cast to the old type behind each."""
    from onnx import TensorProto, helper

    taken = names_in(model.graph)
    for value in model.graph.input:
        if value.name not in names:
            continue
        kind = value.type.tensor_type.elem_type
        inside = fresh_name(f"{value.name}/as_number", taken)
        rename_reads(model.graph, {value.name: inside})
        name = fresh_name(f"{value.name}/cast", taken)
        model.graph.node.insert(0, helper.make_node("Cast", [value.name], [inside], to=kind, name=name))
        value.type.tensor_type.elem_type = TensorProto.UINT8


def unlist_constants(model: Any) -> int:
    """Takes the constants off the list of the graph's inputs, in place, where files before IR version 4 have them; how many.

    As inputs they may be fed, so converters and optimizers do not know their values.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    listed = [value for value in model.graph.input if value.name in constants]
    for value in listed:
        model.graph.input.remove(value)
    if listed:
        model.ir_version = max(model.ir_version, 4)
    return len(listed)


def set_handed_on_aside(model: Any) -> Tuple[Callable[[Any], int], Dict[str, str]]:
    """Takes the outputs that no node makes out of the graph, in place: inputs and constants that are handed on as they are.

    The function returned puts them back, into the model or what a converter made of it, and says how many they are: once the types
    of all else were changed, these keep theirs. Nodes that read such a constant read a copy of it under another name; the second
    thing returned is the name of each copy -> the constant's own.
    """
    graph = model.graph
    made = {name for node in graph.node for name in node.output}
    outputs = [(place, _copied(value)) for place, value in enumerate(graph.output) if value.name not in made]
    for place, _ in reversed(outputs):
        del graph.output[place]
    handed_on = {value.name for _, value in outputs}.intersection(tensor.name for tensor in graph.initializer)
    taken = names_in(graph)
    renamed = {name: fresh_name(f"{name}/read", taken) for name in sorted(handed_on)}
    # older files list their constants among the inputs, too
    kept = [
        (part, [_copied(one) for one in getattr(graph, part) if one.name in handed_on])
        for part in ("initializer", "input")
    ]
    rename_reads(graph, renamed)
    read = names_in(graph)
    for part, _ in kept:
        copies = getattr(graph, part)
        for one in [one for one in copies if one.name in handed_on]:
            one.name = renamed[one.name]
            if one.name not in read:
                copies.remove(one)

    def put_back(changed: Any) -> int:
        for part, constants in kept:
            getattr(changed.graph, part).extend(constants)
        for place, value in outputs:
            changed.graph.output.insert(place, value)
        return len(outputs)

    return put_back, {other: name for name, other in renamed.items()}


def _copied(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


def nested_graphs(node: Any) -> Iterator[Any]:
    """The branches of an If, the body of a Loop or Scan; their own are not among them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def names_in(graph: Any) -> Set[str]:
    """All names of tensors and nodes, of nested graphs too."""
    found = {one.name for one in (*graph.input, *graph.output, *graph.initializer, *graph.value_info, *graph.node)}
    found.update(one.values.name for one in graph.sparse_initializer)
    for node in graph.node:
        found.update(node.input, node.output)
        for nested in nested_graphs(node):
            found |= names_in(nested)
    return found


def fresh_name(name: str, taken: Set[str]) -> str:
    """The name, or that with underscores behind it where it is taken; it is taken then."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def rename_reads(graph: Any, renamed: Mapping[str, str]) -> None:
    """Gives what nodes read another name, in place, in nested graphs too unless they have a tensor of that name themselves."""
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for nested in nested_graphs(node):
            own = {one.name for one in (*nested.input, *nested.initializer)}
            own |= {name for inner in nested.node for name in inner.output}
            rename_reads(nested, {name: other for name, other in renamed.items() if name not in own})
