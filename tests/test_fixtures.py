"""Every fixture says what it takes and what it gives, so that a reader of a test need not look for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent


def _is_fixture(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called) in ("pytest.fixture", "fixture")


def _fixtures(text: str) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and any(map(_is_fixture, node.decorator_list)):
            yield node


def _untyped(fixture: ast.FunctionDef) -> bool:
    takes = [*fixture.args.args, *fixture.args.kwonlyargs]
    return fixture.returns is None or any(one.annotation is None for one in takes if one.arg != "self")


def test_fixtures_have_types() -> None:
    found = [(file, one) for file in HERE.rglob("*.py") for one in _fixtures(file.read_text())]
    assert len(found) > 100
    assert [f"{file.relative_to(HERE)}:{one.lineno} {one.name}" for file, one in found if _untyped(one)] == []


def test_a_fixture_without_types_would_be_noticed() -> None:
    text = "@pytest.fixture(scope='module')\ndef one(a: int, b) -> int: ...\n@pytest.fixture\ndef two(a: int): ...\n"
    assert [_untyped(one) for one in _fixtures(text)] == [True, True]
