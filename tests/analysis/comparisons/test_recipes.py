"""A cell that was measured, found by its key or as the best, becomes a program; what cannot is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.comparisons import recipes
from analysis.comparisons.question import Question
from common.errors import UserError
from tests.analysis.conftest import Build

SETTINGS = json.dumps(
    {"graph_optimization": "all", "model": "as exported", "model_file": "model.onnx", "intra_op_threads": "2",
     "ways_tried": "session and provider options: 4.000 ms; as in the tutorial: 5.000 ms"}
)  # fmt: skip
MODEL = {
    "name": "ResNet50", "hash": "0123456789ab", "onnx": "model.onnx", "keras": None, "saved_model": None,
    "reference": "reference.npz", "input_shape": [224, 224, 3], "layout": "NHWC", "onnx_input": "images", "onnx_output": "classes",
    "output_kind": "probabilities", "classes": 1000, "weights": "seeded", "weights_note": "", "folder": "ResNet50-0123456789ab",
}  # fmt: skip


def measured(build: Build, name: str = "one", **more: Any) -> Any:
    """Four cells of two levels, two workers each; tuned is 1.25 times stock."""
    run = build(name).run_json(model=MODEL)
    for batch_size in (1, 8):
        for replicate in (0, 1):
            for level, slower in (("stock", 1.25), ("tuned", 1.0)):
                took = int((4e6 + 1e4 * replicate) * batch_size**0.8 * slower)
                columns = {"settings": SETTINGS, **more}
                run.cell(
                    batch_size=batch_size, replicate=replicate, tuning=level, durations_ns=[took] * 40,
                    **columns,
                )  # fmt: skip
    return run


def key(batch_size: int = 8, level: str = "", replicate: str = "_r0") -> str:
    return f"ResNet50_onnxrt_fp32{level}_b{batch_size:04d}_host_single-stream_script_cpu{replicate}"


def test_a_cells_recipe_says_what_was_measured_and_what_tuning_is_worth(build: Callable[..., Any]) -> None:
    run = measured(build)
    made = recipes.of_cell(key(), [run.folder], Path("data/models"))
    assert made.key == key()
    head = " ".join(made.text.partition("from __future__")[0].split())
    assert "images/s, median latency" in head
    assert "on Test CPU, run one of 2026-01-02." in head
    assert "Worth of tuning there: tuned is 1.250 times stock, 95 % interval 1.2" in head
    assert "Mean of 2 workers" in head
    assert 'MODEL = "data/models/ResNet50-0123456789ab/model.onnx"' in made.text
    assert "#   session and provider options: 4.000 ms\n#   as in the tutorial: 5.000 ms" in made.text
    assert 'INPUTS = {"images": ((8, 224, 224, 3), "float32")}' in made.text
    assert "options.intra_op_num_threads = 2" in made.text


def test_without_the_replicate_a_key_means_the_first_that_is_ok_of_the_newest_run(build: Callable[..., Any]) -> None:
    old, new = measured(build), measured(build, "two")
    about = json.loads((new.folder / "run.json").read_text())
    (new.folder / "run.json").write_text(json.dumps({**about, "created_utc": "2026-02-02T03:04:05Z"}))
    made = recipes.of_cell(key(replicate=""), [old.folder, new.folder], Path("data/models"))
    assert (made.key, made.run) == (key(), "two")


def test_the_best_cell_is_the_one_that_recommend_names(build: Callable[..., Any]) -> None:
    run = measured(build)
    free = recipes.best(Question(), [run.folder], Path("data/models"))
    assert free.key == key(8)
    held = recipes.best(Question(max_latency_ms=6.0), [run.folder], Path("data/models"))
    assert held.key == key(1)
    with pytest.raises(UserError, match="no cell meets the limits; the nearest is"):
        recipes.best(Question(max_latency_ms=0.1), [run.folder], Path("data/models"))


@pytest.mark.parametrize(
    ("wanted", "columns", "words"),
    [
        (key().replace("onnxrt", "onxrt"), {}, f"there is no cell .* in 1 run; .* Did you mean {key()} or "),
        ("nonsense", {}, "there is no cell nonsense in 1 run"),
        (key(), {"settings": ""}, "run one has no settings of "),
        (key(), {"settings": "[1"}, "run one has no settings of "),
        (key(), {"status": "oom"}, r"was not measured to its end \(oom\)"),
        (key().replace("single-stream", "offline"), {"scenario": "offline"}, "is of the scenario offline"),
        (key().replace("onnxrt", "homemade"), {"variant": "homemade"}, "there is no recipe for homemade: no folder"),
        (key().replace("onnxrt", "tf"), {"variant": "tf"}, "its settings do not say enough"),
        (key().replace("onnxrt", "openvino"), {"variant": "openvino", "settings": "{}"}, "has no settings"),
    ],
)
def test_what_has_no_recipe_is_one_line(
    build: Callable[..., Any], wanted: str, columns: dict[str, Any], words: str
) -> None:
    run = measured(build, **columns)
    with pytest.raises(UserError, match=words) as raised:
        recipes.of_cell(wanted, [run.folder], Path("data/models"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "model", [None, {"name": "ResNet50"}, {**MODEL, "folder": "../../etc"}, {**MODEL, "onnx": "/etc/passwd"}]
)
def test_a_run_that_does_not_describe_its_model_is_one_line(build: Callable[..., Any], model: Any) -> None:
    run = measured(build)
    run.run_json(model=model)
    with pytest.raises(UserError, match="does not describe its model"):
        recipes.of_cell(key(), [run.folder], Path("data/models"))


def test_a_form_that_the_model_lacks_is_one_line(build: Callable[..., Any]) -> None:
    run = measured(build)
    run.run_json(model={**MODEL, "onnx": None})
    with pytest.raises(UserError, match="model ResNet50 has no onnx form"):
        recipes.of_cell(key(), [run.folder], Path("data/models"))


def test_a_file_that_is_no_recipe_is_not_overwritten(build: Callable[..., Any], tmp_path: Path) -> None:
    made = recipes.of_cell(key(), [measured(build).folder], Path("data/models"))
    mine = tmp_path / "mine.py"
    mine.write_text("print('mine')\n")
    with pytest.raises(UserError, match="exists and is no recipe"):
        recipes.store(made, mine)
    assert mine.read_text() == "print('mine')\n"
    for _ in range(2):  # one of our own may be written anew
        assert recipes.store(made, tmp_path / "new.py").read_text() == made.text
    with pytest.raises(UserError, match="cannot be written"):
        recipes.store(made, tmp_path / "no" / "such.py")
