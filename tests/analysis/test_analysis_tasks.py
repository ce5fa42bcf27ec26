"""The command lines of the tasks that decide: bare words where they belong, bad values as one line with exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from invoke.collection import Collection

import tasks
from common.host.cli.program import with_named_words

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
