"""A recipe is code, and what it is made of may come from a stranger's file."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.host.frameworks.registry import Image, load_images
from common.host.paths import IMAGES
from common.host.recipes import sources
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


def test_a_program_with_several_named_inputs_runs_alone(image: Image, tmp_path: Path) -> None:
    program = tmp_path / "recipe.py"
    program.write_text(write(request(), image))
    given = {"a": np.arange(12, dtype=np.float32).reshape(4, 3), "b": np.array([3, 4])}
    np.savez(tmp_path / "in.npz", **given)  # type: ignore[arg-type]
    command = [sys.executable, "-I", str(program), "--seconds", "0.01", "--inputs", "in.npz", "--save", "out.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert " samples/s, median latency " in done.stdout
    with np.load(tmp_path / "out.npz") as made:
        assert np.array_equal(made["sum"], given["a"] + 7)
        assert str(made["told"]) == "plain"


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
    text = write(request(variant=variant, versions=versions), dataclasses.replace(real, folder=image.folder))
    assert f"\nMeasured with {message}.\n" in text


def test_without_inputs_there_are_made_up_ones_of_the_right_kinds(image: Image) -> None:
    found: dict[str, object] = {}
    exec(compile(write(request(input="uint8"), image), "recipe", "exec"), found)
    made = found["made_up_inputs"]()  # type: ignore[operator]
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
    assert "scalar" in vars(found["_Graph"])
    scales = made_of(sources.needed({"common/onnx_rewrites.py": ["fold_scale_and_shift"]}))
    assert "_per_channel" in scales
    assert "scalar" not in vars(scales["_Graph"]), "a method that only the other one calls"
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
    with pytest.raises(ValueError, match=r"takes take_bytes from common\.onnx_rewrites"):
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
