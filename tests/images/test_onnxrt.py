"""The ONNX Runtime image: its adapter for real on the CPU, and, on a GPU host, on the GPU.

GPU host: docs/gpu-host.md; FRAMEWATT_PYTHON_ONNXRT names the interpreter.
"""

import json
import subprocess
import types

import pytest

from common.host.image_registry import load_images
from tests.images.workshop import REPOSITORY, Workshop, check, cpu_workshop, exported_model

FP32_TOLERANCE = 1e-3
HALF_TOLERANCE = 5e-2
GPU_CELLS = [("onnxrt", "fp32"), ("onnxrt", "tf32"), ("onnxrt", "fp16"), ("onnxrt-trt", "fp32"), ("onnxrt-trt", "fp16")]

OUT_OF_MEMORY = """
import onnxruntime
from images.onnxrt import sessions
sessions.preload(onnxruntime)
cuda = CudaRuntime(0, [f"libcudart.so.{sessions.cuda_major(onnxruntime)}"])
try:
    cuda.device_buffer((2**40,), "float32")
except DeviceOutOfMemory:
    print("DeviceOutOfMemory")
"""


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    return cpu_workshop("onnxrt", tmp_path_factory.mktemp("onnxrt"))


@pytest.fixture(scope="module")
def on_gpu(gpu_python, tmp_path_factory):
    return Workshop("onnxrt", gpu_python("onnxrt", "onnxruntime", "onnx"), tmp_path_factory.mktemp("onnxrt-gpu"))


@pytest.mark.framework
@pytest.mark.parametrize("variant", ("onnxrt",))
def test_users_model_with_constant_nodes_pad_and_reshape_on_the_cpu(on_cpu, variant):
    batches = (1, 8, 12) if variant != "torchcompile" else (8,)
    facts = on_cpu.exercise(variant, on_cpu.make(17), batches=batches)
    if variant == "torchcompile" and "compiler" in (facts["refusal"] or ""):
        pytest.skip(facts["refusal"])
    check(facts, FP32_TOLERANCE)
    assert all(cell["device_ns"] is None for cell in facts["cells"]), "the CPU has no events of its own"
    assert facts["peak"] is None
    assert facts["settings"]["intra_op_threads"] == "2"
    assert facts["versions"]["framework"]


@pytest.mark.framework
def test_exported_model_is_within_tolerance_on_the_cpu(on_cpu):
    facts = on_cpu.exercise("onnxrt", exported_model(), ios=("host",), batches=(1, 8, 12))
    check(facts, FP32_TOLERANCE)
    # measured: 3e-6 to 1.2e-5; a lost layer or a wrong layout would be far beyond
    assert max(cell["rel_l2"] for cell in facts["cells"]) < 1e-4
    assert "29 hard-swish" in facts["settings"]["model"]


@pytest.mark.framework
def test_precisions_that_the_cpu_does_not_have_are_refused(on_cpu):
    for precision in ("tf32", "fp16", "int8"):
        assert precision in on_cpu.exercise("onnxrt", on_cpu.make(17), precision=precision)["refusal"]


@pytest.mark.framework
def test_a_gpu_is_refused_by_a_cpu_build(on_cpu):
    assert "built" in on_cpu.exercise("onnxrt", on_cpu.make(17), device="cuda:0")["refusal"]


@pytest.mark.framework
def test_a_file_that_is_no_onnx_is_unsupported(on_cpu, tmp_path):
    good, bad = on_cpu.make(17), tmp_path / "bad"
    bad.mkdir()
    for name in ("model.json", "reference.npz"):
        (bad / name).write_bytes((good / name).read_bytes())
    (bad / "model.onnx").write_bytes(b"not a protobuf at all")
    facts = on_cpu.exercise("onnxrt", bad, cache_dir=str(tmp_path / "cache"))
    assert facts["unsupported"]
    assert "\n" not in facts["unsupported"]


def test_labels_name_what_the_adapter_brings():
    image = next(image for image in load_images(REPOSITORY / "images") if image.name == "onnxrt")
    text = (REPOSITORY / "images/onnxrt/adapter.py").read_text()
    assert all(f'"{variant.name}"' in text for variant in image.variants)
    assert image.imports == "onnxruntime"


@pytest.mark.framework
def test_opset_18_is_no_obstacle(on_cpu):
    check(on_cpu.exercise("onnxrt", on_cpu.make(18)), FP32_TOLERANCE)


@pytest.mark.framework
def test_the_tensorrt_provider_is_refused_on_a_cpu(on_cpu):
    assert "GPU" in on_cpu.exercise("onnxrt-trt", on_cpu.make(17))["refusal"]


def kept(graph, bias):
    from images.onnxrt.trial import Choice, Kept

    return Kept(Choice(graph=graph, fused_bias=bias), {"one way": "1.000 ms"})


def test_choices_of_a_shape_survive_the_process_and_a_damaged_file_does_not_matter(tmp_path):
    from images.onnxrt.trial import ChoiceCache

    path = tmp_path / "cache" / "choices.json"
    ChoiceCache(path).put("a", kept(True, False))
    ChoiceCache(path).put("b", kept(False, True))
    assert ChoiceCache(path).get("a") == kept(True, False)
    assert ChoiceCache(path).get("b") == kept(False, True)
    assert ChoiceCache(path).get("c") is None
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
    found = Machine(slower_unless(graph=True, nhwc=False, fused_activation=False, fused_bias=True)).search(1000)
    assert found.choice == (True, False, False, True)
    # as it was, no graph, NCHW, and so on: each tried on top of what had won before it
    assert list(found.tried.values()) == ["4000.000 ms", "5000.000 ms", "3000.000 ms", "2000.000 ms", "1000.000 ms"]


def test_the_trial_begins_nothing_new_after_its_bound():
    machine = Machine(slower_unless(fused_bias=True))
    assert machine.search(25).choice.fused_bias is False
    assert machine.now == 30


def test_without_a_bound_the_first_way_that_works_is_taken_unmeasured():
    machine = Machine(lambda choice: pytest.fail("measured"), broken=lambda choice: choice.graph)
    found = machine.search(0)
    assert not found.choice.graph
    assert "cannot do" in next(iter(found.tried.values()))
    assert machine.now == 20


def test_a_way_that_does_not_work_is_passed_over_and_said_and_none_at_all_raises_its_reason():
    found = Machine(slower_unless(nhwc=False, fused_bias=True), broken=lambda choice: not choice.nhwc).search(1000)
    assert found.choice == (True, True, True, True)
    assert sum("cannot do" in result for result in found.tried.values()) == 1
    with pytest.raises(RuntimeError, match="cannot do"):
        Machine(slower_unless(), broken=lambda choice: True).search(1000)


def test_what_is_not_worth_turning_is_left_alone():
    machine = Machine(slower_unless(fused_activation=False))
    assert machine.search(1000, fields=["graph", "nhwc", "fused_bias"]).choice.fused_activation
    assert machine.now == 40


def test_small_batches_have_no_trial_and_the_environment_sets_another_bound(monkeypatch):
    from images.onnxrt.trial import BOUND_SECONDS, bound_for

    monkeypatch.delenv("FRAMEWATT_ONNXRT_TRIAL_SECONDS", raising=False)
    assert (bound_for(1), bound_for(8)) == (0, BOUND_SECONDS)
    monkeypatch.setenv("FRAMEWATT_ONNXRT_TRIAL_SECONDS", "0")
    assert bound_for(512) == 0


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

    options = cuda_options(0, 1, "fp16", Choice(graph=False, nhwc=False, fused_bias=True))
    assert [options[name] for name in ("enable_cuda_graph", "prefer_nhwc", "fuse_conv_bias")] == ["0", "0", "1"]


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


@pytest.mark.gpu
@pytest.mark.parametrize(("variant", "precision"), GPU_CELLS)
def test_gpu_is_within_the_tolerance_of_the_precision(on_gpu, variant, precision):
    facts = on_gpu.exercise(variant, on_gpu.make(17), device="cuda:0", precision=precision, batches=(1, 8, 64))
    if variant == "onnxrt-trt" and "TensorRT" in (facts["refusal"] or ""):
        pytest.skip(facts["refusal"])
    check(facts, FP32_TOLERANCE if precision == "fp32" else HALF_TOLERANCE)
    assert all(cell["device_ns"] > 0 for cell in facts["cells"])
    assert facts["peak"] > 0
    assert facts["settings"]["cuda_graph"] in ("yes", "no"), facts["settings"]
    if variant == "onnxrt":
        assert facts["settings"]["chosen"] in facts["settings"]["trial"]


@pytest.mark.gpu
def test_gpu_out_of_memory_is_told(on_gpu):
    # 2**40 bytes of input: beyond any GPU, and refused by the allocator before a byte is written
    code = (
        "import importlib.util, sys; sys.path.insert(0, sys.argv[1]);"
        "from common.harness.adapter import DeviceOutOfMemory;"
        "from images.onnxrt.cuda_runtime import CudaRuntime;"
    )
    done = subprocess.run(
        [str(on_gpu.interpreter), "-c", code + OUT_OF_MEMORY, str(REPOSITORY)],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=280, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "DeviceOutOfMemory", done.stderr[-3000:]
