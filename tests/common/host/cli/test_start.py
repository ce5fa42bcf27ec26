"""What a task imports before it does anything: numpy and Docker's client take longer than all else of --help."""

from __future__ import annotations

import subprocess
import sys

import pytest

from common.host.paths import ROOT

#: what only measuring, containers and analysis need
HEAVY = ("numpy", "docker", "requests", "duckdb", "matplotlib", "jinja2", "ray")

#: the command line of `invoke`; prints which of HEAVY it has imported to standard error, whatever its exit code
SCRIPT = f"""
import atexit, sys
sys.path.insert(0, sys.argv.pop(1))
from common.host.cli import program
atexit.register(lambda: print("imported:", *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))
program.main()
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["bench", "--help"], 0),
        (["bench", "--no-such-option"], 2),
        (["bench"], 2),
        (["bench", "--framework", "onnxrt", "--device", "cpu", "--dry-run"], 0),
        (["bench", "--plan", "demo", "--dry-run"], 0),
        (["bench", "--plan", "reference", "--dry-run"], 0),
        (["bench", "--framework", "onnxrt", "--device", "cpu", "--model", "no-such-model", "--dry-run"], 2),
        (["bench", "--framework", "onnxrt", "--device", "cpu", "--input", "uint8", "--dry-run"], 0),
        (["frameworks"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_measures_nothing_imports_nothing_heavy(words: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(ROOT), *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-1] == "imported:"


@pytest.mark.parametrize("option", ["--model", "--plan", "--inputs", "--framework", "--precision"])
def test_a_name_that_no_file_can_have_is_one_short_line(option: str) -> None:
    given = [option, "x" * 3000, *(["--model", "m.onnx"] if option == "--inputs" else [])]
    words = [
        "bench",
        *(["--framework", "onnxrt"] if option != "--framework" else []),
        "--device",
        "cpu",
        "--dry-run",
        *given,
    ]
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(ROOT), *words], capture_output=True, text=True, timeout=60, check=False
    )
    line, _ = done.stderr.splitlines()
    assert (done.returncode, line.startswith("error: "), len(line) < 300) == (2, True, True), done.stderr
