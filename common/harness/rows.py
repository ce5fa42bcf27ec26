"""The columns of cell.csv that are known before anything runs; worker and supervisor fill in the rest."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterable

from common.cell import Cell
from common.harness.journal import utc_now
from common.job import Job
from common.model_files import ModelFiles

_LONGEST = 500
#: characters of the longest text of a column; settings of an adapter are JSON
MOST_TEXT = 2**15


def begin_row(job: Job, cell: Cell, model: ModelFiles, worker: str) -> Dict[str, Any]:
    """The row of a cell that begins now, on the worker of that name; python_version is for whoever knows the worker's."""
    return {
        **cell.to_dict(),
        "cell_key": cell.key,
        "device_uuid": job.device_uuid or None,
        "device_name": job.device_name or None,
        "image": job.image,
        "model_hash": model.hash,
        "model_file": one_line(job.model_file) or None,
        "model_born": one_line(model.origin) or None,
        "weights": model.weights,
        "weights_dtype": model.weights_dtype or None,
        "item": job.item or model.item,
        "items_per_sample": job.items_per_sample or 1,
        "runner": job.runner,
        "image_digest": job.image_digest or None,
        "framework_version": job.framework_version or None,
        "worker": worker,
        "started_utc": utc_now(),
        "samples": 0,
        "min_seconds": job.settings.min_seconds,
        "max_seconds": job.settings.max_seconds,
        "load_average_start": load_average(),
        "origin": "framewatt",
    }


def load_average() -> float:
    """1-minute load average of the host."""
    return round(os.getloadavg()[0], 2)


def one_line(text: str) -> str:
    """Text for a message column: no line breaks, no control characters, not endless."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def fits(text: str) -> bool:
    """Whether a text may stand in a column: the host refuses a cell whose container wrote any other."""
    return len(text) <= MOST_TEXT and text.isprintable()


def spelled(name: str) -> str:
    """A name out of a model, which may be any text, as one that `fits`; for rows and people, not to be compared with names.

    What is not printable is escaped as Python does it (\\n, \\u3000), as is the backslash, so that two names stay two.
    """
    text = "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in name)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def last_telling_line(log: Iterable[str]) -> str:
    """The last line of a log that names a failure, else the last that says anything, else ""."""
    words = ("error", "fatal", "exception", "abort", "fail", "out of memory", "bad_alloc", "terminate called", "killed")
    # Names of files and modules in a dump of the stack contain words like "error" without telling of one.
    dull = (CELL_MARK.strip(), 'File "', "Extension modules:")
    lines = [line for line in (raw.strip() for raw in log) if line and not line.startswith(dull)]
    telling = [line for line in lines if any(word in line.lower() for word in words)]
    return one_line((telling or lines or [""])[-1])


#: begins the line that a worker prints into its log before each cell
CELL_MARK = "== cell "
