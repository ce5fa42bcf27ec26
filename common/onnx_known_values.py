"""What a graph computes from known sizes, settled before a framework sees it: Shape nodes, and which branch an If takes.

Exporters of PyTorch write `if x.size(1) == 1` and every `squeeze` as an If over computed shapes. With the model's axes bound most of
these sizes are numbers, and importers that know no If can take the graph. With the sizes of one cell written in (`fix_sizes`), after
which the graph takes no others, all of them are. `fix_sizes` and `settle` change the model in place and return how much they changed;
what it computes for inputs of these sizes stays the same. They need the package `onnx`, which they import when called.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set

import numpy as np

from common.onnx_rewrites import fold_constants, lift_constants

#: each round may make more shapes known: a branch that is taken, what follows it
_ROUNDS = 8

#: sizes of a tensor's axes, None where one is open
Sizes = List[Optional[int]]


def fix_sizes(model: Any, shapes: Mapping[str, Iterable[int]]) -> int:
    """Writes sizes of the graph's inputs, input -> shape, over its open axes; how many these were."""
    fixed = 0
    for value in model.graph.input:
        if value.name not in shapes:
            continue
        kind = value.type.tensor_type
        sizes = list(shapes[value.name])
        if not kind.HasField("shape"):
            kind.shape.SetInParent()
            for _ in sizes:
                kind.shape.dim.add()
        for axis, size in zip(kind.shape.dim, sizes):
            if not axis.HasField("dim_value") or axis.dim_value < 1:
                axis.dim_value = int(size)
                fixed += 1
    return fixed


def computes_sizes(model: Any) -> bool:
    """Whether the graph reads the shape of a tensor while it runs, in its branches and loops too."""

    def any_in(graph: Any) -> bool:
        for node in graph.node:
            if node.op_type in ("Shape", "Size") and node.domain in ("", "ai.onnx"):
                return True
            for attribute in node.attribute:
                if any(any_in(one) for one in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)):
                    return True
        return False

    return any_in(model.graph)


def settle(model: Any) -> int:
    """Changes the model as far as its shapes are known, and computes the constants that come of it; how many sizes and branches."""
    import onnx

    settled = 0
    for _ in range(_ROUNDS):
        lift_constants(model)
        del model.graph.value_info[:]  # of the file's own only what its inputs say is believed
        try:
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except Exception:  # above two GiB, or a graph that onnx cannot follow
            break
        changed = fold_shapes(model, _sizes(inferred))
        if changed:
            fold_constants(model)
        changed += take_branches(model)
        settled += changed
        if not changed:
            break
    if settled:
        _drop_unread(model.graph)
    return settled


def _drop_unread(graph: Any) -> None:
    """Takes out the nodes whose results nobody reads any more."""
    read = {value.name for value in graph.output}
    unread: List[Any] = []
    for node in reversed(graph.node):
        if read.isdisjoint(node.output):
            unread.append(node)
        else:
            read |= _read_by(node)
    for node in unread:
        graph.node.remove(node)


def _read_by(node: Any) -> Set[str]:
    """Names that the node reads, those within its graphs included."""
    names = set(node.input)
    for attribute in node.attribute:
        for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names |= {value.name for value in nested.output}
            for one in nested.node:
                names |= _read_by(one)
    return names


def _sizes(model: Any) -> Dict[str, Sizes]:
    graph = model.graph
    found: Dict[str, Sizes] = {}
    for value in (*graph.value_info, *graph.input):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            found[value.name] = [
                axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else None
                for axis in kind.shape.dim
            ]
    return found


def fold_shapes(model: Any, sizes: Mapping[str, Sizes]) -> int:
    """Writes as constants the results of Shape, of Gathers from it and of Size where they are numbers."""
    from onnx import numpy_helper

    graph = model.graph
    outputs = {value.name for value in graph.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes: Dict[str, Sizes] = {}
    folded: Dict[str, np.ndarray] = {}
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or len(node.output) != 1 or node.output[0] in outputs:
            continue
        name = node.output[0]
        if node.op_type == "Shape" and node.input[0] in sizes:
            given = {attribute.name: attribute.i for attribute in node.attribute}
            shapes[name] = sizes[node.input[0]][given.get("start", 0) : given.get("end")]
            if None not in shapes[name]:
                folded[name] = np.array(shapes[name], np.int64)
        elif node.op_type == "Size" and None not in sizes.get(node.input[0], [None]):
            folded[name] = np.array(math.prod(size or 0 for size in sizes[node.input[0]]), np.int64)
        elif node.op_type == "Gather" and node.input[0] in shapes and node.input[1] in constants:
            wanted = numpy_helper.to_array(constants[node.input[1]])
            known = dict(enumerate(shapes[node.input[0]]))
            picked = [known.get(int(place) % max(len(known), 1)) for place in wanted.reshape(-1)]
            if None not in picked:
                folded[name] = np.array(picked, np.int64).reshape(wanted.shape)
    _replace(graph, folded)
    return len(folded)


def _replace(graph: Any, folded: Mapping[str, np.ndarray]) -> None:
    from onnx import numpy_helper

    for node in [node for node in graph.node if len(node.output) == 1 and node.output[0] in folded]:
        graph.node.remove(node)
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in folded.items())


def take_branches(model: Any) -> int:
    """Puts in the place of every If whose condition is a constant the nodes of the branch that it takes."""
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: List[Any] = []
    taken = 0
    for node in graph.node:
        if node.op_type != "If" or node.input[0] not in constants:
            nodes.append(node)
            continue
        yes = bool(numpy_helper.to_array(constants[node.input[0]]).reshape(-1)[0])
        branch = next(one.g for one in node.attribute if one.name == ("then_branch" if yes else "else_branch"))
        nodes += _inlined(graph, branch, list(node.output))
        taken += 1
    if taken:
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
    return taken


def _inlined(graph: Any, branch: Any, outputs: List[str]) -> List[Any]:
    """The branch's nodes, its outputs under these names; its constants become the graph's. Names of its own get a prefix."""
    from onnx import helper, numpy_helper

    own = {name for node in branch.node for name in node.output if name} | {one.name for one in branch.initializer}
    renamed = {name: f"{outputs[0]}/{name}" for name in own}
    made_by_nodes = {name for node in branch.node for name in node.output}
    ends: List[Any] = []
    for value, output in zip(branch.output, outputs):
        if value.name in made_by_nodes and renamed[value.name] not in outputs:
            renamed[value.name] = output
        else:  # a constant, a value of the graph around it, or one that is another output already
            ends.append(helper.make_node("Identity", [renamed.get(value.name, value.name)], [output]))
    for tensor in branch.initializer:
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor), renamed[tensor.name]))
    nodes = [type(node).FromString(node.SerializeToString()) for node in branch.node]
    _rename(nodes, renamed, set())
    return nodes + ends


def _rename(nodes: Iterable[Any], renamed: Mapping[str, str], hidden: Set[str]) -> None:
    """In the nodes and the graphs within them; hidden: names that such a graph has given to something of its own."""
    for node in nodes:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name not in hidden:
                    names[place] = renamed.get(name, name)
        for attribute in node.attribute:
            for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                inner = {value.name for value in (*nested.input, *nested.initializer)}
                inner |= {name for one in nested.node for name in one.output}
                _rename(nested.node, renamed, hidden | inner)
