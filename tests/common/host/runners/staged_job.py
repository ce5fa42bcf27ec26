"""A job with a toy model, its run's folder, and a container's part played by the test: what it could write, it writes here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.cell import Cell
from common.harness import journal
from common.harness.rows import begin_row
from common.harness.writer import write_cell
from common.host.runners.staging import JobStaging
from common.job import Job
from common.model_files import ModelFiles

CELLS = [Cell("m", "onnxrt", "fp32", size) for size in (1, 2, 3)]
NAME = "onnxrt_fp32_script_cpu_r0"
SAMPLES = ([1000, 2000, 3000], [1500, 2600, 3700])
PHASES = [("import", 1, 2), ("measure", 1000, 3700)]


def model(root: Path) -> ModelFiles:
    return ModelFiles(
        root, "m", "0" * 12, None, None, None, "r.npz", (1,), "NHWC", None, None, "raw", 1, "seeded", "made here"
    )


def job(cells: Iterable[Cell] = CELLS) -> Job:
    return Job("", "/data/models/m", "adapter.py", "onnxrt", "cpu", "CPU", "", "/cache", "docker", list(cells))


class Container:
    """One start of the job. Its methods write what an honest supervisor and its worker would."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.run.mkdir()
        self.model = model(folder)
        self.job = job()
        self.staging = JobStaging.make(self.run, NAME, self.job, self.model)
        self.folder = self.staging.folder

    def path(self, cell: Cell, name: str = "") -> Path:
        return self.folder / "cells" / cell.key / name

    def write(self, cell: Cell, status: str = "ok", **columns: Any) -> None:
        """The cell's files."""
        row = {**begin_row(self.job, cell, self.model, "w"), "status": status, "samples": len(SAMPLES[0]), **columns}
        write_cell(self.folder, row, PHASES, *SAMPLES)

    def finish(self, cell: Cell, status: str = "ok") -> None:
        """The lines of the journal."""
        journal.append(self.folder, "start", cell.key, "w")
        journal.append(self.folder, "finish", cell.key, "w", status)

    def measure(self, cell: Cell, **columns: Any) -> None:
        self.write(cell, **columns)
        self.finish(cell)

    def log(self, text: str = "words\n", name: str = f"{NAME}_20261128T120000_7-1.log") -> Path:
        (self.folder / "logs").mkdir(exist_ok=True)
        path = self.folder / "logs" / name
        path.write_text(text)
        return path


def replace_by_link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
