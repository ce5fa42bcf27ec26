"""The main job from options to table, with a toy framework made by `invoke new`: a new folder under images/ is all it takes."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import tasks
from analysis.analyze import analyze
from common.errors import UserError
from common.host.bench import choose_runner
from common.host.bench.command import bench
from common.host.bench.opening import opened
from common.host.frameworks import environments
from common.host.frameworks.registry import load_images
from common.host.frameworks.scaffold import new_image
from common.host.paths import IMAGES, DataFolder
from common.host.plan.jobs import planned_keys
from common.host.plan.options import Options
from common.host.plan.subset import Subset
from common.host.runners.local import LocalRunner
from common.host.runs.run import locked, typed_command
from common.model_files import DESCRIPTION, ModelFiles

QUICK = {
    "min_seconds": 0.05, "max_seconds": 0.2, "warmup_max_seconds": 0.05, "idle_seconds": 0.0, "cell_timeout_s": 60.0,
    "min_samples": 5, "min_images": 1, "precision_of_median": 0.5,
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An images folder with nothing in it but the template and what was made of it."""
    folder = tmp_path / "images"
    shutil.copytree(IMAGES / "_template", folder / "_template", ignore=shutil.ignore_patterns("__pycache__"))
    new_image("abacus", folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    """A data folder in which the model is exported already: a toy that the template can read."""
    data = DataFolder(tmp_path / "data")
    folder = data.models / "MobileNetV3L-abcdefabcdef"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    weights = rng.normal(0, 0.2, (27, 12)).astype(np.float32)
    inputs = rng.uniform(0, 5, (8, 3, 3, 3)).astype(np.float32)
    powers = np.exp(inputs.reshape(8, -1).astype(np.float64) @ weights)
    np.savez(folder / "toy.npz", weights=weights)
    np.savez(folder / "reference.npz", inputs=inputs, outputs=powers / powers.sum(axis=1, keepdims=True))
    model = ModelFiles(
        root=folder, name="MobileNetV3L", hash="abcdefabcdef", onnx="toy.npz", keras=None, saved_model=None,
        reference="reference.npz", input_shape=(3, 3, 3), layout="NHWC", onnx_input=None, onnx_output=None,
        output_kind="probabilities", classes=12, weights="seeded", weights_note="a toy of this test",
    )  # fmt: skip
    (folder / DESCRIPTION).write_text(json.dumps(model.describe()))
    return data


def bytes_model(data: DataFolder, fixed_batch: int | None = None) -> ModelFiles:
    """The same model in the data folder, now one that takes pictures of bytes."""
    (path,) = data.models.glob(f"*/{DESCRIPTION}")
    model = ModelFiles.read(path.parent)
    (given,) = model.inputs
    model = replace(model, inputs=(replace(given, dtype="uint8"),), fixed_batch=fixed_batch)
    path.write_text(json.dumps(model.describe()))
    return model


OPTIONS = Options(
    framework="abacus",
    device="cpu",
    batch_sizes="1,8",
    python=sys.executable,
    runner="local",
    settings=QUICK,
    seed=7,
    replicates=1,
)


def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def test_a_new_folder_is_all_it_takes(images: Path, data: DataFolder, tmp_path: Path) -> None:
    out = console()
    outcome = bench(OPTIONS, out, data, images)
    assert (outcome.statuses, outcome.errors, outcome.interrupted) == ({"ok": 2}, [], False)
    assert len(outcome.run.existing_cells()) == 2
    result = analyze([outcome.run.folder], tmp_path / "report", out)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert result.exit_code == 0
    assert "abacus fp32" in text
    assert "a toy of this test" in text


def test_run_json_says_what_was_done_on_what(images: Path, data: DataFolder) -> None:
    run = bench(OPTIONS, console(), data, images).run
    description = json.loads((run.folder / "run.json").read_text())
    assert description["finished_utc"]
    assert description["seed"] == 7
    assert sorted(description["plan"]) == sorted(run.existing_cells())
    assert description["host"]["cpu_model"]
    assert len(description["host"]["load_average"]) == 3
    assert description["devices"][0]["device"] == "cpu"


def test_no_worker_is_started_for_a_cell_that_its_labels_refuse(images: Path, data: DataFolder, tmp_path: Path) -> None:
    """Each worker once imported its framework first. All other cells run as ever, those of the same command too."""
    adapter, dockerfile = images / "abacus" / "adapter.py", images / "abacus" / "Dockerfile"
    adapter.write_text(
        adapter.read_text()
        + f"""

def tune(self, level):
    with open({str(tmp_path / "levels")!r}, "a") as levels:
        levels.write(level + "\\n")


Adapter.tune = tune
"""
    )
    dockerfile.write_text(
        dockerfile.read_text()
        + 'LABEL framewatt.variant.abacus.tuning="stock tuned"\n'
        + 'LABEL framewatt.variant.abacus.without.fp32.stock="its tutorial is still to be written"\n'
    )
    outcome = bench(replace(OPTIONS, tuning="stock,tuned", replicates=2), console(), data, images)
    assert (outcome.statuses, outcome.errors) == ({"unsupported": 4, "ok": 4}, [])
    assert (tmp_path / "levels").read_text().split() == ["tuned"] * 2
    run = outcome.run.folder
    assert {key for key in outcome.run.existing_cells() if "fp32-stock" in key} == {
        row["cell_key"]
        for row in (read_row(path) for path in run.glob("cells/*/cell.csv"))
        if (row["status"], row["message"]) == ("unsupported", "its tutorial is still to be written")
    }
    assert not list((run / "logs").glob("*stock*"))
    out = console()
    analyze([run], tmp_path / "report", out)
    assert "its tutorial is still to be written" in " ".join(out.file.getvalue().split())  # type: ignore[attr-defined]


def read_row(path: Path) -> dict[str, str]:
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row


def test_a_run_that_was_cut_short_is_continued_by_the_same_command(images: Path, data: DataFolder) -> None:
    run = bench(OPTIONS, console(), data, images).run
    # As a kill leaves it: one cell is not there, the run has no end.
    lost = sorted(run.existing_cells())[0]
    shutil.rmtree(run.folder / "cells" / lost)
    run.description["finished_utc"] = None
    run.save()
    kept = (run.folder / "cells" / max(run.existing_cells()) / "samples.csv").read_bytes()

    again = bench(replace(OPTIONS, seed=-1), console(), data, images)
    assert again.run.folder == run.folder
    assert again.statuses == {"ok": 1}
    assert len(again.run.existing_cells()) == 2
    other = next(key for key in again.run.existing_cells() if key != lost)
    assert (run.folder / "cells" / other / "samples.csv").read_bytes() == kept


def test_variables_of_a_framework_are_in_the_run_and_its_rows_and_others_are_another_run(
    images: Path, data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    dockerfile = images / "abacus" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + 'LABEL framewatt.variables="FRAMEWATT_ABACUS_BEADS"\n')
    monkeypatch.setenv("FRAMEWATT_ABACUS_BEADS", "10")
    run = bench(OPTIONS, console(), data, images).run
    assert run.description["environment"] == {"FRAMEWATT_ABACUS_BEADS": "10"}
    for path in run.folder.glob("cells/*/cell.csv"):
        (row,) = csv.DictReader(path.open())
        assert json.loads(row["settings"])["FRAMEWATT_ABACUS_BEADS"] == "10"
    run.description["finished_utc"] = None
    run.save()
    assert bench(OPTIONS, console(), data, images).run.folder == run.folder
    run.description["finished_utc"] = None
    run.save()
    monkeypatch.delenv("FRAMEWATT_ABACUS_BEADS")
    other = bench(OPTIONS, console(), data, images).run
    assert other.folder != run.folder and other.description["environment"] == {}


@pytest.mark.parametrize("asked", ["float32", "uint8"])
def test_cells_that_were_planned_elsewhere_without_the_model_are_those_that_it_takes(
    images: Path, data: DataFolder, asked: str
) -> None:
    """A fleet's head that has no host with the model plans what the options say; hosts measured that under a wrong name."""
    io_mode = "host" if asked == "float32" else "host-uint8"
    work = f"MobileNetV3L_abacus_fp32_b{{:04d}}_{io_mode}_single-stream_script_r0"
    options = replace(OPTIONS, batch_sizes="", quick=True)
    bytes_model(data, fixed_batch=8)
    part = Subset("part", frozenset(work.format(size) for size in (1, 8)), "", {})
    with opened(options, console(), data, images, search="fleet part", subset=part) as (context, _, plan):
        assert planned_keys(plan) == context.run.description["plan"]
        assert planned_keys(plan) == ["MobileNetV3L_abacus_fp32_b0008_host-uint8_single-stream_script_cpu_r0"]


def test_both_front_ends_in_one_run_and_the_one_that_was_lost_is_continued(images: Path, data: DataFolder) -> None:
    options = replace(OPTIONS, frontend="script,notebook", seed=-1)
    run = bench(options, console(), data, images).run
    assert run.description["frontends"] == ["script", "notebook"]
    cells = run.existing_cells()
    assert sorted(cells) == sorted(run.description["plan"])
    assert (
        sorted(key.partition("single-stream_")[2].partition("_")[0] for key in cells)
        == ["notebook"] * 2 + ["script"] * 2
    )
    lost = next(key for key in sorted(cells) if "_notebook_" in key)
    shutil.rmtree(run.folder / "cells" / lost)
    run.description["finished_utc"] = None
    run.save()
    assert bench(replace(options, frontend="script"), console(), data, images).run.folder != run.folder
    again = bench(options, console(), data, images)
    assert (again.run.folder, again.statuses) == (run.folder, {"ok": 1})


def test_an_interpreter_without_ipykernel_is_one_line_and_nothing_is_made(
    images: Path, data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['ipykernel'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        bench(replace(OPTIONS, frontend="notebook"), console(), data, images)
    assert str(caught.value) == (
        f"{sys.executable} has no module ipykernel, which --frontend notebook needs: {sys.executable} -m pip install "
        "-r common/harness/frontends/requirements-notebook.txt"
    )
    assert not list(data.results.glob("*"))


def test_a_run_begun_in_containers_is_not_begun_anew_with_processes(
    images: Path, data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = data.results / "20260101-000000_cpu"
    folder.mkdir(parents=True)
    begun = {"command": typed_command(), "runner": "docker", "finished_utc": None, "plan": [], "seed": 1}
    (folder / "run.json").write_text(json.dumps(begun))
    monkeypatch.setattr("common.host.bench.choose_runner._engine_answers", lambda: False)
    with pytest.raises(UserError, match="was begun in containers, and no Docker engine answers now: start it"):
        bench(replace(OPTIONS, python="", runner=""), console(), data, images)
    assert sorted(path.name for path in data.results.iterdir()) == [folder.name]
    # Another runner that is asked for by name is another run.
    assert bench(OPTIONS, console(), data, images).statuses == {"ok": 2}


def test_on_a_cpu_without_images_processes_take_the_place_of_containers_and_one_line_says_so(
    images: Path, data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose_runner, "_engine_answers", lambda: True)
    monkeypatch.setattr(choose_runner, "_not_built", lambda names, flavour, frontend: [*names, "sidecar"])
    monkeypatch.setattr(environments, "interpreter", lambda image, flavour, pin=None: Path(sys.executable))
    monkeypatch.setattr(environments, "ensure_all", lambda *given, **named: {})
    reported = io.StringIO()
    done = bench(replace(OPTIONS, python="", runner=""), Console(file=reported, width=200), data, images)
    assert done.statuses == {"ok": 2}
    line = (
        "Measured by processes of this machine: no image of abacus, sidecar is built (invoke build --framework "
        "abacus,sidecar --cpu)"
    )
    assert reported.getvalue().splitlines().count(line) == 1


@pytest.mark.parametrize(
    "requested", [{"memory": "1g"}, {"shm": "2g"}, {"pids": 9}, {"tmp": "1g"}, {"gpu_driver": "cdi"}]
)
def test_limits_of_containers_are_refused_where_there_are_none(
    images: Path, data: DataFolder, requested: dict[str, Any]
) -> None:
    (option,) = requested
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} is for containers"):
        bench(replace(OPTIONS, runner="local", **requested), console(), data, images)
    assert not list(data.results.glob("*"))


@pytest.mark.parametrize(
    "requested", [{"runner": "docker"}, {"memory": "1g"}, {"shm": "2g"}, {"cpus": "0"}, {"python": sys.executable}]
)
def test_who_asks_for_containers_or_an_interpreter_gets_them(
    monkeypatch: pytest.MonkeyPatch, requested: dict[str, str]
) -> None:
    monkeypatch.setattr(choose_runner, "_engine_answers", lambda: True)
    monkeypatch.setattr(choose_runner, "_not_built", lambda names, flavour, frontend: list(names))
    plain = replace(OPTIONS, python="", runner="")
    assert choose_runner.instead_of_containers(plain, ["abacus"], "cpu")
    assert not choose_runner.instead_of_containers(plain, ["abacus"], "gpu")
    assert not choose_runner.instead_of_containers(replace(plain, **requested), ["abacus"], "cpu")  # type: ignore[arg-type]


def test_a_finished_run_is_not_continued(images: Path, data: DataFolder) -> None:
    first = bench(OPTIONS, console(), data, images).run
    assert bench(OPTIONS, console(), data, images).run.folder != first.folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"framework": "abacsu"}, "unknown framework 'abacsu'; there is abacus. Did you mean abacus?"),
        ({"precision": "fp16"}, "precision fp16 is not offered on a CPU by abacus"),
        ({"model": "MobilNet"}, "unknown model 'MobilNet'"),
        ({"batch_sizes": "0"}, "batch size 0"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"gpu": "0"}, "exclude each other"),
        ({"frontend": "jupyter"}, "unknown frontend 'jupyter'; there is script, notebook"),
        ({"runner": "podman"}, "unknown runner 'podman'"),
        ({"python": "/nowhere/python"}, "not an executable file"),
        ({"max_seconds": 1.0, "min_seconds": 2.0, "settings": {}}, "less than --min-seconds"),
    ],
)
def test_a_bad_option_is_one_line_and_nothing_is_made(
    images: Path, data: DataFolder, change: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        bench(replace(OPTIONS, **change), console(), data, images)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not data.results.exists()


def test_names_that_are_taken_or_no_names_are_refused(images: Path) -> None:
    for name, words in (
        ("abacus", "exists already"),
        ("Abacus", "cannot be a framework's name"),
        ("../x", "cannot be"),
    ):
        with pytest.raises(UserError, match=words):
            new_image(name, images)
    assert [image.name for image in load_images(images)] == ["abacus"]


@pytest.mark.parametrize(("timeout_s", "code"), [(0.001, 1), (60.0, None)])
def test_a_run_without_an_ok_cell_ends_with_exit_code_1(
    images: Path, data: DataFolder, timeout_s: float, code: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(
        framework="abacus", device="cpu", batch_sizes="1", runner="local", python=sys.executable,
        settings={**QUICK, "cell_timeout_s": timeout_s},
    )  # fmt: skip
    outcome = bench(options, console(), data, images)
    ended: object = None
    try:
        tasks._finish(outcome, console(), data)
    except SystemExit as error:
        ended = error.code
    assert ended == code
    assert ("error: no cell was measured" in capsys.readouterr().err) == (code == 1)


def test_a_device_in_use_is_said_before_anything_is_exported(
    images: Path, data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export may take minutes, and others may be measuring meanwhile."""
    begun: list[str] = []
    for step in ("prepare", "ensure_model"):
        monkeypatch.setattr(LocalRunner, step, lambda *_, step=step, **__: begun.append(step))
    with locked(data.locks / "cpu.lock", "cpu"), pytest.raises(UserError, match="is in use by process"):
        bench(OPTIONS, console(), data, images)
    assert begun == []
    assert not list(data.results.glob("*"))
