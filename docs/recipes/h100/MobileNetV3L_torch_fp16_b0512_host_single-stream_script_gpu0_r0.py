"""PyTorch: fp16, rewritten, batch size 512, io=host, on a GPU.

A recipe of framewatt, which it does not need to run; it is that of the cell
MobileNetV3L_torch_fp16_b0512_host_single-stream_script_gpu0_r0.
Measured by framewatt: 29,445.9 images/s, median latency 17.2874 ms, on NVIDIA H100 80GB HBM3, run
  20261126-051303_gpu0 of 2026-11-26.

Needs numpy and torch, and onnx and onnx2torch, which read the model: a torch.nn.Module of your own may stand in its place.
Measured with cuda_runtime 13.0, cudnn 91900, framework 2.11.0+cu130, numpy 2.5.2, onnx 1.23.1, onnx2torch 1.5.15, torch 2.11.0+cu130, triton 3.6.0.

    python MobileNetV3L_torch_fp16_b0512_host_single-stream_script_gpu0_r0.py [MODEL] [--seconds 10] [--inputs FILE.npz] [--save FILE.npz]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import sys
import types
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch

#: an .onnx file
MODEL = "data/models/MobileNetV3L-824fd5aedd14/model.onnx"
#: name -> shape and type of what is fed, and of what comes out
INPUTS = {"input": ((512, 224, 224, 3), "float32")}
OUTPUTS = {"probabilities": ((512, 1000), "float32")}
ITEM = "image"
ITEMS_PER_INFERENCE = 512
WARM_UP_SECONDS = 2.0


# How each convolution is computed, in order: 14 convolution, 39 matrix product, 7 fused convolution, 4 shifted convolution.
# These algorithms are framewatt's and not PyTorch's; they stand below, in `convolutions` and `convolution_wrapping`.
CONVOLUTIONS_IN_ORDER = "ccmfsmfcmfsmmmfcmmmfcmmmmsmmcmmcmmcmmcfmmmccmmmsmmmmcfmmmccmmmmm"


def read_model(path):
    """The ONNX file as a torch.nn.Module by the code below, and the names of its inputs and outputs in its order."""
    imported = onnx_import.load(Path(path))
    return imported.module, imported.inputs, imported.outputs


def tensors(made):
    """What the module returned, as a list."""
    if isinstance(made, torch.Tensor):
        return [made]
    values = made.values() if hasattr(made, "values") else made
    return [tensor for value in values for tensor in tensors(value)]


def prepared(path, device):
    """The module as this cell ran it, and the names of its inputs and outputs in its order."""
    module, given, made = read_model(path)
    module = module.to(device=device, dtype=torch.float16)
    module = module.to(memory_format=torch.channels_last)
    convolution_wrapping.wrap(module)
    convolutions.set_algorithms(module, CONVOLUTIONS_IN_ORDER)
    return module, given, made


def as_fed(inputs, names):
    """Arrays in the order of the module's inputs, numbers in float32."""
    arrays = [np.array(inputs[name]) for name in names]
    return [values.astype(np.float32) if values.dtype.kind == "f" else values for values in arrays]


def on_host(made):
    made = [one.detach() for one in made]
    return [(one.float() if one.is_floating_point() else one).cpu().numpy() for one in made]


def named(names, values):
    made = dict(zip(names, values))
    return {name: made[name] for name in OUTPUTS}


def use_gpu():
    torch.cuda.set_device(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def in_precision(given):
    return [one.to(torch.float16) if one.is_floating_point() else one for one in given]


def load(path, inputs):
    """(infer, outputs): a CUDA graph, and pinned memory for the copies."""
    use_gpu()
    module, taking, giving = prepared(path, "cuda:0")
    stream = torch.cuda.Stream()
    host = [torch.from_numpy(values).pin_memory() for values in as_fed(inputs, taking)]
    with torch.cuda.stream(stream):
        given = [one.to("cuda:0") for one in host]
        with torch.inference_mode():
            for _ in range(3):  # cuDNN searches its algorithms
                made = tensors(module(*in_precision(given)))
        kinds = [torch.float32 if one.is_floating_point() else one.dtype for one in made]
        results = [torch.empty(one.shape, dtype=kind, device="cuda:0") for one, kind in zip(made, kinds)]
        taken = [torch.empty(one.shape, dtype=kind, pin_memory=True) for one, kind in zip(made, kinds)]
        stream.synchronize()

        def compute():
            for target, tensor in zip(results, tensors(module(*in_precision(given)))):
                target.copy_(tensor)

        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, stream=stream):
            compute()

        def launch():
            graph.replay()

    def copy_out():
        for target, tensor in zip(taken, results):
            target.copy_(tensor, non_blocking=True)

    def infer():
        with torch.cuda.stream(stream):
            for target, tensor in zip(given, host):
                target.copy_(tensor, non_blocking=True)
            launch()
            copy_out()
        stream.synchronize()

    def outputs():
        with torch.cuda.stream(stream):
            copy_out()
        stream.synchronize()
        return named(giving, on_host(taken))

    infer()
    return infer, outputs


# ---- From ONNX to PyTorch, as framewatt does it; and its convolutions ----


class Unsupported(Exception):
    """This model cannot be converted; the text says why."""


def _onnx_rewrites():
    """common/onnx_rewrites.py of framewatt."""
    from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

    import numpy as np


    class _Graph:
        """Who makes and who reads each tensor of the top-level graph, and the values of constants."""

        def __init__(self, model: Any) -> None:
            from onnx import numpy_helper

            self._to_array = numpy_helper.to_array
            self._from_array = numpy_helper.from_array
            self.proto = model.graph
            self.initializers: Dict[str, Any] = {tensor.name: tensor for tensor in self.proto.initializer}
            self.makers: Dict[str, Any] = {name: node for node in self.proto.node for name in node.output}
            self.readers: Dict[str, List[Any]] = {}
            for node in self.proto.node:
                for name in node.input:
                    self.readers.setdefault(name, []).append(node)
            self.outputs: Set[str] = {value.name for value in self.proto.output}
            # an initializer that is also an input may be overridden by the caller: it is no constant
            self._overridable: Set[str] = {value.name for value in self.proto.input}

        def constant(self, name: str) -> Optional[np.ndarray]:
            """Value of an initializer, None for anything else."""
            tensor = self.initializers.get(name)
            return None if tensor is None or name in self._overridable else self._to_array(tensor)

        def scalar(self, name: str) -> Optional[float]:
            """The one value of a constant that is the same everywhere, else None."""
            value = self.constant(name)
            return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

        def only_reader(self, name: str) -> Any:
            """The single node that reads a tensor that is no output of the graph, else None."""
            readers = self.readers.get(name, [])
            return readers[0] if len(readers) == 1 and name not in self.outputs else None

        def split(self, node: Any) -> Optional[Tuple[str, np.ndarray]]:
            """(variable input, constant value) of a commutative node with one of each, else None."""
            if node is None or len(node.input) != 2:
                return None
            values = [self.constant(name) for name in node.input]
            for variable, value, other in ((node.input[0], values[1], values[0]), (node.input[1], values[0], values[1])):
                if value is not None and other is None:
                    return variable, value
            return None

        def add_initializer(self, base: str, value: np.ndarray) -> str:
            name = base
            while name in self.initializers or name in self.makers:
                name += "_"
            tensor = self._from_array(np.ascontiguousarray(value), name)
            self.proto.initializer.append(tensor)
            self.initializers[name] = self.proto.initializer[-1]
            return name

        def remove(self, nodes: List[Any]) -> None:
            """Takes nodes out, and initializers that nobody reads any more."""
            gone = {id(node) for node in nodes}
            kept = [node for node in self.proto.node if id(node) not in gone]
            # a nested graph may read an outer initializer by name: with subgraphs present all initializers stay
            nested = any(a.HasField("g") or len(a.graphs) for node in kept for a in node.attribute)
            kept_copies = [type(node).FromString(node.SerializeToString()) for node in kept]
            del self.proto.node[:]
            self.proto.node.extend(kept_copies)
            if nested:
                return
            read = {name for node in self.proto.node for name in node.input} | self.outputs
            tensors = [tensor for tensor in self.proto.initializer if tensor.name not in read]
            for tensor in tensors:
                self.proto.initializer.remove(tensor)


    def lift_constants(model: Any) -> int:
        """Turns Constant nodes that hold a tensor or plain numbers into initializers; importers look only there."""
        from onnx import numpy_helper

        graph = _Graph(model)
        lifted = []
        for node in graph.proto.node:
            if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or node.output[0] in graph.outputs:
                continue
            attribute = node.attribute[0]
            if attribute.name == "value":
                value = numpy_helper.to_array(attribute.t)
            elif attribute.name in ("value_float", "value_floats"):
                value = np.array(attribute.f if attribute.name == "value_float" else attribute.floats, dtype=np.float32)
            elif attribute.name in ("value_int", "value_ints"):
                value = np.array(attribute.i if attribute.name == "value_int" else attribute.ints, dtype=np.int64)
            else:
                continue  # strings and sparse tensors: no framework here computes with them
            graph.proto.initializer.append(numpy_helper.from_array(value, node.output[0]))
            lifted.append(node)
        if lifted:
            graph.remove(lifted)
        return len(lifted)


    #: what is computed in advance holds at most so many values: a table that is only broadcast stays small
    _MOST_FOLDED = 1 << 24
    #: operators whose result is no function of their inputs alone, or that are left for the framework to see
    _NOT_FOLDED = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}


    def fold_constants(model: Any) -> int:
        """Computes the nodes whose inputs are all constants, by onnx's own evaluator: an Identity around a weight, most often.

        Importers look for weights among the initializers, and find them there afterwards, under the name that the node gave.
        """
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        graph = _Graph(model)
        values = {name: graph.constant(name) for name in graph.initializers}
        known = {name: value for name, value in values.items() if value is not None}
        folded: List[Any] = []
        for node in graph.proto.node:
            nested = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
            if node.domain not in ("", "ai.onnx") or nested or node.op_type in _NOT_FOLDED or not node.input:
                continue
            names = [name for name in node.input if name]
            if any(name not in known for name in names) or graph.outputs.intersection(node.output):
                continue
            if node.op_type == "Identity":
                made: List[Any] = [known[node.input[0]]]
            else:
                inputs = [
                    helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(known[name].dtype), None)
                    for name in set(names)
                ]
                outputs = [helper.make_tensor_value_info(name, 0, None) for name in node.output if name]
                alone = helper.make_model(
                    helper.make_graph([node], "one", inputs, outputs),
                    opset_imports=list(model.opset_import), ir_version=model.ir_version,
                )  # fmt: skip
                try:
                    made = list(ReferenceEvaluator(alone).run(None, {name: known[name] for name in set(names)}))
                except Exception:
                    continue
            if any(not isinstance(value, np.ndarray) or value.size > _MOST_FOLDED for value in made):
                continue
            for name, value in zip([name for name in node.output if name], made):
                known[name] = value
                del graph.makers[name]  # else it would get another name
                graph.add_initializer(name, value)
            folded.append(node)
        if folded:
            graph.remove(folded)
        return len(folded)


    def give_outputs_nodes_of_their_own(model: Any) -> int:
        """Puts an Identity before every output of the graph, each with a name of its own.

        onnx2torch returns what nodes return: two outputs of one node, or an output that is an input too, it cannot tell apart.
        """
        from onnx import helper

        graph = model.graph
        taken = {name for node in graph.node for name in (*node.input, *node.output)}
        taken |= {value.name for value in (*graph.input, *graph.initializer)}
        renamed: Dict[str, str] = {}
        made_here = {name for node in graph.node for name in node.output}
        for value in graph.output:
            inner = value.name
            while inner in taken:
                inner += "_"
            taken.add(inner)
            if value.name in made_here:
                renamed[value.name] = inner
        for node in graph.node:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    names[position] = renamed.get(name, name)
        for number, value in enumerate(graph.output):
            # an output that no node makes is an input or a constant as it is
            source = renamed.get(value.name, value.name)
            target = value.name if source != value.name else f"{value.name}_"
            graph.node.append(helper.make_node("Identity", [source], [target], name=f"framewatt_output_{number}"))
            value.name = target
        del graph.value_info[:]
        return len(graph.output)


    def fold_scale_and_shift(model: Any) -> int:
        """Folds `Conv -> Mul(per channel)` and `Conv -> Add(per channel)`, a batch normalisation spelt out, into the Conv.

        Method: conv(x, W) * s + b == conv(x, W * s) + b, s and b of shape (1, C, 1, ...), (C, 1, ...) or one value.
        """
        folded: List[Any] = []
        graph = _Graph(model)
        for conv in graph.proto.node:
            if conv.op_type != "Conv":
                continue
            weight = graph.constant(conv.input[1])
            bias = graph.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
            if weight is None or (len(conv.input) > 2 and conv.input[2] and bias is None):
                continue
            channels, rank = weight.shape[0], weight.ndim
            changed = False
            while True:
                follower = graph.only_reader(conv.output[0])
                if follower is None or follower.op_type not in ("Mul", "Add"):
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
            if norm.op_type != "BatchNormalization" or any(norm.output[1:]):
                continue
            conv = graph.makers.get(norm.input[0])
            if conv is None or conv.op_type != "Conv" or graph.only_reader(conv.output[0]) is not norm:
                continue
            attributes = {attribute.name: attribute for attribute in norm.attribute}
            bias = graph.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else np.float32(0)
            numbers: List[Any] = [graph.constant(conv.input[1]), bias, *(graph.constant(name) for name in norm.input[1:5])]
            if any(one is None for one in numbers) or ("training_mode" in attributes and attributes["training_mode"].i):
                continue
            weight, shift, gamma, beta, mean, variance = numbers
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
        fused = 0
        for clip in list(graph.proto.node):
            if clip.op_type != "Clip" or len(clip.input) != 3:
                continue
            limits = (graph.scalar(clip.input[1]), graph.scalar(clip.input[2]))
            add = graph.makers.get(clip.input[0])
            shifted = graph.split(add) if add is not None and add.op_type == "Add" else None
            scale = graph.only_reader(clip.output[0])
            scaled = graph.split(scale) if scale is not None and scale.op_type in ("Mul", "Div") else None
            if limits != (0.0, 6.0) or add is None or scale is None or shifted is None or scaled is None:
                continue
            if graph.only_reader(add.output[0]) is not clip:
                continue
            if scale.op_type == "Div" and scale.input[0] != clip.output[0]:
                continue
            factor = scaled[1].astype(np.float64)
            factor = 1.0 / factor if scale.op_type == "Div" else factor
            if shifted[1].size != 1 or float(shifted[1].reshape(-1)[0]) != 3.0 or factor.size != 1:
                continue
            if abs(float(factor.reshape(-1)[0]) - 1.0 / 6.0) > 1e-7:
                continue
            x = shifted[0]
            gate = graph.only_reader(scale.output[0])
            if gate is not None and gate.op_type == "Mul" and sorted(gate.input) == sorted([x, scale.output[0]]):
                replacement = helper.make_node("HardSwish", [x], [gate.output[0]], name=clip.name + "_HardSwish")
                last = gate
                removed += [add, clip, scale]
            else:
                replacement = helper.make_node(
                    "HardSigmoid", [x], [scale.output[0]], name=clip.name + "_HardSigmoid", alpha=1.0 / 6.0, beta=0.5
                )
                last = scale
                removed += [add, clip]
            last.CopyFrom(replacement)  # in the last node's place, so that the order of nodes stays topological
            fused += 1
        if fused:
            graph.remove(removed)
        return fused


    def take_bytes(model: Any, names: Sequence[str]) -> None:
        """Turns inputs of numbers, in place, into inputs of bytes (uint8) with a Cast to the old type behind each."""
        from onnx import TensorProto, helper

        for value in model.graph.input:
            if value.name not in names:
                continue
            kind = value.type.tensor_type.elem_type
            inside = f"{value.name}/as_number"
            for node in model.graph.node:
                node.input[:] = [inside if one == value.name else one for one in node.input]
            model.graph.node.insert(0, helper.make_node("Cast", [value.name], [inside], to=kind, name=f"{value.name}/cast"))
            value.type.tensor_type.elem_type = TensorProto.UINT8
    return types.SimpleNamespace(**locals())


onnx_rewrites = _onnx_rewrites()


def _converters():
    """images/torch/converters.py of framewatt."""
    from typing import Any, Dict, List, Optional, Sequence, Tuple

    import torch
    from torch.nn import functional

    #: operator -> (registered version, later or earlier versions that differ in nothing but types)
    SAME: Dict[str, Tuple[int, Tuple[int, ...]]] = {
        "Acos": (7, (22,)), "Asin": (7, (22,)), "Atan": (7, (22,)), "Cos": (7, (22,)), "Sin": (7, (22,)), "Tan": (7, (22,)),
        "BatchNormalization": (9, (7,)), "Cast": (13, (19, 21, 23)), "Constant": (13, (19, 21, 23)),
        "ConstantOfShape": (9, (20, 21, 23)), "Conv": (11, (22,)), "ConvTranspose": (11, (22,)), "Dropout": (13, (22,)),
        "Elu": (6, (22,)), "Equal": (13, (19,)), "EyeLike": (9, (22,)), "Flatten": (13, (21, 23)), "Gemm": (9, (7,)),
        "GlobalAveragePool": (1, (22,)), "GreaterOrEqual": (12, (16,)), "HardSigmoid": (6, (22,)), "HardSwish": (14, (22,)),
        "Identity": (16, (19, 21, 23)), "InstanceNormalization": (6, (22,)), "IsInf": (10, (20,)), "IsNaN": (13, (9, 20)),
        "LessOrEqual": (12, (16,)), "MaxPool": (12, (22,)), "NonZero": (13, (9,)), "Reshape": (14, (19, 21, 23)),
        "RoiAlign": (16, (22,)), "Round": (11, (22,)), "ScatterND": (16, (18,)), "Selu": (6, (22,)), "Shape": (15, (19, 21, 23)),
        "Slice": (9, (1,)), "Softplus": (1, (22,)), "Softsign": (1, (22,)), "Squeeze": (21, (23,)), "Transpose": (13, (21, 23)),
        "Unsqueeze": (13, (21, 23)),
    }  # fmt: skip
    #: the same, but for attributes that must have these values where they are there
    SAME_BUT: Dict[str, Tuple[int, Tuple[int, ...], Dict[str, Any]]] = {
        "AveragePool": (11, (19, 22), {"dilations": 1}),
        "Resize": (13, (18, 19), {"antialias": 0, "axes": None, "keep_aspect_ratio_policy": "stretch"}),
    }
    _REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    _FUNCTIONS = {
        "Acosh": torch.acosh, "Asinh": torch.asinh, "Atanh": torch.atanh, "Cosh": torch.cosh, "Sinh": torch.sinh,
        "Mish": functional.mish, "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or,
        "BitwiseXor": torch.bitwise_xor, "BitwiseNot": torch.bitwise_not,
    }  # fmt: skip
    _FUNCTION_VERSIONS = {
        **dict.fromkeys(("Acosh", "Asinh", "Atanh", "Cosh", "Sinh"), (9, 22)),
        "Mish": (18, 22),
        **{f"Bitwise{name}": (18,) for name in ("And", "Or", "Xor", "Not")},
    }


    class Call(torch.nn.Module):
        """A function of tensors as a module, which is what onnx2torch puts into its graph. named: its other arguments."""

        def __init__(self, function: Any, **named: Any) -> None:
            super().__init__()
            self._function, self._named = function, named

        def forward(self, *tensors: Any) -> Any:
            return self._function(*tensors, **self._named)


    def register() -> None:
        """Adds what is missing to onnx2torch's registry; a second call, or a newer onnx2torch that has it, changes nothing."""
        # not get_converter(): it looks for the number under which onnx knows an operator, and some are registered under another
        from onnx2torch.node_converters.registry import _CONVERTER_REGISTRY as known  # type: ignore[import-not-found]

        for name, (base, others) in SAME.items():
            for version in others:
                _add(name, version, known[("", name, base)])
        for name, (base, others, allowed) in SAME_BUT.items():
            for version in others:
                _add(name, version, _guarded(known[("", name, base)], allowed))
        for name in _REDUCTIONS:
            for version in (18, 20) if name in ("Max", "Min") else (18,):
                _add(f"Reduce{name}", version, _reduce)
        for name, versions in _FUNCTION_VERSIONS.items():
            for version in versions:
                _add(name, version, _function)
        for name, versions, converter in (
            ("Pad", (18, 19, 21, 23), _pad),
            ("Split", (18,), _split),
            ("Gelu", (20,), _gelu),
            ("Trilu", (14,), _trilu),
            ("Size", (1, 13, 19, 21, 23), _size),
            ("GlobalMaxPool", (1, 22), _global_max_pool),
            ("ScatterElements", (11, 13, 16, 18), _scatter_elements),
            ("OneHot", (9, 11), _one_hot),
            ("CastLike", (15, 19, 21, 23), _cast_like),
            ("GroupNormalization", (21,), _group_normalization),
            ("RMSNormalization", (23,), _rms_normalization),
            ("GridSample", (16, 20, 22), _grid_sample),
            ("Attention", (23,), _attention),
        ):
            for version in versions:
                _add(name, version, converter)


    def _add(name: str, version: int, converter: Any) -> None:
        from onnx2torch.node_converters.registry import add_converter

        try:
            add_converter(operation_type=name, version=version)(converter)
        except ValueError:
            return  # it is there already


    def _guarded(converter: Any, allowed: Dict[str, Any]) -> Any:
        def convert(node: Any, graph: Any) -> Any:
            for name, value in allowed.items():
                given = node.attributes.get(name)
                given = given if isinstance(given, list) else [given]
                if any(one is not None and one != value for one in given):
                    raise NotImplementedError(f"{name}={node.attributes[name]} has no counterpart here")
            return converter(node, graph)

        return convert


    def _result(node: Any, module: torch.nn.Module, inputs: Optional[Sequence[str]] = None) -> Any:
        """inputs: names of those that the module takes; all of the node's by default."""
        from onnx2torch.utils.common import OnnxMapping, OperationConverterResult  # type: ignore[import-not-found]

        taken = tuple(node.input_values if inputs is None else inputs)
        return OperationConverterResult(module, OnnxMapping(inputs=taken, outputs=node.output_values))


    def _numbers(node: Any, graph: Any, position: int) -> Optional[List[Any]]:
        """Values of a constant input, None where the node has no such input. Raises NotImplementedError for a computed one."""
        if len(node.input_values) <= position or not node.input_values[position]:
            return None
        tensor = graph.initializers.get(node.input_values[position])
        if tensor is None:
            raise NotImplementedError(f"its input {position} is computed by the graph")
        return list(tensor.to_torch().reshape(-1).tolist())


    def _reduce(node: Any, graph: Any) -> Any:
        from onnx2torch.node_converters.reduce import OnnxReduceStaticAxes  # type: ignore[import-not-found]

        axes = _numbers(node, graph, 1)
        if not axes and node.attributes.get("noop_with_empty_axes", 0):
            return _result(node, torch.nn.Identity(), node.input_values[:1])
        module = OnnxReduceStaticAxes(node.operation_type, axes or None, node.attributes.get("keepdims", 1))
        return _result(node, module, node.input_values[:1])


    def _function(node: Any, graph: Any) -> Any:
        return _result(node, Call(_FUNCTIONS[node.operation_type]))


    def _pad(node: Any, graph: Any) -> Any:
        from onnx2torch.node_converters.pad import OnnxPadStatic  # type: ignore[import-not-found]

        mode = node.attributes.get("mode", "constant")
        pads, value, axes = (_numbers(node, graph, position) for position in (1, 2, 3))
        if pads is None:
            raise NotImplementedError("no sizes are given")
        if axes is not None:
            shape = graph.value_info.get(node.input_values[0])
            if shape is None or not shape.type.tensor_type.HasField("shape"):
                raise NotImplementedError("the rank of what it pads is unknown")
            rank, count = len(shape.type.tensor_type.shape.dim), len(axes)
            whole = [0] * (2 * rank)
            for position, axis in enumerate(axes):
                whole[axis % rank], whole[axis % rank + rank] = pads[position], pads[position + count]
            pads = whole
        if mode == "wrap":
            begins, ends = pads[: len(pads) // 2], pads[len(pads) // 2 :]
            flat = [size for pair in reversed(list(zip(begins, ends))) for size in pair]
            while len(flat) > 2 and flat[-2:] == [0, 0]:
                flat = flat[:-2]
            return _result(node, Call(functional.pad, pad=flat, mode="circular"), node.input_values[:1])
        module = OnnxPadStatic.create_from_onnx_params(pads, mode, value[0] if value else 0.0)
        return _result(node, module, node.input_values[:1])


    def _parts(tensor: torch.Tensor, count: int, axis: int) -> Any:
        return torch.split(tensor, -(-tensor.shape[axis] // count), dim=axis)


    def _split(node: Any, graph: Any) -> Any:
        axis = node.attributes.get("axis", 0)
        sizes = _numbers(node, graph, 1)
        if sizes is not None:
            return _result(node, Call(torch.split, split_size_or_sections=sizes, dim=axis), node.input_values[:1])
        count = node.attributes.get("num_outputs", len(node.output_values))
        return _result(node, Call(_parts, count=count, axis=axis), node.input_values[:1])


    def _gelu(node: Any, graph: Any) -> Any:
        return _result(node, torch.nn.GELU(approximate=node.attributes.get("approximate", "none")))


    def _trilu(node: Any, graph: Any) -> Any:
        diagonal = _numbers(node, graph, 1)
        function = torch.triu if node.attributes.get("upper", 1) else torch.tril
        return _result(node, Call(function, diagonal=diagonal[0] if diagonal else 0), node.input_values[:1])


    def _count(tensor: torch.Tensor) -> torch.Tensor:
        return torch.tensor(tensor.numel(), device=tensor.device)


    def _size(node: Any, graph: Any) -> Any:
        return _result(node, Call(_count))


    def _largest(tensor: torch.Tensor) -> torch.Tensor:
        return torch.amax(tensor, dim=tuple(range(2, tensor.dim())), keepdim=True)


    def _global_max_pool(node: Any, graph: Any) -> Any:
        return _result(node, Call(_largest))


    def _scatter(data: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor, axis: int, reduction: str) -> Any:
        indices = torch.where(indices < 0, indices + data.shape[axis], indices).long()
        if reduction == "none":
            return torch.scatter(data, axis, indices, updates)
        kind = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
        return torch.scatter_reduce(data, axis, indices, updates, kind)


    def _scatter_elements(node: Any, graph: Any) -> Any:
        axis, reduction = node.attributes.get("axis", 0), node.attributes.get("reduction", "none")
        return _result(node, Call(_scatter, axis=axis, reduction=reduction))


    def _hot(indices: torch.Tensor, values: torch.Tensor, depth: int, axis: int) -> torch.Tensor:
        axis = axis if axis >= 0 else indices.dim() + 1 + axis
        indices = torch.where(indices < 0, indices + depth, indices).long().unsqueeze(axis)
        shape = [1] * indices.dim()
        shape[axis] = depth
        return torch.where(indices == torch.arange(depth, device=indices.device).view(shape), values[1], values[0])


    def _one_hot(node: Any, graph: Any) -> Any:
        depth = _numbers(node, graph, 1)
        if not depth:
            raise NotImplementedError("its depth is missing")
        module = Call(_hot, depth=int(depth[0]), axis=node.attributes.get("axis", -1))
        return _result(node, module, (node.input_values[0], node.input_values[2]))


    def _like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return tensor.to(other.dtype)


    def _cast_like(node: Any, graph: Any) -> Any:
        return _result(node, Call(_like))


    def _in_groups(tensor: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, groups: int, epsilon: float) -> Any:
        return functional.group_norm(tensor, groups, scale, bias, epsilon)


    def _group_normalization(node: Any, graph: Any) -> Any:
        epsilon = node.attributes.get("epsilon", 1e-5)
        return _result(node, Call(_in_groups, groups=node.attributes["num_groups"], epsilon=epsilon))


    def _root_mean_square(tensor: torch.Tensor, scale: torch.Tensor, axis: int, epsilon: float) -> torch.Tensor:
        axes = tuple(range(axis % tensor.dim(), tensor.dim()))
        return tensor * torch.rsqrt(tensor.square().mean(dim=axes, keepdim=True) + epsilon) * scale


    def _rms_normalization(node: Any, graph: Any) -> Any:
        axis, epsilon = node.attributes.get("axis", -1), node.attributes.get("epsilon", 1e-5)
        return _result(node, Call(_root_mean_square, axis=axis, epsilon=epsilon))


    def _grid_sample(node: Any, graph: Any) -> Any:
        names = {
            "linear": "bilinear",
            "bilinear": "bilinear",
            "cubic": "bicubic",
            "bicubic": "bicubic",
            "nearest": "nearest",
        }
        module = Call(
            functional.grid_sample,
            mode=names[node.attributes.get("mode", "linear")],
            padding_mode=node.attributes.get("padding_mode", "zeros"),
            align_corners=bool(node.attributes.get("align_corners", 0)),
        )
        return _result(node, module)


    def _attend(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *masks: torch.Tensor,
        scale: Optional[float],
        causal: bool,
    ) -> torch.Tensor:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=masks[0] if masks else None, is_causal=causal, scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip


    def _attention(node: Any, graph: Any) -> Any:
        """Query, key and value of four axes (batch, heads, sequence, size), with a mask or without; no cache of past keys."""
        odd = [
            name
            for name in ("q_num_heads", "kv_num_heads", "softcap", "qk_matmul_output_mode")
            if node.attributes.get(name)
        ]
        if odd or len(node.output_values) > 1 or any(node.input_values[4:]):
            raise NotImplementedError(f"only the plain form is known here{', not ' + odd[0] if odd else ''}")
        causal = bool(node.attributes.get("is_causal", 0))
        taken = [name for name in node.input_values[:4] if name]
        if causal and len(taken) > 3:
            raise NotImplementedError("a mask and is_causal together")
        return _result(node, Call(_attend, scale=node.attributes.get("scale"), causal=causal), taken)
    return types.SimpleNamespace(**locals())


converters = _converters()


def _onnx_import():
    """images/torch/onnx_import.py of framewatt."""
    import sys
    import types
    from contextlib import contextmanager, suppress
    from pathlib import Path
    from typing import Any, Dict, Iterator, List, NamedTuple, Optional


    def first_line(error: BaseException) -> str:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]


    class Imported(NamedTuple):
        """A module with the names of what it takes and of what it returns, in order."""

        module: Any
        settings: Dict[str, str]
        inputs: List[str]
        outputs: List[str]


    def load(path: Path) -> Imported:
        """The model as a torch.fx.GraphModule in evaluation mode on the CPU, and what was rewritten.

        The graph is traced by torch.compile and captured by CUDA graphs, so nothing in it may read a tensor's values on the
        host: shapes and paddings that are constants become plain numbers. Raises Unsupported, naming operator and version,
        for a model that onnx2torch does not know how to convert.
        """
        onnx2torch = import_onnx2torch()
        import onnx

        try:
            model = onnx.load(str(path))
        except Exception as error:  # protobuf raises its own kinds
            raise Unsupported(f"not a readable ONNX file: {first_line(error)}") from error
        _refuse_unknown_operators(model)
        lifted = onnx_rewrites.lift_constants(model)
        computed = onnx_rewrites.fold_constants(model)
        # in this order: a hard-swish begins with an addition that could be folded into the convolution before it
        fused = onnx_rewrites.fuse_hard_swish(model)
        folded = onnx_rewrites.fold_scale_and_shift(model)
        normalised = onnx_rewrites.fold_batch_normalisation(model)
        onnx_rewrites.give_outputs_nodes_of_their_own(model)
        # some converters must know the rank of what comes in, which onnx2torch's own inference of shapes does not always find
        with suppress(Exception):
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [value.name for value in model.graph.input if value.name not in constants]
        outputs = [value.name for value in model.graph.output]
        try:
            with _operators_named():
                module = onnx2torch.convert(model)
        except Unsupported:
            raise
        except Exception as error:
            raise Unsupported(f"onnx2torch cannot convert this model: {first_line(error)}") from error
        _use_plain_numbers(module)
        rewrites = ", ".join(
            [
                f"{lifted} constants lifted",
                f"{computed} computed in advance",
                f"{folded} scales and shifts and {normalised} batch normalisations folded into convolutions",
                f"{fused} hard-swish and hard-sigmoid fused",
            ]
        )
        return Imported(module.eval().requires_grad_(False), {"model": rewrites}, inputs, outputs)


    def _refuse_unknown_operators(model: Any) -> None:
        """Raises Unsupported that names every operator, with its version, for which there is no converter."""
        import onnx
        from onnx2torch.node_converters.registry import get_converter  # type: ignore[import-not-found]

        versions = {entry.domain: entry.version for entry in model.opset_import}
        unknown = {}
        for node in model.graph.node:
            opset = versions.get(node.domain, 1)
            try:
                get_converter(operation_type=node.op_type, version=opset, domain=node.domain)
            except NotImplementedError:
                try:
                    opset = onnx.defs.get_schema(
                        node.op_type, domain=node.domain, max_inclusive_version=opset
                    ).since_version
                except (RuntimeError, onnx.defs.SchemaError):
                    pass  # an operator that the package onnx does not know either: the number of its set
                unknown[f"{node.domain}.{node.op_type}-{opset}".lstrip(".")] = None
        if unknown:
            raise Unsupported(f"onnx2torch has no converter for {', '.join(unknown)}")


    @contextmanager
    def _operators_named() -> Iterator[None]:
        """Within the block a converter that fails raises Unsupported with its operator, version and node."""
        from onnx2torch import converter as module  # type: ignore[import-not-found]

        original = module.get_converter

        def get_converter(operation_type: str, version: int, domain: str = "") -> Any:
            convert = original(operation_type=operation_type, version=version, domain=domain)

            def named(node: Any, graph: Any) -> Any:
                try:
                    return convert(node, graph)
                except Exception as error:
                    where = f" (node '{node.name}')" if node.name else ""
                    what = f"{operation_type} of opset {version}{where}"
                    raise Unsupported(f"onnx2torch cannot convert {what}: {first_line(error)}") from error

            return named

        module.get_converter = get_converter
        try:
            yield
        finally:
            module.get_converter = original


    def import_onnx2torch() -> Any:
        """onnx2torch imports torchvision for two detection operators; without it those two raise Unsupported when used."""
        try:
            import torchvision  # type: ignore[import-not-found]  # noqa: F401
        except ImportError:

            def missing(*_: Any, **__: Any) -> Any:
                raise Unsupported("NonMaxSuppression and RoiAlign need torchvision, which is not installed")

            vision, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
            ops.nms = ops.box_convert = ops.roi_align = missing  # type: ignore[attr-defined]
            vision.ops = ops  # type: ignore[attr-defined]
            sys.modules.update({"torchvision": vision, "torchvision.ops": ops})
            try:
                return _onnx2torch()
            finally:  # nobody else must take this for the real one
                del sys.modules["torchvision"], sys.modules["torchvision.ops"]
        return _onnx2torch()


    def _onnx2torch() -> Any:
        try:
            import onnx2torch  # type: ignore[import-not-found]
        except ImportError as error:
            raise Unsupported(f"onnx2torch cannot be imported: {first_line(error)}") from error
        pass

        converters.register()
        return onnx2torch


    def _use_plain_numbers(module: Any) -> None:
        """Replaces modules that read a constant tensor at run time by functions of plain numbers; drops unused ones."""
        from torch.nn import functional

        graph = module.graph
        for node in list(graph.nodes):
            if node.op != "call_module":
                continue
            kind = type(module.get_submodule(node.target))
            target = module.get_submodule(node.target)
            with graph.inserting_before(node):
                if kind.__name__ == "OnnxReshape":
                    replacement = _reshape(module, node)
                elif kind.__name__ == "OnnxSplit13":
                    replacement = _split(module, node, target.axis)
                elif kind.__name__ == "OnnxSlice":
                    replacement = _slice(module, node)
                elif kind.__name__ == "OnnxPadDynamic":
                    replacement = _pad(module, node, target.mode)
                elif kind.__name__ == "OnnxHardSigmoid" and abs(target.alpha * 6 - 1) < 1e-6 and target.beta == 0.5:
                    replacement = graph.call_function(functional.hardsigmoid, (node.args[0],))
                else:
                    replacement = None
            if replacement is not None:
                node.replace_all_uses_with(replacement)
                graph.erase_node(node)
        graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()


    def _constant(module: Any, node: Any) -> Optional[List[float]]:
        """Numbers of a tensor that the graph reads from the initializers, None for anything computed."""
        if getattr(node, "op", "") != "get_attr":
            return None
        owner, _, name = node.target.rpartition(".")
        return list(getattr(module.get_submodule(owner), name).reshape(-1).tolist())


    def _reshape(module: Any, node: Any) -> Any:
        import torch

        shape = _constant(module, node.args[1])
        if shape is None:
            return None
        given = node.args[0]
        # 0 means "as it was" in ONNX
        sizes = [
            module.graph.call_method("size", (given, axis)) if size == 0 else int(size) for axis, size in enumerate(shape)
        ]
        return module.graph.call_function(torch.reshape, (given, tuple(sizes)))


    def _split(module: Any, node: Any, axis: int) -> Any:
        import torch

        sizes = _constant(module, node.args[1]) if len(node.args) > 1 else None
        if sizes is None:
            return None
        return module.graph.call_function(torch.split, (node.args[0], [int(size) for size in sizes]), {"dim": axis})


    def _slice(module: Any, node: Any) -> Any:
        """One torch.narrow-like cut an axis; steps backwards, which are a flip, stay with onnx2torch."""
        given = [*node.args[1:], *node.kwargs.values()]
        numbers = [_constant(module, one) for one in given]
        if node.kwargs or len(numbers) < 2 or any(one is None for one in numbers):
            return None
        starts, ends = ([int(number) for number in one or []] for one in numbers[:2])
        axes = [int(number) for number in numbers[2] or []] if len(numbers) > 2 else list(range(len(starts)))
        steps = [int(number) for number in numbers[3] or []] if len(numbers) > 3 else [1] * len(starts)
        if any(step < 1 for step in steps):
            return None
        cut = node.args[0]
        for start, end, axis, step in zip(starts, ends, axes, steps):
            cut = module.graph.call_function(_cut, (cut, axis, start, end, step))
        return cut


    def _cut(tensor: Any, axis: int, start: int, end: int, step: int) -> Any:
        index = [slice(None)] * tensor.dim()
        index[axis] = slice(start, end, step)
        return tensor[tuple(index)]


    def _pad(module: Any, node: Any, mode: str) -> Any:
        """ONNX lists all begins, then all ends; torch lists (begin, end) from the last axis on."""
        from torch.nn import functional

        pads = _constant(module, node.args[1])
        extra = [*node.args[2:], *node.kwargs.values()]
        # a fourth input names axes, which onnx2torch's module does not know either
        value = _constant(module, extra[0]) if extra else [0.0]
        if pads is None or not value or mode != "constant" or len(extra) > 1:
            return None
        axes = len(pads) // 2
        flat = [int(pads[axis + end * axes]) for axis in reversed(range(axes)) for end in (0, 1)]
        while len(flat) > 2 and flat[-2:] == [0, 0]:
            flat = flat[:-2]  # leading axes that are not padded
        return module.graph.call_function(functional.pad, (node.args[0], tuple(flat), "constant", float(value[0])))


    def make_first_transpose_contiguous(module: Any) -> bool:
        """Copies the input into NCHW order right after the model's own transpose; without it activations stay channels-last.

        Returns False where the model does not begin with such a transpose, and leaves it alone.
        """
        graph = module.graph
        for node in graph.nodes:
            if node.op == "call_module" and type(module.get_submodule(node.target)).__name__ == "OnnxTranspose":
                readers = list(node.users)
                with graph.inserting_after(node):
                    copied = graph.call_method("contiguous", (node,))
                for reader in readers:
                    reader.replace_input_with(node, copied)
                module.recompile()
                return True
        return False
    return types.SimpleNamespace(**locals())


onnx_import = _onnx_import()


def _convolutions():
    """images/torch/convolutions.py of framewatt."""
    import time
    from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

    import torch
    from torch.nn import functional

    CONVOLUTION, PRODUCT, FUSED, SHIFTED = "convolution", "matrix product", "fused convolution", "shifted convolution"
    ALGORITHMS = (CONVOLUTION, PRODUCT, FUSED, SHIFTED)
    #: zeros around the images as torch.nn.functional.pad lists them: left, right, top, bottom
    Padding = Tuple[int, int, int, int]
    NO_PADDING: Padding = (0, 0, 0, 0)
    _REPETITIONS = 4
    _REPLAYS = 3
    _CPU_SECONDS = 0.02
    #: relative L2 distance of two algorithms' results of one layer: bf16 rounds to 3 digits, a wrong kernel is far off
    _LIMIT = 0.02
    #: seconds of one algorithm of a layer for an input; None where it does not work
    Measure = Callable[["Convolution", torch.Tensor, str], Optional[float]]


    class Convolution(torch.nn.Module):
        """A Conv2d, the ReLU behind it and the zeros that the model puts around its input, if there are such.

        Input and output are (N, C, H, W), in any layout.
        """

        def __init__(self, convolution: torch.nn.Conv2d, relu: bool, padding: Padding = NO_PADDING) -> None:
            super().__init__()
            self.convolution, self.relu, self.padding = convolution, relu, padding
            self.algorithm = CONVOLUTION
            #: while an algorithm is being chosen: the time of one for an input, None where it does not work
            self.measure: Optional[Measure] = None

        def possible(self) -> List[str]:
            """Ways that the layer's form allows; whether the libraries have kernels for them is seen when they are tried."""
            layer = self.convolution
            algorithms = [CONVOLUTION]
            one_by_one = layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding in ((0, 0), "valid")
            if one_by_one and layer.groups == 1 and self.padding == NO_PADDING:
                algorithms.append(PRODUCT)
            if isinstance(layer.padding, str):
                return algorithms
            if self.relu and layer.weight.is_cuda:
                algorithms.append(FUSED)
            if self.padding != NO_PADDING:
                algorithms.append(SHIFTED)
            return algorithms

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.measure is not None:
                self._choose(images, self.measure)
            return self.compute(images, self.algorithm)

        def _choose(self, images: torch.Tensor, measure: Measure) -> None:
            algorithms = self.possible()
            seconds = (
                {algorithm: measure(self, images, algorithm) for algorithm in algorithms} if len(algorithms) > 1 else {}
            )
            working = {algorithm: taken for algorithm, taken in seconds.items() if taken is not None}
            fastest_first = sorted(working, key=lambda algorithm: working[algorithm])
            self.algorithm = next(
                (algorithm for algorithm in fastest_first if algorithm == CONVOLUTION or self._is_right(images, algorithm)),
                CONVOLUTION,
            )

        def _is_right(self, images: torch.Tensor, algorithm: str) -> bool:
            """Whether an algorithm gives what the convolution gives, for some images at both ends of the batch."""
            wanted, got = (self._ends(images, one) for one in (CONVOLUTION, algorithm))
            return float((got - wanted).norm()) <= _LIMIT * float(wanted.norm())

        def _ends(self, images: torch.Tensor, algorithm: str) -> torch.Tensor:
            result = self.compute(images, algorithm)
            return torch.cat([result[:4], result[-4:]]).double()

        def compute(self, images: torch.Tensor, algorithm: str) -> torch.Tensor:
            layer = self.convolution
            if algorithm == PRODUCT:
                return _product(images, layer.weight, layer.bias, self.relu)
            if algorithm == SHIFTED:
                result = _shifted(images, layer, self.padding)
                return functional.relu(result) if self.relu else result
            if self.padding != NO_PADDING:
                images = functional.pad(images, self.padding)
            if algorithm == FUSED:
                numbers = (layer.stride, layer.padding, layer.dilation, layer.groups)
                return torch.cudnn_convolution_relu(images, layer.weight, layer.bias, *numbers)
            result = layer(images)
            return functional.relu(result) if self.relu else result


    def _product(images: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor], relu: bool) -> torch.Tensor:
        count, channels, height, width = images.shape
        rows = images.permute(0, 2, 3, 1).reshape(-1, channels)  # a view where the layout is channels-last
        factor = weight.view(weight.shape[0], channels).t()
        if bias is None:
            sums = rows @ factor
            sums = functional.relu(sums) if relu else sums
        elif relu and hasattr(torch, "_addmm_activation"):
            sums = torch._addmm_activation(bias, rows, factor)
        else:
            sums = torch.addmm(bias, rows, factor)
            sums = functional.relu(sums) if relu else sums
        return sums.view(count, height, width, -1).permute(0, 3, 1, 2)


    def _shifted(images: torch.Tensor, layer: torch.nn.Conv2d, padding: Padding) -> torch.Tensor:
        """Output j of a row padded with `wide` zeros at each end begins at j * stride - wide; wanted are those from -before on."""
        left, right, top, bottom = padding
        wide, cuts = [], [slice(None), slice(None)]
        for axis, (before, after) in enumerate(((top, bottom), (left, right))):
            stride, kernel = layer.stride[axis], layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
            before, after = before + int(layer.padding[axis]), after + int(layer.padding[axis])
            skipped = max(0, -(-(after - before) // stride))
            outputs = (images.shape[2 + axis] + before + after - kernel) // stride + 1
            wide.append(before + skipped * stride)
            cuts.append(slice(skipped, skipped + outputs))
        result = functional.conv2d(
            images, layer.weight, layer.bias, layer.stride, tuple(wide), layer.dilation, layer.groups
        )
        channels_last = result.is_contiguous(memory_format=torch.channels_last)
        # dense as any other result: what reads it next may be a matrix product, which would have to copy it anyway
        return result[tuple(cuts)].contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )


    def layers_of(module: Any) -> List[Convolution]:
        return [layer for layer in module.modules() if isinstance(layer, Convolution)]


    def choose(module: Any, inputs: Sequence[torch.Tensor], measure: Optional[Measure] = None) -> None:
        """Sets the fastest algorithm for every layer for inputs like these, in one pass over the module.

        `measure` is for tests; by default the algorithms are timed on the device of the inputs, and what that took is freed again.
        """
        layers = layers_of(module)
        on_gpu = any(tensor.is_cuda for tensor in inputs)
        for layer in layers:
            layer.measure = measure or (_seconds_on_gpu if on_gpu else _seconds_on_cpu)
        own_stream = torch.cuda.Stream() if on_gpu else None  # the default stream cannot be captured
        if own_stream is not None:
            own_stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(own_stream), torch.inference_mode():
                module(*inputs)
            if on_gpu:
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
        finally:
            for layer in layers:
                layer.measure = None


    def settings(module: Any) -> Dict[str, str]:
        """How many layers have each algorithm, and that of each in order, a letter each, which is what set_algorithms() takes."""
        chosen = [layer.algorithm for layer in layers_of(module)]
        return {
            "convolutions": ", ".join(f"{chosen.count(one)} {one}" for one in ALGORITHMS if one in chosen) or "none",
            "convolutions_in_order": "".join(algorithm[0] for algorithm in chosen),
        }


    def set_algorithms(module: Any, chosen: str) -> None:
        """Ways by their first letters, in the order of the layers. Raises ValueError for others, or another number of them."""
        layers = layers_of(module)
        by_letter = {algorithm[0]: algorithm for algorithm in ALGORITHMS}
        if len(chosen) != len(layers) or set(chosen) - set(by_letter):
            raise ValueError(f"'{chosen}' does not name an algorithm for each of {len(layers)} convolutions")
        for layer, letter in zip(layers, chosen):
            layer.algorithm = by_letter[letter]


    def _seconds_on_gpu(layer: Convolution, images: torch.Tensor, algorithm: str) -> Optional[float]:
        """Least device time of a few; None where the library has no kernel or no memory for this algorithm."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream()
        graph = torch.cuda.CUDAGraph()
        try:
            layer.compute(images, algorithm)  # chooses the library's kernel, which a capture must not
            stream.synchronize()
            # not torch.cuda.graph(), which empties the allocator's cache each time: hundreds of captures would take a minute
            graph.capture_begin()
            try:
                for _ in range(_REPETITIONS):
                    layer.compute(images, algorithm)
            finally:
                graph.capture_end()
            times: List[float] = []
            for _ in range(1 + _REPLAYS):
                start.record()
                graph.replay()
                end.record()
                end.synchronize()
                times.append(start.elapsed_time(end) / 1000 / _REPETITIONS)
            return min(times[1:])
        except RuntimeError:  # out of memory is one, too
            torch.cuda.synchronize()
            return None


    def _seconds_on_cpu(layer: Convolution, images: torch.Tensor, algorithm: str) -> Optional[float]:
        """Least time of the calls that begin within 20 ms."""
        times: List[float] = []
        try:
            while sum(times) < _CPU_SECONDS:
                begin = time.perf_counter()
                layer.compute(images, algorithm)
                times.append(time.perf_counter() - begin)
        except RuntimeError:
            return None
        return min(times)
    return types.SimpleNamespace(**locals())


convolutions = _convolutions()


def _convolution_wrapping():
    """images/torch/convolution_wrapping.py of framewatt."""
    from collections import Counter
    from typing import Any, List, Optional, Tuple

    import torch
    from torch.nn import functional

    NO_PADDING, Convolution, Padding = convolutions.NO_PADDING, convolutions.Convolution, convolutions.Padding


    def wrap(module: Any) -> int:
        """Wraps every Conv2d of a torch.fx.GraphModule that is called once; their number."""
        graph = module.graph
        calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
        wrapped = 0
        for node in list(graph.nodes):
            # one that is called twice may have a ReLU behind it in one place only
            if node.op != "call_module" or calls[node.target] > 1:
                continue
            found = _convolution_in(module.get_submodule(node.target))
            if found is None:
                continue
            sequence, convolution, padding = found
            if sequence is None and padding == NO_PADDING:
                padding = _take_pad_before(module, node)
            relu = _only_reader_is_relu(module, node)
            layer = Convolution(convolution, relu is not None, padding)
            if sequence is None:
                _set(module, node.target, layer)
            else:
                sequence[-1] = layer
            if relu is not None:
                relu.replace_all_uses_with(node)
                graph.erase_node(relu)
            wrapped += 1
        module.delete_all_unused_submodules()
        module.recompile()
        return wrapped


    def _convolution_in(module: Any) -> Optional[Tuple[Optional[torch.nn.Sequential], torch.nn.Conv2d, Padding]]:
        """The Conv2d that a module is or, as onnx2torch's padded convolutions do, ends with.

        The sequence that keeps it comes first; None where the Conv2d is all there is, but for zeros that it is padded with.
        """
        if _is_plain(module):
            return None, module, NO_PADDING
        if type(module) is not torch.nn.Sequential or not len(module) or not _is_plain(module[-1]):
            return None
        padding = _zeros_of(module[0]) if len(module) == 2 else None
        return (module, module[-1], NO_PADDING) if padding is None else (None, module[-1], padding)


    def _is_plain(module: Any) -> bool:
        return type(module) is torch.nn.Conv2d and module.padding_mode == "zeros"


    def _zeros_of(module: Any) -> Optional[Padding]:
        """What a module pads, where that is zeros around height and width."""
        if type(module) is torch.nn.ZeroPad2d:
            return _of_images(module.padding)
        if type(module).__name__ == "OnnxPadStatic" and module.mode == "constant" and not module.constant_value:
            return _of_images(module.pads)
        return None


    def _take_pad_before(module: Any, node: Any) -> Padding:
        """Takes a padding with zeros that only this node reads out of the graph, and says what it was."""
        pad = node.args[0] if node.args else None
        if getattr(pad, "op", "") not in ("call_module", "call_function") or len(pad.users) > 1:
            return NO_PADDING
        padding = _zeros_of(module.get_submodule(pad.target)) if pad.op == "call_module" else _zeros_of_call(pad)
        if padding is None:
            return NO_PADDING
        node.replace_input_with(pad, pad.all_input_nodes[0])
        module.graph.erase_node(pad)
        return padding


    def _zeros_of_call(pad: Any) -> Optional[Padding]:
        if pad.target is not functional.pad:
            return None
        given = {**dict(zip(("input", "pad", "mode", "value"), pad.args)), **pad.kwargs}
        return None if given.get("mode", "constant") != "constant" or given.get("value") else _of_images(given["pad"])


    def _of_images(sizes: Any) -> Optional[Padding]:
        """The four numbers of height and width, where nothing else is padded, and nothing is cut."""
        if not isinstance(sizes, (list, tuple)):
            return None  # computed by the graph, as a single size may be
        numbers: List[int] = list(sizes)
        if any(type(number) is not int or number < 0 for number in numbers) or any(numbers[4:]):
            return None
        left, right, top, bottom = [*numbers, 0, 0, 0, 0][:4]
        return left, right, top, bottom


    def _only_reader_is_relu(module: Any, node: Any) -> Optional[Any]:
        readers = list(node.users)
        if len(readers) != 1 or readers[0].op != "call_module":
            return None
        return readers[0] if type(module.get_submodule(readers[0].target)) is torch.nn.ReLU else None


    def _set(module: Any, target: str, layer: Any) -> None:
        owner, _, name = target.rpartition(".")
        setattr(module.get_submodule(owner), name, layer)
    return types.SimpleNamespace(**locals())


convolution_wrapping = _convolution_wrapping()


def made_up_inputs():
    """Random numbers in the place of real ones: the values do not matter for the time."""
    random = np.random.default_rng(0)
    inputs = {}
    for name, (shape, kind) in INPUTS.items():
        if np.dtype(kind).kind == "f":
            inputs[name] = random.random(shape).astype(kind)
        elif kind == "uint8":
            inputs[name] = random.integers(0, 256, shape, dtype=kind)
        else:
            inputs[name] = np.zeros(shape, kind)
    return inputs


def measure(infer, seconds):
    """Durations in ns of inferences, one after the other, for about so long."""
    durations = []
    until = time.perf_counter() + seconds
    while not durations or time.perf_counter() < until:
        start = time.perf_counter_ns()
        infer()
        durations.append(time.perf_counter_ns() - start)
    return durations


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default=MODEL, help=f"default: {MODEL}")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure, in s; default: 10")
    parser.add_argument("--inputs", help="an .npz file with one array for each input; default: random numbers")
    parser.add_argument("--save", help="write the outputs to this .npz file, under their names; default: do not")
    given = parser.parse_args()
    inputs = dict(np.load(given.inputs)) if given.inputs else made_up_inputs()
    infer, outputs = load(given.model, inputs)
    measure(infer, min(WARM_UP_SECONDS, given.seconds))
    durations = np.array(measure(infer, given.seconds))
    if given.save:
        np.savez(given.save, **outputs())
    rate = ITEMS_PER_INFERENCE * len(durations) / (durations.sum() / 1e9)
    median_ms = np.median(durations) / 1e6
    print(f"{rate:,.1f} {ITEM}s/s, median latency {median_ms:.4f} ms, {len(durations)} inferences")


if __name__ == "__main__":
    main()
