"""Frameworks that read another form than ONNX: JAX and Keras on PyTorch the .keras file, LiteRT TensorFlow's TFLite files.

GPU host: docs/gpu-host.md; FRAMEWATT_PYTHON_JAX and FRAMEWATT_PYTHON_TORCH name the interpreters.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from common.harness.parity import TOLERANCES
from common.host import models
from common.host.frameworks import environments
from common.host.frameworks.registry import all_variants, forms_of, load_images
from common.model_files import ModelFiles
from tests.images.workshop import REPOSITORY, Workshop, check, cpu_workshop, exercise

#: (image, variant, precision, attribute of the adapter that holds what prepare() builds)
CPU_CASES = [
    ("jax", "jax", "fp32", "_compiled"),
    ("litert", "litert", "fp32", "_interpreter"),
    ("torch", "keras-torch", "fp32", "_inference"),
]
IMAGES = [image for image, *_ in CPU_CASES]
GPU_CASES = [
    *[("jax", "jax", precision, "_compiled", "jax, keras") for precision in ("fp32", "tf32", "fp16", "bf16")],
    *[("torch", "keras-torch", precision, "_inference", "torch, h5py") for precision in ("fp32", "tf32")],
]


@pytest.fixture(scope="module")
def lacking(small_keras: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model in its ONNX form alone."""
    folder = tmp_path_factory.mktemp("lacking")
    description = json.loads((small_keras / "model.json").read_text())
    description["keras"] = None
    description["forms"] = {name: file for name, file in description["forms"].items() if name == "onnx"}
    for file in ("reference.npz", "model.onnx"):
        (folder / file).write_bytes((small_keras / file).read_bytes())
    (folder / "model.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="module")
def answers(
    small_keras: Path, lacking: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, dict]]:
    """answers(image): all that the tests ask of its variant, from one process: importing a framework takes longest."""

    @cache
    def of(image: str) -> dict[str, dict]:
        (one,) = (case for case in CPU_CASES if case[0] == image)
        _, variant, precision, held = one
        cells = [(precision, "cpu") for precision in ("fp32", "fp16", "bf16", "int8")] + [("fp32", "cuda:0")]
        return cpu_workshop(image, tmp_path_factory.mktemp(image)).ask_all(
            {
                "outputs": exercise(variant, small_keras, precision=precision, held=held, batches=(1, 12)),
                "refusals": {"action": "refusals", "variant": variant, "cells": cells},
                "lacking": exercise(variant, lacking),
            }
        )

    return of


@pytest.mark.framework
@pytest.mark.parametrize("image", IMAGES)
def test_outputs_agree_on_the_cpu(answers, image):
    facts = answers(image)["outputs"]
    check(facts, 1e-4)
    assert facts["peak"] is None
    assert facts["versions"]["framework"]


@pytest.mark.framework
def test_dynamic_int8_computes_the_model_that_users_measure_in_int8(tmp_path, exported_model):
    """Not the small one: the converter leaves weights of fewer than 1024 values as they are."""
    if not environments.is_ready("tensorflow", "cpu"):
        pytest.skip("no .envs/tensorflow-cpu: ./invoke test makes it")
    exported = models.ensure_model(
        exported_model.name, exported_model.root.parent, lambda image: environments.interpreter(image, "cpu"),
        lambda *step: None, models.ExportOptions(weights=exported_model.weights), wanted_forms=["tflite", "tflite-int8-dynamic"],
    )  # fmt: skip
    assert exported.hash == exported_model.hash
    sizes = [exported.form(name).stat().st_size for name in ("tflite-int8-dynamic", "tflite")]
    assert sizes[0] < 0.4 * sizes[1]
    facts = cpu_workshop("litert", tmp_path).exercise(
        "litert", exported.root, precision="int8-dynamic", held="_interpreter", ios=("host",), batches=(1, 8), threads=1
    )
    _, tolerance, top1_least = TOLERANCES["int8-dynamic"]
    assert facts["cells"]
    for cell in facts["cells"]:
        assert 1e-4 < cell["rel_l2"] <= tolerance, "as exact as float32: nothing was quantized"
        assert cell["rel_l2_offline"] <= tolerance
        assert cell["top1"] >= top1_least
        assert cell["kept_its_build"] and cell["changed"] > 0.01


@pytest.mark.framework
@pytest.mark.parametrize("image", IMAGES)
def test_precisions_that_it_does_not_run_are_refused_by_name(answers, image):
    refusals = answers(image)["refusals"]
    assert refusals["fp32 cpu"] is None
    for precision in ("fp16", "bf16", "int8"):
        assert f"not {precision}" in refusals[f"{precision} cpu"]
    assert "GPU" in refusals["fp32 cuda:0"] or "CUDA" in refusals["fp32 cuda:0"]


@pytest.mark.framework
@pytest.mark.parametrize(("image", "missing"), [("jax", "keras"), ("litert", "tflite"), ("torch", "keras")])
def test_a_model_without_the_form_is_unsupported(answers, image, missing):
    facts = answers(image)["lacking"]
    assert missing in facts["unsupported"]
    assert "\n" not in facts["unsupported"]


@pytest.mark.framework
def test_the_forms_are_in_the_model_s_description_with_their_hashes(small_keras):
    read = ModelFiles.read(small_keras)
    assert set(read.forms) == {"onnx", "keras", "saved_model", "tflite", "tflite-int8-dynamic"}
    files = json.loads((small_keras / "model.json").read_text())["files"]
    sizes = {name: files[read.forms[name]]["bytes"] for name in ("tflite", "tflite-int8-dynamic")}
    assert sizes == {name: read.form(name).stat().st_size for name in sizes}


def test_labels_say_which_form_is_made_for_which_precision():
    litert = all_variants(load_images(REPOSITORY / "images"))["litert"]
    assert forms_of([litert], ["fp32"]) == ["tflite"]
    assert forms_of([litert], ["int8-dynamic", "fp16"]) == ["tflite-int8-dynamic"]


@pytest.mark.gpu
@pytest.mark.framework
@pytest.mark.parametrize(("image", "variant", "precision", "held", "modules"), GPU_CASES)
def test_gpu_is_within_the_tolerance_of_the_precision(
    gpu_python, tmp_path, small_keras, image, variant, precision, held, modules
):
    on_gpu = Workshop(image, gpu_python(image, *modules.split(", ")), tmp_path)
    facts = on_gpu.exercise(variant, small_keras, device="cuda:0", precision=precision, batches=(1, 8, 64), held=held)
    check(facts, 1e-3 if precision == "fp32" else 5e-2)
    assert facts["peak"] > 0
