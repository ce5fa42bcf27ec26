"""What an inference is made of, cell by cell: the views of analysis/sql/70_explain.sql as objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
#: What recording costs below this share of an inference is not told from noise, and nothing is taken off for it.
LEAST_RECORDING = 0.01
#: Above this share of an inference, the table says what recording costs.
MUCH_RECORDING = 0.10
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
        return self.why_not == ""

    @property
    def why_not(self) -> str:
        """Why the cell has no times, in a line; empty where it has."""
        f = self.facts
        if f.get("has_trace") is False:
            failed = f["status"] != "ok"
            return f"{f['status']}: {f['cell_message'] or 'no reason given'}" if failed else "trace.csv is missing"
        if f["wall_ns"] is None:
            return str(f["message"] or "traced.csv is missing, or has no recorded inference")
        if self.records_lost:
            return (
                f"kernels.csv has {f['records_read']:,} of the {f['records']:,} records that trace.csv counts; the cell is left "
                "out, since its times would be too small"
            )
        return ""

    @property
    def records_lost(self) -> int:
        """Records that the recorder wrote and kernels.csv lacks."""
        written, read = self.facts.get("records"), self.facts.get("records_read")
        return 0 if written is None or read is None else max(0, int(written - read))

    @property
    def lost(self) -> bool:
        """Whether facts that were written are not there any more, so that the cell has no times or some of its times are lost."""
        f = self.facts
        if f.get("has_trace") is False:
            return bool(f["status"] == "ok")
        return bool(self.records_lost or f.get("records_backwards") or (f["wall_ns"] is None and not f["message"]))

    @property
    def on_gpu(self) -> bool:
        return bool(self.facts["source"] == "cupti")

    @property
    def wall_ns(self) -> float:
        """Mean of the recorded inferences; the classes add up to it."""
        return float(self.facts["wall_ns"])

    @property
    def recording_ns(self) -> float:
        """By how much longer an inference takes while recorded (medians); negative where it takes less, 0 where unknown."""
        recorded, without = self.facts.get("median_traced_ns"), self.facts.get("median_untraced_ns")
        return 0.0 if recorded is None or without is None else float(recorded - without)

    @property
    def taken_off_ns(self) -> float:
        """What recording costs, as far as it fits into the gaps: the recorder works while the device is idle."""
        cost = self.recording_ns
        if cost < LEAST_RECORDING * self.wall_ns:
            return 0.0
        return min(cost, self.classes.get(LAUNCH_GAP, 0.0) + self.classes.get(WAIT_GAP, 0.0))

    @property
    def time_ns(self) -> float:
        """An inference without what recording costs; the times by `time_of` add up to it."""
        return self.wall_ns - self.taken_off_ns

    def time_of(self, class_name: str) -> float:
        """ns of a class without what recording costs: that is taken off the gaps while the host works, and then off the others."""
        ns = self.classes.get(class_name, 0.0)
        if class_name == LAUNCH_GAP:
            return max(0.0, ns - self.taken_off_ns)
        if class_name == WAIT_GAP:
            return max(0.0, ns - max(0.0, self.taken_off_ns - self.classes.get(LAUNCH_GAP, 0.0)))
        return ns

    def share(self, class_name: str) -> float:
        """Of the time without what recording costs."""
        return self.time_of(class_name) / self.time_ns

    @property
    def busy_share(self) -> float:
        """Of the time without what recording costs."""
        return float(self.facts["busy_ns"]) / self.time_ns

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


def records(document: Mapping[str, Any]) -> bool:
    """Whether the run of this run.json was asked to record each cell."""
    settings = document.get("settings")
    asked = settings.get("trace_runs") if isinstance(settings, Mapping) else None
    return isinstance(asked, int) and not isinstance(asked, bool) and asked > 0


def load(database: Database, keys: Sequence[tuple[str, str]] = ()) -> list[Explained]:
    """All cells of traced runs, or those of (run, cell key), by model, device, precision, io, batch size and latency.

    A run that was to be traced is one, also where no cell came so far: it is the run of which most is to be said.
    """
    make_ready(database)
    asked = [run for run, document in database.documents.items() if records(document)]
    rows = database.query(
        "SELECT r.run, r.cell_key, e.* EXCLUDE (run, cell_key), e.run IS NOT NULL AS has_trace, r.message AS cell_message, "
        "r.variant, r.precision, r.tuning, r.input, r.version, r.batch_size, r.io, r.model, r.device, r.device_name, "
        "r.device_uuid, r.framework_version, r.status, r.median_ms, r.joules_per_image, r.power_gross_w, r.idle_w "
        "FROM results AS r LEFT JOIN explained AS e ON e.run = r.run AND e.cell_key = r.cell_key "
        "WHERE r.run IN (SELECT run FROM trace_row UNION ALL SELECT unnest($1::VARCHAR[])) "
        "ORDER BY r.model, r.device_name, r.precision, r.io, r.batch_size, e.wall_ns NULLS LAST, r.variant",
        [asked],
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


#: What tells one instance of a template from another: functors and operations, of PyTorch, Eigen and ONNX Runtime; CUTLASS's names.
_TELLING = re.compile(
    r"CUDAFunctor_\w+|\w+Functor(?:_\w+)?\b|\w+Ops\b|\bOP_\w+|\bscalar_\w+_op\b|\bTensor\w+Op\b|\w+_kernel_cuda\b"
    r"|\w+_kernel(?=\()|\blaunch_\w+(?=\()|\w+_cuda_out\b|\w+pooling_func\b|\bcutlass_\w+"
)
_GENERIC = re.compile(r"(?:[AB]?Unary|Binary|Opaque\w*)Functor|TensorAssignOp|TensorCwise\w+Op|TensorEvalToOp")
#: arguments of a template that tell nothing by themselves
_SILENT = re.compile(r"true|false|\(.*\)-?\d+|")


#: namespaces before a name that tells enough without them
_NAMESPACES = re.compile(r"\b(?:\w+::)+(?=\w{9})")


def short_name(name: str, most: int = 60) -> str:
    """A kernel's name with as much of its template's arguments as tells it from others, without its parameters."""
    name = name.replace("(anonymous namespace)::", "").removeprefix("void ").strip()
    # of a return type that is a template, only what it belongs to tells anything
    name = re.sub(r"^std::enable_if<.*?>::type ", "", name)
    base, arguments = _parts(name)
    if base != name:
        base = _NAMESPACES.sub("", base)
    telling = [part for part in dict.fromkeys(_TELLING.findall(arguments)) if not _GENERIC.fullmatch(part)]
    if telling:
        return _cut(telling[0] if telling[0].startswith("cutlass_") else " ".join([base, *telling[:2]]), most)
    kept: list[str] = []
    for argument in _top_level(arguments):
        if not _SILENT.fullmatch(argument) and argument not in kept[-1:]:
            kept.append(argument)
    shown = re.sub(r"\b(?:\w+::)+", "", ", ".join(kept))
    return _cut(f"{base}<{shown}>" if shown else base or name, most)


def _parts(name: str) -> tuple[str, str]:
    """A C++ name without template arguments and parameters, and the arguments; of other names all, and nothing."""
    start = next((place for place, letter in enumerate(name) if letter in "<("), len(name))
    if name[start:].startswith("<"):
        depth = 0
        for place in range(start, len(name)):
            depth += {"<": 1, ">": -1}.get(name[place], 0)
            if not depth:
                return name[:start], name[start + 1 : place]
        return name[:start], name[start + 1 :]
    return name[:start].strip(), ""


def _top_level(arguments: str) -> list[str]:
    """Arguments of a template, split at the commas between them and not at those within one."""
    found, depth = [""], 0
    for letter in arguments:
        depth += {"<": 1, "(": 1, "{": 1, ">": -1, ")": -1, "}": -1}.get(letter, 0)
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [argument.strip() for argument in found]


def _cut(name: str, most: int) -> str:
    """What tells generated kernels and those of one template apart stays: the number at the end, the size of a tile."""
    if len(name) <= most:
        return name
    end = re.search(r"_[\dx]*tilesize[\dx]+|\w{12}_\d+$|_\d+x\d+_\w{1,16}$", name)
    kept = end.group() if end else ""
    return name[: most - 3 - len(kept)] + "..." + kept
