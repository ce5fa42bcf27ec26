"""Recipes with real frameworks: each is a program of its own, and computes what the adapter computes. Times are not judged here."""

import ast
import gc
import json
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from common.harness.parity import differing
from common.host.devices import list_gpus, the_cpu
from common.host.frameworks.registry import all_variants, load_images
from common.host.frameworks.scaffold import new_image
from common.host.models import ExportOptions, ensure_model, find_model
from common.host.paths import IMAGES, DataFolder
from common.host.recipes.program import RecipeRequest, write
from common.host.verify.command import Case, compare
from common.model_files import DESCRIPTION, ModelFiles, Tensor
from tests.images.test_onnxrt import ODD_OUTPUTS
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


def headers_of_the_adapter(there):
    """The environment in which inductor finds the headers that the adapter compiled, in its own folder below $TMPDIR."""
    theirs = there / "tmp/torchinductor_somebody/precompiled_headers"
    if not theirs.parent.exists():
        theirs.parent.mkdir(parents=True)
        theirs.symlink_to(there / "cache/torchcompile/inductor/precompiled_headers")
    return {"TMPDIR": str(there / "tmp"), "LOGNAME": "somebody"}


def run(image, interpreter, there, options=(), **request):
    request.update(repository=str(REPOSITORY), answer=str(there / "answer.json"))
    (there / "request.json").write_text(json.dumps(request))
    done = subprocess.run(
        [str(interpreter), *options, str(DRIVER), str(there / "request.json")], capture_output=True, text=True, cwd=there,
        timeout=600,
        # where the adapter has it too: a recipe compiles what the adapter compiled; on one thread, as in test_scenarios.py,
        # which then finds its kernels
        env={**os.environ, "HOME": str(there), "TORCHINDUCTOR_CACHE_DIR": str(there / "cache/torchcompile/inductor"),
             "OMP_NUM_THREADS": "1", **headers_of_the_adapter(there), **QUICKLY_COMPILED.get(image, {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((there / "answer.json").read_text()), done.stdout


@pytest.fixture(scope="module")
def miniature(small_keras: Path) -> ModelFiles:
    """A small mobile network in every form."""
    return ModelFiles.read(small_keras)


#: image -> variants: one process of an image computes all of its adapters, one all of its recipes; importing a framework takes longest
VARIANTS = {"onnxrt": ("onnxrt",), "torch": ("torch", "torchcompile", "keras-torch"),
            "tensorflow": ("tf", "tfxla", "keras", "kerasxla"), "jax": ("jax",), "litert": ("litert",),
            "openvino": ("openvino",)}  # fmt: skip
#: what is computed: the small network, at every level; and a transformer, which has several named inputs and outputs, and layers
#: of keras-hub in the .keras file
NETWORK, TRANSFORMER = "Miniature", "BERT-base"
KEYS = ("variant", "tuning", "io", "input")


def cases_of(image, model):
    """Of the small network every level of each variant, io=host at the highest; bytes where the variant takes them.

    Of the transformer one level, which will do: none has another conversion.
    """
    known = all_variants(load_images(IMAGES))
    found = []
    for name in VARIANTS[image]:
        if model == TRANSFORMER:
            found += [(name, "tuned", "host", "float32")] if name != "torchcompile" else []
            continue
        for tuning in known[name].tunings:
            found += [(name, tuning, io, "float32") for io in (("host", "device") if name == "onnxrt" else ("host",))]
        if name != "litert":  # its files take what they were made for
            found.append((name, "tuned", "device", "uint8"))
    return [
        {**dict(zip(KEYS, one, strict=True)), "precision": "fp32", "name": "-".join((model, *one))} for one in found
    ]


@pytest.fixture(scope="module")
def computed(
    miniature: ModelFiles,
    small_transformers: Path,
    torch_compiled: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], dict[str, tuple[ModelFiles, Path, str]]]:
    """computed(image): the folder of what its adapters computed of both models, and its recipes, each in a process of their own."""
    transformer = find_model(small_transformers, TRANSFORMER)
    assert transformer is not None and len(transformer.inputs) == 3 and len(transformer.outputs) == 2
    assert miniature.name == NETWORK

    @cache
    def of(image: str) -> dict[str, tuple[ModelFiles, Path, str]]:
        folder = tmp_path_factory.mktemp(image)
        torch_compiled(folder / "cache")
        return compute(folder, image, python_of(image), (miniature, transformer))

    return of


def compute(folder, image, interpreter, models, of=cases_of):
    """Runs adapters and recipes of all models' cases; returns model name -> (model, folder, lines that the recipes printed of it)."""
    cases = [(model, one) for model in models for one in of(image, model.name)]
    facts, _ = run(
        image, interpreter, folder, action="adapters", folder=str(folder), cache=str(folder / "cache"),
        adapter=str(IMAGES / image / "adapter.py"), cases=[{**one, "model": str(model.root)} for model, one in cases],
    )  # fmt: skip
    found = next(one for one in load_images(IMAGES) if one.name == image)
    for (model, one), reported in zip(cases, facts, strict=True):
        request = RecipeRequest(
            key=one["name"], variant=one["variant"], tuning=one["tuning"], precision="fp32", batch_size=4, io=one["io"],
            gpu=False, settings=reported["settings"], model=model, input=one["input"], versions=reported["versions"],
        )  # fmt: skip
        (folder / f"{one['name']}.py").write_text(write(request, found))
    programs = [str(folder / f"{one['name']}.py") for _, one in cases]
    failures, printed = run(image, interpreter, folder, ["-I"], action="recipes", programs=programs)
    assert failures == [""] * len(cases), "\n".join(failures)
    return {model.name: (model, folder, printed) for model in models}


@pytest.mark.framework
@pytest.mark.timeout(1200)  # compilers, on a machine that does other things too
@pytest.mark.parametrize("image", VARIANTS)
@pytest.mark.parametrize("name", [NETWORK, TRANSFORMER])
def test_a_recipe_computes_what_the_adapter_computes_without_framewatt(computed, image, name):
    model, folder, printed = computed(image)[name]
    cases = cases_of(image, name)
    assert printed.count(f" {model.item}s/s, median latency ") == len(cases)
    compare_outputs(model, folder, cases)


def compare_outputs(model, folder, cases):
    for one in cases:
        stem = folder / one["name"]
        with np.load(f"{stem}.adapter.npz") as ours, np.load(f"{stem}.outputs.npz") as theirs:
            assert list(theirs) == [tensor.name for tensor in model.outputs]
            for number, tensor in enumerate(model.outputs):
                assert theirs[tensor.name].shape == ours[f"array_{number}"].shape, one["name"]
                assert differing(ours[f"array_{number}"], theirs[tensor.name]) < 1e-6, one["name"]


@pytest.mark.framework
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("image", ["onnxrt", "openvino"])
def test_infer_alone_keeps_alive_the_memory_that_the_library_knows_by_its_address(computed, image):
    """ONNX Runtime once wrote its outputs to arrays that were freed as soon as the caller had no use for them."""
    _, folder, _ = computed(image)[NETWORK]
    cases = [one for one in cases_of(image, NETWORK) if one["input"] == "float32"]
    programs = [str(folder / f"{one['name']}.py") for one in cases]
    freed, _ = run(image, python_of(image), folder, action="alone", programs=programs)
    assert dict(zip(programs, freed, strict=True)) == dict.fromkeys(programs, 0)


@pytest.mark.framework
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("image", VARIANTS)
def test_a_model_file_that_is_none_is_one_line_in_every_framework(computed, image):
    """Junk, a file cut off, an empty one and a folder each gave a traceback and exit code 1."""
    model, folder, _ = computed(image)[NETWORK]
    cases = {one["variant"]: one for one in cases_of(image, NETWORK) if one["tuning"] == "tuned"}
    programs = [str(folder / f"{one['name']}.py") for one in cases.values()]
    bad = folder / "bad"
    (bad / "folder").mkdir(parents=True)
    for suffix in ("onnx", "keras", "tflite"):
        (bad / f"junk.{suffix}").write_bytes(b"no model at all" * 50)
        (bad / f"empty.{suffix}").touch()
        whole = next(model.root.glob(f"*.{suffix}"), None)
        if whole is not None:
            (bad / f"cut.{suffix}").write_bytes(whole.read_bytes()[:2000])
    facts, _ = run(
        image, python_of(image), folder, action="refused", programs=programs, models=[str(one) for one in bad.iterdir()]
    )
    assert len(facts) >= 7 * len(programs)
    for name, (code, said) in facts.items():
        assert code == 2, (name, code, said)
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "Traceback" not in said and "this program takes " in lines[0], (name, said)


class FakeTorch:
    """As much of torch as a recipe with a CUDA graph calls when it loads: tensors that are shared, streams that do nothing."""

    class Tensor:
        shape, dtype = (4,), "float32"

        def to(self, device):
            return self

        pin_memory = is_floating_point = lambda self: self

        def copy_(self, other, non_blocking=False):
            pass

    class Stream:
        def synchronize(self):
            pass

    class Graph:
        def replay(self):
            pass

    float32 = "float32"

    def __init__(self):
        self.cuda = SimpleNamespace(
            Stream=self.Stream, CUDAGraph=self.Graph, stream=lambda stream: nullcontext(), graph=lambda graph, stream: nullcontext()
        )  # fmt: skip
        self.inference_mode = nullcontext

    def from_numpy(self, values):
        return self.Tensor()

    def empty(self, shape, **more):
        return self.Tensor()


@pytest.mark.parametrize("io", ["host", "device"])
def test_infer_of_a_graph_in_torch_keeps_the_weights_alive(tmp_path, io):
    image = next(one for one in load_images(IMAGES) if one.name == "torch")
    request = RecipeRequest(
        key="k", variant="torch", tuning="tuned", precision="fp32", batch_size=4, io=io, gpu=True,
        settings={"model": "0 constants lifted", "cuda_graph": "yes", "converters": "none", "plain_numbers": "none"},
        model=toy(tmp_path),
    )  # fmt: skip
    text = write(request, image)
    own = {"load", "in_precision", "as_fed"}
    kept = [one for one in ast.parse(text).body if isinstance(one, ast.FunctionDef) and one.name in own]
    recipe = {"torch": FakeTorch(), "np": np, "use_gpu": lambda: None, "tensors": lambda made: [made]}
    exec(compile(ast.Module(kept, []), "recipe", "exec"), recipe)

    class Weights:
        def __call__(self, *given):
            return FakeTorch.Tensor()

    module = Weights()
    alive = weakref.ref(module)
    recipe["prepared"] = lambda path, device, held=[module]: (held.pop(), ["x"], ["y"])
    del module
    infer, outputs = recipe["load"]("model", {"x": np.zeros(4, np.float32)})
    del outputs
    gc.collect()
    infer()
    assert alive() is not None
    del infer
    gc.collect()
    assert alive() is None


def outputs_that_are_not_bound(image, name):
    levels = [(tuning, io) for tuning in ("stock", "tuned") for io in ("host", "device")]
    cases = [dict(zip(KEYS, ("onnxrt", tuning, io, "float32"), strict=True)) for tuning, io in levels]
    return [{**one, "precision": "fp32", "name": "-".join((name, one["tuning"], one["io"]))} for one in cases]


@pytest.mark.framework
def test_a_recipe_has_outputs_that_onnx_runtime_does_not_write_to_their_own_memory(tmp_path):
    """An output that is an input too came out as the memory that it was bound to, which nobody had written.

    And a lone number got an axis before it was fed.
    """
    python = interpreter_of("onnxrt")
    subprocess.run([str(python), "-c", ODD_OUTPUTS, str(tmp_path)], cwd=REPOSITORY, check=True)
    models = [
        ensure_model(
            str(tmp_path / f"{name}.onnx"),
            tmp_path / "models",
            lambda image: python,
            lambda *step: None,
            ExportOptions(),
        )
        for name in ("boxes", "handed-on", "of-a-lone-number")
    ]
    made = compute(tmp_path, "onnxrt", python, models, outputs_that_are_not_bound)
    for model, folder, _ in made.values():
        compare_outputs(model, folder, outputs_that_are_not_bound("onnxrt", model.name))


def test_a_recipe_for_a_gpu_reads_an_input_that_is_handed_on_where_it_lies(tmp_path):
    tensors = {name: Tensor(name, "float32", (1, 4)) for name in ("x", "y")}
    model = replace(toy(tmp_path), inputs=(tensors["x"],), outputs=(tensors["y"], tensors["x"]))
    image = next(one for one in load_images(IMAGES) if one.name == "onnxrt")
    request = RecipeRequest(
        key="k", variant="onnxrt", tuning="tuned", precision="fp32", batch_size=4, io="host", gpu=True,
        settings={"model": "as exported", "chosen": "x"}, model=model,
    )  # fmt: skip
    skipping = "        if name in given:"
    assert write(request, image).count(skipping) == 1
    assert skipping not in write(replace(request, model=replace(model, outputs=(tensors["y"],))), image)


CHANGED = """
import json, runpy, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np, onnx
from onnx import helper, numpy_helper
from images.onnxrt.model_cache import rewritten
folder = Path(sys.argv[2])
value = lambda name: helper.make_tensor_value_info(name, 1, ["N", 4])
constants = {"far": np.full((4, 4), 3e9, np.float32), "million": np.float32(1e6)}
graph = helper.make_graph([helper.make_node("Div", ["far", "million"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
                          [value("x")], [value("y")], [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
path, words = rewritten(folder / "model.onnx", folder, "k", True)
if sys.argv[3:]:
    made = runpy.run_path(sys.argv[3], run_name="recipe")["changed"](str(folder / "model.onnx"))
    assert made == path.read_bytes()
print(words)
"""


@pytest.mark.framework
def test_the_recipe_in_float16_computes_the_same_constants_in_advance(tmp_path):
    """3e9 as 65504, divided by a million, would be another weight than 3000."""

    def changed(*recipe):
        command = [str(interpreter_of("onnxrt")), "-c", CHANGED, str(REPOSITORY), str(tmp_path), *map(str, recipe)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()

    words = changed()
    assert (
        words
        == "as exported, float16 inside, float32 input and output, computed in advance: 1 of constants beyond float16"
    )
    image = next(one for one in load_images(IMAGES) if one.name == "onnxrt")
    request = RecipeRequest(
        key="k", variant="onnxrt", tuning="tuned", precision="fp16", batch_size=4, io="host", gpu=True,
        settings={"model": words, "chosen": "x"}, model=toy(tmp_path),
    )  # fmt: skip
    (tmp_path / "recipe.py").write_text(write(request, image))
    assert changed(tmp_path / "recipe.py") == words


@pytest.mark.framework
@pytest.mark.parametrize("fed", ["float32", "uint8"])
def test_harness_and_recipe_alternate_and_have_the_same_output(tmp_path, miniature, fed):
    python = interpreter_of("onnxrt")
    one = case("onnxrt", "rewritten", "fp32", "host", python, miniature, the_cpu(), tmp_path, 1, input=fed)
    row = compare(one, PAIRS, 0.02, tmp_path)
    assert (row.reason, row.input) == ("", fed)
    assert row.difference < 1e-6
    assert row.ratio.samples == PAIRS


def toy(folder):
    """A model whose folder holds nothing yet."""
    root = folder / "Toy-0123456789ab"
    root.mkdir()
    return ModelFiles(
        root=root, name="Toy", hash="0123456789ab", onnx="toy.npz", keras=None, saved_model=None,
        reference="reference.npz", input_shape=(4, 4, 3), layout="NHWC", onnx_input=None, onnx_output=None,
        output_kind="probabilities", classes=10, weights="seeded", weights_note="a toy",
    )  # fmt: skip


def test_the_recipe_for_a_new_framework_can_be_verified_as_it_is(tmp_path):
    images = tmp_path / "images"
    shutil.copytree(IMAGES / "_template", images / "_template")
    new_image("brandnew", images)
    random = np.random.default_rng(7)
    model = toy(tmp_path)
    inputs = random.uniform(0, 10, (8, 4, 4, 3)).astype(np.float32)
    np.savez(model.root / "toy.npz", weights=random.normal(0, 0.05, (48, 10)).astype(np.float32))
    np.savez(model.root / "reference.npz", inputs=inputs, outputs=np.zeros((8, 10), np.float32))
    (model.root / DESCRIPTION).write_text(json.dumps(model.describe()))
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
