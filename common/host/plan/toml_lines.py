"""On which line of a TOML file a key stands: `tomllib` tells it of a syntax error alone."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

#: keys from the outermost in; a table of an array, `[[sweep]]`, adds its number from 0
KeyPath = tuple[str | int, ...]


def statements(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of its first line, what it says alone) of each statement of a valid document, tables' headings included.

    A statement is the shortest run of lines that TOML takes: a value over several lines is none before its last.
    """
    waiting: list[str] = []
    begin = 0
    for number, line in enumerate(text.split("\n"), 1):
        begin = begin if waiting else number
        waiting.append(line)
        try:
            parsed = tomllib.loads("\n".join(waiting) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        if parsed:
            yield begin, parsed
        waiting = []


def lines_of(text: str) -> dict[KeyPath, int]:
    """Where every key and every table of a valid document begins, by its path."""
    found: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, parsed in statements(text):
        (names, value) = _innermost(parsed)
        if text.split("\n")[number - 1].lstrip().startswith("["):
            table = _within(names, counts)
            if isinstance(value, list):
                counts[names] = counts.get(names, -1) + 1
                table = _within(names, counts)
            found.setdefault(table, number)
        else:
            found.setdefault(table + names, number)
            found.update(
                {table + names[:depth]: number for depth in range(1, len(names)) if table + names[:depth] not in found}
            )
            if isinstance(value, Mapping):  # an inline table
                found.update({(*table, *names, key): number for key in value})
    return found


def _innermost(parsed: Mapping[str, Any]) -> tuple[KeyPath, Any]:
    """The one path that a statement names, and its value: tables of tables down to the first that is something else."""
    names: KeyPath = ()
    value: Any = parsed
    while isinstance(value, Mapping) and len(value) == 1:
        ((name, value),) = value.items()
        names = (*names, name)
    return names, value


def _within(names: KeyPath, counts: Mapping[KeyPath, int]) -> KeyPath:
    """The names with the number of the table of an array that each prefix means: the newest."""
    path: KeyPath = ()
    for depth, name in enumerate(names, 1):
        path = (*path, name)
        if names[:depth] in counts:
            path = (*path, counts[names[:depth]])
    return path
