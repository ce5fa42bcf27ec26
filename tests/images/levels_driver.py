"""Run by PyTorch's interpreter: the modules of PyTorch's levels, and outputs that no node makes; facts in JSON.

`levels_driver.py levels FOLDER`, `levels_driver.py outputs FOLDER`, `levels_driver.py refused FOLDER`;
`levels_driver.py recipe FOLDER NAME` runs FOLDER/NAME.py, the recipe of one of the models of `outputs`.
"""

import json
import runpy
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from common.harness.adapter import Unsupported
from common.model_files import ModelFiles, Tensor
from images.torch import adapter as torch_adapter
from images.torch import convolution_choice, convolutions, run_options
from tests.images import onnx_driver, untimed

X = np.random.default_rng(4).standard_normal((2, 3)).astype(np.float32)
W = np.arange(6, dtype=np.float32).reshape(2, 3)


def files(folder, model, name, inputs, outputs):
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / f"{name}.onnx"))
    return ModelFiles(
        root=folder, name=name, hash=name, onnx=f"{name}.onnx", keras=None, saved_model=None, reference="none", input_shape=(3,),
        layout="", onnx_input="x", onnx_output="y", output_kind="raw", classes=0, weights="user", weights_note="",
        inputs=tuple(Tensor(one, "float32", shape) for one, shape in inputs.items()),
        outputs=tuple(Tensor(one, "float32", shape) for one, shape in outputs.items()),
    )  # fmt: skip


def loaded(model, level, folder):
    one = torch_adapter.create("torch")
    one.tune(level)
    one.load(model, "fp32", "cpu", str(folder / "cache"), 1)
    return one


def chosen_so(letters):
    """A choice that gives the three convolutions these algorithms."""

    def choose(module, inputs):
        convolutions.set_algorithms(module, letters)

    return choose


def of_level(model, level, folder, wanted):
    """Of each way of the level, in order: its name, the operators of its module, its settings, how far its output is off."""
    found = []
    for number in range(len(run_options.possible("torch", level, False, True, level != "stock"))):
        untimed.build_only(number)
        one = loaded(model, level, folder)
        one.prepare({"images": wanted["images"]}, "host")
        one.run()
        module = one._modules[one._run][0]
        kinds = Counter(getattr(each, "framewatt_operator", "").split(" ")[0] for each in module.modules())
        kinds.update(type(each).__name__ for each in module.modules())
        made = one.output()["probabilities"]
        found.append({
            "name": one._run.name, "settings": one.settings(), "Mul": kinds["Mul"], "Add": kinds["Add"],
            "Hardswish": kinds["Hardswish"], "off": onnx_driver.rel_l2(made, wanted["probabilities"]),
        })  # fmt: skip
        one.close()
    return found


def levels(folder):
    model = onnx_driver.small_network(np.random.default_rng(5), 17)
    images = np.random.default_rng(6).uniform(0, 255, (2, 24, 24, 3)).astype(np.float32)
    wanted = {"images": images, "probabilities": ReferenceEvaluator(model).run(None, {"images": images})[0]}
    small = files(folder, model, "small", {"images": (1, 24, 24, 3)}, {"probabilities": (1, 10)})
    facts = {level: of_level(small, level, folder, wanted) for level in ("stock", "tuned")}
    for letters in ("ccc", "ccm"):
        convolution_choice.choose = chosen_so(letters)
        facts[f"rewritten {letters}"] = of_level(small, "rewritten", folder / letters, wanted)
    return facts


def model_of(nodes, outputs, constants=()):
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])]
    made = [helper.make_tensor_value_info(one, TensorProto.FLOAT, shape) for one, shape in outputs.items()]
    graph = helper.make_graph(nodes, "graph", given, made, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def odd_models():
    """An output that is an initializer, beside another and alone; one that is the input; one whose obvious other name is taken."""
    relu, w = helper.make_node("Relu", ["x"], ["y"]), numpy_helper.from_array(W, "w")
    batch, fixed = ["n", 3], [2, 3]
    return {
        "constout": model_of([relu], {"y": batch, "w": fixed}, [w]),
        "dupout": model_of([relu], {"y": batch, "x": batch}),
        "inputfirst": model_of([relu], {"x": batch, "y": batch}),
        "constalone": model_of([], {"w": fixed}, [w]),
        "taken": model_of([helper.make_node("Relu", ["x"], ["x_"])], {"x_": batch, "x": batch}),
    }


def outputs(folder):
    facts = {}
    for name, proto in odd_models().items():
        names = [one.name for one in proto.graph.output]
        wanted = dict(zip(names, ReferenceEvaluator(proto).run(None, {"x": X}), strict=True))
        model = files(folder, proto, name, {"x": (1, 3)}, dict.fromkeys(names, (1, 3)))
        untimed.build_only(0)
        one = loaded(model, "stock", folder)
        one.prepare({"x": X}, "host")
        one.run()
        made = one.output()
        equal = {key: bool(np.array_equal(values, wanted[key])) for key, values in made.items()}
        facts[name] = {"equal": equal, "settings": one.settings()}
    return facts


def recipe(folder, name):
    made = runpy.run_path(str(folder / f"{name}.py"), run_name="a_recipe")
    infer, results = made["load"](str(folder / f"{name}.onnx"), {"x": X})
    infer()
    proto = odd_models()[name]
    wanted = dict(
        zip([one.name for one in proto.graph.output], ReferenceEvaluator(proto).run(None, {"x": X}), strict=True)
    )
    return {key: bool(np.array_equal(values, wanted[key])) for key, values in results().items()}


def refused(folder):
    """What is said of operators that onnx2torch leaves to torchvision."""
    boxes = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4])
    scores = helper.make_tensor_value_info("s", TensorProto.FLOAT, [1, 1, 3])
    kept = helper.make_tensor_value_info("y", TensorProto.INT64, ["n", 3])
    node = helper.make_node("NonMaxSuppression", ["x", "s"], ["y"])
    graph = helper.make_graph([node], "boxes", [boxes, scores], [kept])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = files(folder, proto, "boxes", {"x": (1, 3, 4), "s": (1, 1, 3)}, {"y": (1, 3)})
    try:
        loaded(model, "stock", folder)
    except Unsupported as error:
        return {"said": str(error)}
    return {"said": ""}


if __name__ == "__main__":
    where = Path(sys.argv[2])
    actions = {"levels": levels, "outputs": outputs, "refused": refused, "recipe": recipe}
    print(json.dumps(actions[sys.argv[1]](where, *sys.argv[3:])))
