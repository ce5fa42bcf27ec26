"""Run with an interpreter that has onnx: writes small ONNX files into the folder named, each for one test."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS_LAST = ["batch", 12, 16, 3]
CHANNELS_FIRST = ["batch", 3, 12, 16]


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, array):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))


def model(nodes, inputs, outputs, initializers=(), opset=17):
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def classifier(shape=CHANNELS_FIRST, kind=TensorProto.FLOAT, softmax=True, more_inputs=(), opset=17, scale=1e-2):
    """Mean over the picture, times a matrix that lies in a Constant node, through a softmax."""
    axes = [2, 3] if shape[1] in (1, 3) else [1, 2]
    channels = shape[1] if shape[1] in (1, 3) else shape[3]
    generator = np.random.default_rng(0)
    matrix = generator.normal(0, scale, (channels if isinstance(channels, int) else 3, 5)).astype(np.float32)
    nodes = [
        constant("matrix", matrix),
        helper.make_node("Cast", ["picture"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["mean", "matrix"], ["scores"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["classes"], axis=1))
    output = value("classes" if softmax else "scores", ["batch", 5])
    return model(nodes, [value("picture", shape, kind), *more_inputs], [output], opset=opset)


def with_quantized_weights():
    """The matrix as int8 with its scale, as quantization tools write it (QDQ)."""
    matrix = numpy_helper.from_array(np.arange(-7, 8, dtype=np.int8).reshape(3, 5), "matrix_q")
    scale = numpy_helper.from_array(np.array(0.01, np.float32), "scale")
    nodes = [
        helper.make_node("DequantizeLinear", ["matrix_q", "scale"], ["matrix"]),
        helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "matrix"], ["scores"]),
    ]
    return model(nodes, [value("picture", CHANNELS_FIRST)], [value("scores", ["batch", 5])], [matrix, scale])


def with_mask():
    """Channels that a second input switches off."""
    made = classifier(more_inputs=[value("mask", ["batch", 3])])
    product = next(node for node in made.graph.node if node.op_type == "MatMul")
    masked = helper.make_node("Mul", ["mean", "mask"], ["masked"])
    product.input[0] = "masked"
    made.graph.node.insert(list(made.graph.node).index(product), masked)
    return made


def with_fixed_reshape():
    """Says that its batch is dynamic, and reshapes to a batch of one."""
    shape = numpy_helper.from_array(np.array([1, -1], np.int64), "shape")
    node = helper.make_node("Reshape", ["picture", "shape"], ["classes"])
    return model([node], [value("picture", CHANNELS_FIRST)], [value("classes", [None, None])], [shape])


def with_picture_output():
    node = helper.make_node("Relu", ["picture"], ["other"])
    return model([node], [value("picture", CHANNELS_FIRST)], [value("other", CHANNELS_FIRST)])


def with_two_outputs():
    """A picture first, classes second."""
    made = classifier()
    made.graph.node.append(helper.make_node("Relu", ["picture"], ["other"]))
    made.graph.output.insert(0, value("other", CHANNELS_FIRST))
    return made


def with_words():
    """Rows of a table by ids, a mask and lengths as exporters of language models have them; and the best of each row."""
    table = numpy_helper.from_array(np.random.default_rng(2).normal(0, 1, (6, 4)).astype(np.float32), "table")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
        constant("last", np.array([2], np.int64)),
        constant("ends", np.array([1, 2], np.int64)),
        helper.make_node("Unsqueeze", ["kept", "last"], ["wide"]),
        helper.make_node("Cast", ["ids_lengths"], ["lengths"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["lengths", "ends"], ["long"]),
        helper.make_node("Mul", ["rows", "wide"], ["masked"]),
        helper.make_node("Div", ["masked", "long"], ["vectors"]),
        helper.make_node("ArgMax", ["vectors"], ["best"], axis=2, keepdims=0),
    ]
    whole = TensorProto.INT64
    inputs = [
        value("ids", ["n", 9], whole),
        value("ids_lengths", ["n"], whole),
        value("attention_mask", ["n", 9], whole),
    ]
    outputs = [value("vectors", ["n", 9, 4]), value("best", ["n", 9], whole)]
    return model(nodes, inputs, outputs, [table])


def with_state():
    nodes = [
        constant("first", np.array([0], np.int64)),
        helper.make_node("ReduceSum", ["state", "first"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["rate"], ["speed"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "speed"], ["fast"]),
        helper.make_node("Add", ["fast", "sum"], ["y"]),
        helper.make_node("Relu", ["state"], ["stateN"]),
    ]
    inputs = [value("x", ["b", 4]), value("state", [2, "b", 4]), value("rate", [], TensorProto.INT64)]
    return model(nodes, inputs, [value("y", ["b", 4]), value("stateN", [2, "b", 4])])


def with_batch_of(kind):
    """A batch of one that --rebatch cannot free: `stuck` adds a constant of one row, `mixing` sums over the batch."""
    if kind == "mixing":
        nodes = [
            constant("axes", np.array([0], np.int64)),
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
            helper.make_node("Add", ["x", "sum"], ["y"]),
        ]
    else:
        nodes = [constant("shape", np.array([7, 1], np.int64)), helper.make_node("Reshape", ["x", "shape"], ["y"])]
    batch = "n" if kind == "refusing" else 1
    return model(nodes, [value("x", [batch, 7])], [value("y", [1, 7] if kind == "mixing" else [7, 1])])


def with_given_sizes():
    """A picture with its height, width and a factor, as detectors have it, and a length of an axis that is not the longest."""
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["frames"], ["loud"], axes=[1, 2], keepdims=0),
        helper.make_node("Cast", ["frames_len"], ["long"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["mean", "loud"], ["both"]),
        helper.make_node("Add", ["both", "long"], ["all"]),
        constant("last", np.array([1], np.int64)),
        helper.make_node("Unsqueeze", ["all", "last"], ["column"]),
        helper.make_node("Mul", ["im_shape", "scale_factor"], ["sides"]),
        helper.make_node("Add", ["sides", "column"], ["y"]),
    ]
    inputs = [
        value("picture", CHANNELS_FIRST),
        value("im_shape", ["batch", 2]),
        value("scale_factor", ["batch", 2]),
        value("frames", ["batch", "time", 80]),
        value("frames_len", ["batch"], TensorProto.INT64),
    ]
    return model(nodes, inputs, [value("y", ["batch", 2])])


def with_table_in_a_branch():
    """Rows of a quantized table, looked up in both branches of an If."""
    table = numpy_helper.from_array(np.arange(-7, 8, dtype=np.int8).reshape(5, 3), "table_q")
    scale = numpy_helper.from_array(np.array(0.5, np.float32), "scale")
    branches = {}
    for name in ("then", "else"):
        looked_up = helper.make_node("Gather", ["table", "token"], [f"{name}_rows"])
        branches[f"{name}_branch"] = helper.make_graph([looked_up], name, [], [value(f"{name}_rows", None)])
    nodes = [
        helper.make_node("DequantizeLinear", ["table_q", "scale"], ["table"]),
        constant("yes", np.array(True)),
        helper.make_node("If", ["yes"], ["rows"], **branches),
    ]
    return model(nodes, [value("token", ["b", 4], TensorProto.INT64)], [value("rows", ["b", 4, 3])], [table, scale])


def without_rank():
    return model([helper.make_node("Relu", ["x"], ["y"])], [value("x", None)], [value("y", None)])


def without_rank_in_branches():
    """A branch that is never taken has no valid shape where the length is 5, so that ONNX Runtime cannot optimize it then."""
    branches = {
        "then_branch": helper.make_graph(
            [helper.make_node("Expand", ["three", "half"], ["t"])], "then", [], [value("t", None)]
        ),
        "else_branch": helper.make_graph([helper.make_node("Relu", ["x"], ["e"])], "else", [], [value("e", None)]),
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["length"], start=1),
        helper.make_node("Div", ["length", "two"], ["half"]),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "far"], ["never"]),
        helper.make_node("If", ["never"], ["y"], **branches),
    ]
    constants = {"two": np.array([2]), "far": np.float32(1e9), "three": np.ones((1, 3), np.float32)}
    tensors = [numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items()]
    return model(nodes, [value("x", None)], [value("y", None)], tensors)


def of_two_ranks():
    """The sum over a batch decides whether (4, batch) or (1, 4, batch) comes out."""
    turned, wide = (
        helper.make_graph(nodes, name, [], [value(f"{name}_y", None)])
        for name, nodes in {
            "turned": [helper.make_node("Transpose", ["x"], ["turned_y"])],
            "wide": [
                helper.make_node("Transpose", ["x"], ["t"]),
                helper.make_node("Unsqueeze", ["t", "front"], ["wide_y"]),
            ],
        }.items()
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "nothing"], ["some"]),
        helper.make_node("If", ["some"], ["y"], then_branch=turned, else_branch=wide),
    ]
    constants = {"nothing": np.float32(0), "front": np.array([0])}
    tensors = [numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items()]
    return model(nodes, [value("x", ["b", 4])], [value("y", None)], tensors)


def with_unknown_ranks():
    return {
        "no-rank": without_rank(),
        "no-rank-in-branches": without_rank_in_branches(),
        "two-ranks": of_two_ranks(),
    }


def drawing():
    """Noise, as speech synthesis adds it, and an output without."""
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["y"]),
        helper.make_node("Relu", ["x"], ["still"]),
    ]
    return model(nodes, [value("x", ["b", 4])], [value("y", ["b", 4]), value("still", ["b", 4])])


def of_bands():
    """A spectrogram without a batch: 80 bands of 20 frames."""
    node = helper.make_node("ReduceMean", ["bands"], ["y"], axes=[0], keepdims=1)
    return model([node], [value("bands", [80, 20])], [value("y", [1, 20])])


def of_sequences_time_first():
    """As recurrent networks have it: time, batch, bands; with a state, and an output that time is gone from."""
    nodes = [
        constant("layers", np.array([0], np.int64)),
        helper.make_node("ReduceSum", ["state", "layers"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
        helper.make_node("ReduceMean", ["y"], ["pooled"], axes=[0], keepdims=0),
    ]
    inputs = [value("x", ["T", "batch", 6]), value("state", [2, "batch", 6])]
    return model(nodes, inputs, [value("y", ["T", "batch", 6]), value("pooled", ["batch", 6])])


def of_sequences_with_a_table():
    """Time, batch, bands; and beside them a table and a mask that all samples share, which come out too."""
    nodes = [
        helper.make_node("ReduceSum", ["table"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["moved"]),
        constant("middle", np.array([1], np.int64)),
        helper.make_node("Unsqueeze", ["mask", "middle"], ["over_batch"]),
        helper.make_node("Mul", ["moved", "over_batch"], ["y"]),
        helper.make_node("Relu", ["table"], ["rows"]),
        helper.make_node("Relu", ["mask"], ["kept"]),
    ]
    inputs = [value("x", ["T", "batch", 6]), value("table", [4, 6]), value("mask", ["T", 6])]
    return model(nodes, inputs, [value("y", ["T", "batch", 6]), value("rows", [4, 6]), value("kept", ["T", 6])])


def foreign(kind):
    """An operator of a domain that nobody knows: a node, in both branches, in a function of the file; `told`: none."""
    called = helper.make_node("Told", ["picture"], ["y"], domain="own")
    far = helper.make_node("Operator", ["a"], ["b"], domain="far.away")
    plain = helper.make_node("Relu", ["a"], ["b"])
    opsets = [helper.make_opsetid(domain, version) for domain, version in (("", 17), ("far.away", 1), ("own", 1))]
    told = helper.make_function("own", "Told", ["a"], ["b"], [plain if kind == "told" else far], opsets)
    nodes = (
        [called]
        if kind in ("told", "function")
        else [helper.make_node("Operator", ["picture"], ["y"], domain="far.away")]
    )
    if kind == "branch":
        branches = [
            helper.make_graph(
                [helper.make_node("Operator", ["picture"], [name], domain="far.away")], name, [], [value(name, None)]
            )
            for name in ("yes", "no")
        ]
        flag = helper.make_node("Constant", [], ["flag"], value=numpy_helper.from_array(np.array(True), "flag"))
        nodes = [flag, helper.make_node("If", ["flag"], ["y"], then_branch=branches[0], else_branch=branches[1])]
    graph = helper.make_graph(nodes, "foreign", [value("picture", CHANNELS_FIRST)], [value("y", CHANNELS_FIRST)])
    functions = [told] if nodes == [called] else []
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


def odd(kind):
    """An operator of a domain that nobody knows, and what else is odd: no output, types that there are not, names to be looked at."""
    names = [f"Odd\n\x1b[31m{'long' * 50}", *map("Operator{}".format, range(9))] if kind == "names" else ["Operator"]
    wires = ["picture", *map("between{}".format, range(len(names) - 1)), "y"]
    nodes = [
        helper.make_node(name, [a], [b], domain="far.away") for name, a, b in zip(names, wires, wires[1:], strict=False)
    ]
    made = model(nodes, [value("picture", CHANNELS_FIRST)], [value("y", CHANNELS_FIRST)])
    made.opset_import.append(helper.make_opsetid("far.away", 1))
    if kind == "double":
        for one in (*made.graph.input, *made.graph.output):
            one.type.tensor_type.elem_type = TensorProto.DOUBLE
    if kind == "output":
        del made.graph.output[:]
    if kind == "input":
        made.graph.input[0].type.tensor_type.elem_type = 99
    if kind == "weight":
        made.graph.initializer.append(TensorProto(name="w", data_type=99, dims=[1], raw_data=b"1"))
    return made


def with_unknown_operators():
    return {
        **{f"foreign-{kind}": foreign(kind) for kind in ("node", "branch", "function", "told")},
        **{f"odd-{kind}": odd(kind) for kind in ("output", "input", "weight", "names", "double")},
    }


def with_sequence():
    return model(
        [helper.make_node("ConcatFromSequence", ["picture"], ["y"], axis=0)],
        [helper.make_tensor_sequence_value_info("picture", TensorProto.FLOAT, None)],
        [value("y", None)],
    )


def of_ml_operators_alone(maps):
    """What converters of trees and linear models write: no opset of ai.onnx; maps: probabilities as a sequence of maps too."""
    nodes = [
        helper.make_node(
            "LinearClassifier", ["x"], ["label", "chances"], domain="ai.onnx.ml", classlabels_ints=[0, 1, 2],
            coefficients=[1.0, 0.5, -1.0, 2.0, 0.25, -0.5], intercepts=[0.0, 0.1, 0.2], post_transform="SOFTMAX",
        )
    ]  # fmt: skip
    outputs = [value("label", ["b"], TensorProto.INT64), value("chances", ["b", 3])]
    if maps:
        nodes.append(
            helper.make_node("ZipMap", ["chances"], ["named"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
        )
        kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        outputs.append(helper.make_value_info("named", helper.make_sequence_type_proto(kind)))
    graph = helper.make_graph(nodes, "tiny", [value("x", ["b", 2])], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)], ir_version=8)


def with_zero_sized(axis):
    """x (0, 4), or beside x (N, 4) an input without values."""
    if axis == 0:
        return model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [0, 4])], [value("y", [0, 4])])
    return model(
        [helper.make_node("Concat", ["x", "e"], ["y"], axis=1)], [value("x", ["N", 4]), value("e", ["N", 0])],
        [value("y", ["N", 4])],
    )  # fmt: skip


def with_fixed_expand():
    """Its batch of 2 is in a constant that is no shape of a Reshape."""
    return model(
        [
            constant("c", np.ones((1, 4), np.float32)),
            constant("two", np.array([2, 4])),
            helper.make_node("Expand", ["c", "two"], ["wide"]),
            helper.make_node("Add", ["x", "wide"], ["sum"]),
            helper.make_node("Concat", ["sum", "z"], ["y"], axis=1),
        ],
        [value("x", [2, 4]), value("z", [2, 3])],
        [value("y", [2, 7])],
    )


def with_counted_axes():
    return model(
        [
            constant("one", np.array([1])),
            constant("end", np.array([2**31])),
            helper.make_node("Slice", ["x", "one", "end", "one"], ["cut"]),
            helper.make_node("Add", ["cut", "z"], ["y"]),
        ],
        [value("x", ["N", "s + 1"]), value("z", ["N", "s"])],
        [value("y", ["N", "s"])],
    )


def of_numbers_within_a_table():
    return model(
        [constant("table", np.ones((10, 8), np.float32)), helper.make_node("Gather", ["table", "ids"], ["y"])],
        [value("ids", ["batch", "seq"], TensorProto.INT64)],
        [value("y", ["batch", "seq", 8])],
    )


def of_numbers_within_two_tables():
    made = of_numbers_within_a_table()
    made.graph.input.append(value("more", ["batch", "seq"], TensorProto.INT64))
    made.graph.node[-1].output[0] = "first"
    made.graph.node.append(helper.make_node("Gather", ["table", "more"], ["second"]))
    made.graph.node.append(helper.make_node("Add", ["first", "second"], ["y"]))
    return made


def with_kernel():
    return model(
        [constant("w", np.ones((5, 3, 3, 3), np.float32)), helper.make_node("Conv", ["picture", "w"], ["y"])],
        [value("picture", ["N", 3, "height", "width"])],
        [value("y", ["N", 5, None, None])],
    )


def with_sequence_alone():
    return model(
        [helper.make_node("SequenceConstruct", ["picture"], ["parts"])],
        [value("picture", CHANNELS_FIRST)],
        [helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)],
    )


def of_a_batch_at_once():
    """Of a single run nothing is left: x less the mean over the batch."""
    return model(
        [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]), helper.make_node("Sub", ["x", "mean"], ["y"])],
        [value("x", ["N", 4])],
        [value("y", ["N", 4])],
    )


def with_odd_shapes():
    return {
        "sequence": with_sequence(),
        "zero-batch": with_zero_sized(0),
        "zero-wide": with_zero_sized(1),
        "zero-inner": model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [4, 0])], [value("y", [4, 0])]),
        "expand": with_fixed_expand(),
        "counted": with_counted_axes(),
        **with_odd_outputs(),
        **with_doubles(),
        "kernel": with_kernel(),
        "table": of_numbers_within_a_table(),
        "two-tables": of_numbers_within_two_tables(),
        "sequence-alone": with_sequence_alone(),
        "less-mean": of_a_batch_at_once(),
        "opset-99": model(
            [helper.make_node("Relu", ["x"], ["y"])], [value("x", ["N", 4])], [value("y", ["N", 4])], opset=99
        ),
    }


def in_double(scale=1.0, shape=(7, 5)):
    """A product, a sum that float32 rounds to 2 ** -14, and a mask of the lowest number in float64; x and y are float64, too."""
    weights = np.random.default_rng(4).normal(0, scale, shape)
    masked = np.where(np.arange(5) == 2, np.finfo(np.float64).min, 0.1)
    constants = {"w": weights, "mask": masked, "least": np.float64(1e-300), "far": np.float64(1024)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "far"], ["away"]),
        helper.make_node("Sub", ["away", "far"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["kept"]),
        helper.make_node("Add", ["kept", "least"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["y"], axis=1),
        helper.make_node("Cast", ["y"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["single"], ["z"], to=TensorProto.DOUBLE),
    ]
    double = TensorProto.DOUBLE
    made = model(nodes, [value("x", ["b", 7], double)], [value("y", ["b", 5], double), value("z", ["b", 5], double)])
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items())
    return made


def double_within():
    """Of float32 from outside; a branch, too, computes in float64."""
    double = TensorProto.DOUBLE
    third = numpy_helper.from_array(np.float64(1) / np.arange(3, 10), "third")
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(kind, ["wide", "third"], [name])], name, [], [value(name, None, double)]
        )
        for name, kind in (("then", "Mul"), ("else", "Add"))
    }
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["some"], to=TensorProto.BOOL),
        helper.make_node("Cast", ["x"], ["wide"], to=double),
        helper.make_node("If", ["some"], ["taken"], **branches),
        helper.make_node("Cast", ["taken"], ["y"], to=TensorProto.FLOAT),
    ]
    return model(nodes, [value("x", ["b", 7])], [value("y", ["b", 7])], [third])


def double_elsewhere():
    """In a function of the file, in what a node makes by itself, in a sequence, in a tree."""
    double = TensorProto.DOUBLE
    opsets = [helper.make_opsetid(domain, version) for domain, version in (("", 17), ("own", 1), ("ai.onnx.ml", 3))]
    inner = [constant("c", np.array(3.0)), helper.make_node("Mul", ["a", "c"], ["b"])]
    filler = numpy_helper.from_array(np.array([2.5]))
    tree = {
        **{f"nodes_{name}": [0] * 3 for name in ("treeids", "featureids", "missing_value_tracks_true")},
        "nodes_nodeids": [0, 1, 2], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values_as_tensor": numpy_helper.from_array(np.array([0.5, 0, 0])),
        "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0],
        "target_weights_as_tensor": numpy_helper.from_array(np.array([1.5, 2.5])),
    }  # fmt: skip
    nodes = [
        helper.make_node("F", ["x"], ["tripled"], domain="own"),
        helper.make_node("Shape", ["tripled"], ["sizes"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["filled"], value=filler),
        helper.make_node("SequenceConstruct", ["tripled", "filled"], ["both"]),
        helper.make_node("ConcatFromSequence", ["both"], ["y"], axis=1),
        helper.make_node("TreeEnsembleRegressor", ["x"], ["z"], domain="ai.onnx.ml", n_targets=1, **tree),
    ]
    graph = helper.make_graph(
        nodes,
        "elsewhere",
        [value("x", ["b", 7], double)],
        [value("y", ["b", 14], double), value("z", ["b", 1])],
        value_info=[helper.make_tensor_sequence_value_info("both", double, None)],
    )
    function = helper.make_function("own", "F", ["a"], ["b"], inner, opsets[:1])
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)


def with_doubles():
    files = {"double": in_double(), "double-within": double_within(), "double-elsewhere": double_elsewhere()}
    return {
        **files, "double-far": in_double(1e300), "double-counted": double_of_whole_numbers(), "double-over": double_beyond(),
        **{f"double-function-{kind}": double_in_function(kind) for kind in ("branches", "constants", "call")},
    }  # fmt: skip


def double_in_function(kind):
    """x + 2 ** 24 less 2 ** 24 in a function of the file: nothing is left in float32 of x = 0.25.

    branches: Casts within the branches of an If; constants: float64 there, too; call: the call says to which type is cast.
    """
    double = TensorProto.DOUBLE
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    cast = helper.make_node("Cast", ["a"], ["wide"], to=double)
    held = [constant("held", np.float32(2**24)), helper.make_node("CastLike", ["held", "wide"], ["far"])]
    sums = [helper.make_node("Add", ["wide", "far"], ["away"]), helper.make_node("Sub", ["away", "far"], ["back"])]
    last = helper.make_node("Cast", ["back"], ["b"], to=TensorProto.FLOAT)
    called = helper.make_node("F", ["x"], ["y"], domain="own")
    if kind == "call":
        del cast.attribute[:]
        cast.attribute.add(name="to", ref_attr_name="kind", type=onnx.AttributeProto.INT)
        called.attribute.append(helper.make_attribute("kind", double))
        function = helper.make_function("own", "F", ["a"], ["b"], [cast, *held, *sums, last], opsets[:1], ["kind"])
    else:
        tensors = [numpy_helper.from_array(np.asarray(2.0**24), "far")] if kind == "constants" else []
        nodes = [cast, *([] if tensors else held), *sums, last]
        branches = {
            f"{name}_branch": helper.make_graph(nodes, name, [], [value("b", None)], tensors)
            for name in ("then", "else")
        }
        inner = [
            helper.make_node("ReduceMax", ["a"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["some"], to=TensorProto.BOOL),
            helper.make_node("If", ["some"], ["made"], **branches),
        ]
        function = helper.make_function("own", "F", ["a"], ["made"], inner, opsets[:1])
    graph = helper.make_graph([called], "within", [value("x", ["b", 3])], [value("y", ["b", 3])])
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)


def double_of_whole_numbers():
    """x + 1 and whether it is odd, counted in float64."""
    constants = {"one": np.float64(1), "two": np.int64(2)}
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Add", ["wide", "one"], ["next"]),
        helper.make_node("Cast", ["next"], ["y"], to=TensorProto.INT64),
        helper.make_node("Mod", ["y", "two"], ["rest"]),
        helper.make_node("Cast", ["rest"], ["odd"], to=TensorProto.BOOL),
    ]
    made = model(
        nodes,
        [value("x", ["b", 3], TensorProto.INT64)],
        [value("y", ["b", 3], TensorProto.INT64), value("odd", ["b", 3], TensorProto.BOOL)],
    )
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items())
    return made


def double_beyond():
    """x times 1e30, twice, and back: float32 overflows on the way."""
    nodes = [
        helper.make_node("Mul", ["x", "much"], ["more"]),
        helper.make_node("Mul", ["more", "much"], ["most"]),
        helper.make_node("Div", ["most", "much"], ["y"]),
        helper.make_node("Sub", ["most", "most"], ["z"]),
    ]
    double = TensorProto.DOUBLE
    made = model(nodes, [value("x", ["b", 3], double)], [value("y", ["b", 3], double), value("z", ["b", 3], double)])
    made.graph.initializer.append(numpy_helper.from_array(np.asarray(1e30), "much"))
    return made


def with_odd_outputs():
    """Outputs, and an input, of types of which numpy has no arrays; and one that is always empty."""
    half = TensorProto.BFLOAT16
    made = {}
    for name, kind in (("bfloat16", half), ("float8", TensorProto.FLOAT8E4M3FN)):
        cast = helper.make_node("Cast", ["x"], ["y"], to=kind)
        made[f"{name}-alone"] = model([cast], [value("x", ["b", 7])], [value("y", ["b", 7], kind)], opset=19)
    made["bfloat16-too"] = model(
        [helper.make_node("Cast", ["x"], ["y"], to=half), helper.make_node("Relu", ["x"], ["z"])],
        [value("x", ["b", 7])],
        [value("y", ["b", 7], half), value("z", ["b", 7])],
    )
    made["bfloat16-in"] = model(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        [value("x", ["b", 7], half)],
        [value("y", ["b", 7])],
    )
    nodes = [
        constant("zero", np.float32(0)),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Less", ["r", "zero"], ["below"]),
        helper.make_node("NonZero", ["below"], ["places"]),
    ]
    made["nothing-found"] = model(nodes, [value("x", ["b", 7])], [value("places", [2, None], TensorProto.INT64)])
    return made


def with_external_weights(folder):
    big = numpy_helper.from_array(np.ones((3, 5), np.float32), "matrix")
    made = model(
        [
            helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["mean", "matrix"], ["scores"]),
        ],
        [value("picture", CHANNELS_FIRST)],
        [value("scores", ["batch", 5])],
        [big],
    )
    onnx.save(
        made, str(folder / "external.onnx"), save_as_external_data=True, location="external.data", size_threshold=0
    )
    (folder / "external.data").unlink()


def main(folder: Path) -> None:
    made = {
        "first": classifier(),
        **with_odd_shapes(),
        "last": classifier(CHANNELS_LAST),
        "raw": classifier(softmax=False),
        "grey": classifier(["n", 1, 12, 16]),
        "newer": classifier(opset=17, scale=2e-2),
        "two-outputs": with_two_outputs(),
        "two-inputs": with_mask(),
        "quantized": with_quantized_weights(),
        "words-in": with_words(),
        "recurrent": with_state(),
        "stuck": with_batch_of("stuck"),
        "mixing": with_batch_of("mixing"),
        "refusing": with_batch_of("refusing"),
        "sizes-told": with_given_sizes(),
        "branch": with_table_in_a_branch(),
        **with_unknown_ranks(),
        "drawing": drawing(),
        "bands": of_bands(),
        "time-first": of_sequences_time_first(),
        "time-first-table": of_sequences_with_a_table(),
        "ml": of_ml_operators_alone(False),
        "ml-maps": of_ml_operators_alone(True),
        "boxes": model(
            [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("NonZero", ["r"], ["places"])],
            [value("x", ["b", 7])],
            [value("places", [2, None], 7)],
        ),
        "boxes-before": model(
            [helper.make_node("Gemm", ["x", "boxes"], ["y"], transB=1)],
            [value("boxes", ["boxes", 4]), value("x", ["N", 4])],
            [value("y", ["N", "boxes"])],
        ),
        "bytes": classifier(kind=TensorProto.UINT8),
        "half": classifier(kind=TensorProto.FLOAT16),
        "fixed": classifier([1, 3, 12, 16]),
        "sizes": classifier(["batch", 3, "height", 16]),
        "flat": model([helper.make_node("Relu", ["x"], ["y"])], [value("x", ["b", 7])], [value("y", ["b", 7])]),
        "channels": model(
            [helper.make_node("Relu", ["x"], ["y"])], [value("x", ["b", 7, 8, 9])], [value("y", ["b", 7, 8, 9])]
        ),
        "reshape": with_fixed_reshape(),
        "picture": with_picture_output(),
        "overflow": classifier(softmax=False, scale=1e38),
        **with_unknown_operators(),
        "unknown": model(
            [helper.make_node("NoSuchOperator", ["picture"], ["y"])],
            [value("picture", CHANNELS_FIRST)],
            [value("y", ["b", 5])],
        ),
    }
    for name, proto in made.items():
        onnx.save(proto, str(folder / f"{name}.onnx"))
    with_external_weights(folder)
    (folder / "words.onnx").write_text("this is no model\n" * 20)
    (folder / "empty.onnx").write_bytes(b"")
    whole = (folder / "first.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
