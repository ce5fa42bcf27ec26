"""Writes analysis/sql/README.md from the schema and from the comment above each view: `python -m analysis.database.sql_readme`."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from analysis.database.connection import SQL
from analysis.database.open_runs import open_runs
from common import schema

README = SQL / "README.md"

#: What one opens with `invoke sql`, in the order of the page; everything else is scaffolding.
SHOWN = (
    "comparison", "results", "cells", "latency", "queueing", "throughput", "phases", "energy", "conditions", "worker_spread",
    "worth", "level_steps", "marks", "mark_meaning",
    "measured", "samples", "device_times", "power", "attempts",
    "explained", "time_by_class", "time_by_kernel", "host_calls", "kernels",
)  # fmt: skip

_INTRODUCTION = """\
# Views

Generated from `common/schema.py` and the comments in this folder by `python -m analysis.database.sql_readme`; a test fails on drift.

`invoke sql "SELECT variant, batch_size, images_per_s FROM comparison"` opens the views below over all runs.
`run` and `cell_key` join any two of them. NULL means unknown, never zero. Units are in the names:
`_ns`, `_ms`, `_s`, `_mw`, `_w`, `_mj`, `_j`, `_mhz`, `_c`, `_bytes`; `energy_delay_js` is joules times seconds, for one image.
"""


def _comments() -> dict[str, str]:
    """View or table -> the comment directly above it, when it begins with `name: `."""
    found: dict[str, str] = {}
    for path in sorted(SQL.glob("*.sql")):
        for match in re.finditer(
            r"((?:^-- .*\n)+)CREATE (?:OR REPLACE )?(?:VIEW|TABLE) (?:\w+\.)?(\w+) (?:AS|\()", path.read_text(), re.M
        ):
            text = " ".join(line.removeprefix("-- ") for line in match[1].splitlines())
            if text.startswith(f"{match[2]}: "):
                found[match[2]] = text.removeprefix(f"{match[2]}: ")
    return found


def _with_an_empty_run() -> dict[str, list[tuple[str, str]]]:
    """View -> (column, type) of each of its columns, as DuckDB sees them."""
    with tempfile.TemporaryDirectory() as folder, open_runs([Path(folder)]) as database:
        return {
            view: [(row["column_name"], row["column_type"]) for row in database.query(f"DESCRIBE {view}")]
            for view in SHOWN
        }


#: Whose columns a view shows under their own names. All others have none: what `device` means in one file it does not in another.
_SHOWS = {
    "cells": "cell.csv", "results": "cell.csv", "comparison": "cell.csv", "samples": "samples.csv", "device_times": "device_times.csv",
    "power": "power.csv", "attempts": "attempts.csv",
}  # fmt: skip


#: columns that SQL derives and whose names do not say enough
_DERIVED = {
    "known_wrong": "why the figures of the window are known to be wrong; NULL: nothing is known against them",
    "below_run": "run that the lower level is of, which may be another than `run`",
}


def meaning(view: str, column: str) -> str:
    """What the schema says of a view's column, by the view's file; of one that SQL derives a sentence where its name is not enough."""
    if column in _DERIVED:
        return _DERIVED[column]
    columns = (*schema.FILES.get(_SHOWS.get(view, ""), ()), *schema.CELL[:1])  # the cell's key is one everywhere
    return next((c.meaning for c in columns if c.name == column), "")


def text() -> str:
    """The whole page."""
    comments = _comments()
    columns = _with_an_empty_run()
    lines = [_INTRODUCTION]
    for view in SHOWN:
        sentence = comments[view]
        lines += [
            f"## {view}",
            "",
            sentence[0].upper() + sentence[1:] + ".",
            "",
            "| column | type | from the files |",
            "|---|---|---|",
        ]
        for name, kind in columns[view]:
            lines.append(f"| `{name}` | {kind} | {meaning(view, name).replace('|', '/')} |")
        lines.append("")
    lines += [
        "## Columns of the files",
        "",
        "| file | column | type | unit | kind | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for file_name, file_columns in schema.FILES.items():
        lines += [
            f"| {file_name} | `{c.name}` | {c.type} | {c.unit} | {c.kind} | {c.meaning.replace('|', '/')} |"
            for c in file_columns
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    README.write_text(text())
