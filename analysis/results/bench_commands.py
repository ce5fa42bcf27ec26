"""The `invoke` command that measures a row of a table again, or two cells in one run, on the reader's own machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.database.connection import Row
from analysis.results.tables import Key, Table
from analysis.results.versions import LOCKED
from common.schema import PRECISIONS
from common.text import shell_word

#: Dimension of a table -> option of `invoke bench`, and the value that is the default there.
_OPTIONS = {
    "model": ("--model", None),
    "variant": ("--framework", None),
    "version": ("--version", ""),
    "precision": ("--precision", None),
    "tuning": ("--tuning", "tuned"),
    "input": ("--input", "float32"),
    "io": ("--io", "host"),
    "scenario": ("--scenario", "single-stream"),
    "streams": ("--streams", 1),
    "target_rate_per_s": ("--rate", None),
    "frontend": ("--frontend", "script"),
}
BENCH = "invoke bench"


def bench_command(table: Table, row: Key) -> str:
    """ "" where the row does not name a framework and a precision, and where its model is shown under a longer name than its own."""
    known: dict[str, Any] = {**table.group, **dict(zip(table.row_names, row, strict=True))}
    if "variant" not in known or "precision" not in known:
        return ""
    if str(known.get("version", "")).endswith(LOCKED):
        known["version"] = "locked"
    sizes = table.columns if table.column_name == "batch_size" else [known.get("batch_size")]
    measured = [size for size in sizes if size is not None and table.entry(row, _column(table, size)).keys]
    keys = [key for column in table.columns for key in table.entry(row, column).keys]
    if "model" in known and not _own_name(known["model"], keys):
        return ""
    words = [BENCH]
    for name, (option, usual) in _OPTIONS.items():
        if (value := known.get(name)) is not None and value != usual:
            words.append(f"{option} {_word(value)}")
    words += [f"--batch-sizes {','.join(str(size) for size in measured)}"] if measured else []
    words += ["--device cpu"] if any(key.split("_")[-2:-1] == ["cpu"] for key in keys) else []
    return " ".join(words)


@dataclass(frozen=True)
class Choice:
    """An option of `invoke bench` with its value for each of some rows, as a word of a command line; None where a row needs none.
    usual: what need not be said."""

    option: str
    usual: str | None
    values: tuple[str | None, ...]


def choices(rows: Sequence[Row]) -> list[Choice]:
    """Of the rows of one group, for `in_one_run`; [] where `invoke bench` cannot measure one of them by what is known of it here, or
    versions were asked for, which go with one framework each."""
    if any(
        row.get("origin") != "framewatt"
        or row["version"]
        or row["precision"] not in PRECISIONS
        or not _own_name(row["model"], row["cell_keys"])
        for row in rows
    ):
        return []
    found = []
    for name, (option, usual) in {**_OPTIONS, "batch_size": ("--batch-sizes", None)}.items():
        values = [row[name] for row in rows]
        words = tuple(None if value is None else _word(value) for value in values)
        if any(value not in (None, usual) for value in values):
            found.append(Choice(option, None if usual is None else _word(usual), words))
    on_cpu = tuple("cpu" if row["device"] == "cpu" else None for row in rows)
    return [*found, *([Choice("--device", None, on_cpu)] if any(on_cpu) else [])]


def in_one_run(chosen: Sequence[Choice], one: int, other: int, workers: int) -> str:
    """The command that measures two of the rows that `chosen` is of (their places there) on one device in one run; "" where none
    does. It measures what lies between them too, such as either precision of both frameworks."""
    if not chosen:
        return ""
    words = [BENCH]
    for choice in chosen:
        values = list(dict.fromkeys(value for place in (one, other) if (value := choice.values[place]) is not None))
        if values and values != [choice.usual]:
            words.append(f"{choice.option} {','.join(values)}")
    return " ".join([*words, f"--replicates {workers}"])


def _word(value: Any) -> str:
    return shell_word(f"{value:g}" if isinstance(value, float) else str(value))


def _own_name(model: str, keys: Sequence[str]) -> bool:
    return all(key.startswith(f"{model}_") for key in keys)


def _column(table: Table, size: Any) -> Any:
    return size if table.column_name == "batch_size" else next(iter(table.columns), None)
