"""What another program printed is an object, or none: never an exception."""

from __future__ import annotations

import pytest

from common.typed_json import last_object, parse_object


@pytest.mark.parametrize(
    "line", ["", "\n", "warning: a library prints", "[1, 2]", '"text"', "null", '{"a": 1', "[" * 100_000, b"\xff\xfe"]
)
def test_what_is_no_object_is_none(line: str | bytes) -> None:
    assert parse_object(line) == {}
    assert last_object(line) == {}


@pytest.mark.parametrize("printed", ['{"a": 1}', 'a library prints\n{"b": 2}\n{"a": 1}\n', b'\n\n{"a": 1}\n\n'])
def test_the_object_of_the_last_line(printed: str | bytes) -> None:
    assert last_object(printed) == {"a": 1}


def test_an_object_before_the_last_line_is_not_what_the_program_ended_with() -> None:
    assert last_object('{"a": 1}\nit went on\n') == {}
