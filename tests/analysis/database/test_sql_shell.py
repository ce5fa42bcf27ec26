from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.database.sql_shell import sql_shell
from common import schema
from common.errors import UserError
from tests.analysis.conftest import Build, RunBuilder

MS = 10**6


@pytest.fixture
def run(build: Build) -> RunBuilder:
    run = build()
    for variant in ("onnxrt", "torch"):
        run.cell(variant, 8, durations_ns=[10 * MS + i * 1000 for i in range(30)])
    return run


def ask(run: Any, query: str, cache: Path | None = None) -> tuple[int, list[list[str]]]:
    text = io.StringIO()
    code = sql_shell([run.folder], query, Console(file=text, width=200), cache)
    return code, [line.split() for line in text.getvalue().splitlines()]


def device_times(run: Any, variant: str, text: str | None = None) -> Path:
    (folder,) = run.folder.glob(f"cells/*_{variant}_*")
    rows = [{"i": i, "start_ns": i * MS, "end_ns": (i + 1) * MS, "device_ns": 900_000 + i} for i in range(4)]
    path: Path = folder / "device_times.csv"
    path.write_text(schema.to_csv("device_times.csv", rows) if text is None else text)
    return path


def attempts(run: Any) -> Path:
    rows: list[dict[str, Any]] = []
    for number, key in enumerate(("a", "b")):
        rows.append({"t_ns": number, "utc": "2026-01-01T00:00:00Z", "event": "start", "cell_key": key, "worker": "w"})
    rows.append({**rows[0], "t_ns": 9, "event": "finish", "status": "crashed", "message": 'said "no", then died'})
    path: Path = run.folder / "attempts.csv"
    path.write_text(schema.to_csv("attempts.csv", rows))
    return path


@pytest.mark.parametrize("cached", [False, True])
def test_a_question(run: Any, tmp_path: Path, cached: bool) -> None:
    cache = tmp_path / "cache" if cached else None
    for _ in range(2):
        code, lines = ask(run, "SELECT variant, n FROM results WHERE batch_size = 8 ORDER BY 1", cache)
        assert (code, lines) == (0, [["variant", "n"], ["onnxrt", "30"], ["torch", "30"]])


def test_what_duckdb_refuses(run: Any) -> None:
    with pytest.raises(UserError, match="Catalog Error"):
        ask(run, "FROM nothing_of_that_name")


def test_device_times(run: Any) -> None:
    device_times(run, "torch")
    query = (
        "SELECT run, variant, count(*), sum(device_ns) FROM device_times JOIN cells USING (run, cell_key) GROUP BY ALL"
    )
    assert ask(run, query) == (
        0,
        [["run", "variant", "count_star()", "sum(device_ns)"], ["run", "torch", "4", "3600006"]],
    )
    assert ask(run, "SELECT duration_ns FROM Device_Times LIMIT 1")[1][1] == ["1000000"]


def test_damaged_device_times_cost_their_lines_and_only_who_asks(run: Any) -> None:
    valid = device_times(run, "onnxrt")
    path = device_times(run, "torch", valid.read_text().replace("900001", "900001.5"))
    query = "SELECT variant, count(*) AS n FROM device_times JOIN cells USING (run, cell_key) GROUP BY ALL ORDER BY ALL"
    code, lines = ask(run, query)
    assert code == 1
    assert lines[:3] == [["variant", "n"], ["onnxrt", "4"], ["torch", "3"]]
    assert f"{path}:3:" in " ".join(lines[3])
    assert ask(run, "SELECT count(*) FROM cells")[0] == 0


def test_attempts(run: Any) -> None:
    attempts(run)
    query = "SELECT cell_key, list(event ORDER BY t_ns) AS events, max(message) AS message FROM attempts GROUP BY 1 ORDER BY 1"
    code, lines = ask(run, query)
    assert code == 0
    assert lines[1:] == [["a", "['start',", "'finish']", "said", '"no",', "then", "died"], ["b", "['start']"]]


def test_a_torn_line_of_the_journal_is_reported(run: Any) -> None:
    path = attempts(run)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2][:9] + "\n", *lines[3:]]))
    code, reported = ask(run, "SELECT run, count(*) AS n FROM attempts GROUP BY 1")
    assert code == 1
    assert reported[1] == ["run", "2"]
    assert f"{path}:3:" in " ".join(reported[2])


def test_files_of_two_runs_of_one_name(run: Any, build: Build, tmp_path: Path) -> None:
    other = build("run")
    other.folder = tmp_path / "elsewhere" / "run"
    other.run_json()
    other.cell("torch", 8, durations_ns=[MS] * 20)
    for one in (run, other):
        device_times(one, "torch")
        attempts(one)
        one.power([{"t_ns": 1, "domain": "package-0", "energy_mj": 5}])
    for view in ("samples", "device_times", "attempts", "power"):
        text = io.StringIO()
        query = f"SELECT DISTINCT run FROM {view} ORDER BY 1"
        assert sql_shell([run.folder, other.folder], query, Console(file=text, width=200)) == 0
        assert [line.strip() for line in text.getvalue().splitlines()] == ["run", "elsewhere/run", "results/run"], view


def test_samples_of_a_repaired_file_belong_to_its_cell(run: Any) -> None:
    (path,) = run.folder.glob("cells/*_torch_*/samples.csv")
    path.write_bytes(path.read_bytes()[:-5])
    query = "SELECT run, variant, count(*) AS n FROM samples JOIN cells USING (run, cell_key) GROUP BY ALL ORDER BY ALL"
    code, lines = ask(run, query)
    assert code == 1
    assert lines[1:3] == [["run", "onnxrt", "30"], ["run", "torch", "29"]]


def test_no_file_of_a_kind_is_no_row(run: Any) -> None:
    for view in ("device_times", "attempts", "power"):
        assert ask(run, f"SELECT count(*) AS n FROM {view}") == (0, [["n"], ["0"]])


def test_every_statement_is_answered(run: Any) -> None:
    _, lines = ask(run, "SELECT 1 AS a; SELECT 2 AS b;")
    assert [line for line in lines if line] == [["a"], ["1"], ["b"], ["2"]]


@pytest.mark.parametrize("query", ["", "  ", ";", "-- nothing"])
def test_an_empty_query(run: Any, query: str) -> None:
    with pytest.raises(UserError, match=r'the query is empty; such as invoke sql "SELECT'):
        ask(run, query)


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("SELECT varient FROM comparison", "Did you mean variant (in "),
        ("SELECT c.image_per_s FROM comparison AS c", "Did you mean images_per_s (in "),
        ("FROM comparisons", "Did you mean comparison"),
        ("FROM sampels", "Did you mean samples or "),
        ("FROM powr", "Did you mean power or "),
        ("FROM worker_spred", "Did you mean worker_spread or "),
        ("SELECT imags_per_s_spread FROM worker_spread", "Did you mean images_per_s_spread (in worker_spread)"),
    ],
)
def test_what_was_meant(run: Any, query: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        ask(run, query)
    assert hint in str(caught.value) and "\n" not in str(caught.value)


def test_a_word_in_brackets_is_no_markup(run: Any) -> None:
    _, lines = ask(run, "SELECT '[bold]x[/bold]' AS \"[red]y\"")
    assert lines == [["[red]y"], ["[bold]x[/bold]"]]
