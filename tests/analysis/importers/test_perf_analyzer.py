"""perf_analyzer's CSV: columns as its documentation shows them, with and without --verbose-csv and GPU metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.database.open_runs import open_runs
from common.errors import UserError

HEADER = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"
)
GPU_HEADER = HEADER + ",Avg latency,Avg GPU Utilization,Avg GPU Power Usage,Max GPU Memory Usage,Total GPU Memory"
ONE = "1,80,200,2000,60,200,11000,20,0,14000,19000,20000,21000"
FOUR = "4,100,280,1600,33000,230,11700,18,1,47000,56000,59000,65000"
GIVEN = {"batch_size": 8, "framework": "onnxrt", "precision": "fp32", "model": "ResNet50"}


def test_rates_and_quantiles(tmp_path: Path, import_this: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_text(f"{HEADER}\n{ONE}\n{FOUR}\n")
    result, _ = import_this(path, **GIVEN)
    assert result.exit_code == 0
    with open_runs([result.folder]) as database:
        assert database.problems == []
        one, four = database.query("FROM comparison ORDER BY streams")
        assert (one["scenario"], one["streams"], four["scenario"], four["streams"]) == (
            "single-stream",
            1,
            "multi-stream",
            4,
        )
        assert one["images_per_s"] == pytest.approx(80)
        assert [four[f"{name}_ms"] for name in ("median", "p90", "p95", "p99")] == pytest.approx([47, 56, 59, 65])
        assert four["p999_ms"] is None
        assert four["samples"] is None
        assert four["power_gross_w"] is None


def test_gpu_metrics_of_the_gpu_that_ran(tmp_path: Path, import_this: Any) -> None:
    path = tmp_path / "perf.csv"
    metrics = ",14100,GPU-a:0.3;GPU-b:0.5;,GPU-a:40;GPU-b:60;,GPU-a:10000;GPU-b:20000;,GPU-a:50000;GPU-b:50000;"
    path.write_text(f"{GPU_HEADER}\n{ONE}{metrics}\n")
    result, _ = import_this(path, gpu_ordinal=1, **GIVEN)
    with open_runs([result.folder]) as database:
        (row,) = database.query("FROM comparison")
        assert row["power_gross_w"] == pytest.approx(60)
        assert row["joules_per_image"] == pytest.approx(60 / 80)
        assert row["device_memory_peak_bytes"] == 20000
    found, reported = import_this(path, **GIVEN)
    assert found.folder != result.folder
    assert "power and memory of 2 GPUs (0: GPU-a, 1: GPU-b)" in reported
    assert "--gpu-ordinal N takes one" in reported
    with open_runs([found.folder]) as database:
        assert database.query("SELECT power_gross_w FROM comparison") == [{"power_gross_w": None}]
        (row,) = database.query("SELECT settings FROM cells")
        assert "GPU-a:40;GPU-b:60;" in row["settings"], "kept as it was written"


def test_the_option_that_was_missing_makes_another_run(tmp_path: Path, import_this: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_text(f"{GPU_HEADER}\n{ONE},14100,GPU-a:0.3;GPU-b:0.5;,GPU-a:40;GPU-b:60;,,\n")
    runs = {import_this(path, gpu_ordinal=ordinal, **GIVEN)[0].folder: ordinal for ordinal in (None, 0, 1, 0)}
    assert len(runs) == 3
    with open_runs(sorted(runs)) as database:
        watts = database.query("SELECT power_gross_w AS w, device_uuid AS uuid FROM comparison ORDER BY w NULLS FIRST")
    assert [(row["w"], row["uuid"]) for row in watts] == [
        (None, None), (pytest.approx(40), "GPU-a"), (pytest.approx(60), "GPU-b"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="nothing in"):
        import_this(path, gpu_ordinal=2, **GIVEN)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path: Path, import_this: Any, encoding: str) -> None:
    path = tmp_path / "perf.csv"
    path.write_bytes(f"{HEADER}\r\n{ONE}\r\n{FOUR}\r\n".encode(encoding))
    result, _ = import_this(path, **GIVEN)
    with open_runs([result.folder]) as database:
        assert [row["images_per_s"] for row in database.query("FROM comparison ORDER BY streams")] == [80, 100]


def test_an_encoding_that_is_none_is_named(tmp_path: Path, import_this: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_bytes(f"{HEADER},Käse\n{ONE},1\n".encode("latin-1"))
    with pytest.raises(UserError, match="nothing in"):
        import_this(path, **GIVEN)


@pytest.mark.parametrize("first", ["", "sep=;\r\n", '"sep=;"\n'])
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_spreadsheet_of_a_country_with_decimal_commas(
    tmp_path: Path, import_this: Any, first: str, delimiter: str
) -> None:
    text = f"{HEADER}\n{ONE}\n{FOUR}\n".replace(",", delimiter).replace("80", "80,5", 1).replace("12000", "12,5")
    path = tmp_path / "perf.csv"
    path.write_text((first if delimiter == ";" else "") + text)
    result, _ = import_this(path, **GIVEN)
    assert result.exit_code == 0
    with open_runs([result.folder]) as database:
        one, four = database.query("FROM comparison ORDER BY streams")
        assert (one["images_per_s"], four["images_per_s"]) == (pytest.approx(80.5), pytest.approx(100))


def test_a_point_that_may_be_of_thousands_is_refused(tmp_path: Path, import_this: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_text(f"{HEADER}\n{ONE}\n{FOUR}\n".replace(",", ";").replace("80", "80,5", 1).replace("47000", "47.000"))
    result, reported = import_this(path, **GIVEN)
    assert result.exit_code == 1
    assert "p50 latency is '47.000', whose point may be of thousands" in reported


def test_a_request_rate_is_the_server_scenario(tmp_path: Path, import_this: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_text("Request Rate,Inferences/Second,p50 latency\n10,80,9000\n")
    result, _ = import_this(path, **GIVEN)
    with open_runs([result.folder]) as database:
        (row,) = database.query("FROM comparison")
        assert (row["scenario"], row["target_rate_per_s"], row["median_ms"]) == ("server", 10.0, 9.0)


def test_bad_lines_cost_themselves(tmp_path: Path, import_this: Any) -> None:
    path = tmp_path / "perf.csv"
    rows = [
        ONE, ONE, FOUR.replace("100", "nan", 1), FOUR.replace("4,", "-4,", 1), FOUR.replace("65000", "1"), "1,2",
    ]  # fmt: skip
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    result, reported = import_this(path, **GIVEN)
    assert result.exit_code == 1
    assert "perf.csv:3: measures the same load a second time" in reported
    assert "perf.csv:4: Inferences/Second is 'nan', not a finite number" in reported
    assert "perf.csv:5: Concurrency is -4: it cannot be negative" in reported
    assert "perf.csv:6: p99 latency is below the percentile before it" in reported
    assert "perf.csv:7: the line has another number of fields" in reported
    with open_runs([result.folder]) as database:
        assert len(database.query("FROM comparison")) == 1


def test_what_the_file_does_not_say_must_be_said(tmp_path: Path, import_this: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_text(f"{HEADER}\n{ONE}\n")
    with pytest.raises(UserError, match="give --batch-size"):
        import_this(path)
    with pytest.raises(UserError, match="give --framework"):
        import_this(path, batch_size=1)


@pytest.mark.parametrize("ordinal", [0, 1])
def test_a_gpu_that_the_file_does_not_have_is_refused_whatever_columns_it_has(
    tmp_path: Path, import_this: Any, ordinal: int
) -> None:
    path = tmp_path / "perf.csv"
    path.write_text(f"{HEADER},Avg GPU Utilization\n{ONE},GPU-a:0.3;GPU-b:0.5;\n")
    assert import_this(path, gpu_ordinal=ordinal, **GIVEN)[0].exit_code == 0
    with pytest.raises(UserError, match="nothing in"):
        import_this(path, gpu_ordinal=2, **GIVEN)
