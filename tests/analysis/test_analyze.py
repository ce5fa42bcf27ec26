from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis import style
from analysis.analyze import analyze
from common.errors import UserError
from tests.analysis.conftest import Build, RunBuilder

MS = 10**6


def console() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=80), text


@pytest.fixture
def run(build: Build) -> RunBuilder:
    run = build()
    for batch_size in (1, 8):
        run.cell("onnxrt", batch_size, durations_ns=[10 * MS + i * 1000 for i in range(30)])
        run.cell("torch", batch_size, durations_ns=[20 * MS + i * 1000 for i in range(30)])
    run.cell("tf", 1, status="crashed", message="<script>alert(1)</script>")
    return run


def test_everything_is_written_and_the_report_stands_alone(run: Any, tmp_path: Path) -> None:
    screen, text = console()
    result = analyze([run.folder], tmp_path / "out", screen)
    assert result.exit_code == 0
    assert all(path.stat().st_size > 0 for path in result.paths)
    names = {path.name for path in result.paths}
    assert {"comparison.md", "comparison.csv", "comparison.xlsx", "report.html"} < names
    assert sum(name.endswith(".svg") for name in names) == sum(name.endswith(".png") for name in names) >= 6
    page = result.report.read_text()
    HTMLParser().feed(page)
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing from outside the file"
    assert "Batch 8: ONNX Runtime fp32, " in page
    assert re.search(r"Batch 1: ONNX Runtime fp32, 99\.\d+ images/s \[\d", page)
    assert "<script>alert" not in page
    assert "Seeded weights." in page
    assert "throughput (images/s)" in text.getvalue()


def test_damage_is_reported_and_the_exit_code_is_1(undrawn: None, run: Any, tmp_path: Path) -> None:
    path = next(run.folder.glob("cells/*torch*b0008*/samples.csv"))
    path.write_bytes(path.read_bytes()[:-4])
    screen, text = console()
    result = analyze([run.folder], tmp_path / "out", screen, formats=["md"])
    assert result.exit_code == 1
    reported = text.getvalue()
    assert "samples.csv:31: the line is cut off" in reported
    assert "1 file has lines that could not be used (1 rows); the rest was analyzed." in reported
    assert "samples.csv:31" in result.report.read_text()
    assert "samples.csv:31" in (tmp_path / "out" / "comparison.md").read_text()


def test_below_the_tables_stands_the_command_of_the_fastest_cells_recipe(
    undrawn: None, build: Build, tmp_path: Path
) -> None:
    """A user could not find the key that `invoke recipe` takes: no table of the terminal has it."""
    model = {
        "name": "ResNet50", "hash": "0123456789ab", "onnx": "model.onnx", "keras": None, "saved_model": None,
        "reference": "reference.npz", "input_shape": [224, 224, 3], "layout": "NHWC", "onnx_input": "a", "onnx_output": "b",
        "output_kind": "raw", "classes": 9, "weights": "seeded", "weights_note": "",
    }  # fmt: skip
    run = build().run_json(model=model)
    settings = '{"model": "as exported", "intra_op_threads": "2"}'
    for replicate in (0, 1):
        run.cell("onnxrt", 8, durations_ns=[MS] * 40, replicate=replicate, settings=settings)
    run.cell("torch", 8, durations_ns=[2 * MS] * 40)
    offer = "recipe of the fastest: ./invoke recipe ResNet50_onnxrt_fp32_b0008_host_single-stream_script_cpu"

    def printed(**more: Any) -> list[str]:
        screen, text = console()
        analyze([run.folder], tmp_path / "out", screen, **more)
        return [line for line in text.getvalue().splitlines() if "recipe" in line]

    assert printed(recipe="invoke recipe", here=True) == [offer]
    assert printed(recipe="invoke recipe") == [f"{offer} run"]
    assert printed(recipe="invoke recipe", where="framework=torch") == [], "it has no settings, so no recipe"
    assert printed() == [], "there is no such task"


def test_groups_of_many_frameworks_have_their_sentence_first_and_the_others_are_counted(
    undrawn: None, build: Build, tmp_path: Path
) -> None:
    """The one model that eight frameworks had run got none after six groups of a cell or two."""
    run = build()
    for number in range(7):
        run.cell("torch", 8, model=f"Model{number}", durations_ns=[MS] * 12)
    run.cell("torch", 16, model="Model5", durations_ns=[MS] * 12)
    for variant, ms in (("onnxrt", 1), ("torch", 2), ("tf", 3)):
        run.cell(variant, 8, model="ViT-B16", durations_ns=[ms * MS] * 12)
    screen, text = console()
    analyze([run.folder], tmp_path / "out", screen, formats=["md"])
    lines = text.getvalue().splitlines()
    closing = [line.split(", ")[0] for line in lines if re.match(r"(Model\d|ViT-B16), [^:]*: ", line)]
    assert closing == ["ViT-B16", "Model5", "Model0", "Model1", "Model2", "Model3"]
    assert "and 2 more groups: see the report" in lines


def test_one_cell_one_batch_size(build: Build, tmp_path: Path) -> None:
    run = build()
    run.cell("onnxrt", 8, durations_ns=[MS] * 12)
    assert analyze([run.folder], tmp_path / "out", console()[0]).exit_code == 0


def test_nothing_measured(build: Build, tmp_path: Path) -> None:
    screen, text = console()
    result = analyze([build().folder], tmp_path / "out", screen)
    assert "Nothing was measured" in text.getvalue()
    assert result.exit_code == 0
    assert "nothing to compare" in result.report.read_text()


def test_only_failures(build: Build, tmp_path: Path) -> None:
    run = build()
    run.cell("tf", 8, status="oom", message="no room for [8, 224]")
    screen, text = console()
    assert analyze([run.folder], tmp_path / "out", screen).exit_code == 0
    assert "tf fp32" in text.getvalue()
    assert "tf fp32 at batch 8: oom (no room for [8, 224])" in text.getvalue()


def test_wrong_options(run: Any, tmp_path: Path) -> None:
    screen = console()[0]
    with pytest.raises(UserError, match=r"unknown format 'xls'.*Did you mean xlsx"):
        analyze([run.folder], tmp_path / "out", screen, formats=["xls"])
    with pytest.raises(UserError, match="no cell meets"):
        analyze([run.folder], tmp_path / "out", screen, where="batch_size>1000")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        analyze([run.folder], tmp_path / "file", screen)


def test_one_colour_per_variant() -> None:
    known = ["onnxrt", "torch", "tf", "tfxla", "keras", "kerasxla", "tensorrt", "tensorrt-rtx", "tftrt"]
    looks = [style.look(name) for name in known]
    assert len({look.color for look in looks}) == len(known)
    assert len({look.marker for look in looks}) == len(known)
    assert style.look("something-new") == style.look("something-new")
