"""Cells of runs as a plan asks for them: by their columns, as the views have these, and not by the keys that they once got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from analysis.database.connection import Row
from analysis.database.open_runs import open_runs
from common.cell import Cell
from common.errors import UserError
from common.host.plan.missing import There
from common.host.plan.model_terms import ModelTerms, common_terms
from common.host.runs.run import Run, read_run

_COLUMNS = tuple(field.name for field in fields(Cell))


def of_runs(runs: Sequence[Path], cache: Path | None = None) -> There:
    """Keys of the cells of these runs; of rows from before there were levels the key that a cell of their level has now.

    A folder whose files tell nothing counts by its name. A cell that one run has wrong and another has right is not wrong.
    """
    with open_runs(runs, cache) as database:
        rows = database.query(f"SELECT run, cell_key, known_wrong, {', '.join(_COLUMNS)} FROM cells")
        found = {(row["run"], row["cell_key"]): _key(row) for row in rows}
        wrong = {(row["run"], row["cell_key"]) for row in rows if row["known_wrong"]}
        there = {(name, key) for name, folder in database.runs.items() for key in Run(folder, {}).existing_cells()}
        folders = list(database.runs.values())
    right = {found.get(place, place[1]) for place in there - wrong}
    return There(
        frozenset(found.get(place, place[1]) for place in there),
        frozenset(map(found.__getitem__, wrong)) - right,
        common_terms([_model(folder) for folder in folders]),
    )


def _model(folder: Path) -> tuple[str, ModelTerms | None]:
    """Name of the run's model, "" for a run that does not say it, and its terms."""
    try:
        model = read_run(folder).description.get("model")
    except UserError:
        return "", None
    return str(model.get("name")) if isinstance(model, dict) else "", ModelTerms.of_description(model)


def _key(row: Row) -> str:
    known = {name: row[name] for name in _COLUMNS if row[name] is not None}
    # as the key has it: of two files of one name views tell the model apart by a longer one
    known["model"] = row["cell_key"].rsplit("_", 8)[0]
    try:
        return Cell.from_dict(known).key
    except (TypeError, ValueError):
        return str(row["cell_key"])
