"""`invoke recipe`: the program of a cell that was measured, with what was measured of it in its head.

The program itself is common/host/recipes; here a cell is found by its key, or as the best under limits (`recommend`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import style
from analysis.comparisons.candidates import candidate, choose_device, device_of, group_rows, heading, left_out
from analysis.comparisons.decision import decide
from analysis.comparisons.question import Question
from analysis.database.connection import Database, Row
from analysis.database.open_runs import open_runs
from analysis.results import tables
from analysis.results.metrics import shown
from analysis.results.selection import parse_where
from common.errors import UserError
from common.host.frameworks.registry import Image, all_variants, load_images
from common.host.paths import IMAGES
from common.host.recipes.program import SIGN, RecipeRequest, file_name, write
from common.host.runs.run import read_run
from common.model_files import ModelFiles, is_within

#: near names that an error lists
_MOST_NAMES = 3


@dataclass(frozen=True)
class Recipe:
    """key: of the cell. run: in which it was measured. text: the program. row: of the view `results`."""

    key: str
    run: str
    text: str
    row: Row

    @property
    def sentence(self) -> str:
        """What the program is, and what to expect of it."""
        row = self.row
        name = f"{style.look(row['variant']).title} {style.kind(row)} at batch {row['batch_size']}"
        rate = f": {shown(row['images_per_s'])} {row['item']}s/s" if row["images_per_s"] else ""
        return f"{name} as a program of its own, as measured in run {self.run} on {row['device_name'] or row['device']}{rate}."


def of_cell(key: str, runs: Sequence[Path], models: Path, cache: Path | None = None) -> Recipe:
    """The recipe of a cell by its key, with or without the replicate at its end; of several runs that have it, the newest.

    models: the folder in which exported models lie. Raises UserError for an unknown cell, one without settings, one that was
    not measured to its end, and one that has no recipe.
    """
    with open_runs(runs, cache) as database:
        return _made(database, _found(database, key), models)


def best(
    question: Question,
    runs: Sequence[Path],
    models: Path,
    where: str | Sequence[str] | None = None,
    cache: Path | None = None,
) -> Recipe:
    """The recipe of the cell that `invoke recommend` would name, of those that run one inference after the other.

    Raises UserError where none meets the limits, or where cells of several models or ways of io would compete.
    """
    question.checked()
    with open_runs(runs, cache) as database:
        rows = tables.load(database, parse_where(where, database))
        device = choose_device(rows, question.gpu)
        own = [row for row in rows if row["status"] == "ok" and row["scenario"] == "single-stream"]
        groups = {key: members for key, members in group_rows(own).items() if key[0] == device}
        if not groups:
            reason = " ".join(["", *left_out([row for row in own if device_of(row) == device])])
            raise UserError(
                f"no cell on {device} is ok and of the scenario single-stream: there is no best one.{reason}"
            )
        if len(groups) > 1:
            names = "; ".join(heading(key) for key in groups)
            raise UserError(f"which of these? say it with --where, such as io=host or model=NAME: {names}")
        (members,) = groups.values()
        objective, limits = question.quantity(members), question.limits(members)
        decision = decide([candidate(row, question, {}) for row in members], objective, limits)
        if decision.winner is None:
            near = f"; the nearest is {decision.nearest.name}" if decision.nearest else ""
            raise UserError(f"no cell meets the limits{near}; invoke recommend says by how much")
        row = decision.winner.row
        return _made(database, _row(database, str(row["run"]), str(row["cell_keys"][0])), models)


def store(recipe: Recipe, path: Path | None = None) -> Path:
    """Writes the program; by default under the cell's key in the current folder. Returns the path.

    Raises UserError where that cannot be, or where a file that is no recipe would be lost.
    """
    path = path or Path(file_name(recipe.key))
    try:
        if path.exists() and SIGN not in path.read_text(errors="replace"):
            raise UserError(f"{path} exists and is no recipe: give another file with --out")
        path.write_text(recipe.text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _found(database: Database, key: str) -> Row:
    known = database.query(
        "SELECT run, cell_key, status, created_utc FROM cells ORDER BY created_utc DESC NULLS LAST, run, cell_key"
    )
    own = [one for one in known if one["cell_key"] == key or re.sub(r"_r\d+$", "", one["cell_key"]) == key]
    if not own:
        near = difflib.get_close_matches(key, list(dict.fromkeys(one["cell_key"] for one in known)), _MOST_NAMES, 0.5)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UserError(
            f"there is no cell {key} in {_count(database)}; tables and the report name cells by their keys, and so does "
            f'invoke sql "SELECT cell_key FROM cells".{meant}'
        )
    chosen = next((one for one in own if one["status"] == "ok"), own[0])
    return _row(database, chosen["run"], chosen["cell_key"])


def _count(database: Database) -> str:
    return f"{len(database.runs)} run{'' if len(database.runs) == 1 else 's'}"


def _row(database: Database, run: str, key: str) -> Row:
    return database.query("SELECT * FROM results WHERE run = $1 AND cell_key = $2", [run, key])[0]


def _made(database: Database, row: Row, models: Path) -> Recipe:
    key, run = str(row["cell_key"]), str(row["run"])
    if row["status"] != "ok":
        raise UserError(f"{key} was not measured to its end ({row['status']}): there is nothing to repeat")
    settings = _texts(row["settings"])
    if not settings:
        raise UserError(
            f"run {run} has no settings of {key}, as imported ones have none: measure it with invoke bench first"
        )
    if row["scenario"] != "single-stream":
        raise UserError(f"{key} is of the scenario {row['scenario']}: a recipe runs one inference after the other")
    about = read_run(database.runs[run]).description
    request = RecipeRequest(
        key=key, variant=row["variant"], tuning=row["tuning"], precision=row["precision"], batch_size=row["batch_size"],
        io=row["io"], gpu=row["device"] != "cpu", settings=settings, model=_model(about, models), input=row["input"],
        threads=_threads(about, settings), versions=_texts(row["versions"]), measured=_measured(database, row),
        items_per_sample=row["items_per_sample"], item=row["item"],
    )  # fmt: skip
    try:
        return Recipe(key, run, write(request, _image(row["variant"])), row)
    except FileNotFoundError as error:
        raise UserError(f"there is no recipe for {key}: {error}") from error


def _image(variant: str) -> Image:
    images = load_images(IMAGES)
    known = all_variants(images)
    if variant not in known:
        raise UserError(f"there is no recipe for {variant}: no folder of images/ has that variant")
    return next(image for image in images if image.name == known[variant].image)


def _texts(cell: Any) -> dict[str, str]:
    """A column of JSON, name -> text; empty where it is none."""
    try:
        values = json.loads(cell or "{}")
    except (ValueError, RecursionError):
        return {}
    return {str(name): str(value) for name, value in values.items()} if isinstance(values, dict) else {}


def _model(about: Mapping[str, Any], models: Path) -> ModelFiles:
    values = about.get("model")
    try:
        if not isinstance(values, dict):
            raise ValueError("there is no description")
        folder = str(values.get("folder") or f"{values['name']}-{values['hash']}")
        if not is_within(folder):
            raise ValueError(f"{folder!r} is no folder's name")
        return ModelFiles.of(models / folder, values)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the run does not describe its model so that a recipe could load it: {error}") from error


def _threads(about: Mapping[str, Any], settings: Mapping[str, str]) -> int | None:
    """What the run was given, or what the adapter took."""
    given = about.get("threads")
    if isinstance(given, int):
        return given
    threads_given = settings.get("intra_op_threads", "")
    return int(threads_given) if threads_given.isdigit() else None


def _measured(database: Database, row: Row) -> list[str]:
    """What came out, where, and what the levels of tuning are worth there."""
    item = row["item"]
    rate = f"{row['images_per_s']:,.1f} {item}s/s" if row["images_per_s"] else "no rate"
    latency = f", median latency {row['median_ms']:.4f} ms" if row["median_ms"] else ""
    when = str(row["created_utc"] or "")[:10]
    lines = [
        f"Measured by framewatt: {rate}{latency}, on {row['device_name']}, run {row['run']}{f' of {when}' if when else ''}."
    ]
    spread = database.query(f"SELECT * FROM worker_spread WHERE {_SAME}", _same(row))
    for one in spread:
        if one["tuning"] == row["tuning"]:
            ends = f"{one['images_per_s_low']:,.1f} to {one['images_per_s_high']:,.1f}"
            lines.append(
                f"Mean of {one['workers']} workers {one['images_per_s']:,.1f} {item}s/s, 95 % interval {ends}."
            )
    if row["tuning"] != "stock":
        for one in database.query(f"SELECT * FROM worth WHERE {_SAME}", _same(row)):
            ends = f"{one['worth_low']:.3f} to {one['worth_high']:.3f}"
            lines.append(f"Worth of tuning there: tuned is {one['worth']:.3f} times stock, 95 % interval {ends}.")
    return lines


_COLUMNS = ("run", "model", "device", "variant", "precision", "batch_size", "io", "scenario", "input", "frontend")
_SAME = " AND ".join(f"{name} IS NOT DISTINCT FROM ${number}" for number, name in enumerate(_COLUMNS, 1))


def _same(row: Row) -> list[Any]:
    return [row[name] for name in _COLUMNS]
