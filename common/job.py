"""A job: what the host hands to one supervisor, and the lines that the supervisor says back.

The host writes the job as JSON; `python -m common.harness JOB.json` (a process or a container) carries it out
and prints one JSON object a line on its standard output, an *event* (see EVENTS).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Optional

from common.cell import Cell
from common.cpu_limits import default_threads
from common.typed_json import check

#: fresh workers of a cell unless something else is asked for: one tells nothing of the next, so that verdicts take several
WORKERS = 3


@dataclass(frozen=True)
class Settings:
    """How a cell is measured. Durations in seconds; the same for all cells of a run."""

    #: the measured window lasts at least this long (GPU: 5 s, since NVML's counter steps every 100 ms)
    min_seconds: float = 5.0
    #: the measured window ends at the latest after this long
    max_seconds: float = 30.0
    #: at least this many inferences
    min_samples: int = 20
    #: at least this many images (the published study's pass: 512)
    min_images: int = 512
    #: stop when the 95 % interval of the median lies within this share of it, to either side
    precision_of_median: float = 0.01
    #: warm up at the most this long
    warmup_max_seconds: float = 10.0
    #: length of each idle spell that is metered: before warm-up and after the window with the worker's context open, and
    #: before a run's first worker without one. Readings of its first half second do not count (analysis/sql/20_energy.sql)
    idle_seconds: float = 1.0
    #: everything of a cell, import and compile included, must end within this
    cell_timeout_s: float = 900.0
    #: inferences of the `device` phase, where the framework can tell device time
    device_time_runs: int = 50
    #: inferences that are recorded kernel by kernel after all else, and as many without to compare with; 0: none (`invoke explain`)
    trace_runs: int = 0
    #: fewer of them, but at least 3, where they would take longer than this together
    trace_seconds: float = 5.0
    #: server scenario: how long a query may wait for others to share its inference; 0 takes those that are there
    batch_window_ms: float = 0.0
    #: before each cell, wait until the GPU is no hotter than this, in C; None does not wait
    cool_to_c: Optional[float] = None
    #: but wait at most this long, in s
    cool_max_seconds: float = 300.0


@dataclass(frozen=True)
class Job:
    """Cells of one (variant, precision, replicate) on one device, for one supervisor.

    All paths are as the supervisor sees them. run_dir is its own: what it writes there becomes part of the run when the
    host has looked at it (common/host/runners/staging.py).
    """

    run_dir: str
    model_dir: str
    adapter: str
    image: str
    #: cpu, or cuda:<ordinal> among the devices that the process can see
    device: str
    device_name: str
    device_uuid: str
    #: engine, timing and XLA caches that outlive a run; each image has a folder of its own
    cache_dir: str
    runner: str
    cells: List[Cell]
    settings: Settings = field(default_factory=Settings)
    #: intra-op threads on the CPU; None: as many as there are CPUs to use, which is the framework's choice where that is all
    threads: Optional[int] = None
    #: .npy of the user's picture, (1, *input_shape) float32, whose top 3 classes each cell reports
    picture: Optional[str] = None
    image_digest: str = ""
    #: of the framework, where the host knows it: for rows of cells whose worker never came to tell it
    framework_version: str = ""
    #: the model as the user typed it
    model_file: str = ""
    #: what rates count, and how many of them one sample is; "" and 0: as the model says
    item: str = ""
    items_per_sample: int = 0
    #: seed of everything that the harness draws
    seed: int = 0
    #: folder in which the sidecar of the device keeps its power*.csv; None where nobody reads power
    power_dir: Optional[str] = None
    #: keys of cells that the run has already: they are not run again
    done: List[str] = field(default_factory=list)
    #: environment variables of the caller that the adapter reads, the same in every placement; rows say them in their settings
    environment: Dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Job:
        """Raises OSError, or ValueError, KeyError or TypeError for a file that is no job."""
        try:
            values: Dict[str, Any] = check(cls, json.loads(path.read_text()))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        values["cells"] = [Cell.from_dict(cell) for cell in values["cells"]]
        values["settings"] = Settings(**check(Settings, values["settings"]))
        return cls(**values)

    @classmethod
    def read_here(cls, path: Path) -> Job:
        """As read, for the process that runs it: on the CPU, threads by default follow the CPUs that it may use."""
        job = cls.read(path)
        if job.threads is None and job.device == "cpu":
            return replace(job, threads=default_threads())
        return job


#: event -> its fields beside `event` and, but for job_finish and error, `cell_key`
EVENTS = {
    "cell_start": "worker",
    "phase": "name: one of schema.PHASE_NAMES, sent when the phase begins",
    "progress": "fraction of the time that warm-up and window may take, 0 to 1; samples so far; images_per_s so far, "
    "in the last one of a cell of the whole window, as tables have it",
    "cell_finish": "status, message",
    "cooling": "seconds waited so far; temperature_c now, null where the sidecar tells none; target_c; done: true at the end",
    "job_finish": "nothing; the supervisor exits with 0 after it",
    "error": "message: only a person can mend this, one line; the supervisor exits with 2 after it",
}
