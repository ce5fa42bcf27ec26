"""`invoke recipe`: the program of a cell that was measured, with what was measured of it in its head.

The program itself is common/host/recipes; here a cell is found by its key, or as the best under limits (`recommend`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import style
from analysis.comparisons.candidates import (
    APART,
    Group,
    candidate,
    choose_device,
    device_of,
    group_rows,
    heading,
    left_out,
)
from analysis.comparisons.decision import decide
from analysis.comparisons.question import Question
from analysis.database.connection import Database, Row
from analysis.database.open_runs import open_runs
from analysis.results import tables
from analysis.results.level_steps import AS_TUNED
from analysis.results.metrics import is_wrong, shown
from analysis.results.several_runs import newest, standing
from common.errors import UserError
from common.host.frameworks.registry import Image, all_variants, load_images
from common.host.paths import IMAGES
from common.host.recipes.program import SIGN, RecipeRequest, file_name, write
from common.host.runs.run import read_run
from common.model_files import ModelFiles, is_within
from common.schema import FRONTENDS, INPUTS, PRECISIONS, TUNINGS
from common.text import shell_line, shortened

#: near names that an error lists
_MOST_NAMES = 3
_REPLICATE = re.compile(r"_r\d+$")
#: columns that a recipe goes by -> the words that may stand there; `io` and `status` are checked where a row is read
_WORDS = {"tuning": TUNINGS, "precision": PRECISIONS, "input": INPUTS, "frontend": FRONTENDS}
#: how the file of a recipe begins
_HEAD = re.compile(rf'"""[^\n]* on (a GPU|the CPU)\.\n\n{SIGN}, ')
_HEAD_CHARACTERS = 8192


@dataclass(frozen=True)
class Recipe:
    """key: of the cell. run: in which it was measured. text: the program. row: of the view `results`, of one worker.

    workers: that measured the cell in that run. mean: of their throughputs, None where there is one worker.
    model: the folder of the model that it loads by default.
    """

    key: str
    run: str
    text: str
    row: Row
    workers: int = 1
    mean: float | None = None
    model: Path | None = None

    @property
    def lack(self) -> str:
        """In one line, that the model is not where the program looks for it; "" where it is."""
        if self.model is None or self.model.is_dir():
            return ""
        return f"there is no {self.model}: export the model again, or give the program the path of its file"

    @property
    def sentence(self) -> str:
        """What the program is, and what to expect of it."""
        row = self.row
        name = f"{style.look(row['variant']).title} {style.kind(row)} at batch {row['batch_size']}"
        rate = f": {shown(row['images_per_s'])} {row['item']}s/s" if row["images_per_s"] else ""
        if rate and self.mean is not None:
            rate += f", by one worker of {self.workers}; the cell's mean is {shown(self.mean)}"
        return f"{name} as a program of its own, as measured in run {self.run} on {row['device_name'] or row['device']}{rate}."


def of_cell(
    key: str, runs: Sequence[Path], models: Path, cache: Path | None = None, words: Sequence[str] = (), file: str = ""
) -> Recipe:
    """The recipe of a cell by its key, with or without the replicate at its end; of several runs that have
    it, the one whose figure counts (several_runs.standing).

    models: the folder in which exported models lie. words: that name the runs on a command line. file: name of the file that it
    will be, by default the key's. Raises UserError for an unknown cell, one whose row is damaged, one without settings, one that was
    not measured to its end, and one that has no recipe.
    """
    with open_runs(runs, cache) as database:
        return _made(database, _found(database, key, words), models, file)


def of_the_fastest(
    database: Database,
    rows: Sequence[Row],
    task: str,
    words: Sequence[str] = (),
    named: Callable[[Path], str] = str,
) -> str | None:
    """The command line that writes the recipe of the fastest of these rows of `comparison`; None where that has no recipe.

    task: as it is called. words: that name the runs. named: how the user names a run's folder. Of cells that run one
    inference after the other, without those whose figures are known to be wrong.
    """
    # a cell that several runs measured is as fast as the figure of it that counts
    counting = [row for row in newest(rows) if row["status"] == "ok" and not row.get(AS_TUNED)]
    own = [row for row in counting if row["scenario"] == "single-stream" and row["images_per_s"]]
    best = max((row for row in own if not is_wrong(row)), key=lambda row: row["images_per_s"], default=None)
    if best is None:
        return None
    run, key = str(best["run"]), str(best["cell_keys"][0])
    try:
        write(_request(database, _row(database, run, key), Path(), ()), _image(best["variant"]))
    except Exception:  # whatever a stranger's row holds: an offer ends no analysis
        return None
    short = _REPLICATE.sub("", key)
    if list(words) == ["all"]:  # what a CELL is looked for in without any
        words = []
    if _found(database, short)["run"] != run:  # of that cell another run's figure counts
        words = [named(database.runs[run])]
    return f"{task} {shell_line([short, *words])}"


def best(
    question: Question,
    runs: Sequence[Path],
    models: Path,
    where: str | Sequence[str] | None = None,
    cache: Path | None = None,
    file: str = "",
) -> Recipe:
    """The recipe of the cell that `invoke recommend` would name, of those that run one inference after the other. file: as of_cell.

    Raises UserError where none meets the limits, or where cells of several models or ways of io would compete.
    """
    question.checked()
    with open_runs(runs, cache) as database:
        rows = tables.selected(database, where)
        if not rows:
            raise UserError(f"nothing was measured in {_count(database)}: there is no best cell; invoke bench measures")
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
            raise UserError(f"which of these? say it with --where, such as {_telling(list(groups))}: {names}")
        (members,) = groups.values()
        objective, limits = question.quantity(members), question.limits(members)
        decision = decide([candidate(row, question, {}) for row in members], objective, limits)
        if decision.winner is None:
            near = f"; the nearest is {decision.nearest.name}" if decision.nearest else ""
            raise UserError(f"no cell meets the limits{near}; invoke recommend says by how much")
        row = decision.winner.row
        return _made(database, _row(database, str(row["run"]), str(row["cell_keys"][0])), models, file)


def _telling(groups: Sequence[Group]) -> str:
    """Conditions that name a group of several: of each column in which they differ the one that the first group meets."""
    columns = zip(APART, zip(*(key[1:] for key in groups), strict=True), strict=True)
    return ",".join(f"{name}={values[0]}" for name, values in columns if len(set(values)) > 1)


def store(recipe: Recipe, path: Path | None = None) -> Path:
    """Writes the program; by default under the cell's key in the current folder. Returns the path.

    Raises UserError where that cannot be, or where a file that is no recipe would be lost.
    """
    path = path or Path(file_name(recipe.key))
    try:
        if path.exists() and not _is_recipe(path):
            raise UserError(f"{path} exists and is no recipe: give another file with --out")
        path.write_text(recipe.text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _is_recipe(path: Path) -> bool:
    """By its head, which no other file has: that the words stand somewhere says nothing."""
    if not path.is_file():
        return False
    with path.open(errors="replace") as file:
        return _HEAD.match(file.read(_HEAD_CHARACTERS)) is not None


def _found(database: Database, key: str, words: Sequence[str] = ()) -> Row:
    known = database.query(
        "SELECT run, device, cell_key, status, known_wrong, created_utc FROM cells ORDER BY created_utc DESC NULLS LAST, run, cell_key"
    )
    own = [one for one in known if key in (one["cell_key"], _REPLICATE.sub("", one["cell_key"]))]
    if not own:
        for problem in database.problems:
            folder = problem.path.parent.name
            if problem.path.name == "cell.csv" and key in (folder, _REPLICATE.sub("", folder)):
                raise UserError(f"the row of {key} is damaged, so that it has no recipe: {problem}")
        cells = list(dict.fromkeys(_REPLICATE.sub("", one["cell_key"]) for one in known))
        near = difflib.get_close_matches(_REPLICATE.sub("", key), cells, _MOST_NAMES, 0.5)
        meant = f"; near it: {', '.join(near)}" if near else ""
        listing = shell_line(["sql", "SELECT cell_key FROM cells", *words])
        raise UserError(f"there is no cell {key} in {_count(database)}{meant}. All keys: ./invoke {listing}")
    workers = Counter((one["run"], _REPLICATE.sub("", one["cell_key"])) for one in known if one["status"] == "ok")
    chosen = max(
        own, key=lambda one: standing({**one, "replicates": workers[one["run"], _REPLICATE.sub("", one["cell_key"])]})
    )
    return _row(database, chosen["run"], chosen["cell_key"])


def _count(database: Database) -> str:
    return f"{len(database.runs)} run{'' if len(database.runs) == 1 else 's'}"


def _row(database: Database, run: str, key: str) -> Row:
    return database.query("SELECT * FROM results WHERE run = $1 AND cell_key = $2", [run, key])[0]


def _made(database: Database, row: Row, models: Path, file: str) -> Recipe:
    key, run = str(row["cell_key"]), str(row["run"])
    request = _request(database, row, models, _measured(database, row))
    spread = _spread(database, row)
    workers, mean = (spread["workers"], spread["images_per_s"]) if spread else (1, None)
    try:
        return Recipe(key, run, write(request, _image(row["variant"]), file), row, workers, mean, request.model.root)
    except FileNotFoundError as error:
        raise UserError(f"there is no recipe for {key}: {error}") from error


def _request(database: Database, row: Row, models: Path, measured: Sequence[str]) -> RecipeRequest:
    """Raises UserError where the row is not one of a cell that a recipe can repeat."""
    key, run = str(row["cell_key"]), str(row["run"])
    if row["status"] != "ok":
        raise UserError(f"{key} was not measured to its end ({row['status']}): there is nothing to repeat")
    about = read_run(database.runs[run]).description
    if "imported_utc" in about:  # what it has under settings is about the source, and of whatever types
        raise UserError(f"imported rows have no recipe, and run {run} was imported: measure it with invoke bench first")
    _check_words(row)
    settings = _texts(row, "settings")
    if not settings:
        raise UserError(f"run {run} has no settings of {key}: measure it with invoke bench first")
    if row["scenario"] != "single-stream":
        other = _single_stream(database, row)
        instead = f"take {other}" if other else "measure it with invoke bench --scenario single-stream"
        raise UserError(
            f"{key} is of the scenario {row['scenario']}, and a recipe runs one inference after the other: {instead}"
        )
    return RecipeRequest(
        key=key, variant=row["variant"], tuning=row["tuning"], precision=row["precision"], batch_size=row["batch_size"],
        io=row["io"], gpu=row["device"] != "cpu", settings=settings, model=_model(about, models), input=row["input"],
        threads=_threads(about, settings), versions=_texts(row, "versions"), measured=measured,
        items_per_sample=row["items_per_sample"], item=row["item"],
    )  # fmt: skip


def _single_stream(database: Database, row: Row) -> str | None:
    """The key of the same configuration that runs one inference after the other, in the same run; None where it was not measured."""
    found = database.query(
        f"SELECT * FROM results WHERE {_SAME} AND status = 'ok' ORDER BY cell_key",
        _same({**row, "scenario": "single-stream"}),
    )
    alike = ("tuning", "version")
    return next(
        (_REPLICATE.sub("", one["cell_key"]) for one in found if all(one[name] == row[name] for name in alike)), None
    )


def _image(variant: str) -> Image:
    images = load_images(IMAGES)
    known = all_variants(images)
    if variant not in known:
        raise UserError(f"there is no recipe for {variant}: no folder of images/ has that variant")
    return next(image for image in images if image.name == known[variant].image)


def _damaged(row: Row, why: str) -> UserError:
    return UserError(f"the row of {row['cell_key']} in run {row['run']} is damaged, so that it has no recipe: {why}")


def _check_words(row: Row) -> None:
    for column, words in _WORDS.items():
        if row[column] is not None and row[column] not in words:
            raise _damaged(row, f"{column} '{shortened(str(row[column]), 40)}' is none of {', '.join(words)}")


def _texts(row: Row, column: str) -> dict[str, str]:
    """A column of JSON, name -> text; empty where nothing stands there. Raises UserError where that is no such thing."""
    try:
        values = json.loads(row[column] or "{}")
    except (ValueError, RecursionError):
        raise _damaged(row, f"its {column} are not JSON") from None
    if not isinstance(values, dict):
        raise _damaged(row, f"its {column} are no object of names and texts")
    for name, value in values.items():
        if not isinstance(value, str):
            raise _damaged(
                row, f"of its {column} {shortened(name, 40)} is {shortened(json.dumps(value), 40)}, not a text"
            )
    return values


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
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise UserError(
                f"the run's threads are {shortened(str(given), 40)}, not a whole number from 1: there is no recipe"
            )
        return given
    threads_given = settings.get("intra_op_threads", "")
    return int(threads_given) if threads_given.isdigit() else None


def _measured(database: Database, row: Row) -> list[str]:
    """What came out, where, and what the levels of tuning are worth there."""
    item = row["item"]
    rate = f"{row['images_per_s']:,.1f} {item}s/s" if row["images_per_s"] else "no rate"
    latency = f", median latency {row['median_ms']:.4f} ms" if row["median_ms"] else ""
    when = str(row["created_utc"] or "")[:10]
    spread = _spread(database, row)
    worker = f" by one worker of {spread['workers']}" if spread else ""
    lines = [
        f"Measured by framewatt{worker}: {rate}{latency}, on {row['device_name']}, run {row['run']}{f' of {when}' if when else ''}."
    ]
    if spread:
        ends = f"{spread['images_per_s_low']:,.1f} to {spread['images_per_s_high']:,.1f}"
        lines.append(
            f"Mean of {spread['workers']} workers {spread['images_per_s']:,.1f} {item}s/s, 95 % interval {ends}."
        )
    if row["tuning"] != "stock":
        for one in database.query(f"SELECT * FROM worth WHERE {_SAME}", _same(row)):
            ends = f"{one['worth_low']:.3f} to {one['worth_high']:.3f}"
            lines.append(f"Worth of tuning there: tuned is {one['worth']:.3f} times stock, 95 % interval {ends}.")
    return lines


_COLUMNS = ("run", "model", "device", "variant", "precision", "batch_size", "io", "scenario", "input", "frontend")
_SAME = " AND ".join(f"{name} IS NOT DISTINCT FROM ${number}" for number, name in enumerate(_COLUMNS, 1))


def _spread(database: Database, row: Row) -> Row | None:
    """The row of `worker_spread` of the cell's configuration, None where one worker measured it."""
    found = database.query(f"SELECT * FROM worker_spread WHERE {_SAME}", _same(row))
    own = [one for one in found if (one["tuning"], one["version"]) == (row["tuning"], row["version"])]
    return own[0] if own else None


def _same(row: Row) -> list[Any]:
    return [row[name] for name in _COLUMNS]
