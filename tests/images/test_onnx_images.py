"""What holds for both images that read ONNX, ONNX Runtime's and PyTorch's: on the CPU for real, on a GPU host on the GPU.

GPU host: docs/gpu-host.md; FRAMEWATT_PYTHON_ONNXRT and FRAMEWATT_PYTHON_TORCH name the interpreters.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.host.frameworks.registry import load_images
from common.model_files import ModelFiles
from tests.images.workshop import REPOSITORY, Workshop, check, cpu_workshop, exercise

FP32_TOLERANCE = 1e-3
HALF_TOLERANCE = 5e-2
#: image -> the module that tells whether an interpreter has the framework
MODULES = {"onnxrt": "onnxruntime", "torch": "torch"}
GPU_CELLS = [
    *[("onnxrt", "onnxrt", precision) for precision in ("fp32", "tf32", "fp16")],
    *[("onnxrt", "onnxrt-trt", precision) for precision in ("fp32", "fp16")],
    *[("torch", variant, p) for variant in ("torch", "torchcompile") for p in ("fp32", "tf32", "fp16")],
]
#: 2**40 elements of input: beyond any GPU, and refused by the allocator before a byte is written
OUT_OF_MEMORY = {
    "onnxrt": """
import onnxruntime
from common.harness.adapter import DeviceOutOfMemory
from images.onnxrt import sessions
from images.onnxrt.cuda_runtime import CudaRuntime
sessions.preload(onnxruntime)
cuda = CudaRuntime(0, [f"libcudart.so.{sessions.cuda_major(onnxruntime)}"])
try:
    cuda.device_buffer((2**40,), "float32")
except DeviceOutOfMemory:
    print("DeviceOutOfMemory")
""",
    "torch": """
import torch
from images.torch.failures import explain
try:
    torch.empty(2**40, device="cuda:0")
except Exception as error:
    print(type(explain(error)).__name__)
""",
}


@pytest.fixture(scope="module", params=MODULES)
def on_cpu(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, small_onnx: Path) -> Workshop:
    return cpu_workshop(request.param, tmp_path_factory.mktemp(request.param), small_onnx)


@pytest.fixture(scope="module")
def answers(on_cpu: Workshop, exported_model: ModelFiles) -> dict[str, Any]:
    """All that the tests ask of an image, from one process."""
    small = on_cpu.make(17)
    bad = on_cpu.folder / "bad"
    bad.mkdir()
    for name in ("model.json", "reference.npz"):
        (bad / name).write_bytes((small / name).read_bytes())
    (bad / "model.onnx").write_bytes(b"not a protobuf at all")
    image = on_cpu.image
    cells = [("fp32", "cpu"), ("tf32", "cpu"), ("fp16", "cpu"), ("int8", "cpu"), ("fp32", "cuda:0")]
    requests = {
        "refusals": {"action": "refusals", "variant": image, "cells": cells},
        "users": exercise(image, small),
        "exported": exercise(image, exported_model.root, ios=("host",), batches=(1, 3), threads=1, level="rewritten"),
        "no onnx": exercise(image, bad, cache_dir=str(bad / "cache")),
    }
    return on_cpu.ask_all(requests)


@pytest.fixture(scope="module")
def gpu_workshop(
    gpu_python: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Workshop]:
    """gpu_workshop(image): one for each image, so that models and caches are made once."""
    made = {}

    def of(image):
        if image not in made:
            python = gpu_python(image, MODULES[image], "onnx")
            made[image] = Workshop(image, python, tmp_path_factory.mktemp(f"{image}-gpu"))
        return made[image]

    return of


@pytest.mark.framework
def test_users_model_with_constant_nodes_pad_and_reshape_on_the_cpu(answers):
    facts = answers["users"]
    check(facts, FP32_TOLERANCE)
    assert all(cell["device_ns"] is None for cell in facts["cells"]), "the CPU has no events of its own"
    assert facts["peak"] is None
    assert facts["settings"]["intra_op_threads"] == "2"
    assert facts["versions"]["framework"]


@pytest.mark.framework
def test_exported_model_is_within_tolerance_on_the_cpu(answers):
    facts = answers["exported"]
    check(facts, FP32_TOLERANCE)
    # measured: 3e-6 to 1.2e-5; a lost layer or a wrong layout would be far beyond
    assert max(cell["rel_l2"] for cell in facts["cells"]) < 1e-4
    assert "29 hard-swish" in facts["settings"]["model"]


@pytest.mark.framework
def test_what_a_cpu_build_does_not_have_is_refused_by_name(answers):
    refusals = answers["refusals"]
    assert refusals["fp32 cpu"] is None
    for precision in ("tf32", "fp16", "int8"):
        assert precision in refusals[f"{precision} cpu"]
    assert "built" in refusals["fp32 cuda:0"]


@pytest.mark.framework
def test_a_file_that_is_no_onnx_is_unsupported(answers):
    facts = answers["no onnx"]
    assert facts["unsupported"]
    assert "\n" not in facts["unsupported"]


@pytest.mark.parametrize("name", MODULES)
def test_labels_name_what_the_adapter_brings(name):
    image = next(image for image in load_images(REPOSITORY / "images") if image.name == name)
    text = (REPOSITORY / "images" / name / "adapter.py").read_text()
    assert all(f'"{variant.name}"' in text for variant in image.variants)
    assert image.imports == MODULES[name]


@pytest.mark.gpu
@pytest.mark.parametrize(("image", "variant", "precision"), GPU_CELLS)
def test_gpu_is_within_the_tolerance_of_the_precision(gpu_workshop, image, variant, precision):
    on_gpu = gpu_workshop(image)
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
@pytest.mark.parametrize("image", MODULES)
def test_gpu_out_of_memory_is_reported(gpu_workshop, image):
    code = "import sys; sys.path.insert(0, sys.argv[1])\n" + OUT_OF_MEMORY[image]
    done = subprocess.run(
        [str(gpu_workshop(image).interpreter), "-c", code, str(REPOSITORY)],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=280, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "DeviceOutOfMemory", done.stderr[-3000:]
