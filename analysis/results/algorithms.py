"""By which algorithm a cell computed, and cells of several runs that computed by different ones."""

from __future__ import annotations

from collections.abc import Sequence

from analysis import style
from analysis.database.connection import Database, Row
from analysis.results.selection import DIMENSIONS
from analysis.results.several_runs import OF_RUN, PLACE
from common.text import shortened
from common.typed_json import parse_object

#: settings that name the algorithm that a row computes by, as its trial chose it: of two scenarios only rows are paired that have
#: the same ones, else their ratio is one of engines or convolutions
ALGORITHM = ("chosen", "compile", "convolutions", "convolutions_in_order", "engine_file", "model", "profile")
#: names a file after the others: it is told of only where no other differs
_FILE = "engine_file"
_MOST_CHARACTERS = 40


def differing(database: Database, members: Sequence[Row]) -> list[str]:
    """Of a table's rows that name their run, in a sentence for each cell: settings of ALGORITHM that its runs have otherwise.

    `tensorrt fp16 at batch 32, settings differ: profile b32 (run A), b1-32@32 (run B).` members: of tables.groups.
    """
    several: dict[tuple[object, ...], list[Row]] = {}
    for row in members:
        if row.get(OF_RUN) and row["status"] == "ok":
            several.setdefault(tuple(row[name] for name in DIMENSIONS if name not in PLACE), []).append(row)
    groups = [rows for rows in several.values() if len(rows) > 1]
    if not groups:
        return []
    settings = {
        (row["run"], row["cell_key"]): parse_object(row["settings"] or "") or {}
        for row in database.query("SELECT run, cell_key, settings FROM cells")
    }
    sentences = []
    for rows in groups:
        known = [settings.get((row["run"], row["cell_keys"][0]), {}) for row in rows]
        names = [name for name in ALGORITHM if len({str(one.get(name)) for one in known}) > 1]
        words = [
            f"{name.replace('_', ' ')} "
            + ", ".join(
                f"{shortened(str(one.get(name, 'not said')), _MOST_CHARACTERS)} ({row[OF_RUN]})"
                for row, one in zip(rows, known, strict=True)
            )
            for name in names
            if name != _FILE or names == [_FILE]
        ]
        if words:
            what = f"{rows[0]['variant']} {style.kind(rows[0])} at batch {rows[0]['batch_size']}"
            sentences.append(f"{what}, settings differ: {'; '.join(words)}.")
    return sentences
