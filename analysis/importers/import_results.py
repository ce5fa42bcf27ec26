"""`invoke import`: finds the format and writes a run folder as framewatt's own runs have, whole or not at all."""

from __future__ import annotations

import datetime
import hashlib
import importlib
import json
import os
import pkgutil
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

import analysis.importers
from analysis.importers import foreign_csv
from analysis.importers.imported import Facts, Format, Imported, ImportedCell
from common import names, schema
from common.errors import UserError, unknown
from common.host import regular_files
from common.text import shortened, storable

#: Problems printed one by one; run.json keeps all.
MOST_PROBLEMS = 20
#: Entries of a folder that are tried as files to import, to say which of them could be.
MOST_CHILDREN = 1000


@dataclass(frozen=True)
class ImportResult:
    """folder: the run. exit_code: 1 where lines of the source could not be used, else 0."""

    folder: Path
    exit_code: int


def formats() -> dict[str, Format]:
    """Every module of this package that defines FORMAT, by the format's name."""
    modules = (
        importlib.import_module(f"{analysis.importers.__name__}.{module.name}")
        for module in pkgutil.iter_modules(analysis.importers.__path__)
    )
    found = [module.FORMAT for module in modules if isinstance(getattr(module, "FORMAT", None), Format)]
    return {one.name: one for one in found}


def import_results(
    path: Path, results: Path, *, console: Console, facts: Facts | None = None, format: str | None = None
) -> ImportResult:
    """Writes `results/<time>_<format>_<gpu>_<hash>/` from what lies at `path`; a second time the same folder is returned.

    Raises UserError: nothing at the path, no or an unknown format, a fact that only the user can give, nothing usable.
    """
    facts = facts or Facts()
    if facts.precision is not None and facts.precision not in schema.PRECISIONS:
        raise unknown("precision", facts.precision, schema.PRECISIONS)
    _check(facts)
    if not path.exists():
        raise UserError(f"there is no {path}")
    chosen = _format(path, format)
    imported = chosen.read(path, facts)
    for problem in imported.problems[:MOST_PROBLEMS]:
        console.print(Text(str(problem), style="red" if problem.loses else "yellow"), soft_wrap=True)
    if len(imported.problems) > MOST_PROBLEMS:
        console.print(f"and {len(imported.problems) - MOST_PROBLEMS} more: see run.json")
    if not imported.cells:
        raise UserError(f"nothing in {path} could be used as {chosen.title}")
    exit_code = int(any(problem.loses for problem in imported.problems))
    hashes = {_name(path, source): _hash(path, source) for source in imported.sources}
    # what was said and what came of it: the same files with another option are another run, and so they are after the
    # importer has learned more; which GPU ran, said or found, is in what came of it
    options = {**asdict(facts), "gpu_ordinal": None}
    came = [[one.cell.to_dict(), one.columns, one.files] for one in imported.cells]
    identity = json.dumps([hashes, options, imported.devices, came, schema.SCHEMA_VERSION], sort_keys=True)
    gpu = _word(str(imported.devices[0].get("name") or "gpu")) if imported.devices else "cpu"
    ending = f"{chosen.name}_{gpu}_{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    for there in results.glob(f"*_{ending}/run.json"):
        console.print(f"{there.parent.name} is there already: the same files were imported before", highlight=False)
        return ImportResult(there.parent, exit_code)
    # names of runs begin with their time, so that the newest is the last
    name = f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}_{ending}"
    folder = results / name
    document = _document(name, path, chosen, imported, facts, hashes)
    try:
        _write(folder, document, imported.cells, imported.origin)
    except OSError as error:
        raise UserError(f"cannot write to {results}: {error.strerror or error}") from error
    cells = "cell" if len(imported.cells) == 1 else "cells"
    console.print(f"{len(imported.cells)} {cells} of {imported.origin} in {name}", highlight=False)
    return ImportResult(folder, exit_code)


#: A GPU's number on its machine; no machine has so many.
MOST_GPUS = 4096


def _check(facts: Facts) -> None:
    """Raises UserError for what becomes part of a key or a path and cannot be."""
    for option in ("framework", "model"):
        text = getattr(facts, option)
        wrong = names.fault(text) if text is not None else None
        if wrong:
            raise UserError(
                f"--{option} '{shortened(text, 40)}' is {wrong}; letters, digits, spaces and _.+- make a name"
            )
    if facts.batch_size is not None and not 1 <= facts.batch_size <= names.MOST_BATCH_SIZE:
        raise UserError(f"a batch size is a positive number, not {facts.batch_size}; {names.MOST_BATCH_SIZE:,} at most")
    if facts.gpu_ordinal is not None and facts.gpu_ordinal >= MOST_GPUS:
        raise UserError(f"there is no GPU {facts.gpu_ordinal}; a machine has at most {MOST_GPUS}")


def _format(path: Path, name: str | None) -> Format:
    known = formats()
    if name:
        if name not in known:
            raise unknown("format", name, known)
        return known[name]
    for one in known.values():
        if one.recognises(path):
            return one
    inside = [
        child.name
        for child in (sorted(path.iterdir())[:MOST_CHILDREN] if path.is_dir() else [])
        if any(one.recognises(child) for one in known.values())
    ]
    hint = f"; import one of its {', '.join(inside)}" if inside else ""
    titles = ", ".join(f"{one.name} ({one.title})" for one in known.values())
    raise UserError(f"{path} is in no format that framewatt imports{hint or ': ' + titles}")


def _name(path: Path, source: Path) -> str:
    return source.relative_to(path).as_posix() if path.is_dir() else source.name


def _hash(path: Path, source: Path) -> str:
    raw = regular_files.read(source, foreign_csv.MOST_FILE_BYTES, follow=source == path)
    return hashlib.sha256(raw).hexdigest()


def _word(text: str) -> str:
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in text.lower()).split()) or "gpu"


def _document(
    name: str, path: Path, chosen: Format, imported: Imported, facts: Facts, hashes: Mapping[str, str]
) -> dict[str, Any]:
    options = {key.replace("_", "-"): value for key, value in asdict(facts).items() if value is not None}
    command = ["invoke import", path.name, *(f"--{key} {value}" for key, value in options.items())]
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "run": name,
        "command": storable(" ".join(command)),
        "created_utc": None,
        "imported_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "origin": imported.origin,
        "licence": imported.licence,
        "measured": imported.measured,
        "source": {
            "format": chosen.name,
            "folder": path.name,
            "sha256": dict(hashes),
            "problems": [
                {"file": _name(path, problem.path) if problem.path.is_relative_to(path) else problem.path.name,
                 "lines": list(problem.lines), "rows": problem.rows, "message": problem.message}
                for problem in imported.problems
            ],
        },
        "devices": imported.devices,
        "model": {"name": imported.cells[0].cell.model, "weights_note": imported.note},
    }  # fmt: skip


def _write(folder: Path, document: Mapping[str, Any], cells: list[ImportedCell], origin: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".importing-", dir=folder.parent))
    try:
        for one in cells:
            target = staging / "cells" / one.cell.key
            target.mkdir(parents=True)  # Cell has checked the names
            row = {**one.cell.to_dict(), "cell_key": one.cell.key, "status": "ok", "origin": origin, **one.columns}
            # no phases are known of most sources: a header alone says so
            files = {"cell.csv": [row], "phases.csv": (), **one.files}
            for file_name, rows in files.items():
                (target / file_name).write_text(schema.to_csv(file_name, rows), encoding="utf-8")
        (staging / "run.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        staging.chmod(0o755)
        os.replace(staging, folder)  # noqa: PTH105 - the same call for folders on every system
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
