"""A module of onnx2torch in half precision: as `model.half()`, and also what the graph itself makes in float32.

`module.to(torch.float16)` changes weights and constants. The ONNX graph names types too: a Cast to FLOAT, in a mask for example, stays
float32 and meets weights in float16, which a matrix product refuses. Recipes take from this file what they need.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Set

import torch

from common.float16 import HAND_ON, LARGEST_FLOAT16, TAKE_LIMITED, TO_TRUTH_VALUES, TO_WHOLE_NUMBERS, refusal_of
from images.torch.unsupported_node import UnsupportedNode

#: classes of onnx2torch -> arguments from this one on are numbers that they read: a rounded one is another size or count
_READ_EXACTLY = {"OnnxRange": 0, "OnnxResize": 1, "OnnxResizeV10": 1, "OnnxNonMaxSuppression": 2}
#: classes and functions that make truth values or positions of numbers
_NO_FLOATS = {
    "OnnxCompare",
    "OnnxArgExtremum",
    "OnnxArgExtremumOld",
    "_places",
    "OnnxIsInf",
    "OnnxIsNaN",
    "OnnxShape",
}
#: classes that take a float32 beside a float16 and then make float32, or take one tensor alone
_TAKE_ANY_FLOATS = {
    "OnnxBinaryMathOperation", "OnnxClip", "OnnxConcat", "OnnxCopyIdentity", "OnnxExpand", "OnnxFunction",
    "OnnxGather", "OnnxMinMax", "OnnxMod", "OnnxNeg", "OnnxPow", "OnnxReciprocal", "OnnxReduceStaticAxes",
    "OnnxReduceSumDynamicAxes", "OnnxReduceSumStaticAxes", "OnnxReshape", "OnnxRound", "OnnxSlice", "OnnxSqrt",
    "OnnxSqueezeDynamicAxes", "OnnxSqueezeStaticAxes", "OnnxTile", "OnnxTranspose", "OnnxUnsqueezeDynamicAxes",
    "OnnxUnsqueezeStaticAxes", "OnnxWhere", "Identity",
}  # fmt: skip

#: names of classes and functions -> ONNX's operator that they compute, of those of common/float16.py
_OPERATORS = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "OnnxWhere": "Where", "OnnxClip": "Clip", "_within": "Clip", "OnnxMinMax": "Max",
    "OnnxCompare": "Less", "OnnxConcat": "Concat", "OnnxExpand": "Expand", "_expanded": "Expand", "_flattened": "Flatten",
    "OnnxGather": "Gather", "OnnxGatherElements": "GatherElements", "OnnxGatherND": "GatherND", "OnnxCopyIdentity": "Identity",
    "Identity": "Identity", "OnnxReshape": "Reshape", "reshape": "Reshape", "OnnxSlice": "Slice", "OnnxSliceV9": "Slice",
    "_cut": "Slice", "_cut_axes": "Slice", "OnnxSplit": "Split", "OnnxSplit13": "Split", "split": "Split", "_parts": "Split",
    "OnnxSqueezeDynamicAxes": "Squeeze", "OnnxSqueezeStaticAxes": "Squeeze", "squeeze": "Squeeze", "OnnxTile": "Tile",
    "repeat": "Tile", "OnnxTranspose": "Transpose", "tril": "Trilu", "triu": "Trilu",
    "OnnxUnsqueezeDynamicAxes": "Unsqueeze", "OnnxUnsqueezeStaticAxes": "Unsqueeze", "OnnxCast": "Cast", "_as_type_of": "CastLike",
    "_in_bfloat16": "Cast",
    "OnnxNeg": "Neg", "OnnxScatterND": "ScatterND", "_scatter": "ScatterElements", "OnnxSum": "Sum", "OnnxDropoutDynamic": "Dropout",
    "Dropout": "Dropout", "OnnxDepthToSpace": "DepthToSpace", "Softmax": "Softmax", "LogSoftmax": "LogSoftmax",
    "OnnxSoftmaxV1V11": "Softmax",
}  # fmt: skip


def compute_in(module: Any, dtype: Any) -> Dict[str, int]:
    """Changes a converted torch.fx.GraphModule in place so that it computes in `dtype`, float16 or bfloat16; what was changed.

    Casts to a floating-point type become casts to `dtype`, as do numbers that a Range makes. Whole numbers stay, and so does
    float32 that ends in them (positions counted by division, comparisons) or is only returned. Constants of masks beyond the
    type's range become its largest number: -1e9 would be minus infinity, and 0 times that is no number. Raises
    UnsupportedNode for any other constant beyond float16's range, a weight.
    """
    done = {"casts changed": 0, "constants limited": 0, "constants kept in float32": 0}
    graph = module.graph
    exact = _exact(module)
    for node in list(graph.nodes):
        called = module.get_submodule(node.target) if node.op == "call_module" else None
        if type(called).__name__ == "OnnxCast" and called.torch_dtype.is_floating_point and node not in exact:
            if not _only_returned(module, node):
                called.torch_dtype = dtype
                done["casts changed"] += 1
        elif _makes_floats_itself(called) and node not in exact:
            with graph.inserting_after(node):
                typed = graph.call_function(_floats_in, (node, dtype))
            node.replace_all_uses_with(typed, delete_user_cb=lambda user, typed=typed: user is not typed)
            done["casts changed"] += 1
    kept = _constants(module, exact)
    done["constants kept in float32"] = len(kept)
    done["constants limited"] = _limit(module, dtype, set(kept))
    module.to(dtype=dtype)
    for name, values in kept.items():
        owner, _, own = name.rpartition(".")
        setattr(module.get_submodule(owner), own, values)
    module.recompile()
    return done


def _makes_floats_itself(called: Any) -> bool:
    """Whether it makes floats of a type that is not its input's: torch's default, or one that the node names."""
    kind = type(called).__name__
    return kind == "OnnxRange" or (kind == "OnnxEyeLike" and called.dtype is not None)


def _floats_in(tensor: Any, dtype: Any) -> Any:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _only_returned(module: Any, node: Any) -> bool:
    """Whether the outputs of the module alone read it, through copies at most."""
    return bool(node.users) and all(
        user.op == "output"
        or (_kind(module, user) in ("OnnxCopyIdentity", "Identity") and _only_returned(module, user))
        for user in node.users
    )


def _kind(module: Any, node: Any) -> str:
    return type(module.get_submodule(node.target)).__name__ if node.op == "call_module" else ""


def _exact(module: Any) -> Set[Any]:
    """Nodes whose values end in whole numbers or truth values alone, and pass nothing on the way that wants one type of all."""
    found: Set[Any] = set()
    for node in reversed(list(module.graph.nodes)):
        if node.users and all(_ends_in_whole_numbers(module, user, node, found) for user in node.users):
            found.add(node)
    return found


def _ends_in_whole_numbers(module: Any, user: Any, node: Any, exact: Set[Any]) -> bool:
    kind = _kind(module, user)
    if kind in _NO_FLOATS or _called_by(module, user) in _NO_FLOATS:
        return True
    if kind == "OnnxCast":
        return user in exact or not module.get_submodule(user.target).torch_dtype.is_floating_point
    if kind in _READ_EXACTLY and node not in user.args[: _READ_EXACTLY[kind]]:
        return True
    return user in exact and (kind in _TAKE_ANY_FLOATS or user.op in ("call_function", "call_method"))


def _constants(module: Any, exact: Set[Any]) -> Dict[str, Any]:
    """Name -> values of the floats that exact nodes alone read; they are kept as they are."""
    reading: Dict[str, Set[bool]] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            reading.setdefault(node.target, set()).add(node in exact)
    found = {}
    for name, kinds in reading.items():
        owner, _, own = name.rpartition(".")
        values = getattr(module.get_submodule(owner), own)
        if kinds == {True} and values.is_floating_point():
            found[name] = values
    return found


def _limit(module: Any, dtype: Any, kept: Set[str]) -> int:
    """Brings masks into the type's range, and a single number that would become 0, an epsilon, to the least that it has."""
    most = torch.finfo(dtype).max
    # the least number of each type that is not 0: 2 ** -24 and 2 ** -133
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    readers: Dict[str, List[Any]] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            readers.setdefault(node.target, []).append(node)
    if dtype == torch.float16:  # bfloat16 has float32's range, but for a rounding at its end
        for name, values in [*module.named_parameters(), *module.named_buffers()]:
            if name not in kept and values.is_floating_point():
                _refuse_weight(module, name, values, readers.get(name, []))
    limited = 0
    for name, values in module.named_buffers():
        if name in kept or not values.is_floating_point():
            continue
        beyond = (values.abs() > most) & values.isfinite()
        lost = (values.to(dtype) == 0) & (values != 0) & (values.numel() == 1)
        if bool(beyond.any()) or bool(lost.any()):
            brought = torch.where(beyond, values.sign() * most, torch.where(lost, values.sign() * least, values))
            owner, _, own = name.rpartition(".")
            setattr(module.get_submodule(owner), own, brought.to(dtype))
            limited += 1
    return limited


def _refuse_weight(module: Any, name: str, values: Any, readers: List[Any]) -> None:
    """Raises UnsupportedNode for a tensor beyond float16's range that is no mask. readers: nodes that fetch it for others."""
    if not bool((values.isfinite() & (values.abs() > LARGEST_FLOAT16)).any()):
        return
    holder = module.get_submodule(name.rpartition(".")[0])
    if type(holder).__name__ == "OnnxConstantOfShape":  # it reads nothing itself
        readers = [node for node in module.graph.nodes if node.target == name.rpartition(".")[0]]
    reading: Set[str] = set().union(*(_weight_readers(module, node) for node in readers))
    if readers and not reading:
        return
    # what a module holds itself, as a convolution its filters, it reads itself
    refusal = refusal_of(
        _name_in_file(module, name), values.double().cpu().numpy(), reading or {_word(holder, type(holder).__name__)}
    )
    if refusal is not None:
        raise UnsupportedNode(refusal)


def _name_in_file(module: Any, name: str) -> str:
    """Of a tensor of the module, where the importer wrote it down: its own name is a number, or that of a node."""
    owner = name.rpartition(".")[0]
    told = getattr(module.get_submodule(owner), "framewatt_names", {}).get(name)
    if told is not None:
        return str(told)
    while owner and not hasattr(module.get_submodule(owner), "framewatt_constants"):
        owner = owner.rpartition(".")[0]  # of a layer within
    layer = module.get_submodule(owner)
    held = dict([*layer.named_parameters(), *layer.named_buffers()])
    size = held[name[len(owner) + 1 :] if owner else name].numel()
    # in the order of the node's inputs, but maybe turned
    alike = [one for one, values in held.items() if values.numel() == size]
    constants = [one for one, shape in getattr(layer, "framewatt_constants", []) if math.prod(shape) == size]
    place = alike.index(name[len(owner) + 1 :] if owner else name)
    return constants[place] if place < len(constants) else name


def _weight_readers(module: Any, node: Any) -> Set[str]:
    """Operators for which what a node gives is no mask, of those that read it, itself or handed on; none where it is a mask."""
    found: Set[str] = set()
    for user in node.users:
        called = _called_by(module, user)
        operator = _operator_of(module, user, called)
        if user.op == "output":
            found.add("")
        elif operator in HAND_ON:
            found |= _weight_readers(module, user)
        elif operator not in TAKE_LIMITED:
            found.add(_word(module.get_submodule(user.target) if user.op == "call_module" else user, called))
    return found


def _operator_of(module: Any, node: Any, called: str) -> str:
    """ONNX's operator that a node computes, as common/float16.py calls it; called: what _called_by() says of it."""
    kind = module.get_submodule(node.target).torch_dtype if called == "OnnxCast" else torch.float32
    if kind == torch.bool:
        return TO_TRUTH_VALUES
    return _OPERATORS.get(called, called) if kind.is_floating_point else TO_WHOLE_NUMBERS


def _word(called: Any, otherwise: str) -> str:
    """The operator of ONNX that a module came of, as a reader knows it, where that is known."""
    return str(getattr(called, "framewatt_operator", otherwise)).partition(" ")[0]


def _called_by(module: Any, node: Any) -> str:
    """Name of a node's class or function; of a module for arithmetic, and of one that calls a function, of that function."""
    if node.op != "call_module":
        return str(getattr(node.target, "__name__", node.target))
    called = module.get_submodule(node.target)
    function = getattr(called, "math_op_function", None) or getattr(called, "_function", None)
    return str(getattr(function, "__name__", type(called).__name__))
