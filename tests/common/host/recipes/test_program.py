"""A recipe is code, and what it is made of may come from a stranger's file."""

from __future__ import annotations

import ast
import ctypes
import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from common.host.frameworks.registry import Image, load_images
from common.host.paths import IMAGES, ROOT
from common.host.recipes import made_up, sources
from common.host.recipes.program import RecipeRequest, file_name, literal, write
from common.model_files import ModelFiles, Tensor

TEMPLATE = """{% extends "program.py.j2" %}
{% block title %}numpy{% endblock %}
{% block model_file %}{{ asked.model.form("onnx") | literal }}{% endblock %}
{% block body %}
# {{ settings.note }}
def load(path, inputs):
    \"\"\"{{ settings.note }}\"\"\"
    told = {{ settings.note | literal }}
    return (lambda: None), (lambda: {"sum": inputs["a"] + inputs["b"].sum(), "told": np.array(told)})
{% endblock %}
"""
EVIL = [
    'ends """ here\nimport os; os.write(1, b"owned")',
    "line\r\nraise SystemExit(9)",
    "a\\",
    "\u2028raise SystemExit(9)",
    "{{ 7 * 7 }} {% raise %}",
    "'\"'; raise SystemExit(9) #",
]


def model(**more: object) -> ModelFiles:
    values: dict[str, object] = {
        "root": Path("data/models/two"), "name": "two", "hash": "0123456789ab", "onnx": "two.onnx", "keras": None, "saved_model": None,
        "reference": "reference.npz", "input_shape": (3,), "layout": "", "onnx_input": "a", "onnx_output": "sum",
        "output_kind": "raw", "classes": 0, "weights": "user", "weights_note": "", "item": "sample",
        "inputs": (Tensor("a", "float32", (1, 3)), Tensor("b", "int64", (2,), None)), "outputs": (Tensor("sum", "float32", (1, 3)),),
        **more,
    }  # fmt: skip
    return ModelFiles(**values)  # type: ignore[arg-type]


def request(**more: object) -> RecipeRequest:
    values: dict[str, object] = {
        "key": "two_sum_fp32_b0004_host", "variant": "sum", "tuning": "tuned", "precision": "fp32", "batch_size": 4, "io": "host",
        "gpu": False, "settings": {"note": "plain"}, "model": model(), **more,
    }  # fmt: skip
    return RecipeRequest(**values)  # type: ignore[arg-type]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    folder = tmp_path / "sum"
    folder.mkdir()
    (folder / "recipe.py.j2").write_text(TEMPLATE)
    return Image("sum", folder, 1, "numpy", (), "")


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_strangers_file_says_becomes_text_and_never_code(image: Image, tmp_path: Path, evil: str) -> None:
    named = model(
        name=evil, onnx="evil.onnx", inputs=(Tensor("a", "float32", (1, 3)), Tensor(evil, "int64", (2,), None))
    )
    one = request(
        settings={"note": evil, "trial": evil}, measured=[evil], versions={evil: evil}, item=evil, model=named, key=evil
    )
    text = write(one, image)
    program = tmp_path / "program.py"
    program.write_text(text)
    tree = ast.parse(text)
    assert not [node for node in tree.body[1:] if isinstance(node, (ast.Raise, ast.Expr))]
    show = f"import runpy; found = runpy.run_path({str(program)!r}); print(ascii(list(found['INPUTS'])[1]))"
    done = subprocess.run([sys.executable, "-I", "-c", show], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ascii(evil) + "\n"


GIVEN = {"a": np.arange(12, dtype=np.float32).reshape(4, 3), "b": np.array([3, 4])}


def run(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The program, on a model file that is there."""
    (folder / "recipe.py").write_text(text)
    (folder / "two.onnx").touch()
    command = [sys.executable, "-I", "recipe.py", "two.onnx", "--seconds", "0.01", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_a_program_with_several_named_inputs_runs_alone(image: Image, tmp_path: Path) -> None:
    # an array that is no input stays unread
    np.savez(tmp_path / "in.npz", **GIVEN, labels=np.zeros(4))  # type: ignore[arg-type]
    done = run(tmp_path, write(request(), image), "--inputs", "in.npz", "--save", "out.npz")
    assert done.returncode == 0, done.stderr
    assert " samples/s, median latency " in done.stdout
    with np.load(tmp_path / "out.npz") as made:
        assert np.array_equal(made["sum"], GIVEN["a"] + 7)
        assert str(made["told"]) == "plain"


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {**GIVEN, "a": np.zeros((8, 3), np.float32)},
            "array 'a' of in.npz is float32 of shape (8, 3); this program takes float32 of shape (4, 3)",
        ),
        (
            {**GIVEN, "a": GIVEN["a"].astype(np.float64)},
            "array 'a' of in.npz is float64 of shape (4, 3); this program takes float32 of shape (4, 3)",
        ),
        ({"a": GIVEN["a"], "c": GIVEN["b"]}, "in.npz has no array 'b', only: a, c"),
        ({**GIVEN, "a": np.array([None], object)}, "in.npz cannot be read as an .npz file: Object arrays"),
        (None, "in.npz cannot be read as an .npz file: "),
    ],
)
def test_inputs_that_do_not_fit_are_one_line(image: Image, tmp_path: Path, arrays: Any, words: str) -> None:
    """Eight samples fed to a program of four once gave half the rate, and nothing said so."""
    if arrays is None:
        (tmp_path / "in.npz").write_text("no zip")
    else:
        np.savez(tmp_path / "in.npz", **arrays)
    done = run(tmp_path, write(request(), image), "--inputs", "in.npz")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {words}")
    assert done.stderr.count("\n") == 1


def test_texts_of_any_length_are_fed(image: Image, tmp_path: Path) -> None:
    texts = model(inputs=(Tensor("a", "float32", (1, 3)), Tensor("b", "str", (2,), None)))
    text = write(request(model=texts), image).replace('inputs["b"].sum()', 'len(inputs["b"][1])')
    np.savez(tmp_path / "in.npz", a=GIVEN["a"], b=np.array(["a", "word"]))
    done = run(tmp_path, text, "--inputs", "in.npz", "--save", "out.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as made:
        assert np.array_equal(made["sum"], GIVEN["a"] + 4)


@pytest.mark.parametrize("name", ["file", "a/b", "args", "it's", "x.npy", "path"])
def test_outputs_are_saved_under_any_name(image: Image, tmp_path: Path, name: str) -> None:
    text = write(request(), image).replace('"told": np.array(told)', f'{name!r}: np.array(["a", "bc"], object)')
    done = run(tmp_path, text, "--save", "out.npz")
    assert done.returncode == 0, done.stderr
    assert " samples/s, median latency " in done.stdout
    with np.load(tmp_path / "out.npz") as made:
        assert made[name].tolist() == ["a", "bc"]
        assert made["sum"].shape == (4, 3)


def test_outputs_are_saved_in_the_type_that_the_program_names(image: Image, tmp_path: Path) -> None:
    """PyTorch's recipe of a model in float16 said float16 and saved float32."""
    text = write(request(model=model(outputs=(Tensor("sum", "float16", (1, 3)),))), image)
    assert run(tmp_path, text, "--save", "out.npz").returncode == 0
    with np.load(tmp_path / "out.npz") as made:
        assert made["sum"].dtype == np.float16


@pytest.mark.parametrize(
    ("target", "why"),
    [("no/such/out.npz", "there is no folder no/such"), ("folder", "it is a folder"), ("sealed", "Permission denied")],
)
def test_outputs_that_cannot_be_written_are_found_before_the_measurement(
    image: Image, tmp_path: Path, target: str, why: str
) -> None:
    """It once came out after all of it, and --save of a folder so too."""
    (tmp_path / "folder").mkdir()
    text = write(request(), image).replace("os.W_OK):", "os.W_OK) or path == 'sealed':")  # root may write anywhere
    done = run(tmp_path, text, "--save", target)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: the outputs cannot be written to {target}: {why}\n"
    assert sorted(one.name for one in tmp_path.iterdir() if one.name != "sum") == ["folder", "recipe.py", "two.onnx"]


def test_a_disk_that_fills_up_ends_with_the_rate_and_one_line(image: Image, tmp_path: Path) -> None:
    done = run(tmp_path, write(request(), image), "--save", "/dev/full")
    assert done.returncode == 2
    assert " samples/s, median latency " in done.stdout
    assert done.stderr == "error: the outputs cannot be written to /dev/full: No space left on device\n"


@pytest.mark.parametrize("option", ["--save", "--inputs", "MODEL"])
def test_an_option_that_is_empty_is_not_taken_as_left_out(image: Image, tmp_path: Path, option: str) -> None:
    (tmp_path / "recipe.py").write_text(write(request(), image))
    (tmp_path / "two.onnx").touch()
    given = [""] if option == "MODEL" else ["two.onnx", option, ""]
    done = subprocess.run(
        [sys.executable, "-I", "recipe.py", *given], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {option} is empty: give a path, or leave it out\n"


@pytest.mark.parametrize("where", ["loaded", "its outputs taken"])
def test_a_model_that_cannot_be_loaded_is_one_line_and_with_debug_a_traceback(
    image: Image, tmp_path: Path, where: str
) -> None:
    """Junk, an empty file, a folder or another model each ended in a traceback of the framework."""
    failure = "raise ValueError('no\\n such input: ' + 'x' * 5000)"
    (image.folder / "recipe.py.j2").write_text(TEMPLATE + "{% block about_model %}an .onnx file{% endblock %}\n")
    text = write(request(), image)
    if where == "loaded":
        text = text.replace("    told = ", f"    {failure}\n    told = ")
    else:
        text = text.replace(
            "    infer, outputs = load(given.model, inputs)",
            f"    infer, outputs = load(given.model, inputs)\n        {failure}",
        )
    done = run(tmp_path, text)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: two.onnx cannot be loaded and run (ValueError: no such input: xxx")
    assert "this program takes an .onnx file, with a float32 (4, 3), b int64 (2,)" in done.stderr
    assert done.stderr.count("\n") == 1 and len(done.stderr) < 600
    debugged = run(tmp_path, text, "--debug")
    assert debugged.returncode == 1 and "Traceback" in debugged.stderr


@pytest.mark.parametrize("where", ["while a framework is imported", "in the loop"])
def test_after_ctrl_c_a_program_ends_plainly(image: Image, tmp_path: Path, where: str) -> None:
    said = 'print("here", flush=True)'
    text = write(request(), image)
    if where == "in the loop":
        text = text.replace("    while not durations", f"    {said}\n    while not durations", 1)
    else:
        text = text.replace("    import numpy as np", f"    {said}\n    time.sleep(60)\n    import numpy as np", 1)
    (tmp_path / "recipe.py").write_text(text)
    (tmp_path / "two.onnx").touch()
    command = [sys.executable, "-I", "recipe.py", "two.onnx", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (130, "interrupted\n")


@pytest.mark.parametrize("seconds", ["-5", "0", "nan", "inf", "-inf", "soon"])
def test_a_time_that_is_none_is_one_line(image: Image, tmp_path: Path, seconds: str) -> None:
    done = run(tmp_path, write(request(), image), f"--seconds={seconds}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: --seconds is a number above 0, not {seconds}\n"


def test_a_model_that_is_not_there_is_one_line(image: Image, tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text(write(request(), image))
    command = [sys.executable, "-I", "recipe.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: there is no data/models/two/two.onnx: give the path of the model as the first argument\n"
    )


@pytest.mark.parametrize("where", ["at the head", "in load"])
def test_a_package_that_is_not_there_is_one_line(image: Image, tmp_path: Path, where: str) -> None:
    missing = "import no_such_package"
    template = TEMPLATE.replace(
        "{% block model_file", "{% block needs %}no-such-package{% endblock %}\n{% block model_file"
    )
    if where == "in load":
        template = template.replace("    told = ", f"    {missing}\n    told = ")
    else:
        template += f"{{% block imports %}}\n{missing}\n{{% endblock %}}\n"
    (image.folder / "recipe.py.j2").write_text(template)
    text = write(request(), image)
    done = run(tmp_path, text)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("error: No module named 'no_such_package'; this program needs numpy and no-such-package\n")
    # whoever imports the program is not ended by it
    with pytest.raises(ModuleNotFoundError):
        found: dict[str, Any] = {"__name__": "recipe"}
        exec(compile(text, "recipe", "exec"), found)
        found["load"]("two.onnx", GIVEN)


@pytest.mark.parametrize(
    ("gpus", "says"), [(0, "error: the CUDA driver shows no GPU"), (1, "error: two.onnx cannot be loaded and run (Ru")]
)
def test_without_a_gpu_the_programs_failure_is_one_line(image: Image, tmp_path: Path, gpus: int, says: str) -> None:
    """With one, the failure is something else."""
    text = write(request(gpu=True), image).replace("    told = ", "    raise RuntimeError('no device')\n    told = ")
    head, begin, rest = text.partition("def gpu_count():")
    assert begin
    done = run(tmp_path, head + begin + f"\n    return {gpus}\n\n\ndef asked():" + rest)
    assert done.returncode == 2
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1
    assert "gpu_count" not in write(request(), image)


def test_gpus_are_counted_by_the_driver(image: Image) -> None:
    found: dict[str, Any] = {}
    exec(compile(write(request(gpu=True), image), "recipe", "exec"), found)

    class Driver:
        failure = 0

        def cuInit(self, flags: int) -> int:
            return self.failure

        def cuDeviceGetCount(self, count: Any) -> int:
            count._obj.value = 3
            return 0

    def none(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    loaders = [(lambda name: Driver(), 3), (none, 0)]
    for loader, count in loaders:
        found["ctypes"] = SimpleNamespace(CDLL=loader, c_int=ctypes.c_int, byref=ctypes.byref)
        assert found["gpu_count"]() == count
    Driver.failure = 100
    found["ctypes"].CDLL = lambda name: Driver()
    assert found["gpu_count"]() == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"trial_of": "2026-11-28T10:11:12Z, by an earlier worker"},
            "short trial, 2026-11-28T10:11:12Z, by an earlier worker than the one that measured this cell;",
        ),
        (
            {"trial_of": "2026-11-28T10:11:12Z, by this worker"},
            "short trial, 2026-11-28T10:11:12Z, by the worker that measured this cell;",
        ),
        ({}, "short trial, at an unknown time, perhaps by an earlier worker;"),
    ],
)
def test_times_of_a_trial_say_of_which(image: Image, settings: dict[str, str], words: str) -> None:
    text = write(request(settings={"note": "plain", "trial": "plain call: 58.743 ms; b: no kernel", **settings}), image)
    comment = text.partition("# Time of one inference")[2].partition("\n\n")[0]
    sentence = " ".join(comment.replace("#", "").split())
    assert words in sentence
    assert "not the measurement" in sentence
    assert comment.endswith("#   plain call: 58.743 ms\n#   b: no kernel")
    assert "short trial" not in write(request(), image)


def test_the_head_says_versions_by_their_packages_names_and_keeps_the_spaces_of_the_template(image: Image) -> None:
    (image.folder / "recipe.py.j2").write_text(
        TEMPLATE.replace("numpy{% endblock", 'numpy{{ " and more" }}{% endblock', 1)
    )
    text = write(request(versions={"framework": "8.6.0", "numpy": "2.0"}), image)
    assert text.startswith('"""numpy and more: fp32')
    assert "\nMeasured with numpy 2.0, sum 8.6.0.\n" in text
    many = write(request(versions={f"package{number}": "1.2.3" for number in range(40)}), image)
    assert max(map(len, many.partition('"""')[2].partition('"""')[0].splitlines())) < 120


@pytest.mark.parametrize(
    ("variant", "versions", "message"),
    [
        ("torch", {"framework": "2.11", "torch": "2.11", "numpy": "2.0"}, "numpy 2.0, torch 2.11"),
        ("torchcompile", {"framework": "2.11", "torch": "2.11"}, "torch 2.11"),
        # its framework's version is PyTorch's
        ("keras-torch", {"framework": "2.11", "torch": "2.11", "keras": "3.12"}, "keras 3.12, torch 2.11"),
        ("kerasxla", {"framework": "3.12", "tensorflow": "2.20", "keras": "3.12"}, "keras 3.12, tensorflow 2.20"),
        ("onnxrt-trt", {"framework": "1.23", "onnxruntime": "1.23", "numpy": "2.0"}, "numpy 2.0, onnxruntime 1.23"),
        # by chance
        ("litert", {"framework": "2.1.0", "numpy": "2.1.0"}, "litert 2.1.0, numpy 2.1.0"),
        ("torch", {"framework": "2.11", "numpy": "2.11"}, "numpy 2.11, torch 2.11"),
    ],
)
def test_a_frameworks_version_is_left_out_only_where_its_own_package_has_it(
    image: Image, variant: str, versions: dict[str, str], message: str
) -> None:
    real = next(one for one in load_images(IMAGES) if variant in {each.name for each in one.variants})
    (image.folder / "recipe.py.j2").write_text(f"{TEMPLATE}{{% block imports %}}\nimport keras\n{{% endblock %}}\n")
    text = write(request(variant=variant, versions=versions), dataclasses.replace(real, folder=image.folder))
    assert f"\nMeasured with {message}.\n" in text


def test_the_head_leaves_out_packages_that_the_program_does_not_have() -> None:
    """A file in ONNX on PyTorch was said to be measured with Keras, which its image has too."""
    versions = dict.fromkeys(("framework", "torch", "numpy", "keras", "onnx", "onnx2torch", "cudnn"), "1.0")
    found = next(one for one in load_images(IMAGES) if one.name == "torch")
    text = write(request(variant="torch", settings=TORCH, versions=versions), found)
    assert "\nMeasured with cudnn 1.0, numpy 1.0, onnx 1.0, onnx2torch 1.0, torch 1.0.\n" in text
    keras = model(keras="two.keras", forms={"keras": "two.keras"})
    text = write(request(variant="keras-torch", settings=TORCH, versions=versions, model=keras), found)
    assert "\nMeasured with cudnn 1.0, keras 1.0, numpy 1.0, torch 1.0.\n" in text


def functions_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(text, "recipe", "exec"), found)
    return found


NOTED = (
    ("ids", "uint8", "whole numbers within the table of 10 that is read by them", 0, 9),
    ("places", "int64", "0, 1, 2, ... within a table of 7", 0, 6),
    ("len", "int64", "64, the length of 'x', the same each time", 64, 64),
    ("mask", "bool", "ones, as a mask", 1, 1),
    ("left_out", "bool", "zeros, as a mask of what is padding", 0, 0),
    ("rate", "int64", "16000, as a sampling rate", 16000, 16000),
    ("speed", "float32", "1, as a factor", 1, 1),
    ("one", "float32", "1", 1, 1),
    ("state", "float32", "zeros, as a state begins, the same each time", 0, 0),
    ("bytes", "int8", "whole numbers from -128 to 127", -128, 127),
    ("k", "int32", "whole numbers from 0 to 9: use unknown", 0, 9),
    ("truth", "bool", "random truth values", 0, 1),
    ("picture", "float32", "pictures of -1 to 1", -1, 1),
    ("x", "float32", "a unit normal", -2, 2),
    # nothing is noted of a model that the user gave inputs for
    ("padding_mask", "int32", "", 1, 1),
    ("unknown_len", "int64", "", 1, 1),
)


@pytest.mark.parametrize(("name", "kind", "words", "low", "high"), NOTED)
def test_inputs_that_are_made_up_are_within_what_the_description_notes(
    image: Image, name: str, kind: str, words: str, low: float, high: float
) -> None:
    """An index beyond its table crashed the model, and a length of 0 made it compute nothing."""
    given = (Tensor("first", "float32", (1, 3)), Tensor(name, kind, (1, 50)))
    notes = (f"input '{name}': {words}",) if words else ()
    found = functions_of(write(request(model=model(inputs=given, notes=notes)), image))
    values = found["made_up_inputs"]()[name]
    assert (values.shape, str(values.dtype)) == ((4, 50), kind)
    assert low <= values.min() and values.max() <= high
    assert (low == high) == (len(np.unique(values)) == 1)


def test_sides_of_a_picture_that_are_made_up_are_its_own(image: Image) -> None:
    given = (Tensor("im", "float32", (1, 3, 32, 48)), Tensor("im_shape", "float32", (1, 2)))
    noted = model(inputs=given, layout="NCHW", notes=("input 'im_shape': height and width of 'im'",))
    made = functions_of(write(request(model=noted), image))["made_up_inputs"]()
    assert made["im_shape"].tolist() == [[32, 48]] * 4
    assert made["im"].max() > 200


def test_every_sentence_that_the_export_writes_of_an_input_is_a_range() -> None:
    """Each begins as one of those above: a new one would be drawn as if nothing was noted."""
    tree = ast.parse((ROOT / "common/export/values.py").read_text())
    draw = next(one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "_draw")
    said = [
        one.value.elts[1] for one in ast.walk(draw) if isinstance(one, ast.Return) and isinstance(one.value, ast.Tuple)
    ]
    sentences = [eval(compile(ast.Expression(one), "said", "eval"), SAID) for one in said]
    assert len(sentences) > 12
    for words in sentences:
        noted = model(
            inputs=(Tensor("first", "float32", (1, 3)), Tensor("b", "int64", (1, 2))), notes=(f"input 'b': {words}",)
        )
        assert words == "the word 'text'" or made_up.noted(noted.inputs[1], noted) is not None, words


SAID = {
    "pixels": "0 to 255", "sides": ("first", (1, 3)), "_SAMPLE_RATE": 16000, "size": 3, "measured": "first", "table": 7,
    "limits": SimpleNamespace(min=0, max=255), "_SMALL": 10,
}  # fmt: skip


@pytest.mark.parametrize("together", [False, True])
def test_the_reference_beside_the_model_is_what_is_fed(image: Image, tmp_path: Path, together: bool) -> None:
    """Round and round, as in the cell; images that were fed as bytes are rounded."""
    units = np.arange(18, dtype=np.float32).reshape(6, 3) / 4
    if together:
        files = model(inputs=(Tensor("a", "float32", (1, 3)),))
        stored = {"inputs": units[:3], "outputs": units[:3]}
    else:
        files = model()
        stored = {"input_0_0": units[:1], "input_0_1": units[1:2], "input_0_2": units[2:3], "input_1": np.array([5, 6])}
    np.savez(tmp_path / "reference.npz", **stored)  # type: ignore[arg-type]
    found = functions_of(write(request(model=files, input="uint8"), image))
    made = found["reference_inputs"](str(tmp_path / "two.onnx"))
    assert made["a"].dtype == np.uint8
    np.testing.assert_array_equal(made["a"], np.rint(units[[0, 1, 2, 0]]))
    assert together or made["b"].tolist() == [5, 6]
    text = write(request(model=model()), image)
    if not together:
        done = run(tmp_path, text, "--save", "out.npz")
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "out.npz") as saved:
            np.testing.assert_array_equal(saved["sum"], units[[0, 1, 2, 0]] + 11)


@pytest.mark.parametrize(
    "stored", [None, b"junk", {"input_0_0": np.zeros((1, 4), np.float32)}, {"inputs": np.zeros((0, 3))}]
)
def test_a_reference_that_does_not_fit_is_left_alone(image: Image, tmp_path: Path, stored: Any) -> None:
    if isinstance(stored, bytes):
        (tmp_path / "reference.npz").write_bytes(stored)
    elif stored is not None:
        np.savez(tmp_path / "reference.npz", **stored)
    done = run(tmp_path, write(request(), image))
    assert done.returncode == 0, done.stderr
    assert functions_of(write(request(), image))["reference_inputs"](str(tmp_path / "two.onnx")) is None


def test_without_inputs_there_are_made_up_ones_of_the_right_kinds(image: Image) -> None:
    made = functions_of(write(request(input="uint8"), image))["made_up_inputs"]()
    assert {name: (values.shape, str(values.dtype)) for name, values in made.items()} == {
        "a": ((4, 3), "uint8"), "b": ((2,), "int64"),
    }  # fmt: skip


def test_an_image_without_a_template_and_settings_that_say_too_little_are_one_line(image: Image) -> None:
    with pytest.raises(UserError, match="its settings do not say enough"):
        write(request(settings={}), image)
    (image.folder / "recipe.py.j2").unlink()
    with pytest.raises(UserError, match="sum has no recipe: images/sum has no"):
        write(request(), image)


@pytest.mark.parametrize(
    ("image_name", "variant", "precision", "words"),
    [("tensorflow", "tftrt", "fp32", "TF-TRT ended"), ("tensorrt", "tensorrt", "int8", "calibrated"),
     ("tensorrt", "tensorrt-rtx", "fp16", "compiles its kernels")],
)  # fmt: skip
def test_what_cannot_be_a_recipe_says_why(image_name: str, variant: str, precision: str, words: str) -> None:
    found = next(one for one in load_images(IMAGES) if one.name == image_name)
    settings = {"graph": "TrtGraphConverterV2", "network": "precision flags", "profile": "b8"}
    with pytest.raises(UserError, match=words):
        write(request(variant=variant, precision=precision, settings=settings, gpu=True), found)


def test_values_as_python_writes_them() -> None:
    value = {"a": (1,), 'b"\n': [None, True, 1.5, ("x", "y")], "é": "\u2028"}
    assert ast.literal_eval(literal(value)) == value


def test_a_files_name_is_the_cells_key_as_far_as_files_can_be_so_named() -> None:
    assert file_name("M_onnxrt@1.30.0_fp32_b0001") == "M_onnxrt@1.30.0_fp32_b0001.py"
    odd, other = file_name("M/../x y"), file_name("M/../x z")
    assert "/" not in odd
    assert odd != other


def made_of(taken: sources.Taken) -> dict[str, object]:
    found: dict[str, object] = {}
    code = f"from __future__ import annotations\nimport numpy as np\n{taken.standard}\n{taken.others}\n{taken.text}"
    exec(compile(code, "taken", "exec"), found)
    return found


def test_of_a_module_a_recipe_takes_what_it_needs_and_no_more() -> None:
    found = made_of(sources.needed({"common/onnx_rewrites.py": ["fuse_hard_swish"]}))
    assert callable(found["fuse_hard_swish"])
    assert "fold_constants" not in found
    assert "add_initializer" not in vars(found["_Graph"]), "a method that only the other one calls"
    scales = made_of(sources.needed({"common/onnx_rewrites.py": ["fold_scale_and_shift"]}))
    assert "_per_channel" in scales
    assert "_hard_sigmoid_of" not in scales
    assert "add_initializer" in vars(scales["_Graph"])
    assert "split" in vars(scales["_Graph"])
    assert sources.needed({}) == sources.Taken("", "", "")


def test_rows_of_a_table_that_are_not_wanted_stay_behind_with_what_they_alone_reach(tmp_path: Path) -> None:
    taken = sources.needed(
        {"images/torch/converters.py": ["register_converters"], "images/torch/unsupported_node.py": []},
        {"CONVERTERS": ["Reshape", "Trilu"], "REPLACED": []},
        ["torch"],
    )
    assert '"Reshape": (' in taken.text
    assert '"Pad"' not in taken.text
    assert "def _trilu" in taken.text
    assert "def _pad" not in taken.text
    assert "def _calls" not in taken.text
    assert "type: ignore" not in taken.text
    assert taken.others == ""
    assert taken.standard == "from typing import Any, Dict, List, Optional, Sequence, Set, Tuple"
    with pytest.raises(KeyError, match="Nothing"):
        sources.needed(
            {"images/torch/converters.py": ["register_converters"], "images/torch/unsupported_node.py": []},
            {"CONVERTERS": ["Nothing"]},
        )


def test_what_a_recipe_cannot_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError, match="no_such"):
        sources.needed({"common/onnx_rewrites.py": ["no_such"]})
    with pytest.raises(ValueError, match=r"retype\.py takes \w+ from common\.\w+, which this recipe does not have"):
        sources.needed({"images/tensorrt/retype.py": ["retype"]}, having=["Unsupported"])
    with pytest.raises(ValueError, match="no recipe has"):
        sources.needed({"images/torch/onnx_import.py": ["_onnx2torch"]}, having=["Unsupported"])
    for name in ("one", "other"):
        (tmp_path / f"{name}.py").write_text("def same():\n    pass\n")
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="another thing elsewhere"):
        sources.needed({"one.py": ["same"], "other.py": ["same"]})


TORCH = {
    "model": "0 constants lifted, 3 computed in advance",
    "layout": "",
    "converters": "none",
    "plain_numbers": "none",
}


def torch_recipe(**settings: str) -> str:
    found = next(one for one in load_images(IMAGES) if one.name == "torch")
    return write(request(variant="torch", settings={**TORCH, **settings}), found)


def test_a_recipe_of_torch_carries_what_its_model_needs() -> None:
    plain = torch_recipe()
    assert "def fold_constants" in plain
    for name in ("lift_constants", "CONVERTERS", "REPLACEMENTS", "ALGORITHMS", "fuse_hard_swish"):
        assert name not in plain
    more = torch_recipe(
        converters="Pad-18, Reshape-19, Reshape-21", plain_numbers="OnnxReshape", convolutions_in_order="ccmc"
    )
    assert (
        "register_converters()" in more and '"Reshape": (' in more and "def _pad" in more and "def _trilu" not in more
    )
    assert "use_plain_numbers(module)" in more and "_plain_slice" not in more
    assert '"matrix product": _product' in more and "_shifted" not in more and "_fused" not in more
    with pytest.raises(UserError, match="name what framewatt does not know"):
        torch_recipe(converters='x"""-1')


def test_a_recipe_of_torch_writes_the_sizes_in_that_the_model_would_compute() -> None:
    sizes = json.dumps({'it\'s "x"': [2, 3, 8, 8]})
    program = torch_recipe(model="3 sizes and branches settled", sizes_fixed=sizes)
    assert "def fix_sizes" in program and "import json" in program
    read = next(
        one for one in ast.walk(ast.parse(program)) if isinstance(one, ast.FunctionDef) and one.name == "read_model"
    )
    calls = [one for one in ast.walk(read) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
    (fixing,) = [one for one in calls if ast.unparse(one.func) == "fix_sizes"]
    assert ast.literal_eval(fixing.args[1].args[0]) == sizes  # type: ignore[attr-defined]
    assert [ast.unparse(one.func) for one in calls if ast.unparse(one.func) in ("fix_sizes", "settle")] == [
        "fix_sizes",
        "settle",
    ]
    assert "fix_sizes" not in torch_recipe()


def test_a_recipe_of_torch_of_before_these_were_written_down_has_all_that_a_users_model_could_need() -> None:
    settings = {name: value for name, value in TORCH.items() if name not in ("converters", "plain_numbers")}
    found = next(one for one in load_images(IMAGES) if one.name == "torch")
    whole = write(request(variant="torch", settings=settings), found)
    assert "def _attention" in whole and "_plain_slice" in whole and "give_outputs_nodes_of_their_own(model)" in whole
    image_net = model(weights="imagenet", inputs=(Tensor("a", "float32", (1, 3)),))
    lean = write(request(variant="torch", settings=settings, model=image_net), found)
    assert "CONVERTERS" not in lean and "_plain_slice" not in lean and "give_outputs" not in lean


def test_bytes_are_fed_to_the_first_input_alone() -> None:
    one = request(input="uint8")
    assert one.inputs == {"a": ((4, 3), "uint8"), "b": ((2,), "int64")}
    assert dataclasses.replace(one, input="float32").inputs["a"] == ((4, 3), "float32")


@pytest.mark.parametrize("name", ["onnxrt", "torch"])
def test_the_head_says_where_nothing_of_the_level_rewritten_is_rewritten(name: str) -> None:
    (own,) = [one for one in load_images(IMAGES) if one.name == name]
    reason = "the way of tuned won, nothing is rewritten"
    heads = {}
    for tuning, settings in {
        "rewritten": {"model": "as exported", "rewritten": reason},
        "rewritten once": {"model": "2 hard-swish and hard-sigmoid fused", "convolutions_in_order": "cm"},
        "tuned": {"model": "as exported"},
    }.items():
        one = request(variant=name, tuning=tuning.split()[0], settings=settings)
        heads[tuning] = ast.get_docstring(ast.parse(write(one, own))) or ""
    told = f"Of the level rewritten: {reason}."
    assert [told in heads["rewritten"], *("Of the level" in heads[one] for one in ("rewritten once", "tuned"))] == [
        True,
        False,
        False,
    ]
