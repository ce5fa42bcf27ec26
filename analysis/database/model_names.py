"""Two models of one name, as every downloaded `model.onnx` has it, get names that tell them apart: a model is its hash.

What is shown, grouped and compared by is the column `model` of `comparison` and `results`; there an ambiguous name gets
the folder of the file that the user typed, or the first digits of the hash where folders do not tell either. A cell
without a hash (imported, or of an early run) keeps its name alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from analysis.database.connection import Database
from common import names

#: Digits of the hash in a name; two that share them are told apart by all of them.
HASH_DIGITS = 8
#: Views whose column `model` is a name for people.
SHOWN = ("results", "comparison")


def distinguish(database: Database) -> None:
    """Puts views with unambiguous names before those that all figures are drawn from; nothing happens where no name is ambiguous."""
    rows = database.connection.execute(
        "SELECT model, model_hash, min(model_file) FROM results WHERE model IN "
        "(SELECT model FROM results WHERE model_hash IS NOT NULL GROUP BY model HAVING count(DISTINCT model_hash) > 1) "
        "AND model_hash IS NOT NULL GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    if not rows:
        return
    shown = shown_names(rows)
    columns = [[row[0] for row in rows], [row[1] for row in rows], [shown[row[0], row[1]] for row in rows]]
    database.connection.execute("CREATE TABLE model_name (model VARCHAR, model_hash VARCHAR, shown VARCHAR)")
    database.connection.execute("INSERT INTO model_name SELECT unnest($1), unnest($2), unnest($3)", columns)
    for view in SHOWN:
        # a temporary view is found before the table or view of that name
        database.connection.execute(
            f"CREATE TEMP VIEW {view} AS SELECT v.* REPLACE (coalesce(n.shown, v.model) AS model) "
            f"FROM memory.main.{view} AS v LEFT JOIN memory.main.model_name AS n USING (model, model_hash)"
        )


def shown_names(rows: Iterable[tuple[str, str, str | None]]) -> dict[tuple[str, str], str]:
    """(name, hash) -> name to show, for (name, hash, file as typed or None): all of one name differ."""
    by_name: dict[str, list[tuple[str, str | None]]] = {}
    for model, digest, file in rows:
        by_name.setdefault(model, []).append((digest, file))
    shown = {}
    for model, ones in by_name.items():
        folders = [_folder(file) for _, file in ones]
        if all(folders) and len(set(folders)) == len(ones):
            words = folders
        else:
            short = [digest[:HASH_DIGITS] for digest, _ in ones]
            words = short if len(set(short)) == len(ones) else [digest for digest, _ in ones]
        shown.update({(model, one[0]): f"{model} ({word})" for one, word in zip(ones, words, strict=True)})
    return shown


def _folder(file: str | None) -> str:
    """Folder and name of a typed path, "" where it names no folder: `small/model.onnx`."""
    path = PurePosixPath((file or "").replace("\\", "/"))
    parent = path.parent.name
    # conditions of `--where` are split at these
    safe = (names.from_text(part.translate(str.maketrans(",=|", "---"))) for part in (parent, path.name))
    return "/".join(safe) if parent else ""
