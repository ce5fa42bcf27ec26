"""`invoke explain RUN` of a run that was not recorded: the options that measure its cells once more, on this machine."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from common import names
from common.cell import Cell
from common.errors import UserError
from common.host import models
from common.host.devices import choose_devices, usable_gpus
from common.host.frameworks.registry import all_variants, load_images, variables_set
from common.host.frameworks.versions import LOCKED
from common.host.paths import IMAGES
from common.host.plan.options import Options
from common.host.plan.plan_file import OF_OPTION
from common.host.runs.run import read_run
from common.models import MODELS
from common.schema import TUNINGS
from common.text import shortened

#: what a run asked for beside its cells, and what holds for these in a traced run, too
TAKEN_OVER = (
    "model", "weights", "shape", "rebatch", "inputs", "input_range", "mean", "std", "item", "items_per_sample", "image",
    "threads", "python", "runner", "gpu_driver", "cpus", "memory", "pids", "shm", "tmp", "cell_timeout", "seed",
)  # fmt: skip
#: of these, what a run says that may be somebody else's: numbers, and names that framewatt knows
OF_ANYBODY = ("model", "weights", "rebatch", "threads", "pids", "cell_timeout", "seed")
#: what such a run must not name, since it is opened or started; how people type it
TYPED_BY_PEOPLE = {
    "python": "--python FILE (or --runner local, for the frameworks' own environments)",
    "model": "--model MODEL",
    "inputs": "--inputs FILE.npz",
}
#: whole numbers up to here are numbers in any reader of JSON; options are far smaller
_MOST = 2**53
#: what its cells say
OF_CELLS = ("framework", "version", "batch_sizes", "precision", "io", "tuning", "input", "device", "gpu")
#: how many workers measure a cell, and for how long: explain has its own idea
OF_WINDOWS = (
    "quick",
    "replicates",
    *(name for name in OF_OPTION.values() if name not in ("cell_timeout", "batch_window_ms")),
)


@dataclass(frozen=True)
class Again:
    """notes: a line for each thing that cannot be taken over. model_hash: of the model that the run measured."""

    options: Options
    notes: tuple[str, ...] = ()
    model_hash: str = ""

    def note_on_model(self, measured_hash: str) -> str:
        """What to say once the model is there, "" where it is the run's."""
        if self.model_hash in ("", measured_hash):
            return ""
        return f"the model is not the run's: {measured_hash} was measured now, {self.model_hash} then"


def options_of_run(run: Path, typed: Mapping[str, Any], results: Path, cell_key: str = "") -> Again:
    """Options that measure the cells of a run again. typed: what stands beside it on the command line, which holds.

    results: the data folder's own runs. A run elsewhere, also one that was unpacked, and one that a host of a fleet made, may be
    somebody else's: no file that its run.json names is opened or started. cell_key: the one cell that is meant.
    Raises UserError for a run without cells of the single-stream scenario, for one whose device or model is not here, for one that
    its run.json does not describe, and for one of somebody else whose files are not typed anew.
    """
    document: Mapping[str, Any] = read_run(run).description
    keys = [cell_key] if cell_key else sorted(path.name for path in (run / "cells").glob("*"))
    cells = [cell for key in keys if (cell := _cell(key)) is not None]
    if not cells:
        what = f"cell {cell_key} is" if cell_key else f"no cell of run {run.name} is"
        raise UserError(f"{what} of the scenario single-stream in a script, which alone is recorded")
    own = run.resolve().parent == results.resolve() and "fleet" not in document
    asked, notes = _asked(run, document)
    if not own:
        asked = _of_anybody(run, asked, typed, notes)
    if len(cells) < len(keys):
        notes.append(
            f"{len(keys) - len(cells)} of {len(keys)} cells are of another scenario or front end and are left out"
        )
    taken = {name: getattr(asked, name) for name in TAKEN_OVER if name not in typed}
    taken.update(_model(run, document, taken, typed))
    if own:
        taken.update(_runner(document, taken, typed, notes))
    notes += _on_variables(document, cells)
    if taken.get("image") and "://" not in taken["image"] and not Path(taken["image"]).expanduser().is_file():
        notes.append(f"--image {taken.pop('image')} is not there any more: no classes are shown")
    values = {**_of_cells(cells), **_device(run, document, cells, typed, notes), **taken, **typed}
    whole = any(name in typed for name in (*OF_CELLS, "model"))  # what is typed may give cells that the run has not
    only = () if whole else tuple(dict.fromkeys(_key_now(cell) for cell in cells))
    return Again(Options(**values, only=only), tuple(notes), str(_part(document, "model").get("hash", "")))


def _on_variables(document: Mapping[str, Any], cells: Sequence[Cell]) -> list[str]:
    """What the frameworks' variables say now that they did not say then: they are the caller's, and never taken from a run."""
    then = document.get("environment")
    if not isinstance(then, Mapping):  # of before it was kept
        return []
    measured = {cell.variant for cell in cells}
    variants = [variant for name, variant in all_variants(load_images(IMAGES)).items() if name in measured]
    now = variables_set(variants, os.environ)
    declared = sorted({name for variant in variants for name in variant.variables})
    return [
        f"{name} was {shortened(str(then.get(name) or 'not set'), 80)} then and is {now.get(name, 'not set')} now"
        for name in declared
        if str(then.get(name) or "") != now.get(name, "")
    ]


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}


def _asked(run: Path, document: Mapping[str, Any]) -> tuple[Options, list[str]]:
    """What the run was asked for, as far as run.json says it, and what of that is not taken over."""
    given = document.get("options")
    if not isinstance(given, Mapping):
        threads = document.get("threads")
        note = f"run {run.name} is of before options were kept: beside cells, weights and threads everything is at its default"
        return Options(threads=threads if isinstance(threads, int) else 0), [note]
    values = {one.name: given[one.name] for one in fields(Options) if _fits(str(one.type), given.get(one.name))}
    windows = [
        f"--{name.replace('_', '-')}" + ("" if values[name] is True else f" {values[name]}")
        for name in OF_WINDOWS
        if name in values
    ]
    windows += ["settings of its plan"] if given.get("settings") else []
    notes = [f"not taken over: {', '.join(windows)}: one worker records a cell, in a short window"] if windows else []
    return Options(**values), notes


def _fits(kind: str, value: object) -> bool:
    """Whether a value of JSON can be an option's. kind: as options.py writes its type."""
    if kind in ("int", "float"):
        if isinstance(value, bool) or not isinstance(value, int if kind == "int" else (int, float)):
            return False
        return abs(value) <= _MOST and math.isfinite(value)
    return (kind == "str" and isinstance(value, str)) or (kind == "bool" and isinstance(value, bool))


def _of_anybody(run: Path, asked: Options, typed: Mapping[str, Any], notes: list[str]) -> Options:
    """What of it is taken over from a run that may be somebody else's. Raises UserError where people have to type the rest."""
    named = {
        name: getattr(asked, name)
        for name in TAKEN_OVER
        if name not in typed and getattr(asked, name) != getattr(Options, name)
    }
    if "runner" in typed:  # says what python is then
        named.pop("python", None)
    missing = [name for name in TYPED_BY_PEOPLE if name in named and not (name == "model" and named[name] in MODELS)]
    if missing:
        had = ", ".join(f"--{name} {shortened(named[name], 80)}" for name in missing)
        raise UserError(
            f"run {run.name} comes from elsewhere (a fleet's host, or it is not in the data folder's results), so no file that its "
            f"run.json names is opened or started, such as {had}; type {' and '.join(map(TYPED_BY_PEOPLE.__getitem__, missing))} "
            "beside it"
        )
    left = [f"--{name.replace('_', '-')} {shortened(str(named[name]), 80)}" for name in named if name not in OF_ANYBODY]
    if left:
        notes.append(f"not taken over from a run that comes from elsewhere: {', '.join(left)}")
    return Options(**{name: getattr(asked, name) for name in OF_ANYBODY})


def _model(
    run: Path, document: Mapping[str, Any], taken: Mapping[str, Any], typed: Mapping[str, Any]
) -> dict[str, Any]:
    """The model as the run named it, with the origin of weights that `auto` found."""
    if "model" in typed:
        return {}
    described = _part(document, "model")
    name, weights = str(described.get("name", Options.model)), described.get("weights")
    is_asked = isinstance(document.get("options"), Mapping)
    text = taken["model"] if is_asked else name
    if not is_asked and (weights == "user" or name not in MODELS):
        raise UserError(f"run {run.name} does not say which file its model {name} was; --model FILE does")
    try:
        source = models.source(text)
    except UserError as error:
        raise UserError(f"run {run.name} measured --model {text}: {error}; --model says where it is now") from error
    if source.file is None and taken.get("weights") == Options.weights and weights in ("imagenet", "seeded"):
        return {"model": text, "weights": weights}
    return {"model": text}


def _runner(
    document: Mapping[str, Any], taken: Mapping[str, Any], typed: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """The run's runner and interpreter, as far as what is typed leaves them a meaning."""
    if "python" in typed:
        return {"runner": ""}
    if "runner" in typed:
        return {"python": taken["python"] if typed["runner"] == "local" else ""}
    python = taken["python"]
    if python and not Path(python).expanduser().is_file():
        notes.append(f"--python {python} is not there: the frameworks' own environments are used")
        python = ""
    return {"runner": str(document.get("runner", "")), "python": python}


def _of_cells(cells: Sequence[Cell]) -> dict[str, str]:
    def every(name: str) -> str:
        return ",".join(str(value) for value in dict.fromkeys(sorted(getattr(cell, name) for cell in cells)))

    versioned = {cell.variant for cell in cells if cell.version}
    versions = sorted({f"{cell.variant}@{cell.version or LOCKED}" for cell in cells if cell.variant in versioned})
    values = {name: every(name) for name in ("precision", "io", "tuning", "input")}
    return {**values, "framework": every("variant"), "batch_sizes": every("batch_size"), "version": ",".join(versions)}


def _device(
    run: Path, document: Mapping[str, Any], cells: Sequence[Cell], typed: Mapping[str, Any], notes: list[str]
) -> dict[str, str]:
    """The run's device. Raises UserError where it is not here, and where another kind of device is typed."""
    there = list(dict.fromkeys(sorted(cell.device for cell in cells)))
    devices = document.get("devices")
    described = [one for one in devices if isinstance(one, Mapping)] if isinstance(devices, list) else []
    products = {str(one.get("device")): str(one.get("name")) for one in described}
    on = f"run {run.name} was measured on " + ", ".join(f"{name} ({products.get(name, 'unknown')})" for name in there)
    if there == ["cpu"]:
        if typed.get("gpu") or typed.get("device") == "gpu":
            raise UserError(f"{on}: on a GPU it would be something else; leave --gpu and --device out")
        return {"device": "cpu", "gpu": ""}
    try:
        usable_gpus()
    except UserError as error:
        raise UserError(f"{on}, a GPU, and none can be used here, so its cells cannot be recorded") from error
    if typed.get("device") == "cpu":
        raise UserError(f"{on}: on the processor it would be something else; leave --device out")
    gpu = str(typed.get("gpu") or ",".join(name.removeprefix("gpu") for name in there))
    try:
        here = choose_devices("gpu", gpu)
    except UserError as error:
        raise UserError(f"{on}: {error}; --gpu says which one else") from error
    others = sorted({one.product for one in here} - set(products.values()))
    if others:
        notes.append(f"{on}; now it is {', '.join(others)}")
    return {"device": "gpu", "gpu": gpu}


def _key_now(cell: Cell) -> str:
    """Of its first worker, as a run of today names it: long names of models were once kept whole."""
    return replace(cell, replicate=0, model=names.with_digest(cell.model)).key


def _cell(key: str) -> Cell | None:
    """The cell of a folder's name, None where it is not of the single-stream scenario of a script, or of no cell."""
    parts = key.rsplit("_", 8)
    if len(parts) != 9 or parts[5:7] != ["single-stream", "script"] or not parts[3][1:].isdecimal():
        return None
    variant, _, version = parts[1].partition("@")
    level = next((one for one in TUNINGS if parts[2].endswith(f"-{one}")), "")
    precision = parts[2].removesuffix(f"-{level}")
    io, _, fed = parts[4].partition("-")
    try:
        return Cell(
            parts[0], variant, precision, int(parts[3][1:]), io,
            device=parts[7], tuning=level or "tuned", input=fed or "float32", version=version or None,
        )  # fmt: skip
    except ValueError:
        return None
