"""The PyTorch image on the CPU; what it has in common with ONNX Runtime's, and the GPU, is in test_onnx_images.py."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.images.workshop import REPOSITORY, Workshop, check, cpu_workshop, exercise

FP32_TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def on_cpu(
    tmp_path_factory: pytest.TempPathFactory, small_onnx: Path, torch_compiled: Callable[[Path], Path]
) -> Workshop:
    folder = tmp_path_factory.mktemp("torch")
    torch_compiled(folder / "cache")
    return cpu_workshop("torch", folder, small_onnx)


@pytest.fixture(scope="module")
def answers(on_cpu: Workshop) -> dict[str, Any]:
    """All that the tests ask of the adapter, from one process."""
    requests = {
        "newer operators": exercise("torch", on_cpu.make(18), batches=(8,)),
        "plain": exercise("torch", on_cpu.make(17), ios=("host",), batches=(1,)),
        "compiled": exercise("torchcompile", on_cpu.make(17), batches=(8,)),
    }
    return on_cpu.ask_all(requests)


@pytest.mark.framework
def test_compiled_by_inductor_on_the_cpu(answers, on_cpu):
    facts = answers["compiled"]
    if "compiler" in (facts["refusal"] or ""):
        pytest.skip(facts["refusal"])
    check(facts, FP32_TOLERANCE)
    headers = on_cpu.folder / "cache/torchcompile/inductor/precompiled_headers"
    assert list(headers.glob("*.gch")), "each worker compiles them anew"
    assert all(cell["device_ns"] is None for cell in facts["cells"]), "the CPU has no events of its own"
    assert facts["settings"]["intra_op_threads"] == "2"


@pytest.mark.framework
def test_operators_newer_than_onnx2torch_knows_are_converted(answers):
    facts = answers["newer operators"]
    assert "unsupported" not in facts, facts
    check(facts, FP32_TOLERANCE)


@pytest.mark.framework
def test_constants_batch_norm_and_hard_swish_are_rewritten(answers):
    settings = answers["plain"]["settings"]
    parts = [part.split(" ", 1) for part in settings["model"].split(", ")]
    counts = {words: int(number) for number, words in parts}
    assert [number for words, number in counts.items() if "lifted" in words] == [4], counts
    (fused,) = [number for words, number in counts.items() if "hard-swish" in words]
    # the Mul and the Add after the first convolution, and not the +3 of a hard-sigmoid
    assert 2 in [number for words, number in counts.items() if "folded" in words or "batch" in words.lower()], counts
    assert fused == 2


@pytest.mark.parametrize(
    ("capability", "targets", "expected"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),
        ((7, 0), ["sm_75", "sm_80", "sm_90"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90"], False),
        ((6, 1), [], False),
    ],
)
def test_kernels_run_within_a_major_version_and_ptx_on_anything_later(capability, targets, expected):
    from images.torch.adapter import covered

    assert covered(capability, targets) is expected


CONVOLUTIONS = """
import json
import torch
from torch import fx, nn
from images.torch import convolution_choice, convolution_wrapping as w, convolutions as c

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.padded = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, stride=2))
        self.act = nn.ReLU()
        self.narrow = nn.Conv2d(8, 12, 1)
        self.narrow_act = nn.ReLU()
        self.bare = nn.Conv2d(12, 8, 1, bias=False)
        self.bare_act = nn.ReLU()
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.stepping = nn.Conv2d(8, 8, 1, stride=2)
        self.read_twice = nn.Conv2d(8, 8, 1)
        self.late_act = nn.ReLU()
        self.shared = nn.Conv2d(8, 8, 1)
        self.shared_act = nn.ReLU()

    def forward(self, x):
        x = self.act(self.padded(x))
        x = self.bare_act(self.bare(self.narrow_act(self.narrow(x))))
        x = self.stepping(self.depthwise(x))
        y = self.read_twice(x)
        z = self.late_act(y) + y
        return self.shared_act(self.shared(z)) + self.shared(z)

torch.manual_seed(3)
facts = {}
for layout in (torch.contiguous_format, torch.channels_last):
    module = fx.symbolic_trace(Net()).eval().to(memory_format=layout)
    images = torch.randn(2, 3, 17, 17).contiguous(memory_format=layout)
    with torch.inference_mode():
        wanted = module(images)
        facts["wrapped"] = w.wrap_convolutions(module)
        errors = [float((module(images) - wanted).abs().max())]
        asked = []
        speed = {"convolution": 2.0, "matrix product": 1.0, "shifted convolution": 1.0}
        convolution_choice.choose(module, [images], lambda layer, given, algorithm: asked.append(algorithm) or speed[algorithm])
        facts["chosen"] = c.settings(module)
        errors.append(float((module(images) - wanted).abs().max()))
        convolution_choice.choose(module, [images], lambda layer, given, algorithm: 2.0 if algorithm == "convolution" else None)
        facts["without"] = c.settings(module)["convolutions"]
        right = dict(c.ALGORITHMS)
        for name in ("matrix product", "shifted convolution"):
            c.ALGORITHMS[name] = lambda images, layer, compute=right[name]: compute(images, layer) + 0.1
        convolution_choice.choose(module, [images], lambda layer, given, algorithm: speed[algorithm])
        facts["wrong"] = c.settings(module)["convolutions"]
        c.ALGORITHMS.update(right)
        convolution_choice.choose(module, [images])
        facts["measured"] = sorted({layer.algorithm for layer in c.layers_of(module)} - set(c.ALGORITHMS))
        c.set_algorithms(module, facts["chosen"]["convolutions_in_order"])
        facts["again"] = c.settings(module) == facts["chosen"]
        errors.append(float((module(images) - wanted).abs().max()))
    facts["asked"], facts["scale"] = sorted(asked), float(wanted.abs().max())
    facts.setdefault("errors", []).append(max(errors))
    facts["relus"] = [layer.relu for layer in c.layers_of(module)]
for wrong in ("c", "cccccx"):
    try:
        c.set_algorithms(module, wrong)
    except ValueError as error:
        facts.setdefault("refused", []).append(str(error))
print(json.dumps(facts))
"""


def facts_of(on_cpu, script):
    done = subprocess.run(
        [str(on_cpu.interpreter), "-c", script], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def convolutions(on_cpu: Workshop) -> dict[str, Any]:
    return facts_of(on_cpu, CONVOLUTIONS)


@pytest.mark.framework
def test_every_algorithm_to_compute_a_convolution_computes_the_same_in_both_layouts(convolutions):
    assert convolutions["scale"] > 0.1
    assert max(convolutions["errors"]) < 1e-5 * convolutions["scale"]


@pytest.mark.framework
def test_a_relu_joins_the_convolution_whose_only_reader_it_is(convolutions):
    # padded, narrow, bare, depthwise, stepping, read twice; the shared one, with a ReLU behind one call, stays as it is
    assert convolutions["wrapped"] == 6
    assert convolutions["relus"] == [True, True, True, False, False, False]


@pytest.mark.framework
def test_one_by_one_convolutions_become_matrix_products_where_that_is_faster(convolutions):
    assert convolutions["chosen"] == {
        "convolutions": "2 convolution, 3 matrix product, 1 shifted convolution",
        "convolutions_in_order": "smmccm",
    }
    two_algorithms = ["convolution"] * 4 + ["matrix product"] * 3 + ["shifted convolution"]
    assert convolutions["asked"] == two_algorithms, "one algorithm needs no measuring"
    assert convolutions["without"] == "6 convolution", "an algorithm that does not work is passed over"
    assert convolutions["wrong"] == "6 convolution", "one that computes something else does not win"
    assert convolutions["measured"] == [], "on the CPU by its own clock"


@pytest.mark.framework
def test_algorithms_are_set_by_their_letters(convolutions):
    assert convolutions["again"]
    assert len(convolutions["refused"]) == 2


PADDINGS = """
import json, random
import torch
from torch import fx, nn
from torch.nn import functional
from images.torch import convolution_wrapping as w, convolutions as c
from images.torch.convolution_choice import possible

class OnnxPadStatic(nn.Module):  # as onnx2torch's is called, and what it holds
    def __init__(self, pads, mode="constant", constant_value=0.0):
        super().__init__()
        self.pads, self.mode, self.constant_value = pads, mode, constant_value

    def forward(self, x):
        return functional.pad(x, self.pads, self.mode, self.constant_value)

class Leaves(fx.Tracer):
    def is_leaf_module(self, module, name):
        return name != ""  # as onnx2torch's graphs are: a padding and its convolution are one call

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(4, 4, 3, stride=2, groups=4) for _ in range(10)]
        self.inside = nn.Sequential(OnnxPadStatic([0, 1, 1, 2, 0, 0, 0, 0]), layers[0])
        self.zeros = nn.Sequential(nn.ZeroPad2d(1), layers[1])
        self.ones = nn.Sequential(OnnxPadStatic([0, 1, 0, 1, 0, 0, 0, 0], constant_value=1.0), layers[2])
        self.reflected = nn.Sequential(nn.ReflectionPad2d(1), layers[3])
        self.outside, self.again, self.six_numbers, self.cut, self.one_computed, self.computed = layers[4:]
        self.before = nn.ZeroPad2d((1, 0, 1, 0))
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.before(x)
        x = self.act(self.outside(x))
        x = self.ones(self.zeros(self.inside(x)))
        x = self.reflected(x)
        y = functional.pad(x, (1, 2, 1, 2))
        y = self.again(y) + y[:, :, 1:2, 1:2]
        y = self.six_numbers(functional.pad(y, (1, 1, 1, 1, 0, 0))) + self.cut(functional.pad(x, (-1, 4, -1, 4)))
        nothing = y.size(3) - y.size(3)
        y = self.one_computed(functional.pad(input=y, pad=(nothing, 1, 0, 1)))
        return self.computed(functional.pad(y, y.shape[4:] + (1, 1, 1, 1)))

random.seed(5)
torch.manual_seed(5)
facts = {"errors": [], "dense": []}
with torch.inference_mode():
    for _ in range(300):
        channels, kernel, stride = random.choice((1, 4)), random.randint(1, 5), random.randint(1, 3)
        layer = nn.Conv2d(
            channels, 4, kernel, stride=(stride, random.randint(1, 3)), padding=random.randint(0, 1),
            dilation=random.randint(1, 2), groups=random.choice((1, channels)), bias=random.random() < 0.5,
        )
        padding = tuple(random.randint(0, 4) for _ in range(4))
        layout = random.choice((torch.contiguous_format, torch.channels_last))
        images = torch.randn(2, channels, random.randint(9, 14), random.randint(9, 14)).contiguous(memory_format=layout)
        both = c.Convolution(layer.to(memory_format=layout), random.random() < 0.5, padding)
        wanted, got = (c.ALGORITHMS[algorithm](images, both) for algorithm in ("convolution", "shifted convolution"))
        assert wanted.shape == got.shape, (wanted.shape, got.shape)
        facts["errors"].append(float((wanted - got).abs().max()))
        facts["dense"].append(got.is_contiguous() or got.is_contiguous(memory_format=torch.channels_last))
    net = Net().eval()
    module = fx.GraphModule(net, Leaves().trace(net))
    images = torch.randn(2, 4, 95, 95)
    wanted = module(images)
    w.wrap_convolutions(module)
    facts["taken"] = [layer.padding for layer in c.layers_of(module)]
    facts["pads_left"] = sum(node.target is functional.pad for node in module.graph.nodes)
    for layer in c.layers_of(module):
        layer.algorithm = "shifted convolution" if "shifted convolution" in possible(layer) else "convolution"
    facts["network"] = float((module(images) - wanted).abs().max() / wanted.abs().max())
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def paddings(on_cpu: Workshop) -> dict[str, Any]:
    return facts_of(on_cpu, PADDINGS)


@pytest.mark.framework
def test_a_shifted_convolution_is_that_of_the_padded_images_for_any_stride_dilation_and_padding(paddings):
    assert len(paddings["errors"]) == 300
    assert max(paddings["errors"]) < 1e-5
    assert all(paddings["dense"])


@pytest.mark.framework
def test_zeros_around_height_and_width_join_the_convolution_that_alone_reads_them(paddings):
    # outside, inside, zeros, again, six numbers, cut; padding with ones or by reflection stays in its sequence
    assert sorted(map(tuple, paddings["taken"])) == sorted(
        [(1, 0, 1, 0), (0, 1, 1, 2), (1, 1, 1, 1), (0, 0, 0, 0), (1, 1, 1, 1), *[(0, 0, 0, 0)] * 5]
    )
    assert paddings["pads_left"] == 4, "one has another reader, one cuts, two are computed"
    assert paddings["network"] < 1e-5


#: a torchvision that tells when it is imported, and two models: one that has an operator of it and one that has not
VISION = """
import json, sys, types
from pathlib import Path
import numpy, onnx
from onnx import TensorProto, helper
folder = Path({folder!r})
(folder / "torchvision").mkdir()
(folder / "torchvision/__init__.py").write_text("from torchvision import ops")
(folder / "torchvision/ops.py").write_text("nms = box_convert = roi_align = lambda *values, **named: ('roi_align', len(values))")
sys.path.insert(0, str(folder))
def save(name, nodes, inputs):
    given = [helper.make_tensor_value_info(one, TensorProto.FLOAT, shape) for one, shape in inputs.items()]
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constant = helper.make_tensor("rows", TensorProto.INT64, [1], [0])
    graph = helper.make_graph(nodes, name, given, [made], [constant])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8), folder / name)
    return folder / name
plain = save("plain.onnx", [helper.make_node("Relu", ["x"], ["y"])], {{"x": [1, 1, 4, 4]}})
nodes = [helper.make_node("RoiAlign", ["x", "boxes", "rows"], ["y"])]
detecting = save("detecting.onnx", nodes, {{"x": [1, 1, 4, 4], "boxes": [1, 4]}})
from images.torch import onnx_import
facts = {{}}
onnx_import.load(plain)
facts["plain"] = "torchvision" in sys.modules
from onnx2torch.node_converters import roialign
facts["called"] = roialign.roi_align(1, 2)
facts["then"] = "torchvision" in sys.modules
for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "onnx2torch")]:
    del sys.modules[name]
onnx_import.load(detecting)
facts["detecting"] = "torchvision" in sys.modules
print(json.dumps(facts))
"""


@pytest.mark.framework
def test_torchvision_is_imported_for_models_that_detect_alone(on_cpu, tmp_path):
    facts = facts_of(on_cpu, VISION.format(folder=str(tmp_path)))
    assert facts == {"plain": False, "called": ["roi_align", 2], "then": True, "detecting": True}
