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


def _says_nothing(annotation: ast.expr | None) -> bool:
    """None, Any, object, and an iterator or tuple of such; a mapping or call may well have values of any type."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in (
        "Iterator",
        "Iterable",
        "tuple",
        "list",
    ):
        held = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return any(map(_says_nothing, held))
    return annotation is None or ast.unparse(annotation) in ("Any", "object")


def _untyped(fixture: ast.FunctionDef) -> bool:
    takes = [*fixture.args.args, *fixture.args.kwonlyargs]
    return _says_nothing(fixture.returns) or any(_says_nothing(one.annotation) for one in takes if one.arg != "self")


def test_fixtures_have_types() -> None:
    found = [(file, one) for file in HERE.rglob("*.py") for one in _fixtures(file.read_text())]
    assert len(found) > 100
    assert [f"{file.relative_to(HERE)}:{one.lineno} {one.name}" for file, one in found if _untyped(one)] == []


def test_a_fixture_without_types_would_be_noticed() -> None:
    text = "@pytest.fixture(scope='module')\ndef one(a: int, b) -> int: ...\n@pytest.fixture\ndef two(a: int): ...\n"
    assert [_untyped(one) for one in _fixtures(text)] == [True, True]
    for signature in ("a: Any) -> int", "a: int) -> Iterator[Any]", "a: int) -> tuple[int, Any]"):
        (one,) = _fixtures(f"@pytest.fixture\ndef one({signature}: ...\n")
        assert _untyped(one), signature
    (typed,) = _fixtures("@pytest.fixture\ndef one(a: Mapping[str, Any]) -> Callable[..., Any]: ...\n")
    assert not _untyped(typed)
