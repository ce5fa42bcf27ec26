"""Run by an image's interpreter: what becomes of a constant of 1e9 in float16, as facts in JSON.

`float16_driver.py SYSTEM FOLDER`: by what reads it, the largest number that is left of it, or the refusal. SYSTEM is tensorrt, onnxrt
or torch, of the same ONNX graphs, or tensorflow (frozen graphs) or keras (layers).
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common.harness.adapter import Unsupported
from common.model_files import ModelFiles, Tensor

FAR = np.ones((4, 4), np.float32)
FAR[1, 2] = 1e9


def constants():
    return {
        "far": FAR, "row": FAR[1], "ones": np.ones(4, np.float32), "axis": np.array([0]), "first": np.array([0]),
        "shape": np.array([3, 4, 4]), "w": FAR[None], "r": np.ones((1, 4, 1), np.float32), "endless": np.where(FAR < 2, np.inf, FAR),
        "places": np.array([[0]]), "columns": np.arange(4)[None].repeat(4, 0), "nought": np.array(0), "nought1": np.array([0]),
        "one1": np.array([1]), "row1": np.ones((1, 4), np.float32), "half1": np.float32([0.5]), "two1": np.float32([2]),
        "million": np.float32(1e6), "millionth": np.float32(1e-6),
        "whole": FAR.astype(np.int64), "square": np.array([4, 4]), "many": np.full((4, 4), 1000, np.float32),
        "half": np.full((4, 4), 0.5, np.float32), "filters": FAR[..., None, None],
    }  # fmt: skip


def node(kind, inputs, outputs, **more):
    from onnx import helper

    return helper.make_node(kind, inputs.split(), outputs.split(), **more)


def graphs():
    """What reads the constant -> nodes from x (N, 4) to y."""
    from onnx import TensorProto, helper, numpy_helper

    value = numpy_helper.from_array(FAR)
    then = helper.make_graph([node("MatMul", "x far", "t")], "then", [], [helper.make_tensor_value_info("t", 1, None)])
    other = helper.make_graph([node("Relu", "x", "e")], "else", [], [helper.make_tensor_value_info("e", 1, None)])
    return {
        "Add": [node("Add", "x far", "y")],
        "Where": [node("Cast", "x", "some", to=TensorProto.BOOL), node("Where", "some x far", "y")],
        "handed on to Mul": [node("Unsqueeze", "far axis", "one"), node("Expand", "one shape", "m"), node("Mul", "x m", "y")],
        "a Constant node to Sub": [node("Constant", "", "c", value=value), node("Sub", "x c", "y")],
        "Max": [node("Max", "x far", "y")],
        "Sum": [node("Sum", "x far", "y")],
        "Softmax": [node("Concat", "x far", "both", axis=0), node("Softmax", "both", "y", axis=1)],
        "Trilu to Add": [node("Trilu", "far", "m"), node("Add", "x m", "y")],
        "Less": [node("Less", "x far", "some"), node("Cast", "some", "y", to=TensorProto.FLOAT)],
        "constants to Add": [node("Mul", "far half", "m"), node("Add", "x m", "y")],
        "MatMul": [node("MatMul", "x far", "y")],
        "Add and MatMul": [node("Add", "x far", "z"), node("MatMul", "z far", "y")],
        "MatMul, and returned": [node("MatMul", "x far", "y")],
        "Concat to MatMul": [node("Concat", "far far", "both", axis=1), node("MatMul", "x both", "y")],
        "Transpose to MatMul": [node("Transpose", "far", "turned", perm=[1, 0]), node("MatMul", "x turned", "y")],
        "a Constant node to MatMul": [node("Constant", "", "c", value=value), node("MatMul", "x c", "y")],
        "constants to MatMul": [node("Mul", "far half", "w0"), node("MatMul", "x w0", "y")],
        "with infinity": [node("MatMul", "x endless", "y")],
        "Div": [node("Div", "x far", "y")],
        "Gemm": [node("Gemm", "x far", "y")],
        "Conv": [node("Reshape", "x pixels", "p"), node("Conv", "p filters", "q"), node("Flatten", "q", "y")],
        "variance": [node("BatchNormalization", "x ones ones ones row", "y")],
        "LSTM": [node("Unsqueeze", "x first", "s"), node("LSTM", "s w r", "y", hidden_size=1)],
        "returned": [node("Identity", "far", "y")],
        "in a branch": [node("ReduceMax", "x", "most", keepdims=0), node("Cast", "most", "some", to=TensorProto.BOOL),
                        node("If", "some", "y", then_branch=then, else_branch=other)],
    }  # fmt: skip


def graphs_that_hand_on():
    """Likewise, for operators that change at most sign, type or place."""
    from onnx import TensorProto

    return {
        "Cast to Add": [node("Cast", "far", "m", to=TensorProto.FLOAT), node("Add", "x m", "y")],
        "Neg to Add": [node("Neg", "far", "m"), node("Add", "x m", "y")],
        "ScatterND to Add": [node("ScatterND", "far places row1", "m"), node("Add", "x m", "y")],
        "ScatterElements to Add": [node("ScatterElements", "half columns far", "m", axis=1), node("Add", "x m", "y")],
        # with what the input says: not computed of constants alone
        "Concat, Cast and Neg to Add": [
            node("Concat", "x far", "c", axis=0), node("Cast", "c", "d", to=TensorProto.FLOAT), node("Neg", "d", "m"),
            node("Add", "ones m", "y"),
        ],
        "ScatterND in place to Add": [
            node("Cast", "x", "i", to=TensorProto.INT64), node("Mul", "i nought", "j"), node("Slice", "j nought1 one1 one1", "k"),
            node("ScatterND", "far k row1", "m"), node("Add", "x m", "y"),
        ],
        "ScatterElements in place to Add": [
            node("Cast", "x", "i", to=TensorProto.INT64), node("Mul", "i nought", "j"),
            node("ScatterElements", "half j far", "m", axis=1), node("Add", "x m", "y"),
        ],
        "Cast to truth values": [
            node("Concat", "x far", "c", axis=0), node("Cast", "c", "some", to=TensorProto.BOOL),
            node("Where", "some half1 two1", "y"),
        ],
        "Neg to MatMul": [node("Concat", "x far", "c", axis=0), node("Neg", "c", "m"), node("MatMul", "m half", "y")],
        "Cast to MatMul": [
            node("Concat", "x far", "c", axis=0), node("Cast", "c", "m", to=TensorProto.FLOAT), node("MatMul", "m half", "y"),
        ],
    }  # fmt: skip


def model_of(nodes, returned=()):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    known = {**constants(), "pixels": np.array([-1, 4, 1, 1])}
    nested = [one for each in nodes for attribute in each.attribute for one in attribute.g.node]
    read = {one for each in (*nodes, *nested) for one in each.input}
    graph = helper.make_graph(
        nodes, "far", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info(one, TensorProto.FLOAT, None) for one in ("y", *returned)],
        [numpy_helper.from_array(values, name) for name, values in known.items() if name in read],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def graphs_of_constants():
    """Likewise, where what is computed of constants alone is read: within the range, though they are not."""
    return {
        "Div of constants to MatMul": [node("Div", "far million", "m"), node("MatMul", "x m", "y")],
        "Mul of constants to Add": [node("Mul", "far millionth", "m"), node("Add", "x m", "y")],
        "Log of constants to MatMul": [node("Abs", "far", "a"), node("Log", "a", "m"), node("MatMul", "x m", "y")],
        "Abs of constants to MatMul": [node("Abs", "far", "m"), node("MatMul", "x m", "y")],
        "Abs of constants to Add": [node("Abs", "far", "m"), node("Add", "x m", "y")],
        **graphs_of_made_constants(),
    }


def graphs_of_made_constants():
    """Likewise, where no constant of the file is a number in floating point beyond the range, but one that is made of it."""
    from onnx import TensorProto, numpy_helper

    filler = numpy_helper.from_array(np.float32([1e9]))
    counted = [
        node("Cast", "x", "i", to=TensorProto.INT64),
        node("Mul", "i nought", "j"),
        node("ReduceMax", "j", "k", keepdims=0),
    ]
    filled = [*counted, node("Add", "k square", "v"), node("ConstantOfShape", "v", "c", value=filler)]
    cast = node("Cast", "whole", "c", to=TensorProto.FLOAT)
    root = [node("Sqrt", "c", "m")]
    return {
        "Sqrt of a whole number to MatMul": [cast, *root, node("MatMul", "x m", "y")],
        "Sqrt of filled ones to MatMul": [node("ConstantOfShape", "square", "c", value=filler), *root, node("MatMul", "x m", "y")],
        "Mul to Sqrt to MatMul": [
            node("Mul", "many many", "c"), node("Sqrt", "c", "m"), node("MatMul", "x m", "y"),
        ],
        "a reshaped whole number to MatMul": [
            node("Reshape", "whole square", "w2"), node("Cast", "w2", "far2", to=TensorProto.FLOAT), node("MatMul", "x far2", "y"),
        ],
        "a whole number to Add": [cast, node("Identity", "c", "m"), node("Add", "x m", "y")],
        "filled to MatMul": [*filled, node("MatMul", "x c", "y")],
        "filled to Sqrt": [*filled, node("Sqrt", "c", "m"), node("MatMul", "x m", "y")],
    }  # fmt: skip


def largest_left(model):
    """Of constants that are called far, or are computed of it, or have no name."""
    from onnx import numpy_helper

    tensors = [*model.graph.initializer, *(one.attribute[0].t for one in model.graph.node if one.op_type == "Constant")]
    kept = [numpy_helper.to_array(one) for one in tensors if one.name in ("", "far", "m")]
    return max(float(np.abs(np.asarray(one, np.float32)).max()) for one in kept) if kept else None


def by_tensorrt(path, folder):
    import onnx

    from images.tensorrt.retype import retype

    return largest_left(onnx.load_from_string(retype(path, "fp16")))


def by_onnxrt(path, folder):
    import onnx
    import onnxruntime

    from images.onnxrt.model_cache import rewritten

    file, _ = rewritten(path, folder, path.stem, True)
    onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return largest_left(onnx.load(str(file)))


def by_torch(path, folder):
    from images.torch import adapter

    files = ModelFiles(
        root=folder, name=path.stem, hash=path.stem, onnx=path.name, keras=None, saved_model=None, reference="none", input_shape=(4,),
        layout="", onnx_input="x", onnx_output="y", output_kind="raw", classes=0, weights="user", weights_note="",
        inputs=(Tensor("x", "float32", (1, 4)),), outputs=(Tensor("y", "float32", (1, 4)),),
    )  # fmt: skip
    one = adapter.create("torch")
    one.load(files, "fp16", "cpu", str(folder / "cache"), 1)
    return max(float(values.abs().max()) for values in one._module.buffers() if values.is_floating_point())


def of_onnx(system, folder):
    import onnx

    found = {}
    for number, (name, nodes) in enumerate({**graphs(), **graphs_that_hand_on(), **graphs_of_constants()}.items()):
        path = folder / f"graph{number}.onnx"
        onnx.save(model_of(nodes, ["far"] if name.endswith("and returned") else []), str(path))
        try:
            found[name] = {"tensorrt": by_tensorrt, "onnxrt": by_onnxrt, "torch": by_torch}[system](path, folder)
        except Unsupported as error:
            found[name] = str(error)
    return found


def of_tensorflow():
    import tensorflow as tf

    from images.tensorflow import frozen_graph

    far = tf.constant(FAR)
    calls = {
        "Add": lambda x: x + far,
        "Where": lambda x: tf.where(x > 0, x, far),
        "handed on to Mul": lambda x: x * tf.tile(tf.expand_dims(far, 0), tf.stack([tf.shape(x)[0], 1, 1])),
        "Max": lambda x: tf.maximum(x, far),
        "AddN": lambda x: tf.add_n([x, far]),
        "Concat to Softmax": lambda x: tf.nn.softmax(tf.concat([x, far], 0)) + 1.0,
        "Neg to Add": lambda x: 1.0 + -tf.concat([x, far], 0),
        "scattered to Add": lambda x: 1.0 + tf.tensor_scatter_nd_update(far, tf.cast(x[:1, :1], tf.int32), x[:1]),
        "Cast to truth values": lambda x: tf.where(tf.cast(tf.concat([x, far], 0), tf.bool), 0.5, 2.0),
        "Cast to whole numbers": lambda x: tf.cast(tf.cast(tf.concat([x, far], 0), tf.int32), tf.float32),
        "Neg to MatMul": lambda x: -tf.concat([x, far], 0) @ tf.ones((4, 4)),
        "a lone number to Sub": lambda x: x - tf.constant(1e9),
        "infinity to Sub": lambda x: x - tf.constant(np.float32(np.inf)),
        "MatMul": lambda x: x @ far,
        "Add and MatMul": lambda x: (x + far) @ far,
        "Concat to MatMul": lambda x: x @ tf.concat([far, tf.reshape(x, [4, 4])], 1),
        "RealDiv": lambda x: x / far,
        "a lone number to RealDiv": lambda x: x / tf.constant(1e9),
        "returned": lambda x: far,
    }
    found = {}
    for name, call in calls.items():
        spec = tf.TensorSpec([None, 4], tf.float32, name="x")
        graph = tf.function(call, input_signature=[spec]).get_concrete_function().graph
        definition = graph.as_graph_def()
        result = definition.node.add(name=frozen_graph.OUTPUT, op="Identity", input=[graph.outputs[0].name])
        result.attr["T"].type = tf.float32.as_datatype_enum
        try:
            half = frozen_graph.to_half(tf, definition)
        except Unsupported as error:
            found[name] = str(error)
            continue
        kept = [tf.make_ndarray(one.attr["value"].tensor) for one in half.node if one.op == "Const"]
        found[name] = max(float(values.astype(np.float32).max()) for values in kept if values.dtype == np.float16)
    return found


def of_keras(folder):
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    from images._shared.keras_file import load_model

    found = {}
    # number of the weight among those of the model: a layer's, a normalisation's, the last layer's, which stays float32
    for name, place in {"kernel": 0, "moving variance": 5, "of the last layer": 6}.items():
        x = keras.Input((4,))
        inner = keras.layers.BatchNormalization(name="normal")(keras.layers.Dense(4, name="wide")(x))
        model = keras.Model(x, keras.layers.Dense(4, name="head")(inner))
        weights = model.get_weights()
        weights[place] = np.full_like(weights[place], 1e9)
        model.set_weights(weights)
        model.save(folder / "model.keras")
        files = ModelFiles(
            root=folder, name="far", hash="0", onnx=None, keras="model.keras", saved_model=None, reference="none", input_shape=(4,),
            layout="", onnx_input="x", onnx_output="y", output_kind="raw", classes=0, weights="user", weights_note="",
        )  # fmt: skip
        try:
            found[name] = float(max(one.max() for one in load_model(files, "fp16").get_weights()))
        except Unsupported as error:
            found[name] = str(error)
        load_model(files, "bf16")
    return found


if __name__ == "__main__":
    system, where = sys.argv[1], Path(sys.argv[2])
    answer = {"tensorflow": of_tensorflow, "keras": lambda: of_keras(where)}.get(
        system, lambda: of_onnx(system, where)
    )()
    print(json.dumps(answer))
