"""PyTorch's levels: stock folds nothing, tuned does and also tries stock's module, rewritten says where it rewrote nothing.

And outputs that no node makes, and operators that need torchvision.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES
from common.host.recipes import program
from common.model_files import ModelFiles, Tensor
from images.torch import run_options
from tests.images.test_converters import REPOSITORY, interpreter

DRIVER = Path(__file__).with_name("levels_driver.py")


def run(*arguments: object) -> dict[str, Any]:
    command = [str(interpreter("torch")), str(DRIVER), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run("levels", tmp_path_factory.mktemp("levels"))


def request(model: ModelFiles, settings: dict[str, str], tuning: str) -> program.RecipeRequest:
    return program.RecipeRequest(
        key="a cell", variant="torch", tuning=tuning, precision="fp32", batch_size=2, io="host", gpu=False, settings=settings,
        model=model, threads=1,
    )  # fmt: skip


def recipe(model: ModelFiles, settings: dict[str, str], tuning: str) -> str:
    (image,) = [one for one in load_images(IMAGES) if one.name == "torch"]
    return program.write(request(model, settings, tuning), image)


def small(*outputs: str) -> ModelFiles:
    return ModelFiles(
        root=Path("models"), name="small", hash="0", onnx="small.onnx", keras=None, saved_model=None, reference="none",
        input_shape=(3,), layout="", onnx_input="x", onnx_output="y", output_kind="raw", classes=0, weights="user",
        weights_note="", inputs=(Tensor("x", "float32", (1, 3)),),
        outputs=tuple(Tensor(one, "float32", (1, 3)) for one in outputs),
    )  # fmt: skip


@pytest.mark.framework
def test_stock_folds_nothing_and_has_pytorchs_own_hard_swish(levels: dict[str, Any]) -> None:
    (plain,) = levels["stock"]
    assert plain["name"] == "plain call"
    # of pixels, of the scale after a convolution, of the gate; and the shift after a convolution
    assert (plain["Mul"], plain["Add"], plain["Hardswish"]) == (3, 1, 1)
    assert "folded" not in plain["settings"]["model"]
    assert "2 hard-swish and hard-sigmoid as PyTorch has them" in plain["settings"]["model"]
    text = recipe(small("y"), plain["settings"], "stock")
    assert "fold_scale_and_shift" not in text
    assert "fuse_hard_swish(model)" in text


@pytest.mark.framework
def test_tuned_folds_and_says_so(levels: dict[str, Any]) -> None:
    folded = [way for way in levels["tuned"] if way["name"].endswith("folded")]
    assert [way["name"] for way in folded] == ["channels-last, folded", "plain call, folded"]
    for way in folded:
        assert (way["Mul"], way["Add"], way["Hardswish"]) == (2, 0, 1)
        told = way["settings"]["model"]
        assert "2 scales and shifts and 0 batch normalisations folded into convolutions" in told
        assert "fold_scale_and_shift(model)" in recipe(small("y"), way["settings"], "tuned")


@pytest.mark.framework
def test_no_level_is_slower_than_the_one_below_since_it_also_tries_its_module(levels: dict[str, Any]) -> None:
    (stock,) = levels["stock"]
    for level in ("tuned", "rewritten ccc"):
        last = levels[level][-1]
        assert last["name"] == "plain call"
        assert (last["Mul"], last["Add"]) == (stock["Mul"], stock["Add"])
        assert last["settings"]["model"] == stock["settings"]["model"]
    assert [way["name"] for way in levels["rewritten ccc"][1:]] == [way["name"] for way in levels["tuned"]]


@pytest.mark.framework
def test_all_ways_of_all_levels_have_the_same_output(levels: dict[str, Any]) -> None:
    assert [len(ways) for ways in levels.values()] == [1, 3, 4, 4]
    assert max(way["off"] for ways in levels.values() for way in ways) < 1e-5


@pytest.mark.framework
def test_a_row_of_rewritten_says_where_nothing_is_rewritten(levels: dict[str, Any]) -> None:
    own, *of_tuned = levels["rewritten ccc"]
    assert own["settings"]["rewritten"] == "PyTorch's own convolutions won, nothing is rewritten"
    for way in of_tuned:
        assert way["settings"]["rewritten"] == "the way of tuned won, nothing is rewritten"
        assert "the way of tuned won, nothing is rewritten" in recipe(small("y"), way["settings"], "rewritten")
    replaced = levels["rewritten ccm"][0]["settings"]
    assert replaced["convolutions_in_order"] == "ccm"
    assert "rewritten" not in replaced
    assert "nothing is rewritten" not in recipe(small("y"), replaced, "rewritten")


def test_recipes_of_rows_from_before_there_was_that_setting_tell_it_by_their_convolutions() -> None:
    row = {"model": "0 constants lifted", "converters": "none", "plain_numbers": "none", "layout": "as imported"}
    assert "the way of tuned won, nothing is rewritten" in recipe(small("y"), row, "rewritten")
    assert "nothing is rewritten" not in recipe(small("y"), row, "tuned")
    own = {**row, "layout": "channels-last", "convolutions": "1 matrix product", "convolutions_in_order": "m"}
    assert "nothing is rewritten" not in recipe(small("y"), own, "rewritten")


@pytest.mark.parametrize("variant", ["torch", "torchcompile"])
@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_way_has_one_name_and_a_model_without_folding_has_no_folded_way(variant: str, on_gpu: bool) -> None:
    for level in ("stock", "tuned", "rewritten"):
        for folds in (True, False):
            ways = run_options.possible(variant, level, on_gpu, True, folds)
            names = [way.name for way in ways]
            assert len(set(names)) == len(names) and names[-1] == "plain call"
            assert any("folded" in name for name in names) is (folds and level != "stock")


@pytest.mark.framework
@pytest.mark.parametrize(
    ("name", "outputs"),
    {"constout": ("y", "w"), "dupout": ("y", "x"), "inputfirst": ("x", "y"), "constalone": ("w",), "taken": ("x_", "x")}.items(),
)  # fmt: skip
def test_an_output_that_no_node_makes_keeps_its_name(
    odd: tuple[Path, dict[str, Any]], name: str, outputs: tuple[str, ...]
) -> None:
    """An initializer as an output, and an input: `KeyError: 'w'` once."""
    folder, facts = odd
    assert facts[name]["equal"] == dict.fromkeys(outputs, True)
    (folder / f"{name}.py").write_text(recipe(small(*outputs), facts[name]["settings"], "stock"))
    assert run("recipe", folder, name) == dict.fromkeys(outputs, True)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("odd")
    return folder, run("outputs", folder)


@pytest.mark.framework
def test_an_operator_that_needs_torchvision_is_named_with_its_version(tmp_path: Path) -> None:
    assert run("refused", tmp_path)["said"] == "NonMaxSuppression-11 needs torchvision, which cannot be imported"
