"""Recipes with real frameworks: each is a program of its own, and computes what the adapter computes. Times are not judged here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.harness.parity import differing
from common.host.devices import list_gpus, the_cpu
from common.host.frameworks.registry import all_variants, load_images
from common.host.frameworks.scaffold import new_image
from common.host.models import find_model
from common.host.paths import IMAGES, DataFolder
from common.host.recipes.program import RecipeRequest, write
from common.host.verify.command import Case, compare
from common.model_files import DESCRIPTION, ModelFiles
from tests.images.workshop import QUICKLY_COMPILED, python_of

REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("recipe_driver.py")
PAIRS = 11

GPU_CASES = [
    ("tensorrt", "tensorrt, pycuda", "tensorrt", ("fp32", "tf32", "fp16")),
    ("onnxrt", "onnxruntime, onnx", "onnxrt", ("fp32", "fp16")),
    ("torch", "torch, onnx", "torch", ("fp32", "tf32", "fp16")),
    ("torch", "torch, onnx", "torchcompile", ("fp16",)),
    *[("tensorflow", "tensorflow", variant, ("fp32",)) for variant in ("tf", "tfxla", "keras", "kerasxla")],
]


def case(
    variant, tuning, precision, io, interpreter, model, device, folder, threads=None, images=IMAGES, input="float32"
):
    known = load_images(images)
    found = all_variants(known)[variant]
    image = next(image for image in known if image.name == found.image)
    return Case(
        found, image, tuning, precision, 8, io, Path(interpreter), model, device, folder / "cache", threads, "8",
        input,
    )  # fmt: skip


def interpreter_of(image):
    python = REPOSITORY / ".envs" / f"{image}-cpu" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {python.relative_to(REPOSITORY)}: ./invoke test makes it")
    return python


def run(image, interpreter, there, options=(), **request):
    request.update(repository=str(REPOSITORY), answer=str(there / "answer.json"))
    (there / "request.json").write_text(json.dumps(request))
    done = subprocess.run(
        [str(interpreter), *options, str(DRIVER), str(there / "request.json")], capture_output=True, text=True, cwd=there,
        timeout=600,
        # where the adapter has it too: a recipe compiles what the adapter compiled; on one thread, as in test_scenarios.py,
        # which then finds its kernels
        env={**os.environ, "HOME": str(there), "TORCHINDUCTOR_CACHE_DIR": str(there / "cache/torchcompile/inductor"),
             "OMP_NUM_THREADS": "1", **QUICKLY_COMPILED.get(image, {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((there / "answer.json").read_text()), done.stdout


@pytest.fixture(scope="module")
def miniature(small_keras: Path) -> ModelFiles:
    """A small mobile network in every form."""
    return ModelFiles.read(small_keras)


#: image -> variants, in the processes that they may share: Keras has one backend in each
GROUPS = [("onnxrt", ("onnxrt",)), ("torch", ("torch",)), ("torch", ("torchcompile",)), ("torch", ("keras-torch",)),
          ("tensorflow", ("tf", "tfxla", "keras", "kerasxla")), ("jax", ("jax",)), ("litert", ("litert",)),
          ("openvino", ("openvino",))]  # fmt: skip


def cases_of(variants):
    """Every level of each variant, io=host at the highest; bytes where the variant takes them."""
    known = all_variants(load_images(IMAGES))
    found = []
    for name in variants:
        for tuning in known[name].tunings:
            found += [(name, tuning, io, "float32") for io in (("host", "device") if name == "onnxrt" else ("host",))]
        if name != "litert":  # its files take what they were made for
            found.append((name, "tuned", "device", "uint8"))
    keys = ("variant", "tuning", "io", "input")
    return [{**dict(zip(keys, one, strict=True)), "precision": "fp32", "name": "-".join(one)} for one in found]


@pytest.mark.framework
@pytest.mark.timeout(1200)  # compilers, on a machine that does other things too
@pytest.mark.parametrize(("image", "variants"), GROUPS, ids=["+".join(variants) for _, variants in GROUPS])
def test_a_recipe_of_every_level_computes_what_the_adapter_computes_without_framewatt(
    tmp_path, miniature, torch_compiled, image, variants
):
    cache = torch_compiled(tmp_path / "cache")
    compute_the_same(tmp_path, miniature, cache, image, interpreter_of(image), cases_of(variants))


#: several named inputs and outputs, layers of keras-hub in the .keras file; one level will do: none has another conversion
HARD_GROUPS = [(image, tuple(name for name in variants if name != "torchcompile")) for image, variants in GROUPS]
HARD_GROUPS = [(image, variants) for image, variants in HARD_GROUPS if variants]


@pytest.mark.framework
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("image", "variants"), HARD_GROUPS, ids=["+".join(variants) for _, variants in HARD_GROUPS])
def test_a_recipe_of_a_transformer_computes_what_the_adapter_computes(
    tmp_path, small_transformers, torch_compiled, image, variants
):
    model = find_model(small_transformers, "BERT-base")
    assert model is not None and len(model.inputs) == 3 and len(model.outputs) == 2
    keys = ("variant", "tuning", "io", "input", "precision", "name")
    cases = [dict(zip(keys, (name, "tuned", "host", "float32", "fp32", name), strict=True)) for name in variants]
    compute_the_same(tmp_path, model, torch_compiled(tmp_path / "cache"), image, python_of(image), cases)


def compute_the_same(tmp_path, model, cache, image, interpreter, cases):
    """Adapter and recipe of each case, each in processes of its own."""
    facts, _ = run(
        image, interpreter, tmp_path, action="adapters", cases=cases, model=str(model.root), folder=str(tmp_path),
        adapter=str(IMAGES / image / "adapter.py"), cache=str(cache),
    )  # fmt: skip
    found = next(one for one in load_images(IMAGES) if one.name == image)
    for one, reported in zip(cases, facts, strict=True):
        request = RecipeRequest(
            key=one["name"], variant=one["variant"], tuning=one["tuning"], precision="fp32", batch_size=4, io=one["io"],
            gpu=False, settings=reported["settings"], model=model, input=one["input"], versions=reported["versions"],
        )  # fmt: skip
        (tmp_path / f"{one['name']}.py").write_text(write(request, found))
    programs = [str(tmp_path / f"{one['name']}.py") for one in cases]
    failures, printed = run(image, interpreter, tmp_path, ["-I"], action="recipes", programs=programs)
    assert failures == [""] * len(cases), "\n".join(failures)
    assert printed.count(f" {model.item}s/s, median latency ") == len(cases)
    for one in cases:
        stem = tmp_path / one["name"]
        with np.load(f"{stem}.adapter.npz") as ours, np.load(f"{stem}.outputs.npz") as theirs:
            assert list(theirs) == [tensor.name for tensor in model.outputs]
            for number, tensor in enumerate(model.outputs):
                assert theirs[tensor.name].shape == ours[f"array_{number}"].shape, one["name"]
                assert differing(ours[f"array_{number}"], theirs[tensor.name]) < 1e-6, one["name"]


@pytest.mark.framework
@pytest.mark.parametrize("fed", ["float32", "uint8"])
def test_harness_and_recipe_alternate_and_have_the_same_output(tmp_path, miniature, fed):
    python = interpreter_of("onnxrt")
    one = case("onnxrt", "rewritten", "fp32", "host", python, miniature, the_cpu(), tmp_path, 1, input=fed)
    row = compare(one, PAIRS, 0.02, tmp_path)
    assert (row.reason, row.input) == ("", fed)
    assert row.difference < 1e-6
    assert row.ratio.samples == PAIRS


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
    one = case("brandnew", "tuned", "fp32", "host", sys.executable, model, the_cpu(), tmp_path, 1, images)
    row = compare(one, PAIRS, 0.01, tmp_path)
    assert row.reason == ""
    assert row.difference < 1e-6


@pytest.mark.gpu
@pytest.mark.framework
@pytest.mark.timeout(3600)  # the first build of an engine takes minutes
@pytest.mark.parametrize(("image", "modules", "variant", "precisions"), GPU_CASES)
def test_on_a_gpu_both_sides_have_the_same_output(
    gpu_python, exported_model, tmp_path, image, modules, variant, precisions
):
    interpreter = gpu_python(image, *modules.split(", "))
    device = list_gpus()[0]
    data = DataFolder.default().root  # what was built for a sweep, or by the last run of this test, is found again
    levels = all_variants(load_images(IMAGES))[variant].tunings
    for number, (precision, level, io) in enumerate(
        (precision, level, io) for precision in precisions for level in levels for io in ("device", "host")
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        row = compare(
            case(variant, level, precision, io, interpreter, exported_model, device, data), PAIRS, 0.2, folder
        )
        assert row.reason == "", (precision, level, io)
        assert row.ratio.samples == PAIRS
