"""Where the services of a sweep meet, `data/compose/<flavour>/`, and what the environment asks for.

The folder as a whole is seen by the sweep's own services alone (prepare, plan, analyze). Of it a framework's service sees
`board/`, read-only, `services/<variant>/`, which it alone writes, and `sidecar/`, read-only; the sidecar sees `board/` and
writes `sidecar/`; the export writes `models/`. What these write is read as under `invoke bench`
(common/host/runners/staging.py, power_intake.py, exported.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.host.cli import parsing
from common.host.paths import DataFolder
from common.host.plan.options import Options
from common.host.runs.run import Run
from common.text import visible

#: variable of .env -> option of `invoke bench`
OPTIONS: Mapping[str, str] = {
    "FRAMEWATT_FRAMEWORKS": "framework",
    "FRAMEWATT_BATCH_SIZES": "batch_sizes",
    "FRAMEWATT_PRECISION": "precision",
    "FRAMEWATT_IO": "io",
    "FRAMEWATT_MODEL": "model",
    "FRAMEWATT_WEIGHTS": "weights",
    "FRAMEWATT_QUICK": "quick",
    "FRAMEWATT_REPLICATES": "replicates",
    "FRAMEWATT_THREADS": "threads",
    "FRAMEWATT_MIN_SECONDS": "min_seconds",
    "FRAMEWATT_MAX_SECONDS": "max_seconds",
    "FRAMEWATT_WARMUP_SECONDS": "warmup_seconds",
    "FRAMEWATT_IDLE_SECONDS": "idle_seconds",
    "FRAMEWATT_CELL_TIMEOUT": "cell_timeout",
    "FRAMEWATT_FRONTEND": "frontend",
    "FRAMEWATT_TUNING": "tuning",
    "FRAMEWATT_INPUT": "input",
}


@dataclass(frozen=True)
class Rendezvous:
    """Files by which the services of one flavour know of each other."""

    folder: Path

    @property
    def run(self) -> Path:
        """Link to the run's folder."""
        return self.folder / "run"

    @property
    def board(self) -> Path:
        """What the services are told: jobs, turns, and the files below."""
        return self.folder / "board"

    @property
    def jobs(self) -> Path:
        return self.board / "jobs"

    @property
    def turn_locks(self) -> Path:
        """A file for each variant, which is locked until its turn (common/locks.py)."""
        return self.board / "turns"

    @property
    def end(self) -> Path:
        """Its presence tells the sidecar to end."""
        return self.board / "end"

    @property
    def model_exists(self) -> Path:
        """Its presence tells the export that it has nothing to do."""
        return self.board / "model-exists"

    @property
    def services(self) -> Path:
        """A folder for each variant, which its service alone writes."""
        return self.folder / "services"

    @property
    def models(self) -> Path:
        """The folder that the export writes, in which it sees no model but one that shall get more forms."""
        return self.folder / "models"

    @property
    def sidecar(self) -> Path:
        """The folder that the sidecar writes."""
        return self.folder / "sidecar"


def options_from(environment: Mapping[str, str]) -> Options:
    """The options that the variables name. Raises UserError for a number that is none."""
    given = {option: environment.get(variable, "").strip() for variable, option in OPTIONS.items()}
    variables = {option: variable for variable, option in OPTIONS.items()}
    values = {
        option: parsing.like(getattr(Options(), option), f"{variables[option]} in .env", text)
        for option, text in given.items()
        if text
    }
    return Options(**values)  # type: ignore[arg-type]


def gpu_name(requested: str, found: str) -> str:
    """gpu<index> as the host numbers it: in the container the only GPU is always number 0."""
    index = requested.rpartition("=")[2]  # CDI: nvidia.com/gpu=2
    return f"gpu{index}" if index.isdigit() else found


def lock_of(data: DataFolder, run: Run) -> Path:
    """The lock of the run's one device, which `invoke bench` holds too while it measures."""
    (device,) = run.description["devices"]
    return data.locks / f"{device.get('uuid') or device['device']}.lock"


def service(function: Callable[[str, Rendezvous], int]) -> None:
    """Runs a service of compose.yaml: `python -m ... FLAVOUR`; errors are one line and exit code 2."""
    flavour = sys.argv[1] if len(sys.argv) > 1 else ""
    if flavour not in ("cpu", "gpu"):
        print("usage: python -m common.host.compose.SERVICE cpu|gpu", file=sys.stderr)
        sys.exit(2)
    data = Path(os.environ.get("FRAMEWATT_DATA", "/data"))
    try:
        sys.exit(function(flavour, Rendezvous(data / "compose" / flavour)))
    except UserError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        sys.exit(2)
