"""A cell that was measured, found by its key or as the best, becomes a program; what cannot is one line."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context

import tasks
from analysis.comparisons import recipes
from analysis.comparisons.question import Question
from analysis.database.open_runs import open_runs
from analysis.results import tables
from analysis.results.selection import Selection
from common import schema
from common.errors import UserError
from common.host.cli.console import default_console
from common.host.paths import ROOT, DataFolder
from common.host.recipes.program import SIGN
from common.host.runs.archive import seal
from common.host.runs.find import run_folders
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
    run = build(name).run_json(model={**MODEL, **more.pop("run_json", {})})
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
    assert "Measured by framewatt by one worker of 2: " in head
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


def test_a_cell_of_another_scenario_names_the_one_that_has_a_recipe(build: Callable[..., Any]) -> None:
    run = measured(build)
    run.cell(batch_size=8, scenario="offline", settings=SETTINGS, durations_ns=[10**6] * 40)
    with pytest.raises(UserError, match=f"inference after the other: take {key(replicate='')}$"):
        recipes.of_cell(key().replace("single-stream", "offline"), [run.folder], Path("data/models"))


def test_a_condition_that_no_cell_meets_is_said_with_what_there_is(build: Callable[..., Any]) -> None:
    """It once asked which device was meant, of none."""
    run = measured(build)
    with pytest.raises(
        UserError, match=r"^no cell meets 'batch_size=77, io=host'; measured: batch_size 1, 8; io host$"
    ):
        recipes.best(Question(), [run.folder], Path("data/models"), where=["batch_size=77", "io=host"])


def test_a_run_in_which_nothing_was_measured_has_no_best_cell(build: Callable[..., Any]) -> None:
    run = build("empty").run_json(model=MODEL)
    with pytest.raises(
        UserError, match=r"^nothing was measured in 1 run: there is no best cell; invoke bench measures$"
    ):
        recipes.best(Question(), [run.folder], Path("data/models"))


def test_a_model_that_is_gone_is_said(build: Callable[..., Any], tmp_path: Path) -> None:
    run = measured(build)
    made = recipes.of_cell(key(), [run.folder], tmp_path)
    assert made.lack.startswith(f"there is no {tmp_path}/ResNet50-0123456789ab: export the model again, or ")
    (tmp_path / "ResNet50-0123456789ab").mkdir()
    assert made.lack == ""


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
        (
            key().replace("onnxrt", "onxrt"),
            {},
            f"there is no cell .* in 1 run; near it: {key(replicate='')}, .*[. ]All keys: ./invoke sql 'SELECT cell_key FROM cells'$",
        ),
        ("nonsense", {}, r"there is no cell nonsense in 1 run\. All keys: "),
        (key(), {"settings": ""}, "run one has no settings of "),
        (
            key(),
            {"settings": "[1"},
            f"the row of {key()} in run one is damaged, so that it has no recipe: its settings are not J",
        ),
        (key(), {"settings": "[1]"}, "is damaged, .*: its settings are no object of names and texts"),
        (key(), {"settings": '{"graph": 3}'}, "is damaged, .*: of its settings graph is 3, not a text"),
        (
            key(),
            {"settings": '{"graph": {"a": "b"}}'},
            'is damaged, .*: of its settings graph is {"a": "b"}, not a text',
        ),
        (
            key(),
            {"settings": SETTINGS, "versions": '{"numpy": 2.0}'},
            "is damaged, .*: of its versions numpy is 2.0, not a text",
        ),
        (
            key().replace("fp32", "fp33"),
            {"precision": "fp33"},
            "is damaged, .*: precision 'fp33' is none of fp32, tf32, ",
        ),
        (
            key().replace("onnxrt", "litert"),
            {
                "variant": "litert",
                "settings": '{"threads": "-7"}',
                "run_json": {"onnx": None, "forms": {"tflite": "a.tflite"}},
            },
            "its settings are damaged: '-7' stands where a whole number from 1 belongs",
        ),
        (key(), {"status": "oom"}, r"was not measured to its end \(oom\)"),
        (
            key().replace("single-stream", "offline"),
            {"scenario": "offline"},
            "is of the scenario offline, and a recipe runs .*: measure it with invoke bench --scenario single-stream",
        ),
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
    "model",
    [
        None,
        {"name": "ResNet50"},
        {**MODEL, "folder": "../../etc"},
        {**MODEL, "onnx": "/etc/passwd"},
        {**MODEL, "inputs": []},
    ],
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


@pytest.mark.parametrize("settings", ['{"images_per_pass": 512, "passes": 3, "tf32": "unknown"}', "", SETTINGS])
def test_an_imported_row_has_no_recipe_and_is_not_called_damaged(build: Callable[..., Any], settings: str) -> None:
    run = measured(build, settings=settings)
    run.run_json(model=MODEL, imported_utc="2026-01-02T03:04:05+00:00")
    with pytest.raises(UserError, match=r"^imported rows have no recipe, and run one was imported: measure it"):
        recipes.of_cell(key(), [run.folder], Path("data/models"))


def test_the_head_names_the_file_that_is_written(
    build: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRAMEWATT_DATA", str(tmp_path / "data"))
    run, file = measured(build), tmp_path / "my best.py"
    for given in ({"run": [str(run.folder)], "best": True}, {"run": [key(), str(run.folder)]}):
        file.unlink(missing_ok=True)
        tasks.recipe.body(Context(), out=str(file), **given)
        assert "\n    python 'my best.py' [MODEL]" in file.read_text()
    assert f"\n    python {key()}.py [MODEL]" in recipes.of_cell(key(), [run.folder], tmp_path).text
    assert capsys.readouterr().out.endswith(f"Recipe: {file}\n")


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


@pytest.mark.parametrize(
    "path",
    [
        "common/host/recipes/program.py",
        "common/host/recipes/templates/program.py.j2",
        "analysis/comparisons/recipes.py",
    ],
)
def test_a_file_that_only_speaks_of_recipes_is_not_overwritten(
    build: Callable[..., Any], tmp_path: Path, path: str
) -> None:
    """Whatever contained the words was once taken for a recipe, framewatt's own files among them."""
    made = recipes.of_cell(key(), [measured(build).folder], Path("data/models"))
    mine = tmp_path / "mine.py"
    text = (ROOT / path).read_text()
    for kept in (text, f"# {SIGN}\n{made.text}", made.text.replace(SIGN, "No recipe")):
        mine.write_text(kept)
        with pytest.raises(UserError, match="exists and is no recipe"):
            recipes.store(made, mine)
        assert mine.read_text() == kept
    with pytest.raises(UserError, match="exists and is no recipe"):
        recipes.store(made, tmp_path)


def test_recipes_of_before_may_be_written_anew(build: Callable[..., Any], tmp_path: Path) -> None:
    made = recipes.of_cell(key(), [measured(build).folder], Path("data/models"))
    for number, old in enumerate(sorted((ROOT / "docs" / "recipes").glob("*/*.py"))[::8]):
        copy = tmp_path / f"{number}.py"
        copy.write_text(old.read_text())
        assert recipes.store(made, copy).read_text() == made.text


def edited(folder: Path, wanted: str, column: str, text: str) -> None:
    path = folder / "cells" / wanted / "cell.csv"
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    path.write_text(schema.to_csv("cell.csv", [{**{name: one for name, one in row.items() if one}, column: text}]))


@pytest.mark.parametrize(
    ("column", "text", "words"),
    [
        (
            "tuning",
            "foo",
            "in run one is damaged, so that it has no recipe: tuning 'foo' is none of stock, tuned, rewritten",
        ),
        ("input", "bits", "input 'bits' is none of float32, uint8"),
        ("frontend", "telepathy", "frontend 'telepathy' is none of script, notebook"),
        ("batch_size", "-3", f"the row of {key()} is damaged, .*/cell.csv:2: .*batch_size is -3"),
        ("io", "disk", f"the row of {key()} is damaged, .*/cell.csv:2: io 'disk' is none of host, device"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_a_damaged_row_is_said_to_be_one(
    build: Callable[..., Any], tmp_path: Path, column: str, text: str, words: str, cached: bool
) -> None:
    run = measured(build)
    cache = tmp_path / "cache" if cached else None
    assert recipes.of_cell(key(), [run.folder], Path("data/models"), cache).key == key()
    edited(run.folder, key(), column, text)
    with pytest.raises(UserError, match=words) as raised:
        recipes.of_cell(key(), [run.folder], Path("data/models"), cache)
    assert "\n" not in str(raised.value)
    assert recipes.of_cell(key(1), [run.folder], Path("data/models"), cache).key == key(1), (
        "the others are as they were"
    )


@pytest.mark.parametrize("threads", [-7, 0, "2", True, 1.5])
def test_threads_of_a_run_that_are_no_number_are_one_line(build: Callable[..., Any], threads: Any) -> None:
    run = measured(build)
    run.run_json(model=MODEL, threads=threads)
    with pytest.raises(UserError, match=r"the run's threads are .*, not a whole number from 1"):
        recipes.of_cell(key(), [run.folder], Path("data/models"))
    run.run_json(model=MODEL, threads=3)
    assert "intra_op_num_threads = 3" in recipes.of_cell(key(), [run.folder], Path("data/models")).text


def test_one_workers_figure_is_not_said_to_be_the_cells(build: Callable[..., Any]) -> None:
    made = recipes.of_cell(key(replicate=""), [measured(build).folder], Path("data/models"))
    assert made.sentence.endswith("on Test CPU: 378.9 images/s, by one worker of 2; the cell's mean is 378.5.")
    alone = build("alone").run_json(model=MODEL)
    alone.cell(settings=SETTINGS, durations_ns=[8_000_000] * 40)
    made = recipes.of_cell(key(), [alone.folder], Path("data/models"))
    assert made.sentence.endswith("as measured in run alone on Test CPU: 1,000 images/s.")
    assert "worker" not in made.text.partition("from __future__")[0]


def test_the_fastest_cells_recipe_is_offered_by_a_command_that_writes_it(build: Callable[..., Any]) -> None:
    run = measured(build)

    def offer(*folders: Path, words: tuple[str, ...] = (), where: str | None = None) -> str | None:
        with open_runs(folders) as database:
            return recipes.of_the_fastest(database, tables.selected(database, where), "./invoke recipe", words)

    line = offer(run.folder)
    assert line == f"./invoke recipe {key(8, replicate='')}"
    assert recipes.of_cell(line.split()[-1], [run.folder], Path("data/models")).key == key(8)
    assert offer(run.folder, words=("all",)) == line
    assert offer(run.folder, words=("data/my runs",)) == f"{line} 'data/my runs'"
    # a newer and slower run has that cell too: of those that were asked for the figure that counts, and the command names its run
    # where among all runs another one's counts
    newer = build("newer").run_json(model=MODEL, created_utc="2026-02-02T03:04:05Z")
    newer.cell(settings=SETTINGS, durations_ns=[90_000_000] * 40)
    words = ("one", "newer")
    assert offer(run.folder, newer.folder, words=words) == f"{line} one newer", "one worker against two"
    newer.cell(settings=SETTINGS, durations_ns=[90_000_000] * 40, replicate=1)
    assert offer(run.folder, newer.folder, words=words) == f"./invoke recipe {key(8, '-stock', '')} one newer", (
        "the fastest of the figures that count"
    )
    assert offer(run.folder, newer.folder, words=words, where="run=one") == f"{line} {run.folder}"


def test_the_recipe_of_a_sealed_run_is_offered_by_its_archive(
    undrawn: None,
    build: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The folder into which it was unpacked was offered: `invoke clean --cache` removes that."""
    folder, data = tmp_path / "my runs", DataFolder(tmp_path / "data")
    run = measured(build)
    newer = build("newer").run_json(model=MODEL, created_utc="2026-02-02T03:04:05Z")
    for replicate in (0, 1):
        newer.cell(settings=SETTINGS, durations_ns=[90_000_000] * 40, replicate=replicate)
    for one in (run, newer):
        shutil.copytree(one.folder, folder / one.folder.name)
        seal(folder / one.folder.name)
    monkeypatch.setenv("FRAMEWATT_DATA", str(data.root))
    tasks._analyze(
        run_folders([str(folder)], data), default_console(), data, words=[str(folder)], formats=["md"], where="run=one"
    )
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("recipe of the fastest: ")]
    _, *words = shlex.split(line.partition("./invoke ")[2])
    assert words[1:] == [str(folder / f"{run.folder.name}.tar.xz")]
    shutil.rmtree(data.host_cache)
    made = tasks._recipe_of_cell(words, data)
    assert (made.key, made.run) == (key(8), run.folder.name)


@pytest.mark.parametrize(
    "columns",
    [{"settings": ""}, {"variant": "tftrt", "settings": '{"graph": "x"}'}, {"scenario": "offline"}, {"status": "oom"},
     {"settings": '{"a": 1}'}, {"variant": "homemade"}],
)  # fmt: skip
def test_no_recipe_is_offered_where_the_fastest_has_none(build: Callable[..., Any], columns: dict[str, Any]) -> None:
    run = measured(build, **columns)
    with open_runs([run.folder]) as database:
        assert recipes.of_the_fastest(database, tables.load(database, Selection()), "./invoke recipe") is None


def test_the_hint_names_what_the_groups_really_differ_in(build: Callable[..., Any]) -> None:
    """`io=host or model=NAME` could not tell float32 from uint8."""
    run = measured(build)
    run.cell(input="uint8", settings=SETTINGS, durations_ns=[8_000_000] * 40)

    def hint() -> str:
        with pytest.raises(UserError, match="say it with --where, such as ") as caught:
            recipes.best(Question(), [run.folder], Path("data/models"))
        return str(caught.value).partition("such as ")[2].partition(":")[0]

    assert hint() == "input=float32"
    run.cell(io="device", input="uint8", settings=SETTINGS, durations_ns=[8_000_000] * 40)
    assert hint() == "io=device,input=uint8"
    best = recipes.best(Question(), [run.folder], Path("data/models"), hint())
    assert "device" in best.key and "uint8" in best.key, "the condition is enough"
