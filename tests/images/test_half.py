"""Models in half precision in PyTorch: what the ONNX graph makes in float32 itself follows the weights, and nothing else changes.

On the CPU, with the module that the adapter makes for a GPU.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from common.host.frameworks.registry import load_images
from common.host.models import find_model
from common.host.paths import IMAGES
from common.host.recipes import program
from common.model_files import ModelFiles
from tests.images.test_converters import REPOSITORY, interpreter

DRIVER = Path(__file__).with_name("half_driver.py")
#: relative L2 distance from float32 that the roundings of a few operators make
CLOSE = {"fp32": 1e-6, "fp16": 5e-3, "bf16": 4e-2}


def run(*arguments: object, timeout: int = 280) -> dict[str, Any]:
    command = [str(interpreter("torch")), str(DRIVER), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run("graphs", tmp_path_factory.mktemp("half"))


#: what float16 needs changed: casts, constants beyond its range, constants that whole numbers come of
NEEDED = {
    "mask": (1, 1, 0),
    "constant of shape": None,
    "range": (1, 0, 2),
    "positions": (0, 0, 1),
    "double": (2, 0, 0),
    "epsilon": (0, 1, 0),
    "returned": None,
    "steps of one": (1, 0, 0),
}


@pytest.mark.framework
@pytest.mark.parametrize("name", NEEDED)
def test_a_graph_that_makes_float32_itself_runs_in_half(graphs: dict[str, Any], name: str) -> None:
    assert set(graphs) == set(NEEDED)
    for precision, facts in graphs[name].items():
        assert facts["distance"] < CLOSE[precision], (precision, facts)
    needed = NEEDED[name]
    words = ("casts changed", "constants limited", "constants kept in float32")
    told = ", ".join(f"{number} {what}" for number, what in zip(needed, words, strict=True)) if needed else ""
    assert graphs[name]["fp16"]["settings"] == told
    assert graphs[name]["fp32"]["settings"] == ""


@pytest.mark.framework
def test_what_is_only_returned_stays_float32(graphs: dict[str, Any]) -> None:
    assert graphs["returned"]["fp16"]["distance"] == 0, "2,049 and 7,050 are no numbers of float16"


@pytest.mark.framework
def test_a_constant_beyond_float16_that_is_no_mask_is_refused_with_what_reads_it(tmp_path: Path) -> None:
    """As in TensorRT's strongly typed networks: 1e9 as 65504 would be another model. bfloat16 has such numbers."""
    found = run("refusals", tmp_path)
    assert set(found) == {
        "MatMul",
        "Add and MatMul",
        "expanded to MatMul",
        "concatenated to MatMul",
        "Conv",
        "Gemm",
        "variance",
        "Div",
    }
    for name, facts in found.items():
        # the tensor's name in the file, not a number of the importer's
        weight = {"concatenated to MatMul": "both", "expanded to MatMul": "many"}.get(name, "far")
        assert facts["fp16"].startswith(f"refused: weight {weight}, "), (name, facts)
        assert facts["fp16"].endswith("reaches 1e+09, beyond float16's 65504"), (name, facts)
        assert facts["bf16"] == "", (name, facts)
    assert ", which MatMul reads, " in found["MatMul"]["fp16"], (
        "the name of a lifted constant tells nobody which one it is"
    )


@pytest.fixture(scope="module")
def transformer(small_transformers: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder of its own with the small BERT, and what its module computed."""
    found = find_model(small_transformers, "BERT-base")
    assert found is not None
    folder = tmp_path_factory.mktemp("half") / found.root.name
    shutil.copytree(found.root, folder)
    return folder, run("model", folder)


@pytest.mark.framework
def test_bert_runs_in_half_and_is_close_to_float32(transformer: tuple[Path, dict[str, Any]]) -> None:
    _, facts = transformer
    assert facts["fp16"]["distance"] < 1e-2
    assert facts["bf16"]["distance"] < 5e-2
    assert "0 casts changed" not in facts["fp16"]["settings"]["half_precision"]


@pytest.mark.framework
def test_the_recipe_in_half_computes_what_the_adapter_computes(transformer: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = transformer
    (image,) = [one for one in load_images(IMAGES) if one.name == "torch"]
    request = program.RecipeRequest(
        key="a cell", variant="torch", tuning="stock", precision="fp16", batch_size=2, io="host", gpu=True,
        settings=facts["fp16"]["settings"], model=ModelFiles.read(folder),
    )  # fmt: skip
    text = program.write(request, image)
    assert "compute_in(module, torch.float16)" in text
    (folder / "recipe.py").write_text(text)
    assert run("recipe", folder, folder / "recipe.py")["equal"] == [True, True]
