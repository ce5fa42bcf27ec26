"""The published layout, valid and damaged, on small files of the same columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.comparisons import notebook_vs_script as front_ends
from analysis.database.connection import Database
from analysis.database.open_runs import open_runs
from analysis.results.selection import Selection
from analysis.results.tables import load
from common.errors import UserError

TIMES = "Batch_Size,Elapsed_Times,Throughput,Latency,GPU_Memory_Usage\n"
METERS = "thread,region_idf,file,line,function,visits,device_name,energy,time\n"


def passes(batch_size: int, seconds: float, count: int = 10, images: int = 512) -> str:
    return "".join(f"{batch_size},{seconds!r},{images / seconds!r},{seconds / images!r},1000.0\n" for _ in range(count))


def meters(region: str, seconds: float, *devices: tuple[str, float], count: int = 10) -> str:
    return "".join(
        f"0,{region}_{i},,0,,1,{name},{watts * seconds * 1e6:.0f},{seconds * 1e6:.0f}\n"
        for i in range(count)
        for name, watts in devices
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A machine with two GPUs and one CPU, of which GPU 1 ran ONNX Runtime and TF-TRT at batch 8."""
    path = tmp_path / "machine"
    (path / "ema").mkdir(parents=True)
    (path / "LICENSE").write_text("BSD 3-Clause License\n\nCopyright (c) 2023, Somebody\n\nRedistribution\n")
    (path / "onnxrt_10_it_x_py.csv").write_text(TIMES + passes(8, 0.5))
    (path / "v100TFTRTFP16_10_it_x_py.csv").write_text(TIMES + passes(8, 0.25))
    devices = (("GPU Z", 10.0), ("GPU Z", 80.0), ("CPU-0.package-0", 30.0), ("CPU-1.dram", 3.0))
    (path / "ema" / "onnxrt_py.csv").write_text(METERS + meters("onnxrt_8", 0.5, *devices))
    (path / "ema" / "trt_py.csv").write_text(METERS + meters("TFTRTFP16_8", 0.25, *devices))
    return path


def opened(result: Any) -> Database:
    return open_runs([result.folder])


def test_provenance_and_figures(folder: Path, import_this: Any) -> None:
    result, reported = import_this(folder, gpu_ordinal=1)
    assert result.exit_code == 0
    assert reported.split() == ["2", "cells", "of", "PERFACCT", "study", "in", result.folder.name]
    document = json.loads((result.folder / "run.json").read_text())
    assert document["origin"] == "PERFACCT study"
    assert document["licence"] == "BSD 3-Clause License, Copyright (c) 2023, Somebody"
    assert document["measured"] == "winter 2023/24"
    assert document["created_utc"] is None
    assert document["devices"] == [{"device": "gpu1", "uuid": "", "name": "GPU Z"}]
    assert set(document["source"]["sha256"]) == {
        "onnxrt_10_it_x_py.csv", "v100TFTRTFP16_10_it_x_py.csv", "ema/onnxrt_py.csv", "ema/trt_py.csv",
    }  # fmt: skip
    assert str(folder.parent) not in json.dumps(document)
    with opened(result) as database:
        assert database.problems == []
        onnxrt, trt = database.query("FROM comparison ORDER BY variant")
        assert (trt["variant"], trt["precision"]) == ("tftrt", "fp16")
        assert onnxrt["images_per_s"] == pytest.approx(1024)
        assert onnxrt["power_gross_w"] == pytest.approx(80)
        assert onnxrt["joules_per_image"] == pytest.approx(40 / 512)
        assert onnxrt["package_joules_per_image"] == pytest.approx(15 / 512)
        assert onnxrt["dram_joules_per_image"] == pytest.approx(1.5 / 512)
        assert onnxrt["images_per_joule_second"] == pytest.approx(512 * 512 / (40 * 0.5))
        assert onnxrt["time_efficiency"] == pytest.approx(1024 / 0.5)
        assert onnxrt["device_memory_peak_bytes"] == 1000
        assert onnxrt["device_name"] == "GPU Z"


def test_a_notebook_of_the_study_is_compared_with_its_script(folder: Path, import_this: Any) -> None:
    spread = (3, -5, 1, 4, -2, -3, 5, -1, 2, -4)  # thousandths, with a mean of 0
    for suffix, factor in (("py", 1.0), ("nb", 1.2)):
        lines = [passes(8, 0.5 * factor * (1 + one / 1000), count=1) for one in spread]
        (folder / f"keras_10_it_x_{suffix}.csv").write_text(TIMES + "".join(lines))
        watts = 80.0 if suffix == "py" else 70.0
        rows = meters("keras_8", 0.5, ("GPU Z", 10.0), ("GPU Z", watts))
        (folder / "ema" / f"keras_{suffix}.csv").write_text(METERS + rows)
    result, _ = import_this(folder, gpu_ordinal=1)
    assert result.exit_code == 0
    with opened(result) as database:
        power = database.query("SELECT frontend, power_gross_w AS w FROM comparison WHERE variant = 'keras' ORDER BY 1")
        assert [(row["frontend"], pytest.approx(row["w"])) for row in power] == [("notebook", 70), ("script", 80)]
        compared = front_ends.build(database, load(database, Selection()))
    assert compared is not None
    (pair,) = compared.pairs
    assert pair.verdict == "UNCLEAR"  # one worker a side tells nothing of the next
    assert pair.comparison is not None and pair.comparison.interval is not None
    assert pair.comparison.interval.estimate == pytest.approx(1.2)
    assert pair.comparison.interval.low < 1.2 < pair.comparison.interval.high
    assert pair.script_ms == pytest.approx(0.5 / 512 * 8 * 1e3, rel=0.01), "of a batch"
    assert front_ends.PUBLISHED in compared.footers
    assert "published passes: their means are compared" in compared.footers


def test_a_second_import_is_the_first(folder: Path, import_this: Any) -> None:
    first, _ = import_this(folder, gpu_ordinal=1)
    again, reported = import_this(folder, gpu_ordinal=1)
    assert again.folder == first.folder
    assert "is there already" in reported
    assert first.folder.name[:9].removesuffix("-").isdigit(), "names begin with the time, as those of other runs do"
    other, _ = import_this(folder, gpu_ordinal=0)
    assert other.folder != first.folder
    assert sorted(path.name for path in first.folder.parent.iterdir()) == sorted([first.folder.name, other.folder.name])


def test_a_fact_that_was_found_counts_as_said(folder: Path, import_this: Any) -> None:
    for path in (folder / "ema").iterdir():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for i, line in enumerate(lines) if i == 0 or i % 4 == 2))
    found, _ = import_this(folder)
    given, reported = import_this(folder, gpu_ordinal=0)
    assert found.folder == given.folder
    assert "is there already" in reported


def test_which_gpu_ran_must_be_said(folder: Path, import_this: Any) -> None:
    with pytest.raises(UserError, match=r"list 2 GPUs a pass; say which one ran with --gpu-ordinal 0 to 1"):
        import_this(folder)
    with pytest.raises(UserError, match=r"there is no GPU 2"):
        import_this(folder, gpu_ordinal=2)
    with pytest.raises(UserError, match=r"there is no GPU -1"):
        import_this(folder, gpu_ordinal=-1)


def test_a_parent_folder_names_its_children(folder: Path, import_this: Any) -> None:
    with pytest.raises(UserError, match=r"no format that framewatt imports; import one of its machine"):
        import_this(folder.parent)
    with pytest.raises(UserError, match=r"unknown format 'studi'.*Did you mean study"):
        import_this(folder, format="studi")
    with pytest.raises(UserError, match="there is no"):
        import_this(folder / "nowhere")


def test_without_energy_power_stays_unknown(folder: Path, import_this: Any) -> None:
    for path in (folder / "ema").iterdir():
        path.unlink()
    result, reported = import_this(folder)
    assert "energy and power stay unknown" in reported
    assert result.exit_code == 0
    with opened(result) as database:
        assert {row["power_gross_w"] for row in database.query("FROM comparison")} == {None}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("8,nan,1,1,1\n", "Elapsed_Times is 'nan', not a finite number"),
        ("8,-0.5,-1024,-0.0009765625,1\n", "Elapsed_Times is -0.5: it cannot be negative"),
        ("8,x,1024,1,1\n", "Elapsed_Times is 'x', not a number"),
        ("8.5,0.5,1024,0.0009765625,1\n", "Batch_Size is 8.5, not a whole number"),
        ("0,0.5,1024,0.0009765625,1\n", "Batch_Size is 0"),
        ("8,0.5,1024,0.97,1\n", "Latency is not 1 / Throughput"),
        ("8,500,1024.00123,0.000976561326,1\n", "no whole number of images: other units"),
        ("8,0.5\n", "another number of fields"),
        ("99999999999999999999,0.5,1024,0.0009765625,1\n", "no count is so big"),
        ("8,1e20,1e20,1e-20,1\n", "no whole number of images"),
    ],
)
def test_a_bad_line_costs_itself(folder: Path, import_this: Any, line: str, reason: str) -> None:
    path = folder / "onnxrt_10_it_x_py.csv"
    path.write_text(path.read_text() + line)
    result, reported = import_this(folder, gpu_ordinal=1)
    assert result.exit_code == 1
    assert "onnxrt_10_it_x_py.csv:12: " in reported
    assert reason in reported
    with opened(result) as database:
        assert len(database.query("FROM comparison")) == 2
        assert database.query("SELECT images_per_s FROM comparison WHERE variant = 'onnxrt'")[0]["images_per_s"] == 1024


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0,onnxrt_8_3,,0,,1,GPU Z,40,500000\n", "other units than microjoules"),
        ("0,jax_8_3,,0,,1,GPU Z,40000000,500000\n", "unknown framework 'jax'"),
        ("0,onnxrt_64_3,,0,,1,GPU Z,40000000,500000\n", "which has no timed pass"),
        ("0,onnxrt,,0,,1,GPU Z,40000000,500000\n", "is no <framework>_<batch>_<pass>"),
        ("0,onnxrt_8_99,,0,,1,GPU Z,40000000,500000\n", "lists 1 GPUs, not the one that ran"),
        ("0,onnxrt_8_3,,0,,1,CPU-0.package-0,15000000,500000\n", "a second time"),
    ],
)
def test_a_bad_meter_line_costs_itself(folder: Path, import_this: Any, line: str, reason: str) -> None:
    path = folder / "ema" / "onnxrt_py.csv"
    # below the good lines: the meters of a pass are told apart by their order
    path.write_text(path.read_text() + line)
    result, reported = import_this(folder, gpu_ordinal=1)
    if reason.startswith("other units"):
        # a third GPU row of the pass is not the one that ran: nobody reads it
        assert result.exit_code == 0
    else:
        assert reason in reported
        assert result.exit_code == 1
    with opened(result) as database:
        row = database.query("SELECT power_gross_w FROM comparison WHERE variant = 'onnxrt'")[0]
        assert row["power_gross_w"] == pytest.approx(80)


@pytest.mark.parametrize(
    ("energy", "time", "reason"),
    [("energy", 1e3, "no power that a meter could show"), ("both", 1e-3, "far from the elapsed time")],
)
def test_other_units_are_no_energy(folder: Path, import_this: Any, energy: str, time: float, reason: str) -> None:
    watts = 80.0 / time if energy == "energy" else 80.0
    seconds = 0.5 if energy == "energy" else 0.5 * time
    text = meters("onnxrt_8", seconds, ("GPU Z", watts), ("GPU Z", watts))
    if energy == "energy":
        text = meters("onnxrt_8", seconds, ("GPU Z", watts * 1e-3), ("GPU Z", watts * 1e-3))
    (folder / "ema" / "onnxrt_py.csv").write_text(METERS + text)
    result, reported = import_this(folder, gpu_ordinal=1)
    assert reason in reported
    assert result.exit_code == 1
    with opened(result) as database:
        row = database.query("SELECT power_gross_w, images_per_s FROM comparison WHERE variant = 'onnxrt'")[0]
        assert row == {"power_gross_w": None, "images_per_s": 1024.0}


def test_unknown_frameworks_missing_and_foreign_columns(folder: Path, import_this: Any) -> None:
    (folder / "jax_10_it_x_py.csv").write_text(TIMES + passes(8, 0.5))
    (folder / "torch_10_it_x_py.csv").write_text("Batch_Size,Elapsed_Times\n8,0.5\n")
    (folder / "keras_10_it_x_py.csv").write_text(
        TIMES.replace("\n", ",Mood\n") + passes(8, 1.0).replace("\n", ",good\n")
    )
    (folder / "tf_10_it_x_py.csv").write_bytes(b"\xff\xfe\0")
    (folder / "notes.csv").write_text("a,b\n")
    result, reported = import_this(folder, gpu_ordinal=1)
    assert result.exit_code == 1
    assert "unknown framework 'jax'; there is tf, tfxla" in reported
    assert "torch_10_it_x_py.csv: lacks the column Throughput, Latency: nothing of it can be used" in reported
    assert "has unknown columns: 'Mood'; left out" in reported
    assert "tf_10_it_x_py.csv: is no text in UTF-16; save it as UTF-8" in reported
    assert "notes.csv: is not named as the study's files are" in reported
    with opened(result) as database:
        variants = [row["variant"] for row in database.query("SELECT variant FROM comparison ORDER BY 1")]
        assert variants == ["keras", "onnxrt", "tftrt"]


def test_junk_in_the_memory_column_costs_the_memory_alone(folder: Path, import_this: Any) -> None:
    path = folder / "onnxrt_10_it_x_py.csv"
    path.write_text(path.read_text().replace(",1000.0\n", ",1e300\n"))
    result, reported = import_this(folder, gpu_ordinal=1)
    assert "no device has so much memory; taken as unknown" in reported
    with opened(result) as database:
        assert database.problems == []
        row = database.query("SELECT device_memory_peak_bytes AS memory FROM comparison WHERE variant = 'onnxrt'")[0]
        assert row["memory"] is None


def test_nothing_usable(folder: Path, import_this: Any) -> None:
    for path in folder.glob("*.csv"):
        path.write_text("nothing\n")
    with pytest.raises(UserError, match="could be used as the published layout"):
        import_this(folder, gpu_ordinal=1)
    assert not (folder.parent / "results").exists()


def test_a_file_cut_short_is_reported(folder: Path, import_this: Any) -> None:
    path = folder / "onnxrt_10_it_x_py.csv"
    path.write_bytes(path.read_bytes()[:-20])
    result, reported = import_this(folder, gpu_ordinal=1)
    assert result.exit_code == 1
    assert "has 9 usable passes at batch 8; its name says 10" in reported
