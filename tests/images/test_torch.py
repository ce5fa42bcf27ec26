"""The PyTorch image: its adapter for real on the CPU, and, on a GPU host, on the GPU.

GPU host: docs/gpu-host.md; FRAMEWATT_PYTHON_TORCH names the interpreter.
"""

import subprocess

import pytest

from common.host.image_registry import load_images
from tests.images.workshop import REPOSITORY, Workshop, check, cpu_workshop, exported_model

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


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    return cpu_workshop("torch", tmp_path_factory.mktemp("torch"))


@pytest.fixture(scope="module")
def on_gpu(gpu_python, tmp_path_factory):
    return Workshop("torch", gpu_python("torch", "torch", "onnx"), tmp_path_factory.mktemp("torch-gpu"))


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
    text = (REPOSITORY / "images/torch/adapter.py").read_text()
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
        [str(on_gpu.interpreter), "-c", code + OUT_OF_MEMORY, str(REPOSITORY)],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=280, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "DeviceOutOfMemory", done.stderr[-3000:]
