"""docs/errors.md names every class of errors with the file that it is in, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINE = re.compile(r"(?:├──|└──) (\w+) +((?:common|images|analysis)/\S+\.py)")


def _classes() -> set[tuple[str, str]]:
    """(name, file) of every class that is an exception, by its bases' names, however deep."""
    found: list[tuple[str, str, set[str]]] = []
    for room in ("common", "analysis", "images"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                    found.append((node.name, file.relative_to(ROOT).as_posix(), bases))
    errors = {"Exception", "BaseException", "RuntimeError", "ValueError", "TypeError", "KeyError", "OSError"}
    while more := {name for name, _, bases in found if bases & errors} - errors:
        errors |= more
    return {(name, file) for name, file, bases in found if bases & errors}


def test_every_class_of_errors_stands_on_the_page() -> None:
    on_the_page = set(LINE.findall((ROOT / "docs/errors.md").read_text()))
    assert on_the_page == _classes()
