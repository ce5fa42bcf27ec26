"""The ONNX Runtime image without a GPU; what it has in common with PyTorch's, and the GPU, is in test_onnx_images.py."""

import json
import subprocess
import types
from pathlib import Path

import numpy as np
import pytest

from common.model_files import Tensor
from tests.images.workshop import REPOSITORY, Workshop, check, cpu_workshop

FP32_TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory, small_onnx: Path) -> Workshop:
    return cpu_workshop("onnxrt", tmp_path_factory.mktemp("onnxrt"), small_onnx)


@pytest.mark.framework
def test_opset_18_is_no_obstacle(on_cpu):
    check(on_cpu.exercise("onnxrt", on_cpu.make(18)), FP32_TOLERANCE)


@pytest.mark.framework
def test_the_tensorrt_provider_is_refused_on_a_cpu(on_cpu):
    assert "GPU" in on_cpu.exercise("onnxrt-trt", on_cpu.make(17))["refusal"]


def kept(graph, bias):
    from images.onnxrt.trial import Choice, EarlierTrial

    return EarlierTrial(Choice(graph=graph, fused_bias=bias), {"one choice": "1.000 ms"}, "2026-11-28T10:11:12Z")


def test_choices_of_a_shape_survive_the_process_and_a_damaged_file_does_not_matter(tmp_path):
    from images.onnxrt.trial import ChoiceCache

    path = tmp_path / "cache" / "choices.json"
    ChoiceCache(path).put("a", kept(True, False))
    ChoiceCache(path).put("b", kept(False, True))
    assert ChoiceCache(path).get("a") == kept(True, False)
    assert ChoiceCache(path).get("b") == kept(False, True)
    assert ChoiceCache(path).get("c") is None
    stored = json.loads(path.read_text())
    del stored["b"]["utc"]  # as before the time of a trial was kept
    path.write_text(json.dumps(stored))
    assert ChoiceCache(path).get("b") == kept(False, True)._replace(utc="")
    path.write_text('{"a": [true, false], "b": {"choice": {"graph": true}, "tried": {}}}')  # of another version
    assert ChoiceCache(path).get("a") is None
    assert ChoiceCache(path).get("b") is None
    path.write_text('{"a": [true')
    assert ChoiceCache(path).get("a") is None


class Machine:
    """Builds ways whose speed is known; one build takes 10 s of the clock that it is."""

    def __init__(self, seconds, broken=lambda choice: False):
        self.seconds, self.broken, self.now, self.open = seconds, broken, 0.0, []

    def build(self, choice):
        self.now += 10
        if self.broken(choice):
            raise RuntimeError(f"cannot do {choice}")
        one = types.SimpleNamespace(choice=choice, run=lambda: self.seconds(choice))
        one.close = lambda: self.open.remove(one)
        self.open.append(one)
        return one

    def search(self, bound, **more):
        from images.onnxrt.trial import search

        found = search(self.build, bound, lambda run: run(), clock=lambda: self.now, **more)
        assert self.open == [found.inference]  # what lost gave its memory back
        assert found.inference.choice == found.choice
        return found


def slower_unless(**wanted):
    return lambda choice: 1.0 + sum(getattr(choice, name) != value for name, value in wanted.items())


def test_the_trial_keeps_each_choice_that_was_faster():
    from images.onnxrt.trial import Choice

    best = {"graph": True, "nhwc": False, "fused_activation": False, "fused_bias": True, "exhaustive": False}
    found = Machine(slower_unless(**best)).search(1000)
    assert found.choice == Choice(**best)
    # as it was, no graph, bias fused, and so on: each tried on top of what had won before it
    assert [float(words.split()[0]) for words in found.tried.values()] == [5000, 6000, 4000, 3000, 2000, 1000]
    assert "bias fused" in list(found.tried)[2]


def test_the_trial_begins_nothing_new_after_its_bound():
    machine = Machine(slower_unless(exhaustive=False))
    assert machine.search(25).choice.exhaustive is True
    assert machine.now == 30


def test_without_a_bound_the_first_algorithm_that_works_is_taken_unmeasured():
    machine = Machine(lambda choice: pytest.fail("measured"), broken=lambda choice: choice.graph)
    found = machine.search(0)
    assert not found.choice.graph
    assert "cannot do" in next(iter(found.tried.values()))
    assert machine.now == 20


def test_an_algorithm_that_does_not_work_is_skipped_and_reported_and_none_at_all_raises_its_reason():
    from images.onnxrt.trial import Choice

    found = Machine(slower_unless(nhwc=False, fused_bias=True), broken=lambda choice: not choice.nhwc).search(1000)
    assert found.choice == Choice(fused_bias=True)  # what the broken way would have gained is not there
    assert sum("cannot do" in result for result in found.tried.values()) == 1
    with pytest.raises(RuntimeError, match="cannot do"):
        Machine(slower_unless(), broken=lambda choice: True).search(1000)


def test_an_algorithm_that_computes_something_else_does_not_win_however_fast_it_is():
    from images.onnxrt.trial import Choice

    fast = slower_unless(graph=True, fused_bias=True)
    errors = {True: 0.3, False: 0.02}
    found = Machine(fast).search(1000, error_of=lambda one: errors[one.choice.fused_bias], limit=0.1)
    assert found.choice == Choice(fused_bias=False)
    assert list(found.tried.values())[2] == "1000.000 ms, but outputs are off by 0.3"


def test_where_the_first_algorithm_computes_something_else_another_is_tried_even_without_a_bound():
    machine = Machine(slower_unless())
    found = machine.search(0, error_of=lambda one: 0.3 if one.choice.graph else 0.02, limit=0.1)
    assert found.choice.graph is False
    assert machine.now == 20


def test_an_algorithm_that_fails_when_it_is_compared_gives_its_memory_back():
    def error_of(one):
        if one.choice.nhwc:
            raise RuntimeError("the graph cannot be replayed")
        return 0.0

    found = Machine(slower_unless()).search(1000, error_of=error_of)  # search() looks at what is still open
    assert found.choice.nhwc is False


def test_where_every_algorithm_computes_something_else_the_least_wrong_is_left_to_the_harness():
    off = {(True, False): float("nan"), (False, False): 0.5, (False, True): 0.2}
    found = Machine(slower_unless()).search(
        1000, fields=["graph", "fused_bias"], error_of=lambda one: off[one.choice[:2]], limit=0.1
    )
    assert found.choice[:2] == (False, True)
    assert all("outputs are off by" in words for words in found.tried.values())


@pytest.mark.parametrize(("batch_size", "wrong", "least"), [(1, 0, 1.0), (8, 5, 0.3), (64, 33, 0.1), (512, 511, 0.1)])
def test_one_wrong_image_of_those_compared_is_more_than_any_precision_may_be_off(batch_size, wrong, least):
    from images.onnxrt.trial import LIMITS, Expected

    right = np.random.default_rng(1).uniform(size=(batch_size, 10))
    requested = []

    def on_cpu(inputs):
        requested.append(inputs["number"])
        return {"scores": right[inputs["number"]]}

    model = types.SimpleNamespace(
        fixed_batch=None,
        inputs=[Tensor("number", "int64", (1,))],
        outputs=[Tensor("scores", "float32", (1, 10))],
    )
    expected = Expected(model, {"number": np.arange(batch_size)}, on_cpu)
    outputs = right.copy()
    one = types.SimpleNamespace(run=lambda: None, output=lambda: {"scores": outputs})
    assert expected.error_of(one) == 0
    outputs[wrong] = -right[wrong]
    assert expected.error_of(one) > least >= max(LIMITS.values())
    outputs[wrong] = np.nan
    assert not expected.error_of(one) <= 0.1
    assert len(requested) == 1, "the CPU is asked once"
    assert len(requested[0]) <= 64


def test_a_choice_from_before_outputs_were_compared_does_not_count(tmp_path):
    from images.onnxrt.trial import ChoiceCache

    cache = ChoiceCache(tmp_path / "choices.json")
    cache.put("a", kept(True, False))
    text = (tmp_path / "choices.json").read_text()
    (tmp_path / "choices.json").write_text(text.replace('"checked": true', '"checked": false'))
    assert cache.get("a") is None


def test_what_is_not_worth_turning_is_left_alone():
    machine = Machine(slower_unless(fused_activation=False))
    assert machine.search(1000, fields=["graph", "nhwc", "fused_bias"]).choice.fused_activation
    assert machine.now == 40


def test_the_environment_sets_another_bound(monkeypatch):
    from images.onnxrt.host_check import TRIAL_SECONDS
    from images.onnxrt.trial import bound

    monkeypatch.delenv("FRAMEWATT_ONNXRT_TRIAL_SECONDS", raising=False)
    assert bound() == TRIAL_SECONDS
    monkeypatch.setenv("FRAMEWATT_ONNXRT_TRIAL_SECONDS", "0")
    assert bound() == 0


def test_allocation_failures_are_told_from_other_failures():
    from common.harness.adapter import DeviceOutOfMemory
    from images.onnxrt.sessions import explain

    words = (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : BFCArena::AllocateRawInternal Failed to allocate memory for 8 B"
    )
    assert isinstance(explain(RuntimeError(words)), DeviceOutOfMemory)
    assert not isinstance(explain(RuntimeError("INVALID_GRAPH")), DeviceOutOfMemory)


def test_cuda_options_say_what_the_precision_means():
    from images.onnxrt.gpu_options import cuda_options
    from images.onnxrt.trial import Choice

    options = {p: cuda_options(0, 1, p, Choice()) for p in ("fp32", "tf32", "fp16")}
    assert {p: o["use_tf32"] for p, o in options.items()} == {"fp32": "0", "tf32": "1", "fp16": "0"}
    assert all(o["cudnn_conv_algo_search"] == "EXHAUSTIVE" and o["prefer_nhwc"] == "1" for o in options.values())


def test_cuda_options_say_what_was_chosen():
    from images.onnxrt.gpu_options import cuda_options
    from images.onnxrt.trial import Choice

    options = cuda_options(0, 1, "fp16", Choice(graph=False, nhwc=False, fused_bias=True, exhaustive=False))
    names = ("enable_cuda_graph", "prefer_nhwc", "fuse_conv_bias", "cudnn_conv_algo_search")
    assert [options[name] for name in names] == ["0", "0", "1", "HEURISTIC"]


MODEL_FILES = """
import json, sys
from pathlib import Path
from images.onnxrt.model_cache import rewritten
from common.onnx_rewrites import lift_constants
import onnx
model = onnx.load(sys.argv[1])
assert lift_constants(model)  # an exporter writes initializers
source = Path(sys.argv[2]) / "lifted.onnx"
onnx.save(model, source)
for half in (False, True):
    for fuse in (False, True):
        path, words = rewritten(source, Path(sys.argv[2]), "k", half, fuse)
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        print(json.dumps([str(path), words, "HardSwish" in kinds, "Clip" in kinds]))
"""


@pytest.mark.framework
def test_the_model_file_with_the_activations_as_exported_is_another_one_in_either_precision(on_cpu, tmp_path):
    source = on_cpu.make(17) / "model.onnx"
    command = [str(on_cpu.interpreter), "-c", MODEL_FILES, str(source), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    single, single_fused, half, half_fused = [json.loads(line) for line in done.stdout.splitlines()]
    assert single[0] == str(tmp_path / "lifted.onnx")
    assert len({one[0] for one in (single, single_fused, half, half_fused)}) == 4
    assert [one[2:] for one in (single, half)] == [[False, True]] * 2
    assert [one[2:] for one in (single_fused, half_fused)] == [[True, False]] * 2
    assert "float16" in half[1]
    names = {Path(one[0]).stem for one in (single_fused, half, half_fused)}
    earlier = {f"k-{kind}{rest}" for kind in ("fp16", "fp16-fitting") for rest in ("", "-unfused")}
    earlier |= {"k-fp32", "k-fp16-folded", "k-fp32-fused", "k-fp16-computed-fused"}
    assert not names & earlier, (
        "not a file that an earlier version made, which limited weights, named nodes twice or passed over constants"
    )


FED_AS_BYTES = """
import sys
from pathlib import Path
import onnx
from images.onnxrt.model_cache import rewritten
folder = Path(sys.argv[2])
for half in (False, True):
    for fuse in (False, True):
        for kind in ("fp32", "fp16-fitting"):  # of an earlier version, with names in branches wrong
            for suffix in ("onnx", "txt"):
                (folder / f"k-{kind}{'' if fuse else '-unfused'}-uint8.{suffix}").write_text("of an earlier version")
        path, words = rewritten(Path(sys.argv[1]), folder, "k", half, fuse, ("images",))
        assert "earlier" not in words
        assert onnx.load(path).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
"""


@pytest.mark.framework
def test_a_file_for_bytes_of_an_earlier_version_is_not_taken(on_cpu, tmp_path):
    command = [str(on_cpu.interpreter), "-c", FED_AS_BYTES, str(on_cpu.make(17) / "model.onnx"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr


HANDED_ON = """
import json, sys
from pathlib import Path
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from images.onnxrt.model_cache import rewritten
value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
w = numpy_helper.from_array(np.array([1.00001, 2, 1e9, 4], np.float32), "w")
graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [value("x", ["N", 4])],
                          [value("x", ["N", 4]), value("y", ["N", 4]), value("w", [4])], [w])
source = Path(sys.argv[1]) / "model.onnx"
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
path, words = rewritten(source, Path(sys.argv[1]), "k", True)
session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
x = np.array([[0.10001, -2, 3, 1e6]], np.float32)
print(json.dumps([words, [one.name for one in session.get_outputs()], *(one.tolist() for one in session.run(None, {"x": x}))]))
"""


@pytest.mark.framework
def test_outputs_that_are_an_input_or_a_constant_stay_as_they_are_in_float16(on_cpu, tmp_path):
    """The converter makes two tensors of one name of each."""
    command = [str(on_cpu.interpreter), "-c", HANDED_ON, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    words, names, x, y, w = json.loads(done.stdout)
    assert words == "as exported, float16 inside, float32 input and output, 2 outputs handed on as they are"
    assert names == ["x", "y", "w"]
    assert np.array_equal(np.float32(x), np.float32([[0.10001, -2, 3, 1e6]]))
    assert np.array_equal(np.float32(w), np.float32([1.00001, 2, 1e9, 4]))
    assert y[0][:2] == pytest.approx([1.10002, 0], rel=1e-3)


OLD_FILE = """
import json, sys
from pathlib import Path
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from common.harness.adapter import Unsupported
from images.onnxrt.model_cache import rewritten
value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
folder = Path(sys.argv[1])
for number, (largest, outputs) in enumerate([(2, ["y"]), (2, ["y", "w"]), (1e9, ["y"]), (1e9, ["y", "w"])]):
    w = np.full((4, 4), largest, np.float32)
    shapes = {"x": ["N", 4], "y": ["N", 4], "w": [4, 4]}
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [value("x", ["N", 4]), value("w", [4, 4])],
                              [value(one, shapes[one]) for one in outputs], [numpy_helper.from_array(w, "w")])
    source = folder / f"model{number}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3), source)
    try:
        path, words = rewritten(source, folder, f"k{number}", True)
    except Unsupported as error:
        print(json.dumps(str(error)))
        continue
    model = onnx.load(path)
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    (product,) = [node for node in model.graph.node if node.op_type == "MatMul"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    made = session.run(None, {"x": np.ones((1, 4), np.float32)})
    print(json.dumps([words, kinds.get(product.input[1]) == TensorProto.FLOAT16, [one.name for one in model.graph.input],
                      [str(one.dtype) for one in made], float(made[0].max())]))
"""


@pytest.mark.framework
def test_weights_that_an_old_file_lists_as_inputs_are_converted_and_judged_under_their_own_names(on_cpu, tmp_path):
    """The converter casts inputs of the graph in each inference and leaves what they hold in float32."""
    command = [str(on_cpu.interpreter), "-c", OLD_FILE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    alone, returned, *far = [json.loads(line) for line in done.stdout.splitlines()]
    assert alone[1:] == [True, ["x"], ["float32"], 8.0]
    assert returned[1:] == [True, ["x"], ["float32"] * 2, 8.0]
    assert all("constants taken off the list of inputs" in one[0] for one in (alone, returned))
    assert far == ["weight w, which MatMul reads, reaches 1e+09, beyond float16's 65504"] * 2


EXPECTED = """
import sys
from pathlib import Path
import numpy as np
from common.model_files import ModelFiles
from images.onnxrt.adapter import create
model = ModelFiles.read(Path(sys.argv[1]))
inputs = np.load(model.path(model.reference))["inputs"]
batch = np.ascontiguousarray(inputs[np.arange(100) % len(inputs)])
adapter = create("onnxrt")
adapter.load(model, "fp32", "cpu", sys.argv[2], 2)
adapter.prepare({"images": batch}, "host")
expected = adapter._expected({"images": batch})
print(expected.error_of(adapter._inference))
adapter._inference.place({"images": batch[::-1]})
print(expected.error_of(adapter._inference))
"""


@pytest.mark.framework
def test_what_a_batch_should_give_comes_from_the_cpu_provider(on_cpu, tmp_path):
    command = [str(on_cpu.interpreter), "-c", EXPECTED, str(on_cpu.make(17)), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    same, other = (float(line) for line in done.stdout.split())
    assert same < 1e-5
    assert other > 0.05


class Built:
    """Stands for an inference: what was asked of it."""

    def __init__(self):
        self.requested = []

    def __getattr__(self, name):
        return lambda *arguments: self.requested.append(name)


def test_what_was_built_for_one_io_serves_the_other_and_only_with_the_same_choice():
    from images.onnxrt.adapter import OnnxRuntimeAdapter

    adapter = OnnxRuntimeAdapter("onnxrt", None)
    first, made = Built(), []

    def build():
        made.append(Built())
        return made[-1]

    adapter._earlier = (("tuned", "NHWC"), first)
    assert adapter._reused("tuned", "NCHW", build, {}, "device") is made[0]
    assert adapter._reused("tuned", "NHWC", build, {}, "device") is first
    assert first.requested == ["use", "place", "run"]
    assert adapter._earlier is None, "it is given away once"
    assert adapter._reused("tuned", "NHWC", build, {}, "device") is made[1]


def test_prepare_keeps_a_session_from_host_to_device_and_closes_it_with_its_shape(monkeypatch):
    from types import SimpleNamespace

    from images.onnxrt.adapter import OnnxRuntimeAdapter

    adapter = OnnxRuntimeAdapter("onnxrt", None)
    adapter._model = SimpleNamespace(inputs=[], outputs=[])
    seen = []

    def build(inputs, io):
        seen.append((io, adapter._earlier and adapter._earlier[1]))
        adapter._identity = ("way", None)
        return Built()

    monkeypatch.setattr(adapter, "_build", build)
    small, large = ({"x": np.zeros((size, 3), np.float32)} for size in (1, 8))
    adapter.prepare(small, "host")
    one = adapter._inference
    adapter.prepare(small, "device")
    assert seen == [("host", None), ("device", one)]
    assert one.requested == ["close"], "nobody took it"
    other = adapter._inference
    adapter.prepare(large, "device")
    assert seen[-1] == ("device", None)
    assert other.requested == ["close"]


ODD_OUTPUTS = """
import sys
import onnx
from onnx import TensorProto, helper, numpy_helper
import numpy as np

def save(folder, name, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(v, k) for k, v in constants])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, f"{folder}/{name}.onnx")

value, number, whole = helper.make_tensor_value_info, TensorProto.FLOAT, TensorProto.INT64
constants = [("most", np.array([3])), ("iou", np.array([0.5], np.float32)), ("least", np.array([0.1], np.float32))]
save(sys.argv[1], "boxes",
     [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["found"])],
     [value("boxes", number, ["N", 6, 4]), value("scores", number, ["N", 2, 6])],
     [value("found", whole, ["k", 3])], constants)
save(sys.argv[1], "handed-on", [helper.make_node("Relu", ["x"], ["y"])],
     [value("x", number, ["N", 4])], [value("y", number, ["N", 4]), value("x", number, ["N", 4])])
save(sys.argv[1], "of-a-lone-number", [helper.make_node("Mul", ["x", "speed"], ["y"])],
     [value("x", number, ["N", 4]), value("speed", number, [])], [value("y", number, ["N", 4])])
"""

EVERY_BATCH = """
import json, sys
from pathlib import Path
from common.harness import parity, scenarios
from common.harness.adapter import Unsupported
from common.harness.reference import Reference
from common.model_files import ModelFiles
from images.onnxrt.adapter import create
model = ModelFiles.read(Path(sys.argv[1]))
reference = Reference.read(model)
shapes = {unit[one.name].shape for unit in reference.outputs for one in model.outputs}
passed = {}
for level in ("stock", "tuned"):
    adapter = create("onnxrt")
    adapter.tune(level)
    adapter.load(model, "fp32", "cpu", sys.argv[2], 1)
    for io in ("host", "device"):
        for size in (1, 3):
            made = []
            for batch in reference.batches(size):
                adapter.prepare(batch, io)
                adapter.run()
                adapter.enqueue()
                adapter.synchronize()
                made.append(scenarios.held(adapter.output()))
            try:
                passed[f"{level} {io} {size}"] = parity.compare_all(made, reference, size, "fp32").passed
            except Unsupported:  # boxes of several pictures in one list: of which picture each is, is not known
                passed[f"{level} {io} {size}"] = size > 1
print(json.dumps([len(shapes), passed]))
"""


@pytest.mark.framework
@pytest.mark.parametrize("name", ["boxes", "handed-on"])
def test_outputs_that_cannot_be_bound_to_fixed_memory_are_right_in_each_run(name, on_cpu, tmp_path):
    """Outputs whose size depends on the values failed in the second run; an input that is an output too was never written."""
    from common.host.models import ExportOptions, ensure_model

    python = on_cpu.interpreter
    subprocess.run([str(python), "-c", ODD_OUTPUTS, str(tmp_path)], cwd=REPOSITORY, check=True)
    model = ensure_model(
        str(tmp_path / f"{name}.onnx"), tmp_path / "models", lambda image: python, lambda *step: None, ExportOptions()
    )
    command = [str(python), "-c", EVERY_BATCH, str(model.root), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-2000:]
    shapes, passed = json.loads(done.stdout.splitlines()[-1])
    assert shapes > 1 or name != "boxes", "the sizes do not vary, so that nothing is tested"
    assert len(passed) == 8
    assert all(passed.values()), passed


class CountingRuntime:
    """onnxruntime as far as a model file's signature asks it: how many sessions were made."""

    __version__ = "0"
    GraphOptimizationLevel = types.SimpleNamespace(ORT_DISABLE_ALL=0)
    SessionOptions = types.SimpleNamespace

    def __init__(self):
        self.made = 0

    def InferenceSession(self, path, options, providers):
        self.made += 1
        value = types.SimpleNamespace(name="x", type="tensor(float)", shape=[3, "batch"])
        return types.SimpleNamespace(get_inputs=lambda: [value], get_outputs=lambda: [types.SimpleNamespace(name="y")])


def test_the_signature_of_a_model_file_is_read_once_and_again_when_the_file_changes(tmp_path):
    from common.harness.adapter import Unsupported
    from images.onnxrt.adapter import OnnxRuntimeAdapter

    file, runtime = tmp_path / "model.onnx", CountingRuntime()
    file.write_bytes(b"one")

    def batch_axes(takes="x"):
        adapter = OnnxRuntimeAdapter("onnxrt", runtime)
        adapter._cache, adapter._path = tmp_path / "cache", file
        tensors = [Tensor(takes, "float32", (3, 1), 1)], [Tensor("y", "float32", (3,), 0)]
        adapter._model = types.SimpleNamespace(hash="0", inputs=tensors[0], outputs=tensors[1])
        return adapter._inspect()

    assert [batch_axes(), batch_axes()] == [["batch"], ["batch"]]
    assert runtime.made == 1, "each worker reads the file with a session of its own"
    with pytest.raises(Unsupported, match="takes x, its description says other"):
        batch_axes("other")
    file.write_bytes(b"another")
    assert (batch_axes(), runtime.made) == (["batch"], 2)
    (tmp_path / "cache" / "signatures.json").write_text('{"damaged": 1')
    assert (batch_axes(), runtime.made) == (["batch"], 3)
    stored = json.loads((tmp_path / "cache" / "signatures.json").read_text())
    for damaged in (
        {"inputs": {"x": ["tensor(float)"]}, "outputs": ["y"]},
        {"inputs": {"x": ["tensor(float)", 3]}, "outputs": ["y"]},
        {"inputs": {"x": ["tensor(float)", [{}]]}, "outputs": ["y"]},
        {"inputs": {"x": ["tensor(float)", ["rows"]], "h": ["tensor(float)", [2]]}, "outputs": ["y"]},
        {"inputs": {"x": None}, "outputs": ["y"]},
        {"inputs": [], "outputs": ["y"]},
        {"inputs": {"x": ["tensor(float)", ["batch", 3]]}, "outputs": None},
        {"inputs": {"x": ["tensor(float)", ["batch", 3]]}, "outputs": [["y"]]},
    ):
        before = runtime.made
        (tmp_path / "cache" / "signatures.json").write_text(json.dumps(dict.fromkeys(stored, damaged)))
        assert [batch_axes(), batch_axes()] == [["batch"], ["batch"]], damaged
        assert runtime.made == before + 1, "it is read anew, once"
    file.unlink()
    with pytest.raises(Unsupported, match="cannot read this model"):
        batch_axes()


def handing_on(*outputs):
    """An adapter for a model of the input x with these outputs, whose signature is known."""
    from images.onnxrt.adapter import OnnxRuntimeAdapter

    adapter = OnnxRuntimeAdapter("onnxrt", None)
    adapter._signature = lambda: ({"x": ("tensor(float)", ["batch", 3])}, list(outputs))
    tensors = [[Tensor(name, "float32", (3,), 0) for name in names] for names in (["x"], outputs)]
    adapter._model = types.SimpleNamespace(hash="0", inputs=tensors[0], outputs=tensors[1])
    return adapter


@pytest.mark.parametrize(
    ("told", "batch_axis", "found"),
    [
        (["batch", 3], 0, ["batch"]),
        ([], 0, []),  # what ONNX Runtime says of an input of which the file does not tell how many axes it has
        ([], None, []),
        ([7], None, []),
        (["rows"], 1, "'x' ['rows'] of the model file has no axis 1, which is the batch by its description"),
    ],
)
def test_an_input_with_fewer_axes_in_the_file_than_in_the_description(told, batch_axis, found):
    from common.harness.adapter import Unsupported

    adapter = handing_on("y")
    adapter._model.inputs = [Tensor("x", "float32", (1, 1), batch_axis)]
    adapter._signature = lambda: ({"x": ("tensor(float)", told)}, ["y"])
    if isinstance(found, list):
        assert adapter._inspect() == found
        return
    with pytest.raises(Unsupported) as raised:
        adapter._inspect()
    assert str(raised.value) == found


def test_a_model_that_only_hands_its_inputs_on_is_unsupported():
    from common.harness.adapter import Unsupported

    assert handing_on("y", "x")._inspect() == ["batch"]
    with pytest.raises(Unsupported, match="nothing to compute"):
        handing_on("x")._inspect()


def test_an_input_that_is_an_output_too_is_not_fed_as_bytes():
    """The graph's input is bytes then, and so would the output be, which model.json describes as float32."""
    from common.harness.adapter import Unsupported

    adapter, built = handing_on("y", "x"), []
    adapter._build = lambda inputs, io: built.append(io) or Built()
    adapter.prepare({"x": np.zeros((1, 3), np.float32)}, "host")
    with pytest.raises(Unsupported, match="'x' is an input and an output of the model"):
        adapter.prepare({"x": np.zeros((1, 3), np.uint8)}, "host")
    assert built == ["host"]


LEVELS = """
import itertools, json, sys
from pathlib import Path
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from common import onnx_rewrites
from common.harness.adapter import Unsupported
from images.onnxrt import adapter
from common.harness import choices
from common.model_files import ModelFiles, Tensor
folder = Path(sys.argv[1])
constants = [numpy_helper.from_array(np.float32(n), name) for name, n in (("a", 3), ("b", 0), ("c", 6), ("d", 1 / 6))]
swishes, x = [], "x"
for n in "12":
    swishes += [helper.make_node("Add", [x, "a"], ["e" + n]), helper.make_node("Clip", ["e" + n, "b", "c"], ["f" + n]),
                helper.make_node("Mul", ["f" + n, "d"], ["g" + n]), helper.make_node("Mul", [x, "g" + n], ["y" + n])]
    x = "y" + n
swishes[-1].output[0] = "y"
models = {"swishes": (swishes, constants), "none": ([helper.make_node("Relu", ["x"], ["y"])], [])}
inputs = {"x": np.float32([[-4, 1, 5]])}
fuse = onnx_rewrites.fuse_hard_swish

def fuse_wrongly(model):
    count = fuse(model)
    for node in model.graph.node:
        node.name = "the same"
    return count

def fail(model):
    raise KeyError("a graph that it does not know")

def used(name, fuse, level="rewritten", later_is_faster=False):
    onnx_rewrites.fuse_hard_swish = fuse
    rank = itertools.count()
    choices.median_seconds = lambda run: run() or (1e-3 / (1 + next(rank)) if later_is_faster else float(next(rank)))
    nodes, tensors = models[name]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, name, [value("x")], [value("y")], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / f"{name}.onnx")
    model = ModelFiles(
        root=folder, name=name, hash=name, onnx=f"{name}.onnx", keras=None, saved_model=None, reference="none", input_shape=(3,),
        layout="", onnx_input="x", onnx_output="y", output_kind="raw", classes=0, weights="user", weights_note="",
        inputs=(Tensor("x", "float32", (1, 3)),), outputs=(Tensor("y", "float32", (1, 3)),))
    one = adapter.create("onnxrt")
    one.tune(level)
    one.load(model, "fp32", "cpu", str(folder / f"cache {fuse.__name__} {later_is_faster}"), 1)
    one.prepare(inputs, "host")
    one.run()
    found = {**one.settings(), "y": [round(float(each), 4) for each in one.output()["y"][0]]}
    one.close()
    return found

print(json.dumps([used("swishes", fuse), used("swishes", fuse, later_is_faster=True), used("none", fuse),
                  used("swishes", fuse_wrongly), used("swishes", fail), used("swishes", fuse, "tuned")]))
"""


@pytest.mark.framework
def test_the_level_rewritten_falls_back_to_tuned_and_says_so(on_cpu, tmp_path):
    command = [str(on_cpu.interpreter), "-c", LEVELS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    fused, slower, none, refused, failed, tuned = json.loads(done.stdout)
    assert fused["model"] == "2 hard-swish and hard-sigmoid fused"
    assert "rewritten" not in {**fused, **tuned}
    assert slower["rewritten"] == "the way of tuned won, nothing is rewritten"
    assert none["rewritten"] == "there is no hard-swish to fuse, nothing is rewritten"
    assert refused["rewritten"] == "what was rewritten failed (ways_tried says how), nothing is rewritten"
    assert "hard-swish fused: as framewatt rewrote it, which is not the user's file: " in refused["ways_tried"]
    assert "a graph that it does not know" in failed["rewritten"]
    assert [one["model"].partition(":")[0] for one in (slower, none, refused, failed, tuned)] == ["as exported"] * 5
    assert [one["y"] for one in (slower, refused, failed, tuned)] == [fused["y"]] * 4
