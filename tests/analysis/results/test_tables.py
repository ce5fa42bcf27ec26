from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from analysis.database.connection import Database
from analysis.output import table_files, terminal
from analysis.results import tables
from analysis.results.metrics import METRICS, rounded, shown
from analysis.results.selection import Selection, parse_pivot, parse_sort, parse_where
from common.errors import UserError
from tests.analysis.conftest import Build, Opened

MS = 10**6


@pytest.fixture
def database(build: Build, opened: Opened) -> Database:
    run = build()
    for batch_size in (1, 8):
        run.cell("onnxrt", batch_size, durations_ns=[10 * MS] * 70)
        run.cell("torch", batch_size, durations_ns=[20 * MS] * 20, stop_reason="noisy")
        run.cell("onnxrt", batch_size, durations_ns=[5 * MS] * 20, io="device")
    run.cell("tf", 1, durations_ns=[40 * MS] * 20)
    run.cell("tf", 8, status="oom", message="out of memory")
    return opened(run)


def built(
    database: Database, where: str | None = None, pivot: str | None = None, sort: str | None = None
) -> list[tables.Table]:
    rows = tables.load(database, parse_where(where, database))
    return tables.build(database, rows, ["throughput", "latency", "p90"], parse_pivot(pivot), parse_sort(sort))


def test_a_table_never_mixes_io(database: Database) -> None:
    groups = {(table.metric.name, table.group["io"]) for table in built(database)}
    assert groups == {
        ("throughput", "host"),
        ("latency", "host"),
        ("p90", "host"),
        ("throughput", "device"),
        ("latency", "device"),
    }
    with pytest.raises(UserError, match="never mixes io"):
        parse_pivot("io")


def test_a_coarse_energy_may_be_the_net_one_alone_and_the_legend_says_so(database: Database) -> None:
    """A list of cells has the mark beside a gross energy that stands without its sign in every table."""
    energy = {
        "joules_per_image": 1.0,
        "joules_per_image_net": 0.1,
        "marks": ["energy_coarse"],
        "gross_coarse": False,
        "net_coarse": True,
    }
    rows = [
        {**row, **energy} for row in tables.load(database, parse_where("io=host", database)) if row["status"] == "ok"
    ]
    gross, net = tables.build(database, rows, ["joules_per_image", "joules_per_image_net"])
    assert {entry.signs for entry in gross.entries.values()} == {""}
    assert {entry.signs for entry in net.entries.values()} == {"u"}
    (line,) = (line for line in net.footers if line.startswith("u  "))
    assert line.endswith("; the mark may be for net energy alone, and gross energy then has no u in tables")


def test_best_rank_status_and_signs(database: Database) -> None:
    table = next(t for t in built(database, "io=host") if t.metric.name == "throughput")
    assert table.rows == (("onnxrt", "fp32"), ("torch", "fp32"), ("tf", "fp32"))
    assert table.columns == (1, 8)
    onnxrt, torch, tf = (table.entry((name, "fp32"), 1) for name in ("onnxrt", "torch", "tf"))
    assert (onnxrt.text, onnxrt.best, onnxrt.rank) == ("100.0", True, 1.0)
    assert (torch.marked, torch.best) == ("50.00 n", False)
    assert torch.rank == pytest.approx(0.5)
    assert (tf.text, tf.rank) == ("25.00", 0.0)
    failed = table.entry(("tf", "fp32"), 8)
    assert (failed.text, failed.value, failed.rank) == ("oom", None, None)
    assert any(line.startswith("n  the interval") for line in table.footers)
    assert "Seeded weights." in table.footers
    assert any("Measured on Test CPU" in line for line in table.footers)


def test_less_is_better_for_latency_and_few_samples_say_so(database: Database) -> None:
    found = {table.metric.name: table for table in built(database, "io=host")}
    assert found["latency"].entry(("onnxrt", "fp32"), 1).best
    assert found["p90"].entry(("torch", "fp32"), 1).marked == "n<64 n"
    assert any("n too small" in line for line in found["p90"].footers)
    assert not found["p90"].entry(("onnxrt", "fp32"), 1).best, "one figure alone is not the best of anything"


def test_two_runs_of_one_cell_are_two_tables_and_of_different_cells_one(build: Build, opened: Opened) -> None:
    runs = [build(name) for name in ("monday", "tuesday")]
    runs[0].cell("onnxrt", durations_ns=[MS] * 20)
    runs[1].cell("torch", durations_ns=[MS] * 20)
    assert len(built(opened(*runs))) == 2  # throughput, latency
    runs[1].cell("onnxrt", durations_ns=[2 * MS] * 20)
    both = built(opened(*runs))
    assert [table.group["run"] for table in both] == ["monday", "monday", "tuesday", "tuesday"]


def test_gpus_of_one_product_that_share_the_work_are_one_table_and_the_same_cells_on_both_are_two(
    build: Build, opened: Opened
) -> None:
    runs = []
    for device, variant in (("gpu0", "onnxrt"), ("gpu1", "torch")):
        uuid = f"GPU-{device}"
        facts = [{"device": device, "uuid": uuid, "name": "H100"}]
        runs.append(build(device, device=device, device_name="H100", uuid=uuid).run_json(devices=facts))
        runs[-1].cell(variant, durations_ns=[MS] * 20)
    shared = built(opened(*runs))
    assert [table.rows for table in shared if table.metric.name == "throughput"] == [
        (("onnxrt", "fp32"), ("torch", "fp32"))
    ]
    assert any(line.startswith("Measured on 2 H100, each cell on one of them") for line in shared[0].footers)
    mixed = "Cells of 2 H100: differences below what cards of one kind differ by are not told"
    assert mixed in shared[0].footers
    runs[1].cell("onnxrt", durations_ns=[2 * MS] * 20)
    apart = built(opened(*runs))
    assert [table.group["device"] for table in apart if table.metric.name == "throughput"] == ["gpu0", "gpu1"]
    assert mixed not in apart[0].footers
    (where,) = tables.machines(tables.load(opened(*runs), Selection()))
    assert where.startswith("Measured on 2 H100, some cells on several of them: run gpu0")


def test_tables_come_by_model_and_device_and_then_single_stream_first(build: Build, opened: Opened) -> None:
    runs = []
    for gpu, scenarios in (
        ("B", ("single-stream",)),
        ("A", ("server", "offline")),
        ("A", ("single-stream", "multi-stream")),
    ):
        run = build(f"run{len(runs)}", device="gpu0", device_name=gpu, uuid=f"GPU-{gpu}{len(runs)}")
        for scenario in scenarios:
            run.cell("torch", 8, durations_ns=[10 * MS] * 70, scenario=scenario)
        runs.append(run)
    groups = [table.group for table in built(opened(*runs)) if table.metric.name == "throughput"]
    assert [(group["device_name"], group["scenario"]) for group in groups] == [
        ("A", "single-stream"), ("A", "offline"), ("A", "multi-stream"), ("A", "server"), ("B", "single-stream"),
    ]  # fmt: skip


def test_streams_are_in_the_heading_of_multi_stream_alone() -> None:
    assert tables.heading({"scenario": "multi-stream", "streams": 2}) == "multi-stream, 2 in flight"
    assert tables.heading({"scenario": "offline", "streams": 1}) == "offline"
    assert tables.heading({"streams": 3, "model": None}) == "3 in flight"


def test_versions_are_reported_and_where_they_differ_by_device(build: Build, opened: Opened) -> None:
    runs = []
    for device, version in (("H100", "1.31.1"), ("A2", "")):
        runs.append(build(device, device="gpu0", device_name=device, uuid=f"GPU-{device}"))
        runs[-1].cell("onnxrt", durations_ns=[MS] * 20, framework_version=version)
    runs[0].cell("torch", durations_ns=[MS] * 20, framework_version="2.11.0")
    runs[0].cell("tf", status="oom", message="out of memory", framework_version="2.21.0")
    (table, *_) = built(opened(*runs), pivot="device_name")
    assert "Versions: onnxrt 1.31.1 (H100), unknown (A2); torch 2.11.0." in table.footers
    (one, *_) = built(opened(runs[1]))
    assert not any(line.startswith("Versions") for line in one.footers)


def test_an_older_gpu_that_beats_a_newer_one_has_a_sign(build: Build, opened: Opened) -> None:
    runs = []
    for name, capability, duration in (("Old", "7.0", 10), ("New", "12.0", 20)):
        device = {"device": "gpu0", "uuid": f"GPU-{name}", "name": name, "compute_capability": capability}
        run = build(name, device="gpu0", device_name=name, uuid=f"GPU-{name}").run_json(devices=[device])
        run.cell(durations_ns=[duration * MS] * 20)
        runs.append(run)
    table = built(opened(*runs), pivot="device_name")[0]
    assert table.columns == ("New", "Old")
    row = ("onnxrt", "fp32", 8)
    assert (table.entry(row, "Old").signs, table.entry(row, "New").signs) == ("^", "")
    assert any("newer GPU" in line for line in table.footers)


@pytest.mark.parametrize(
    ("where", "variants"),
    [
        ("framework=onnxrt|tf, io=host, batch_size=1", {"onnxrt", "tf"}),
        ("variant!=torch and io=host", {"onnxrt", "tf"}),
        ("variant~XR, io=host", {"onnxrt"}),
        ("throughput>=50, batch=1, io=host", {"onnxrt", "torch"}),
        ("status=oom", {"tf"}),
        ("batch_size!=1|8", set()),
    ],
)
def test_where(database: Database, where: str, variants: set[str]) -> None:
    assert {row["variant"] for row in tables.load(database, parse_where(where, database))} == variants


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("framwork=tf", "unknown column 'framwork'.*Did you mean framework"),
        ("variant=onxrt", "unknown variant 'onxrt'.*Did you mean onnxrt"),
        ("batch_size=eight", "'eight' is not a number"),
        ("batch_size~8", "is a number"),
        ("variant>tf", "is text"),
        ("1=1; DROP TABLE cell_row", "unknown column"),
        ("variant='x' OR 1=1", "unknown variant"),
        ('run"="x', "is no condition"),
    ],
)
def test_where_names_what_it_does_not_know(database: Database, where: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_where(where, database)
    assert database.query("SELECT count(*) AS n FROM cells")[0]["n"] == 8


def test_sort_and_pivot(database: Database) -> None:
    table = built(database, "io=host", sort="variant")[0]
    assert [row[0] for row in table.rows] == ["onnxrt", "tf", "torch"]
    table = built(database, "io=host", sort="-variant")[0]
    assert [row[0] for row in table.rows] == ["torch", "tf", "onnxrt"]
    table = built(database, "io=host", pivot="batch_size,precision:variant")[0]
    assert table.columns == ("onnxrt", "tf", "torch")
    assert set(table.rows) == {(1, "fp32"), (8, "fp32")}
    for bad, message in (("batchsize", "Did you mean batch_size"), ("variant:variant", "cannot be in the rows and")):
        with pytest.raises(UserError, match=message):
            parse_pivot(bad)
    with pytest.raises(UserError, match="unknown column"):
        parse_sort("-speed")


def test_the_terminal_at_80_columns_and_without_colour(database: Database) -> None:
    text = io.StringIO()
    terminal.show(built(database), Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text.getvalue()
    assert any(line.split()[:3] == ["onnxrt", "fp32", "*100.0"] for line in lines)
    assert any(line.split()[-1:] == ["oom"] for line in lines)
    assert sum("Seeded weights." in line for line in lines) == 1


def test_markdown_csv_and_excel(database: Database, tmp_path: Path) -> None:
    rows = tables.load(database, Selection())
    every = built(database)
    text = table_files.markdown(every, ["a|b: broken"])
    assert "| onnxrt | fp32 | **100.0** | **800.0** |" in text
    assert "- a\\|b: broken" in text
    table_files.write_csv(tmp_path / "c.csv", rows)
    with (tmp_path / "c.csv").open() as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(rows)
    by_key = {(row["variant"], row["batch_size"], row["io"]): row for row in read}
    assert float(by_key["onnxrt", "8", "host"]["images_per_s"]) == 800.0
    assert by_key["tf", "8", "host"]["images_per_s"] == ""
    table_files.write_excel(tmp_path / "c.xlsx", every, rows, database.query("FROM marks"))
    with zipfile.ZipFile(tmp_path / "c.xlsx") as book:
        workbook = book.read("xl/workbook.xml").decode()
        first = book.read("xl/worksheets/sheet1.xml").decode()
    assert workbook.count("<sheet ") == len(every) + 3
    assert 'state="frozen"' in first
    assert "colorScale" in first


def test_of_a_great_many_tables_only_some_are_shown_and_that_is_said(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = built(database)
    assert len(every) > 3
    monkeypatch.setattr(terminal, "MOST_TABLES", 2)
    monkeypatch.setattr(table_files, "MOST_SHEETS", 3)
    text = io.StringIO()
    terminal.show(every, Console(file=text, width=80))
    assert f"{len(every) - 2} more tables are in the files" in text.getvalue()
    titles = [line for line in text.getvalue().splitlines() if line in {table.title for table in every}]
    assert titles == [table.title for table in every[:2]]
    table_files.write_excel(tmp_path / "c.xlsx", every, tables.load(database, Selection()), [])
    with zipfile.ZipFile(tmp_path / "c.xlsx") as book:
        assert book.read("xl/workbook.xml").decode().count("<sheet ") == 3 + 3
        assert f"{len(every) - 3} tables have no sheet" in book.read("xl/sharedStrings.xml").decode()


def test_text_of_the_data_is_never_a_formula(build: Build, opened: Opened, tmp_path: Path) -> None:
    run = build()
    run.cell("torch", durations_ns=[MS] * 20, message="=HYPERLINK(1)", framework_version="=1+1")
    database = opened(run)
    rows = tables.load(database, Selection())
    table_files.write_excel(tmp_path / "c.xlsx", built(database), rows, [])
    with zipfile.ZipFile(tmp_path / "c.xlsx") as book:
        assert all(b"<f>" not in book.read(name) for name in book.namelist())


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,346"), (999.96, "1,000"), (823.44, "823.4"), (8.2344, "8.234"), (10.0, "10.00"), (0.5, "0.5000"), (0, "0"),
     (0.00000123, "1.23e-06")],
)  # fmt: skip
def test_four_significant_digits(value: float, text: str) -> None:
    assert shown(value) == text


def test_every_metric_is_a_column_with_a_definition(database: Database) -> None:
    columns = {row["column_name"] for row in database.query("DESCRIBE comparison")}
    for metric in METRICS.values():
        assert metric.column in columns
        assert metric.definition
        assert metric.better in (-1, 0, 1)


def test_figures_that_differ_in_the_last_bit_are_both_at_the_best(build: Build, opened: Opened) -> None:
    import math

    run = build()
    run.cell("onnxrt", 8, durations_ns=[MS] * 12, parity_rel_l2=1.0, host_peak_bytes=2**60)
    run.cell("torch", 8, durations_ns=[MS] * 12, parity_rel_l2=1.0, host_peak_bytes=2**60 + 256)
    assert math.log(2.0**60) == math.log(2.0**60 + 256)
    database = opened(run)
    (table,) = tables.build(database, tables.load(database, Selection()), ["host_memory"])
    assert [entry.rank for entry in table.entries.values()] == pytest.approx([1.0, 1.0])


def test_rounded_figures_have_no_exponent() -> None:
    assert [rounded(value, 2) for value in (1.04, 53.4, 110.4, 3351.0)] == ["1", "53", "110", "3,400"]
    assert rounded(3351.0, 3) == "3,350"
