"""The command lines of the tasks that decide: bare words where they belong, bad values as one line with exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from invoke.collection import Collection

import tasks
from common.host.cli.program import with_named_words
from tests.analysis.conftest import RunBuilder

REPOSITORY = Path(__file__).resolve().parents[2]
CONTEXTS = {str(context.name): context for context in Collection.from_module(tasks).to_contexts()}


@pytest.mark.parametrize(
    ("words", "understood"),
    [
        ("compare before after", "compare --run=before --run=after"),
        ("recommend --gpu A2 one --max-power-w 50 two", "recommend --gpu A2 --run=one --max-power-w 50 --run=two"),
        ("import data/a2 --gpu-ordinal 0", "import data/a2 --gpu-ordinal 0"),
    ],
)
def test_bare_words(words: str, understood: str) -> None:
    assert with_named_words(words.split(), CONTEXTS) == understood.split()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "alone"], "compare takes two runs, not 1"),
        (["import", "/nowhere/at/all"], "there is no /nowhere/at/all"),
        (["import", ".", "--gpu-ordinal", "-1"], "--gpu-ordinal must be at least 0, not -1"),
        (["recipe"], 'which cell? give its key (./invoke sql "SELECT cell_key FROM cells" lists all), or --best'),
        (["recipe", "CELL", "--gpu", "H100"], "--gpu chooses a cell with --best; a key names one already"),
        (["recipe", "CELL", "--objective", "throughput"], "--objective chooses a cell with --best"),
        (["recipe", "CELL", "--out", ""], "--out is empty: give a value, or leave it out"),
        (["recipe", "--best", "--gpu", "", "--where="], "--gpu, --where are empty: give a value, or leave it out"),
        (["recipe", "CELL", "--percentile", "50"], "--percentile chooses a cell with --best"),
        (
            ["recipe", "CELL", "--where", "io=host", "--max-latency-ms", "5"],
            "--max-latency-ms, --where choose a cell with --best",
        ),
        (
            ["recipe", "CELL", "--docs", "--out", "z.py"],
            "--docs writes the pages of the reference runs and nothing else: leave out CELL, --out",
        ),
        (
            ["recipe", "--docs", "--best", "--gpu", "0"],
            "--docs writes the pages of the reference runs and nothing else",
        ),
    ],
)
def test_one_line_and_exit_code_2(words: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "common.host.cli.program", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["compare", "one", "two"], 1),
        (["recommend", "one"], 1),
        (["history", "one"], 1),
        (["sql", "SELECT variant, status FROM cells", "one"], 1),
        (["plan", "one"], 2),
        (["recipe", "ResNet50_onnxrt_fp32_b0008_host_single-stream_script_cpu_r0", "one", "--out", "-"], 2),
        (["explain", "one"], 2),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_a_run_json_that_cannot_be_read_is_named_and_what_does_not_need_it_is_shown(
    build: Callable[..., RunBuilder], tmp_path: Path, words: list[str], code: int
) -> None:
    for name in ("one", "two"):
        build(name).cell("onnxrt", settings='{"model": "as exported"}', durations_ns=[5_000_000] * 40)
    (tmp_path / "results/one/run.json").write_text('{"run": ')
    done = subprocess.run(
        [sys.executable, "-m", "common.host.cli.program", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={**os.environ, "FRAMEWATT_DATA": str(tmp_path), "COLUMNS": "1000"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    output = done.stdout + done.stderr
    assert f"{tmp_path}/results/one/run.json" in output and "is not JSON" in output
    assert "Traceback" not in output
    if code == 2:
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
