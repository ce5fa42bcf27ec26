"""A function fits on a screen or two; what does not is a step short of a name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

MOST_LINES = 60
#: function -> why it is longer
EXCEPTIONS = {
    "common/harness/scenarios/server.py serve": "one timed loop over six counters; a call more in it would be timed too",
}


def _long_ones() -> Iterator[str]:
    files = [
        ROOT / "tasks.py",
        *(file for room in ("common", "analysis", "images", "tests") for file in (ROOT / room).rglob("*.py")),
    ]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= MOST_LINES:
                    yield f"{file.relative_to(ROOT)} {node.name}"


def test_no_function_is_longer_than_a_screen_or_two_but_those_with_a_reason() -> None:
    assert [name for name in _long_ones() if name not in EXCEPTIONS] == []
    assert set(EXCEPTIONS) <= set(_long_ones()), "no exception any more"
