"""Run by two interpreters: `converter_cases.py make FOLDER` in ONNX Runtime's writes small graphs with inputs and outputs,
`converter_cases.py check FOLDER` in PyTorch's converts each and prints, as JSON,
how far its output is off or why it is refused, where a converter of ours replaced onnx2torch's, and what gave way to
plain numbers."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (2, 4, 6, 6)


#: opset, operator, input arrays, constants by position, attributes, number of outputs
Case = tuple[int, str, list[np.ndarray], dict[int, Any], dict[str, Any], int]
#: draws an array of a shape, SHAPE where none is given
Draw = Callable[..., np.ndarray]


def cases() -> dict[str, Case]:
    """By name."""
    rng = np.random.default_rng(5)

    def x(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape or SHAPE).astype(np.float32)

    groups = (reductions_and_shapes, layers, indexing_and_attention, recurrent, older_opsets, quantized, refused)
    return {name: case for group in groups for name, case in group(x).items()}


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def reductions_and_shapes(x: Draw) -> dict[str, Case]:
    """Reductions, padding, splitting, and what changes shapes alone."""
    made: dict[str, Case] = {}
    for kind in ("Mean", "Max", "Min", "Prod", "L1", "L2", "LogSumExp", "SumSquare"):
        made[f"Reduce{kind}-18"] = (18, f"Reduce{kind}", [x()], {1: ints(2, 3)}, {"keepdims": 0}, 1)
    made["ReduceLogSum-18"] = (18, "ReduceLogSum", [np.abs(x()) + 1], {1: ints(1)}, {"keepdims": 1}, 1)
    made["ReduceMean-18 of all"] = (18, "ReduceMean", [x()], {}, {"keepdims": 1}, 1)
    made["ReduceMean-18 of none"] = (18, "ReduceMean", [x()], {}, {"noop_with_empty_axes": 1}, 1)
    made["ReduceMax-20"] = (20, "ReduceMax", [x()], {1: ints(-1)}, {"keepdims": 1}, 1)
    for version in (18, 19, 21, 23):
        made[f"Pad-{version}"] = (version, "Pad", [x()], {1: ints(0, 0, 1, 2, 0, 0, 3, 0)}, {}, 1)
    made["Pad-18 axes"] = (18, "Pad", [x()], {1: ints(1, 2, 0, 1), 2: np.float32(0.5), 3: ints(3, -2)}, {}, 1)
    made["Pad-18 reflect"] = (18, "Pad", [x()], {1: ints(0, 0, 1, 1, 0, 0, 1, 1)}, {"mode": "reflect"}, 1)
    made["Pad-19 wrap"] = (19, "Pad", [x()], {1: ints(0, 0, 1, 1, 0, 0, 1, 1)}, {"mode": "wrap"}, 1)
    made["Split-18 uneven"] = (18, "Split", [x(7, 3)], {}, {"axis": 0, "num_outputs": 3}, 3)
    made["Split-18 sizes"] = (18, "Split", [x(7, 3)], {1: ints(2, 5)}, {"axis": 0}, 2)
    made["Shape-19"] = (19, "Shape", [x()], {}, {"start": 1}, 1)
    made["Reshape-19"] = (19, "Reshape", [x()], {1: ints(2, -1)}, {}, 1)
    for opset, axis in ((8, 1), (8, 0), (8, 2), (9, 0), (17, 0), (17, 1), (17, -1), (17, 4), (21, 0)):
        made[f"Flatten of opset {opset} at {axis}"] = (opset, "Flatten", [x()], {}, {"axis": axis}, 1)
    made["Flatten of a row"] = (17, "Flatten", [x(5)], {}, {"axis": 1}, 1)
    made["Flatten-21"] = (21, "Flatten", [x()], {}, {"axis": 2}, 1)
    made["Transpose-21"] = (21, "Transpose", [x()], {}, {"perm": [0, 2, 3, 1]}, 1)
    made["Unsqueeze-21"] = (21, "Unsqueeze", [x()], {1: ints(1)}, {}, 1)
    made["Squeeze-23"] = (23, "Squeeze", [x(2, 1, 3)], {1: ints(1)}, {}, 1)
    for opset in (17, 19):
        for kind, number in (("float16", 10), ("bfloat16", 16), ("double", 11)):
            made[f"Cast of opset {opset} to {kind} and back"] = (opset, "Cast", [x()], {}, {"to": number, "then": 1}, 1)
    made["Cast-19"] = (19, "Cast", [x()], {}, {"to": 7}, 1)
    made["Equal-19"] = (19, "Equal", [np.round(x()), np.round(x())], {}, {}, 1)
    return made


def layers(x: Draw) -> dict[str, Case]:
    """Convolutions, pooling, activations, normalizations."""
    made: dict[str, Case] = {}
    made["Conv-22"] = (22, "Conv", [x()], {1: x(3, 4, 3, 3), 2: x(3)}, {"pads": [1, 1, 1, 1]}, 1)
    made["ConvTranspose-22"] = (22, "ConvTranspose", [x()], {1: x(4, 3, 2, 2)}, {"strides": [2, 2]}, 1)
    made["MaxPool-22"] = (22, "MaxPool", [x()], {}, {"kernel_shape": [2, 2], "strides": [2, 2]}, 1)
    made["AveragePool-22"] = (22, "AveragePool", [x()], {}, {"kernel_shape": [2, 2], "strides": [2, 2]}, 1)
    made["GlobalAveragePool-22"] = (22, "GlobalAveragePool", [x()], {}, {}, 1)
    made["GlobalMaxPool-1"] = (17, "GlobalMaxPool", [x()], {}, {}, 1)
    made["Resize-19"] = (
        19, "Resize", [x()], {2: np.array([1, 1, 2, 2], np.float32)},
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}, 1,
    )  # fmt: skip
    for name, sizes in (("", ints(2, 4, 6, 6)), (" of ones", ints(1, 1, 6)), (" in front", ints(3, 1, 1, 1, 1))):
        made[f"Expand-13{name}"] = (13, "Expand", [x(2, 4, 1, 6)], {1: sizes}, {}, 1)
    made["Tile-13"] = (13, "Tile", [x(2, 3)], {1: ints(3, 2)}, {}, 1)
    made["Squeeze-13 several"] = (13, "Squeeze", [x(1, 2, 1, 3, 1)], {1: ints(-1, 0)}, {}, 1)
    made["Squeeze-13 computed"] = (13, "Squeeze", [x(1, 2, 1, 3), ints(2)], {}, {}, 1)
    plain = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    half = {"coordinate_transformation_mode": "half_pixel"}
    for name, rank, mode in (("nearest", 4, plain), ("nearest rank 3", 3, plain), ("linear", 4, {"mode": "linear", **half}),
                             ("linear rank 3", 3, {"mode": "linear", **half}), ("cubic", 4, {"mode": "cubic", **half})):  # fmt: skip
        made[f"Resize-13 {name}"] = (
            13, "Resize", [x(*SHAPE[:rank])], {2: np.array([1, 1, 2, 2][:rank], np.float32)}, mode, 1,
        )  # fmt: skip
        made[f"Resize-13 {name} to sizes"] = (13, "Resize", [x(*SHAPE[:rank])], {3: ints(2, 4, 9, 12)[:rank]}, mode, 1)
    made["Resize-10"] = (10, "Resize", [x()], {1: np.array([1, 1, 2, 2], np.float32)}, {"mode": "nearest"}, 1)
    for name in ("HardSigmoid", "HardSwish", "Softplus", "Softsign", "Elu", "Selu", "Sin", "Cos", "Atan", "Mish"):
        made[f"{name}-22"] = (22, name, [x()], {}, {}, 1)
    made["Gelu-20"] = (20, "Gelu", [x()], {}, {}, 1)
    made["Gelu-20 tanh"] = (20, "Gelu", [x()], {}, {"approximate": "tanh"}, 1)
    made["InstanceNormalization-22"] = (22, "InstanceNormalization", [x()], {1: x(4), 2: x(4)}, {}, 1)
    made["GroupNormalization-21"] = (21, "GroupNormalization", [x()], {1: x(4), 2: x(4)}, {"num_groups": 2}, 1)
    made["RMSNormalization-23"] = (23, "RMSNormalization", [x()], {1: x(6)}, {}, 1)
    return made


def indexing_and_attention(x: Draw) -> dict[str, Case]:
    made: dict[str, Case] = {}
    some = np.where(x(3, 4) > 0, 1, 0).astype(np.float32)
    for opset, given in ((17, some), (9, some), (17, some[0]), (17, some > 0), (17, np.stack([some, 1 - some]))):
        made[f"NonZero of opset {opset} of {given.dtype}{given.shape}"] = (opset, "NonZero", [given], {}, {}, 1)
    made["Trilu-14"] = (17, "Trilu", [x(5, 5)], {1: np.int64(1)}, {"upper": 0}, 1)
    made["Size-13"] = (17, "Size", [x()], {}, {}, 1)
    made["OneHot-11"] = (17, "OneHot", [ints(0, 3, -1)], {1: ints(4), 2: np.array([0, 2], np.float32)}, {}, 1)
    scattered = {1: np.array([[1, 0, 2]], np.int64), 2: np.array([[9, 8, 7]], np.float32)}
    made["ScatterElements-16"] = (17, "ScatterElements", [x(3, 3)], scattered, {"axis": 0}, 1)
    made["ScatterElements-18 add"] = (18, "ScatterElements", [x(3, 3)], scattered, {"axis": 0, "reduction": "add"}, 1)
    made["GridSample-20"] = (20, "GridSample", [x(), np.tanh(x(2, 3, 3, 2))], {}, {"align_corners": 0}, 1)
    made["Attention-23"] = (23, "Attention", [x(1, 2, 5, 8), x(1, 2, 5, 8), x(1, 2, 5, 8)], {}, {}, 1)
    made["Attention-23 causal"] = (23, "Attention", [x(1, 2, 5, 8)] * 3, {}, {"is_causal": 1}, 1)
    made["CastLike-19"] = (19, "CastLike", [x(), ints(1, 2)], {}, {}, 1)
    made["Round-22"] = (22, "Round", [3 * x()], {}, {}, 1)
    made["Dropout-22"] = (22, "Dropout", [x()], {}, {}, 1)
    made["Gemm-7"] = (8, "Gemm", [x(2, 3)], {1: x(3, 4), 2: x(4)}, {}, 1)
    return made


def recurrent(x: Draw) -> dict[str, Case]:
    made: dict[str, Case] = {}
    for kind, gates, states in (("LSTM", 4, 2), ("GRU", 3, 1), ("RNN", 1, 1)):
        extra = {"linear_before_reset": 1} if kind == "GRU" else {}
        outputs = 1 + states
        for version, direction in ((14, "forward"), (17, "reverse"), (22, "bidirectional")):
            directions = 2 if direction == "bidirectional" else 1
            weights = {1: x(directions, gates * 5, 3), 2: x(directions, gates * 5, 5), 3: x(directions, gates * 10)}
            attributes = {"hidden_size": 5, "direction": direction, **extra}
            made[f"{kind}-{version}"] = (version, kind, [x(7, 2, 3)], weights, attributes, outputs)
            begun = [x(7, 2, 3), *[x(directions, 2, 5)] * states]
            made[f"{kind}-{version} begun"] = (version, kind, begun, {**weights, 4: None}, attributes, 1)
    return made


def older_opsets(x: Draw) -> dict[str, Case]:
    """What our converters do for opsets that onnx2torch knows: modes and computed values that it does not."""
    made: dict[str, Case] = {}
    made["Slice-9"] = (9, "Slice", [x()], {}, {"axes": [1, -1], "starts": [1, -4], "ends": [3, 2**31 - 1]}, 1)
    made["Reshape-14 allowzero"] = (17, "Reshape", [x()], {1: ints(2, -1)}, {"allowzero": 1}, 1)
    made["Reshape-14 computed"] = (17, "Reshape", [x(), ints(8, -1)], {}, {"allowzero": 1}, 1)
    made["Pad-13 reflect rank 2"] = (17, "Pad", [x(2, 6)], {1: ints(0, 2, 0, 3)}, {"mode": "reflect"}, 1)
    made["Pad-13 edge rank 4"] = (17, "Pad", [x()], {1: ints(0, 0, 0, 2, 0, 0, 0, 1)}, {"mode": "edge"}, 1)
    made["Pad-18 reflect rank 1"] = (18, "Pad", [x(6)], {1: ints(2, 3)}, {"mode": "reflect"}, 1)
    edges = {"edge": ints(0, 0, 0, 2, 0, 0, 0, 1), "reflect": ints(0, 0, 1, 0, 0, 0, 2, 1)}
    for mode, pads in edges.items():
        made[f"Pad-13 {mode} computed"] = (17, "Pad", [x(), pads], {}, {"mode": mode}, 1)
    made["Pad-11 reflect computed rank 3"] = (
        12,
        "Pad",
        [x(2, 3, 6), ints(0, 0, 2, 0, 0, 1)],
        {},
        {"mode": "reflect"},
        1,
    )
    made["Clip-13 whole"] = (17, "Clip", [ints(-3, 2, 9)], {1: np.int64(0), 2: np.int64(5)}, {}, 1)
    made["Clip-13 computed"] = (17, "Clip", [x(), np.array(-0.5, np.float32), np.array(0.25, np.float32)], {}, {}, 1)
    made["Clip-13 above"] = (17, "Clip", [ints(-3, 2, 9)], {1: None, 2: np.int64(5)}, {}, 1)
    for mode in ("SAME_UPPER", "SAME_LOWER"):
        strided = {"auto_pad": mode, "strides": [2, 2], "kernel_shape": [3, 3]}
        made[f"Conv-11 {mode}"] = (17, "Conv", [x()], {1: x(3, 4, 3, 3)}, strided, 1)
        made[f"MaxPool-12 {mode}"] = (17, "MaxPool", [x() - 5], {}, strided, 1)
    uneven = {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}
    made["MaxPool-12 uneven"] = (17, "MaxPool", [x() - 5], {}, uneven, 1)
    made["MaxPool-8 uneven"] = (9, "MaxPool", [x() - 5], {}, uneven, 1)
    below = {"auto_pad": "SAME_UPPER", "strides": [2, 2], "kernel_shape": [3, 3]}
    made["MaxPool-8 SAME_UPPER"] = (9, "MaxPool", [x() - 5], {}, below, 1)
    made["Conv-1 SAME_UPPER"] = (9, "Conv", [x()], {1: x(3, 4, 3, 3)}, below, 1)
    made["Split-13 of one"] = (17, "Split", [x()], {}, {"axis": 1}, 1)
    return made


def quantized(x: Draw) -> dict[str, Case]:
    made: dict[str, Case] = {}
    scale, zero = np.float32([0.1, 0.2, 0.3, 0.4]), np.uint8([3, 128, 250, 0])
    made["QuantizeLinear-13"] = (17, "QuantizeLinear", [x()], {1: scale, 2: zero}, {"axis": 1}, 1)
    made["QuantizeLinear-19 int8"] = (19, "QuantizeLinear", [x()], {1: np.float32(0.01), 2: np.int8(5)}, {}, 1)
    eights = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    made["DequantizeLinear-13"] = (17, "DequantizeLinear", [eights], {1: scale, 2: zero}, {"axis": 1}, 1)
    made["DequantizeLinear-21"] = (21, "DequantizeLinear", [eights.astype(np.int8)], {1: np.float32(0.5)}, {}, 1)
    return made


def refused(x: Draw) -> dict[str, Case]:
    """What must be refused, by name; their names begin with !."""
    made: dict[str, Case] = {}
    made["!Resize-18 antialias"] = (
        18, "Resize", [x()], {2: np.array([1, 1, 0.5, 0.5], np.float32)}, {"mode": "linear", "antialias": 1}, 1,
    )  # fmt: skip
    made["!AveragePool-19 dilated"] = (19, "AveragePool", [x()], {}, {"kernel_shape": [2, 2], "dilations": [2, 2]}, 1)
    weights = {1: x(1, 15, 3), 2: x(1, 15, 5)}
    made["!GRU-14 reset first"] = (14, "GRU", [x(7, 2, 3)], weights, {"hidden_size": 5}, 2)
    made["!LpNormalization-22"] = (22, "LpNormalization", [x()], {}, {}, 1)
    return made


def make(folder: Path) -> None:
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    for number, (name, (opset, kind, arrays, constants, attributes, outputs)) in enumerate(cases().items()):
        free = [position for position in range(16) if position not in constants][: len(arrays)]
        count = max([*free, *constants]) + 1
        names, held = [], iter(range(len(arrays)))
        tensors = []
        for position in range(count):
            if constants.get(position, 0) is None:
                names.append("")
            elif position in constants:
                # names as torch.onnx gives them, and one that only an Identity leads to
                tensors.append(numpy_helper.from_array(np.asarray(constants[position]), f"onnx::{kind}_{position}"))
                names.append(f"onnx::{kind}_{position}")
            else:
                one = next(held, None)
                names.append("" if one is None else f"x.{one}")
        made = [f"y/{i}" for i in range(outputs)]
        types = [helper.np_dtype_to_tensor_dtype(one.dtype) for one in arrays]
        inputs = [helper.make_tensor_value_info(f"x.{i}", types[i], one.shape) for i, one in enumerate(arrays)]
        kind_made = {"Shape": 7, "Size": 7, "NonZero": 7, "Cast": 7, "CastLike": 7, "Equal": 9}.get(kind, 1)
        if kind in ("Clip", "QuantizeLinear"):
            kind_made = types[0] if kind == "Clip" else helper.np_dtype_to_tensor_dtype(constants[2].dtype)
        then = attributes.pop("then", None)
        results = [helper.make_tensor_value_info(one, then or kind_made, None) for one in made]
        nodes = [helper.make_node(kind, names, made if then is None else ["between"], **attributes)]
        if then is not None:
            nodes.append(helper.make_node("Cast", ["between"], made, to=then))
        graph = helper.make_graph(nodes, "one", inputs, results, tensors)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        proto = onnx.shape_inference.infer_shapes(proto)
        onnx.save(proto, str(folder / f"{number}.onnx"))
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        expected = session.run(made, {f"x.{i}": one for i, one in enumerate(arrays)})
        np.savez(
            folder / f"{number}.npz", name=name, **{f"x{i}": one for i, one in enumerate(arrays)},
            **{f"y{i}": one for i, one in enumerate(expected)},
        )  # fmt: skip


def check(folder: Path) -> None:
    import torch

    from common.harness.adapter import Unsupported
    from images.torch import onnx_import
    from images.torch.tensors import listed

    found, replaced, plain = {}, {}, {}
    for file in sorted(folder.glob("*.onnx")):
        with np.load(file.with_suffix(".npz")) as arrays:
            held = dict(arrays)
        name = str(held["name"])
        try:
            imported = onnx_import.load(file)
            module = imported.module
            if "converters_replaced" in imported.settings:
                replaced[name] = imported.settings["converters_replaced"]
            plain[name] = imported.settings["plain_numbers"]
            given = [torch.from_numpy(held[f"x{i}"]) for i in range(sum(one.startswith("x") for one in held))]
            made = [tensor.numpy() for tensor in listed(module(*given))]
            wanted = [held[f"y{i}"] for i in range(sum(one.startswith("y") for one in held))]
            same = [one.shape == two.shape for one, two in zip(made, wanted, strict=False)]
            errors = [
                float(np.abs(one.astype(float) - two.astype(float)).max())
                for one, two in zip(made, wanted, strict=False)
            ]
            found[name] = max(errors) if all(same) and len(made) == len(wanted) else f"shapes {[o.shape for o in made]}"
        except Unsupported as error:
            found[name] = f"refused: {error}"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    print(json.dumps([found, replaced, plain]))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
