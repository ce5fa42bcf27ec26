"""A kept run has every fact that the analysis reads and nothing of the machine's paths."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from common import schema
from common.errors import UserError
from common.host.runs import keep as keeping
from common.host.runs.archive import unpacked
from common.host.runs.keep import MARGIN_NS, keep
from common.host.runs.run import Run

SECOND = 1_000_000_000


def make_run(folder: Path) -> Path:
    cell = folder / "cells" / "key"
    cell.mkdir(parents=True)
    (folder / "logs").mkdir()
    (cell / "cell.csv").write_text(schema.to_csv("cell.csv", [{"cell_key": "key", "status": "ok"}]))
    phases = [{"phase": "measure", "start_ns": 100 * SECOND, "end_ns": 105 * SECOND}]
    (cell / "phases.csv").write_text(schema.to_csv("phases.csv", phases))
    (cell / "samples.csv").write_text(schema.to_csv("samples.csv", []))
    readings = [{"t_ns": second * SECOND, "power_mw": 1.5} for second in range(90, 120)]
    (folder / "power.csv").write_text(schema.to_csv("power.csv", readings))
    images = {"torch": {"python": "/somewhere/python", "digest": "sha256:1"}}
    (folder / "run.json").write_text(json.dumps({"run": folder.name, "command": "typed", "images": images}))
    return folder


def test_every_file_of_a_cell_that_the_analysis_reads_is_kept(tmp_path: Path) -> None:
    of_runs = {"power.csv", "attempts.csv"}
    run = make_run(tmp_path / "a")
    for name in schema.FILES.keys() - of_runs - {"phases.csv"}:
        (run / "cells" / "key" / name).write_text(name)
    (kept,) = keep([run], tmp_path / "out")
    assert {path.name for path in (kept / "cells" / "key").iterdir()} == schema.FILES.keys() - of_runs


@pytest.mark.parametrize(
    ("typed", "kept_as"),
    [
        ("/home/ann/nets/small/model.onnx", "small/model.onnx"),
        ("~/model.onnx", "~/model.onnx"),
        ("ResNet50", "ResNet50"),
    ],
)
def test_of_the_path_of_a_model_the_end_stays(tmp_path: Path, typed: str, kept_as: str) -> None:
    run = make_run(tmp_path / "a")
    row = {"cell_key": "key", "status": "ok", "model_file": typed, "message": 'a "quoted", text\nof two lines'}
    (run / "cells" / "key" / "cell.csv").write_text(schema.to_csv("cell.csv", [row]))
    (kept,) = keep([run], tmp_path / "out")
    text = (kept / "cells" / "key" / "cell.csv").read_text()
    assert text == schema.to_csv("cell.csv", [{**row, "model_file": kept_as}])
    assert "ann" not in text


def test_readings_near_the_windows_are_kept_and_no_others(tmp_path: Path) -> None:
    (kept,) = keep([make_run(tmp_path / "a")], tmp_path / "out")
    times = [int(line.split(",")[0]) for line in (kept / "power.csv").read_text().splitlines()[1:]]
    first, last = 100 * SECOND - MARGIN_NS, 105 * SECOND + MARGIN_NS
    assert times == [s * SECOND for s in range(90, 120) if first <= s * SECOND <= last]
    assert (kept / "cells" / "key" / "samples.csv").is_file()
    assert not (kept / "logs").exists()


def test_readings_of_idle_spells_are_kept(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    phases = [
        {"phase": "idle_before", "start_ns": 94 * SECOND, "end_ns": 95 * SECOND},
        {"phase": "measure", "start_ns": 100 * SECOND, "end_ns": 101 * SECOND},
        {"phase": "idle", "start_ns": 107 * SECOND, "end_ns": 108 * SECOND},
    ]
    (run / "cells" / "key" / "phases.csv").write_text(schema.to_csv("phases.csv", phases))
    description = json.loads((run / "run.json").read_text())
    spells = {"gpu0": [{"start_ns": 114 * SECOND, "end_ns": 115 * SECOND}, {"start_ns": "junk"}]}
    (run / "run.json").write_text(json.dumps({**description, "idle_without_context": spells}))
    (kept,) = keep([run], tmp_path / "out")
    times = [int(line.split(",")[0]) // SECOND for line in (kept / "power.csv").read_text().splitlines()[1:]]
    assert times == [93, 94, 95, 96, 99, 100, 101, 102, 106, 107, 108, 109, 113, 114, 115, 116]
    assert json.loads((kept / "run.json").read_text())["idle_without_context"] == spells


def test_interpreters_are_left_out_and_the_command_may_be_given(tmp_path: Path) -> None:
    (kept,) = keep([make_run(tmp_path / "a")], tmp_path / "out", command="invoke sweep --gpu 0")
    description = json.loads((kept / "run.json").read_text())
    assert description["images"] == {"torch": {"digest": "sha256:1"}}
    assert description["command"] == "invoke sweep --gpu 0"


def test_a_kept_run_is_not_overwritten(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    keep([run], tmp_path / "out")
    with pytest.raises(UserError, match="exists already"):
        keep([run], tmp_path / "out")


def test_a_sealed_run_is_one_file_with_the_same_content(tmp_path: Path) -> None:
    (open_one,) = keep([make_run(tmp_path / "a")], tmp_path / "open")
    (kept,) = keep([tmp_path / "a"], tmp_path / "out", sealed=True)
    assert kept == tmp_path / "out" / "a.tar.xz"
    folder = unpacked(kept, tmp_path / "cache")
    for path in (path for path in open_one.rglob("*") if path.is_file()):
        assert (folder / path.relative_to(open_one)).read_bytes() == path.read_bytes()
    with pytest.raises(UserError, match=r"a\.tar\.xz exists already"):
        keep([tmp_path / "a"], tmp_path / "out")


@pytest.mark.parametrize(
    ("typed", "kept_command"),
    [
        ("invoke bench --python /somewhere/python --gpu 0", "invoke bench --python PYTHON --gpu 0"),
        ("invoke bench --gpu 0 --python=~/env/python", "invoke bench --gpu 0 --python=PYTHON"),
        ("invoke bench --python '/my envs/python' --gpu 0", "invoke bench --python PYTHON --gpu 0"),
        ("invoke analyze --where 'batch>=8'", "invoke analyze --where 'batch>=8'"),
        ("invoke bench --python /it's/python --gpu 0", "invoke bench --python PYTHON --gpu 0"),
        ("invoke bench --model ../my.onnx --image ./cat.jpg", "invoke bench --model MODEL --image IMAGE"),
        ("invoke bench --model ResNet50 --python python3", "invoke bench --model ResNet50 --python python3"),
        ("x --packages /a/b -- python=3", "x --packages PACKAGES -- python=3"),
        ("invoke sweep", "invoke sweep"),
    ],
)
def test_places_of_this_machine_are_taken_out_of_the_command(tmp_path: Path, typed: str, kept_command: str) -> None:
    run = make_run(tmp_path / "a")
    (run / "run.json").write_text(json.dumps({"run": "a", "command": typed}))
    (kept,) = keep([run], tmp_path / "out")
    assert json.loads((kept / "run.json").read_text())["command"] == kept_command


@pytest.mark.parametrize("name", ["cells/key/samples.csv", "cells/key/cell.csv", "power.csv", "run.json"])
def test_a_link_brings_nothing_into_a_kept_run(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "a")
    (tmp_path / "secret").write_text((run / name).read_text())
    (run / name).unlink()
    (run / name).symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="a link, not a file"):
        keep([run], tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]


def test_junk_in_a_run_is_no_fault_of_ours(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    (run / "run.json").write_text('{"images": [], "fleet": 3, "idle_without_context": [], "command": ["x"]}')
    with (run / "cells" / "key" / "phases.csv").open("a") as file:
        file.write("measure,x,y\nidle\n")
    (kept,) = keep([run], tmp_path / "out")
    assert (kept / "run.json").is_file()


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


#: file or folder of a run, what is done to it, what is said
HOSTILE: list[tuple[str, Callable[[Path], object], str]] = [
    ("cells", link, "cells is a link, not a folder"),
    ("cells/key", link, "is a link, not a folder"),
    ("cells/key/samples.csv", lambda path: os.truncate(path, 2**30 + 1), "samples.csv is larger than 1024 MiB"),
    ("power.csv", lambda path: os.truncate(path, 2**40), "power.csv is larger than 1024 MiB"),
    ("power.csv", lambda path: (path.unlink(), os.mkfifo(path)), "power.csv is a FIFO, not a file"),
]  # fmt: skip


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(("name", "attack", "words"), HOSTILE, ids=[f"{name}: {words}" for name, _, words in HOSTILE])
def test_a_run_that_cannot_be_kept_leaves_nothing_behind(
    tmp_path: Path, name: str, attack: Callable[[Path], object], words: str, sealed: bool
) -> None:
    run = make_run(tmp_path / "a")
    attack(run / name)
    with pytest.raises(UserError, match=words):
        keep([run], tmp_path / "out", sealed=sealed)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("junk", ["9" * 5000, "٣" * 4, '"' + "x" * 200_000, "\udcff", "-1", "1e9", "\0"])
def test_phases_and_readings_that_are_none_are_passed_over(tmp_path: Path, junk: str) -> None:
    run = make_run(tmp_path / "a")
    for path, line in (
        (run / "cells" / "key" / "phases.csv", f"measure,{junk},{junk}\n"),
        (run / "power.csv", f"{junk},1\n"),
    ):
        path.write_bytes(path.read_bytes() + line.encode(errors="surrogateescape"))
    (kept,) = keep([run], tmp_path / "out")
    assert len((kept / "power.csv").read_text().splitlines()) == 1 + 8


def test_a_description_that_is_nested_too_deeply_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer Pythons read deeper JSON than they write."""
    run = make_run(tmp_path / "a")
    deep: dict[str, object] = {}
    for _ in range(5000):
        deep = {"a": deep}
    monkeypatch.setattr(keeping, "read_run", lambda folder: Run(folder, {"a": deep}))
    with pytest.raises(UserError, match="nested too deeply"):
        keep([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()
