"""What an inference is made of, cell by cell: the views of analysis/sql/70_explain.sql as objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from analysis.database.connection import Database, Row

LAUNCH_GAP, WAIT_GAP = "gap: host at work", "gap: host waits"
#: Order of classes in tables and bars: work, copies, gaps.
CLASSES = (
    "convolution", "depthwise", "matrix product", "attention", "elementwise", "normalization", "reduction and pooling",
    "layout change", "other", "unclassified", "copy H2D", "copy D2H", "copy D2D", "copy P2P", "copy other", LAUNCH_GAP, WAIT_GAP,
)  # fmt: skip
#: Views that many questions build on, each on those before it: computed once for all of them.
_READY = ("kernel_names", "device_records", "host_calls", "instants", "record_shares", "idle_shares")
#: Above this share of busy time without a class the table says that the rules lack something.
MOST_UNCLASSIFIED = 0.03
#: Kernels that a table lists.
MOST_KERNELS = 10


@dataclass(frozen=True)
class Explained:
    """One traced cell. facts: its row of `explained` and of `results`. classes: class -> ns of an inference, in CLASSES' order.

    kernels: rows of `time_by_kernel`, longest first. Nothing but facts where nothing was recorded.
    """

    run: str
    cell_key: str
    facts: Row
    classes: Mapping[str, float] = field(default_factory=dict)
    kernels: Sequence[Row] = ()

    @property
    def recorded(self) -> bool:
        return self.facts["wall_ns"] is not None

    @property
    def on_gpu(self) -> bool:
        return bool(self.facts["source"] == "cupti")

    @property
    def wall_ns(self) -> float:
        """Mean of the recorded inferences; the classes add up to it."""
        return float(self.facts["wall_ns"])

    def share(self, class_name: str) -> float:
        """Of the wall time."""
        return self.classes.get(class_name, 0.0) / self.wall_ns

    def share_of_work(self, class_name: str) -> float:
        """Of the time in which the device works."""
        busy = float(self.facts["busy_ns"])
        return self.classes.get(class_name, 0.0) / busy if busy else 0.0

    @property
    def pieces(self) -> float:
        """Kernels (on the CPU: operators) of an inference."""
        return float(self.facts["kernels"] or self.facts["operators"])


def make_ready(database: Database) -> None:
    """Computes what all questions about traced cells build on. Without it each of them reads and classes every record anew."""
    if not database.query("SELECT 1 FROM duckdb_views() WHERE view_name = 'kernel_names'"):
        return
    database.query("SELECT 1 FROM kernels LIMIT 0")
    for view in _READY:
        database.execute(f"CREATE TABLE {view}_ready AS FROM {view}")
        database.execute(f"DROP VIEW {view}")
        database.execute(f"ALTER TABLE {view}_ready RENAME TO {view}")


def load(database: Database, keys: Sequence[tuple[str, str]] = ()) -> list[Explained]:
    """All traced cells, or those of (run, cell key), by model, device, precision, io, batch size and latency."""
    make_ready(database)
    rows = database.query(
        "SELECT e.*, r.variant, r.precision, r.tuning, r.input, r.version, r.batch_size, r.io, r.model, "
        "r.device, r.device_name, r.framework_version, r.status, "
        "r.median_ms, r.joules_per_image, r.power_gross_w, r.idle_w FROM explained AS e JOIN results AS r USING (run, cell_key) "
        "ORDER BY r.model, r.device_name, r.precision, r.io, r.batch_size, e.wall_ns NULLS LAST, r.variant"
    )
    classes = _by_cell(database.query("SELECT run, cell_key, class, ns FROM time_by_class"))
    kernels = _by_cell(database.query("FROM time_by_kernel ORDER BY run, cell_key, ns DESC, name"))
    found = []
    for row in rows:
        key = (row["run"], row["cell_key"])
        if keys and key not in keys:
            continue
        times = {part["class"]: float(part["ns"]) for part in classes.get(key, ())}
        ordered = {name: times[name] for name in [*CLASSES, *sorted(set(times) - set(CLASSES))] if name in times}
        found.append(Explained(*key, row, ordered, kernels.get(key, ())))
    return found


def _by_cell(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["run"], row["cell_key"]), []).append(row)
    return found


def groups(cells: Sequence[Explained]) -> dict[str, list[Explained]]:
    """Recorded cells that may stand side by side: heading -> cells, fastest first."""
    found: dict[str, list[Explained]] = {}
    for cell in cells:
        if cell.recorded:
            f = cell.facts
            heading = f"{f['model']} on {f['device_name'] or f['device']}, {f['precision']}, io={f['io']}, batch {f['batch_size']}"
            found.setdefault(heading, []).append(cell)
    return found


def short_name(name: str, most: int = 60) -> str:
    """A kernel's name without template arguments and parameters, where that leaves something that tells it."""
    if "elementwise_kernel" in name and "::" in name:  # its functor is what tells it
        inner = [
            part
            for part in name.replace("<", " ").replace("(", " ").split()
            if "at::native::" in part or "Functor" in part
        ]
        name = " ".join(dict.fromkeys(part.rpartition("::")[2].strip(",>)") for part in inner[:3])) or name
    else:
        name = name.split("<")[0].split("(")[0].removeprefix("void ").strip() or name
    return name if len(name) <= most else name[: most - 3] + "..."
