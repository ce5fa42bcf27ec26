"""What `invoke explain` measures: short cells, each with a traced window after the measured one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.cell import Cell
from common.errors import UserError
from common.host.frameworks.versions import LOCKED
from common.host.plan.options import Options
from common.host.runs.run import read_run
from common.schema import TUNINGS

#: Inferences that are recorded, and as many without recording before and after.
TRACE_RUNS = 20
BATCH_SIZES = "1,32"


def traced(options: Options) -> Options:
    """The options of a run that also records; what they do not say is short, since a cell is there to be explained."""
    settings = {"trace_runs": TRACE_RUNS, "min_images": 1, **options.settings}
    if not options.min_seconds and not options.max_seconds:
        # on a GPU long enough for its energy counter
        settings = {"min_seconds": 3.0, "max_seconds": 6.0, "warmup_max_seconds": 5.0, **settings}
    return replace(
        options,
        batch_sizes=options.batch_sizes or BATCH_SIZES,
        replicates=options.replicates or 1,  # to be explained, not judged
        scenario="single-stream",
        settings=settings,
    )


def options_of_run(run: Path, given: Options) -> Options:
    """Options that measure the cells of a run again, on this machine. given: what was typed beside it.

    Raises UserError for a run without cells of the single-stream scenario, and one that its run.json does not describe.
    """
    document: Mapping[str, Any] = read_run(run).description
    model = document.get("model")
    named = model.get("name") if isinstance(model, dict) else None
    folders = sorted(path.name for path in (run / "cells").glob("*"))
    cells = [cell for key in folders if (cell := _cell(key)) is not None]
    if not cells:
        raise UserError(f"run {run.name} has no single-stream cell that could be measured again")

    def every(name: str) -> str:
        return ",".join(str(value) for value in dict.fromkeys(sorted(getattr(cell, name) for cell in cells)))

    device = cells[0].device
    values = {name: every(name) for name in ("precision", "io", "tuning", "input")}
    versioned = {cell.variant for cell in cells if cell.version}
    versions = sorted({f"{cell.variant}@{cell.version or LOCKED}" for cell in cells if cell.variant in versioned})
    return replace(
        given,
        framework=given.framework or every("variant"),
        version=given.version or ",".join(versions),
        batch_sizes=given.batch_sizes or every("batch_size"),
        model=given.model if given.model != Options.model else str(named or cells[0].model),
        device=given.device or ("cpu" if device == "cpu" else ""),
        gpu=given.gpu or device.removeprefix("gpu") if device != "cpu" else given.gpu,
        precision=given.precision if given.precision != Options.precision else values["precision"],
        io=given.io if given.io != Options.io else values["io"],
        tuning=given.tuning if given.tuning != Options.tuning else values["tuning"],
        input=given.input if given.input != Options.input else values["input"],
        runner=given.runner or str(document.get("runner", "")),
    )


def _cell(key: str) -> Cell | None:
    """The cell of a folder's name, None where it is not of the single-stream scenario of a script."""
    parts = key.rsplit("_", 8)
    if len(parts) != 9 or parts[5] != "single-stream" or not parts[3][1:].isdigit():
        return None
    variant, _, version = parts[1].partition("@")
    level = next((one for one in TUNINGS if parts[2].endswith(f"-{one}")), "")
    precision = parts[2].removesuffix(f"-{level}")
    io, _, fed = parts[4].partition("-")
    return Cell(
        parts[0], variant, precision, int(parts[3][1:]), io,
        device=parts[7], tuning=level or "tuned", input=fed or "float32", version=version or None,
    )  # fmt: skip
