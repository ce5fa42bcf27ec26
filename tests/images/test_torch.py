"""The PyTorch image: its adapter for real on the CPU, and, on a GPU host, on the GPU.

GPU host: `python -m pytest tests/images/test_torch.py -m gpu` with an interpreter that has torch for CUDA, and onnx.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.host.image_registry import load_images

REPOSITORY = Path(__file__).resolve().parents[2]
ADAPTER = REPOSITORY / "images/torch/adapter.py"
INTERPRETER = REPOSITORY / ".envs/torch-cpu/bin/python"
DRIVER = Path(__file__).with_name("onnx_driver.py")
FP32_TOLERANCE = 1e-3
HALF_TOLERANCE = 5e-2
GPU_CELLS = [(v, p) for v in ("torch", "torchcompile") for p in ("fp32", "tf32", "fp16")]

OUT_OF_MEMORY = """
import torch
try:
    torch.empty(2**40, device="cuda:0")
except Exception as error:
    print(type(explain(error)).__name__)
"""


class Workshop:
    """Runs the driver, one process a call, with caches of its own."""

    def __init__(self, interpreter, folder):
        self.interpreter, self.folder = interpreter, folder

    def ask(self, **request):
        paths = [self.folder / f"{name}.json" for name in ("request", "answer")]
        paths[1].unlink(missing_ok=True)
        request.update(repository=str(REPOSITORY), answer=str(paths[1]), adapter=str(ADAPTER))
        request.setdefault("cache_dir", str(self.folder / "cache"))
        paths[0].write_text(json.dumps(request))
        done = subprocess.run(
            [str(self.interpreter), str(DRIVER), str(paths[0])],
            capture_output=True, text=True, cwd=REPOSITORY, timeout=280, check=False,
            env={**os.environ, "HOME": str(self.folder)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout == "", "an adapter must not print: the harness's events go there"
        return json.loads(paths[1].read_text())

    def make(self, opset):
        root = self.folder / f"Small{opset}"
        if not root.exists():
            # a network that gives every picture the same answer would pass any comparison
            assert self.ask(action="make", model=str(root), opset=opset)["spread"] > 0.05
        return root

    def exercise(
        self, variant, model, device="cpu", precision="fp32", ios=("host", "device"), batches=(1, 8, 12), **more
    ):
        return self.ask(
            action="exercise", variant=variant, model=str(model), device=device, precision=precision, ios=ios,
            batches=batches, **more,
        )  # fmt: skip


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    if not INTERPRETER.exists():
        pytest.skip(f"no {INTERPRETER.relative_to(REPOSITORY)}: ./invoke test makes it")
    return Workshop(INTERPRETER, tmp_path_factory.mktemp("torch"))


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory):
    for name in ("torch", "onnx"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{sys.executable} has no {name}")
    return Workshop(sys.executable, tmp_path_factory.mktemp("torch-gpu"))


def check(facts, tolerance):
    assert facts["refusal"] is None, facts["refusal"]
    assert "unsupported" not in facts, facts["unsupported"]
    assert facts["cells"]
    for cell in facts["cells"]:
        assert cell["rel_l2"] < tolerance, cell
        assert cell["rel_l2_second"] < tolerance, cell
        assert cell["rel_l2_offline"] < tolerance, cell
        assert cell["top1"] == 1.0, cell
        assert cell["changed"] > 0.01, "the second prepare() left the first input in place"
        assert cell["kept_its_build"], "the second prepare() of a shape built it again"
        assert cell["dtype"] == "float32"
        assert cell["shape"] == [cell["batch_size"], cell["shape"][1]]


def exported_model():
    found = sorted((REPOSITORY / "data/models").glob("MobileNetV3L-*/model.json"))
    if not found:
        pytest.skip("no exported model under data/models")
    return found[0].parent


@pytest.mark.framework
@pytest.mark.parametrize("variant", ("torch", "torchcompile"))
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
    facts = on_cpu.exercise("torch", exported_model(), ios=("host",), batches=(1, 8, 12))
    check(facts, FP32_TOLERANCE)
    # measured: 3e-6 to 1.2e-5; a lost layer or a wrong layout would be far beyond
    assert max(cell["rel_l2"] for cell in facts["cells"]) < 1e-4
    assert "29 hard-swish" in facts["settings"]["model"]


@pytest.mark.framework
def test_precisions_that_the_cpu_does_not_have_are_refused(on_cpu):
    for precision in ("tf32", "fp16", "int8"):
        assert precision in on_cpu.exercise("torch", on_cpu.make(17), precision=precision)["refusal"]


@pytest.mark.framework
def test_a_gpu_is_refused_by_a_cpu_build(on_cpu):
    assert "built" in on_cpu.exercise("torch", on_cpu.make(17), device="cuda:0")["refusal"]


@pytest.mark.framework
def test_a_file_that_is_no_onnx_is_unsupported(on_cpu, tmp_path):
    good, bad = on_cpu.make(17), tmp_path / "bad"
    bad.mkdir()
    for name in ("model.json", "reference.npz"):
        (bad / name).write_bytes((good / name).read_bytes())
    (bad / "model.onnx").write_bytes(b"not a protobuf at all")
    facts = on_cpu.exercise("torch", bad, cache_dir=str(tmp_path / "cache"))
    assert facts["unsupported"]
    assert "\n" not in facts["unsupported"]


def test_labels_name_what_the_adapter_brings():
    image = next(image for image in load_images(REPOSITORY / "images") if image.name == "torch")
    text = ADAPTER.read_text()
    assert all(f'"{variant.name}"' in text for variant in image.variants)
    assert image.imports == "torch"


@pytest.mark.framework
def test_an_operator_that_onnx2torch_lacks_is_unsupported(on_cpu):
    facts = on_cpu.exercise("torch", on_cpu.make(18))
    assert "Pad" in facts["unsupported"]
    assert "18" in facts["unsupported"]


@pytest.mark.framework
def test_constants_batch_norm_and_hard_swish_are_rewritten(on_cpu):
    settings = on_cpu.exercise("torch", on_cpu.make(17), ios=("host",), batches=(1,))["settings"]
    lifted, folded, fused = (int(part.split()[0]) for part in settings["model"].split(", "))
    assert lifted == 4
    assert folded == 2, "the Mul and the Add after the first convolution, and not the +3 of a hard-sigmoid"
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


@pytest.mark.gpu
def test_gpu_out_of_memory_is_told(on_gpu):
    # 2**40 bytes of input: beyond any GPU, and refused by the allocator before a byte is written
    code = (
        "import importlib.util, sys; sys.path.insert(0, sys.argv[1]);"
        "from common.harness.adapter import DeviceOutOfMemory;"
        "from images.torch.failures import explain;"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + OUT_OF_MEMORY, str(REPOSITORY)],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=280, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "DeviceOutOfMemory", done.stderr[-3000:]
