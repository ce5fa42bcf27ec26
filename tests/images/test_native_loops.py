"""`invoke verify` with real frameworks: each independent loop computes what its adapter computes. Times are not judged here."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from common.host.devices import list_gpus, the_cpu
from common.host.frameworks.registry import all_variants, load_images
from common.host.frameworks.scaffold import new_image
from common.host.paths import IMAGES, DataFolder
from common.host.verify.command import Case, compare
from common.model_files import DESCRIPTION, ModelFiles
from tests.images.workshop import cpu_workshop

REPOSITORY = Path(__file__).resolve().parents[2]
PAIRS = 11

GPU_CASES = [
    ("tensorrt", "tensorrt, pycuda", "tensorrt", ("fp32", "tf32", "fp16"), ("device", "host")),
    ("onnxrt", "onnxruntime, onnx", "onnxrt", ("fp32", "fp16"), ("device",)),
    ("torch", "torch, onnx", "torch", ("fp32", "tf32", "fp16"), ("device", "host")),
    ("torch", "torch, onnx", "torchcompile", ("fp16",), ("device",)),
    *[
        ("tensorflow", "tensorflow", variant, ("fp32",), ("device",))
        for variant in ("tf", "tfxla", "keras", "kerasxla")
    ],
]


def case(variant, precision, io, interpreter, model, device, folder, threads=None, images=IMAGES):
    known = load_images(images)
    found = all_variants(known)[variant]
    image = next(image for image in known if image.name == found.image)
    return Case(found, image, precision, 8, io, Path(interpreter), model, device, folder / "cache", threads, "8")


@pytest.mark.framework
@pytest.mark.parametrize("variant", ["onnxrt", "torch"])
def test_on_the_cpu_both_sides_have_the_same_output(tmp_path, small_onnx, variant):
    workshop = cpu_workshop(variant, tmp_path, small_onnx)
    model = ModelFiles.read(workshop.make(17))
    one = case(variant, "fp32", "host", workshop.interpreter, model, the_cpu(), tmp_path, 1)
    row = compare(one, PAIRS, 0.02, tmp_path)
    assert row.reason == ""
    assert row.difference < 1e-5
    assert row.ratio.samples == PAIRS


@pytest.mark.framework
def test_openvino_has_the_same_output_on_both_sides(tmp_path, small_onnx):
    workshop = cpu_workshop("openvino", tmp_path, small_onnx)
    model = ModelFiles.read(workshop.make(17))
    one = case("openvino", "fp32", "host", workshop.interpreter, model, the_cpu(), tmp_path, 1)
    row = compare(one, PAIRS, 0.02, tmp_path)
    assert row.reason == ""
    assert row.difference < 1e-5


@pytest.mark.framework
@pytest.mark.parametrize(("image", "variant"), [("litert", "litert"), ("jax", "jax"), ("torch", "keras-torch")])
def test_readers_of_other_forms_have_the_same_output_on_both_sides(tmp_path, small_keras, image, variant):
    interpreter = cpu_workshop(image, tmp_path).interpreter
    one = case(variant, "fp32", "host", interpreter, ModelFiles.read(small_keras), the_cpu(), tmp_path, 1)
    row = compare(one, PAIRS, 0.02, tmp_path)
    assert row.reason == ""
    assert row.difference < 1e-6


@pytest.mark.framework
@pytest.mark.parametrize("io", ["host", "device"])
def test_keras_with_xla_stops_where_the_adapter_stops(tmp_path, small_keras, io):
    interpreter = REPOSITORY / ".envs/tensorflow-cpu/bin/python"
    one = case("kerasxla", "fp32", io, interpreter, ModelFiles.read(small_keras), the_cpu(), tmp_path, 1)
    row = compare(one, PAIRS, 0.02, tmp_path)
    assert row.reason == ""
    assert row.difference < 1e-6


def test_the_recipe_for_a_new_framework_can_be_verified_as_it_is(tmp_path):
    images = tmp_path / "images"
    shutil.copytree(IMAGES / "_template", images / "_template")
    new_image("brandnew", images)
    random = np.random.default_rng(7)
    root = tmp_path / "Toy-0123456789ab"
    root.mkdir()
    inputs = random.uniform(0, 10, (8, 4, 4, 3)).astype(np.float32)
    np.savez(root / "toy.npz", weights=random.normal(0, 0.05, (48, 10)).astype(np.float32))
    np.savez(root / "reference.npz", inputs=inputs, outputs=np.zeros((8, 10), np.float32))
    model = ModelFiles(
        root=root, name="Toy", hash="0123456789ab", onnx="toy.npz", keras=None, saved_model=None,
        reference="reference.npz", input_shape=(4, 4, 3), layout="NHWC", onnx_input=None, onnx_output=None,
        output_kind="probabilities", classes=10, weights="seeded", weights_note="a toy",
    )  # fmt: skip
    (root / DESCRIPTION).write_text(json.dumps(model.describe()))
    one = case("brandnew", "fp32", "host", sys.executable, model, the_cpu(), tmp_path, 1, images)
    row = compare(one, PAIRS, 0.01, tmp_path)
    assert row.reason == ""
    assert row.difference < 1e-6


@pytest.mark.gpu
@pytest.mark.framework
@pytest.mark.timeout(1800)  # the first build of an engine takes minutes
@pytest.mark.parametrize(("image", "modules", "variant", "precisions", "ios"), GPU_CASES)
def test_on_a_gpu_both_sides_have_the_same_output(
    gpu_python, exported_model, tmp_path, image, modules, variant, precisions, ios
):
    interpreter = gpu_python(image, *modules.split(", "))
    device = list_gpus()[0]
    data = DataFolder.default().root  # what was built for a sweep, or by the last run of this test, is found again
    for precision in precisions:
        for io in ios:
            folder = tmp_path / f"{precision}-{io}"
            folder.mkdir()
            row = compare(case(variant, precision, io, interpreter, exported_model, device, data), PAIRS, 0.2, folder)
            assert row.reason == "", (precision, io)
            assert row.ratio.samples == PAIRS
