"""The `invoke` command that measures a row of a table again, on the reader's own machine."""

from __future__ import annotations

from typing import Any

from analysis.results.tables import Key, Table
from analysis.results.versions import LOCKED
from common.text import shell_line

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
    if "model" in known and not all(key.startswith(f"{known['model']}_") for key in keys):
        return ""
    words = ["invoke", "bench"]
    for name, (option, usual) in _OPTIONS.items():
        value = known.get(name)
        if value is not None and value != usual:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    words += ["--batch-sizes", ",".join(str(size) for size in measured)] if measured else []
    words += ["--device", "cpu"] if any(key.split("_")[-2:-1] == ["cpu"] for key in keys) else []
    return shell_line(words)


def _column(table: Table, size: Any) -> Any:
    return size if table.column_name == "batch_size" else next(iter(table.columns), None)
