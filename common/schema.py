"""The contract: every file of a run, every column once, with type, unit and meaning.

Harness, sidecar, host and analysis import this module and nothing else describes a CSV.
Runs on Python 3.9 with the standard library alone, because images for older GPUs carry older Pythons.

An empty field means *unknown*, never zero. No mean, rate or rank is stored: `analysis/sql` derives them.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Sequence, Tuple

from common.text import shortened, storable

SCHEMA_VERSION = 1
#: A field holds at most so many characters: a message is cut when it is written, a longer one is refused when it is read.
MOST_TEXT = 2**16


@dataclass(frozen=True)
class Column:
    """One column of one CSV file.

    type: DuckDB's name of the type (VARCHAR, BIGINT, DOUBLE).
    unit: the unit of the value, "" where it has none.
    kind: `key` (identifies), `text`, `instant` (a reading of CLOCK_MONOTONIC), `gauge` (may be averaged),
        `counter` (only ever rises: only differences mean anything, no statistic is taken of it), `count`.
    """

    name: str
    type: str
    unit: str
    kind: str
    meaning: str


def _columns(*rows: Tuple[str, str, str, str, str]) -> Tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


CELL = _columns(
    ("cell_key", "VARCHAR", "", "key", "readable and unique within a run: the parts below joined by '_'"),
    ("model", "VARCHAR", "", "key", "name in the model registry, or the stem of the user's ONNX file"),
    ("variant", "VARCHAR", "", "key", "framework variant: onnxrt, torch, tf, tfxla, keras, kerasxla, tensorrt, ..."),
    (
        "precision",
        "VARCHAR",
        "",
        "key",
        "fp32 (TF32 off), tf32, fp16, bf16, int8 (calibrated) or int8-dynamic (int8 weights, ranges of the activations at run time)",
    ),
    ("batch_size", "BIGINT", "images", "key", "images (or other samples) in one inference"),
    ("io", "VARCHAR", "", "key", "host: copies to and from the device are timed; device: input and output stay on it"),
    ("scenario", "VARCHAR", "", "key", "single-stream, offline, multi-stream or server"),
    ("frontend", "VARCHAR", "", "key", "script, or notebook (the same worker inside a Jupyter kernel)"),
    (
        "tuning",
        "VARCHAR",
        "",
        "key",
        "stock (as the framework's first tutorial), tuned (by its public interface alone) or rewritten (framewatt changed "
        "the model or replaced kernels); empty in rows before December 2026: tuned, or rewritten where settings say so",
    ),
    (
        "input",
        "VARCHAR",
        "",
        "key",
        "type in which images are fed: float32 (the model's own; also where empty), or uint8, cast on the device",
    ),
    (
        "version",
        "VARCHAR",
        "",
        "key",
        "version of the framework that --version asked for; empty (and absent in older rows): that of the lock or of the "
        "base image, which framework_version tells",
    ),
    (
        "streams",
        "BIGINT",
        "",
        "key",
        "multi-stream: inferences at a time, each by an adapter of its own; else 1 (offline: see settings)",
    ),
    (
        "target_rate_per_s",
        "DOUBLE",
        "1/s",
        "key",
        "server: mean arrival rate of queries, each of one image; else empty",
    ),
    ("replicate", "BIGINT", "", "key", "0, 1, ...: the same cell again in a fresh worker"),
    ("device", "VARCHAR", "", "key", "cpu, or gpu<index> as the host numbers it"),
    ("device_uuid", "VARCHAR", "", "key", "NVML's UUID of the GPU; empty on the CPU"),
    ("device_name", "VARCHAR", "", "text", "product name of the GPU or CPU"),
    ("status", "VARCHAR", "", "text", "ok, oom, unsupported, timeout, crashed or parity_failed"),
    ("message", "VARCHAR", "", "text", "why the status is not ok, in one line"),
    ("image", "VARCHAR", "", "text", "folder under images/ that holds the adapter"),
    ("model_hash", "VARCHAR", "", "text", "first 12 hex digits of the SHA-256 of the exported model"),
    ("model_file", "VARCHAR", "", "text", "the model as the user typed it: a name, or a file of their own"),
    (
        "model_born",
        "VARCHAR",
        "",
        "text",
        "where the model comes from, and by which exporter it reached this framework",
    ),
    ("weights", "VARCHAR", "", "text", "origin of the weights: imagenet, seeded or user"),
    (
        "weights_dtype",
        "VARCHAR",
        "",
        "text",
        "type of the weights in the model's file, whatever the precision asked for",
    ),
    ("item", "VARCHAR", "", "text", "what items_per_s counts: image, sequence, sample, token, ...; empty: image"),
    ("items_per_sample", "BIGINT", "", "count", "items in one of batch_size; empty: 1"),
    (
        "framework_version",
        "VARCHAR",
        "",
        "text",
        "version of the framework that ran, or would have, where the host wrote the row and knows it",
    ),
    ("versions", "VARCHAR", "", "text", "JSON object of all versions that the adapter reports"),
    ("settings", "VARCHAR", "", "text", "JSON object of the settings that the adapter chose"),
    ("python_version", "VARCHAR", "", "text", "version of the interpreter that ran the worker; empty where none ran"),
    ("runner", "VARCHAR", "", "text", "local (a process) or docker (a container)"),
    ("image_digest", "VARCHAR", "", "text", "digest of the container image; empty for the local runner"),
    ("worker", "VARCHAR", "", "text", "identifies the worker process: cells of one worker share import and load"),
    ("started_utc", "VARCHAR", "", "text", "wall time at which the cell began, ISO 8601; for people, never to join on"),
    ("samples", "BIGINT", "", "count", "rows of samples.csv"),
    ("warmup_runs", "BIGINT", "", "count", "inferences before the measured window"),
    ("warmup_stop", "VARCHAR", "", "text", "steady (the last three blocks agree) or budget"),
    ("stop_reason", "VARCHAR", "", "text", "converged, noisy, unsteady or budget"),
    ("min_seconds", "DOUBLE", "s", "gauge", "the window is at least this long unless the budget ends it"),
    ("max_seconds", "DOUBLE", "s", "gauge", "budget of the measured window"),
    (
        "parity_metric",
        "VARCHAR",
        "",
        "text",
        "logits, probabilities, raw, equality or shape: what the tolerance is for; random, empty: nothing was compared",
    ),
    (
        "parity_output",
        "VARCHAR",
        "",
        "text",
        "name of the output that these figures are of: the worst; not printable: escaped; empty: the only one",
    ),
    (
        "parity_by_output",
        "VARCHAR",
        "",
        "text",
        "JSON object of the errors of several outputs; null: infinite or NaN; of too many the worst, and how many more",
    ),
    (
        "parity_tolerance",
        "DOUBLE",
        "",
        "gauge",
        "largest relative L2 error (equality: differing share) that is allowed",
    ),
    (
        "parity_rel_l2",
        "DOUBLE",
        "",
        "gauge",
        "relative L2 error of parity_metric against the reference output; empty with parity_failed: infinite or NaN",
    ),
    ("parity_prob_rel_l2", "DOUBLE", "", "gauge", "relative L2 error of the model's output as it comes out; likewise"),
    ("parity_top1", "DOUBLE", "", "gauge", "share of reference images whose top class agrees, 0 to 1"),
    ("parity_top5", "DOUBLE", "", "gauge", "mean share of the reference's top five classes found, 0 to 1"),
    ("top3", "VARCHAR", "", "text", "JSON list of [class, probability] for the user's image, best first"),
    ("host_peak_bytes", "BIGINT", "bytes", "gauge", "peak resident set of the worker during this cell"),
    ("device_peak_bytes", "BIGINT", "bytes", "gauge", "peak device memory of the worker, where the framework tells"),
    ("load_average_start", "DOUBLE", "", "gauge", "1-minute load average when the cell began"),
    ("load_average_end", "DOUBLE", "", "gauge", "1-minute load average when the cell ended"),
    (
        "cpus_own",
        "DOUBLE",
        "CPUs",
        "gauge",
        "CPUs that the worker kept busy in the measured window; empty before 29 November 2026",
    ),
    (
        "cpus_other",
        "DOUBLE",
        "CPUs",
        "gauge",
        "CPUs that everything else on the host, other virtual machines too, kept busy in that window; empty as cpus_own",
    ),
    ("origin", "VARCHAR", "", "text", "framewatt, or the name of the imported source"),
)

PHASES = _columns(
    (
        "phase",
        "VARCHAR",
        "",
        "key",
        "import, convert, load, compile, first, parity, idle_before, warmup, measure, device, idle or trace",
    ),
    ("start_ns", "BIGINT", "ns", "instant", "begin of the phase on CLOCK_MONOTONIC"),
    ("end_ns", "BIGINT", "ns", "instant", "end of the phase; empty in the phase in which a worker died"),
)

# A row is one inference of batch_size images; in the server scenario it is one query of one image, and the queries that
# shared an inference have the same start_ns and end_ns.
SAMPLES = _columns(
    ("i", "BIGINT", "", "key", "number of the inference (server: query) within the measured window, from 0"),
    (
        "start_ns",
        "BIGINT",
        "ns",
        "instant",
        "begin of the inference (server: when it was taken from the queue; offline: when it was enqueued)",
    ),
    (
        "end_ns",
        "BIGINT",
        "ns",
        "instant",
        "end of the inference: its output is readable where `io` says (offline: when its group was waited for)",
    ),
    ("scheduled_ns", "BIGINT", "ns", "instant", "server scenario: when the query was due; else empty"),
)

DEVICE_TIMES = _columns(
    ("i", "BIGINT", "", "key", "number of the inference within the `device` phase, from 0"),
    ("start_ns", "BIGINT", "ns", "instant", "begin of the inference on the host's clock"),
    ("end_ns", "BIGINT", "ns", "instant", "end of the inference on the host's clock"),
    ("device_ns", "BIGINT", "ns", "gauge", "the device's own time for it, by the framework's events"),
)

# The traced window comes after the measured one and apart from it; nothing else in a run is taken while tracing.
TRACE = _columns(
    ("source", "VARCHAR", "", "text", "what recorded: cupti, or the framework's own profiler"),
    ("source_version", "VARCHAR", "", "text", "its version"),
    (
        "message",
        "VARCHAR",
        "",
        "text",
        "why nothing could be recorded and the cure, or what the records lack; else empty",
    ),
    ("records", "BIGINT", "", "count", "rows of kernels.csv"),
    ("dropped", "BIGINT", "", "count", "records that the recorder lost for want of room; empty where it does not tell"),
    ("clock_error_ns", "BIGINT", "ns", "gauge", "largest error of the recorder's clock against CLOCK_MONOTONIC"),
)

TRACED = _columns(
    ("i", "BIGINT", "", "key", "number of the inference among those of its `traced`, from 0"),
    ("traced", "BIGINT", "", "key", "1: while recording; 0: the same loop without, before and after, to compare with"),
    ("start_ns", "BIGINT", "ns", "instant", "begin of the inference"),
    ("end_ns", "BIGINT", "ns", "instant", "end of the inference"),
)

KERNELS = _columns(
    ("i", "BIGINT", "", "key", "number of the record, from 0, by start"),
    ("inference", "BIGINT", "", "key", "i of the traced inference in which it began; empty between two of them"),
    (
        "kind",
        "VARCHAR",
        "",
        "text",
        "on a GPU kernel, memcpy, memset; on a CPU operator, dispatch (an operator's own time around those that it calls); "
        "calls of the host: launch, graph_launch, copy_call, sync",
    ),
    ("name", "VARCHAR", "", "text", "name of the kernel (demangled), operator or call"),
    ("detail", "VARCHAR", "", "text", "memcpy: H2D, D2H, D2D, P2P or other; operator: its node in the model"),
    ("stream", "BIGINT", "", "key", "stream of the GPU; thread of the host, numbered from 0"),
    ("start_ns", "BIGINT", "ns", "instant", "begin, on CLOCK_MONOTONIC"),
    ("end_ns", "BIGINT", "ns", "instant", "end, on CLOCK_MONOTONIC"),
    ("bytes", "BIGINT", "bytes", "gauge", "bytes copied or set; else empty"),
    ("graph", "BIGINT", "", "key", "CUDA graph that it belongs to; empty outside of graphs"),
    ("graph_node", "BIGINT", "", "key", "node of that graph"),
    ("correlation", "BIGINT", "", "key", "the same for a call and what it started; operator: the same for its parts"),
)

POWER = _columns(
    ("t_ns", "BIGINT", "ns", "instant", "when the reading was complete, on CLOCK_MONOTONIC"),
    ("domain", "VARCHAR", "", "key", "gpu, or RAPL's package-0, dram-0, ..."),
    ("device", "BIGINT", "", "key", "NVML index of the GPU; empty for RAPL"),
    ("uuid", "VARCHAR", "", "key", "NVML UUID of the GPU; empty for RAPL"),
    ("power_mw", "DOUBLE", "mW", "gauge", "power by power_source"),
    (
        "power_source",
        "VARCHAR",
        "",
        "text",
        "which NVML reading: instant, average or usage; with _module it counts the CPU too",
    ),
    ("driver_timestamp_us", "BIGINT", "us", "instant", "the driver's own time of the power reading, wall clock"),
    ("energy_mj", "DOUBLE", "mJ", "counter", "energy counter, unwrapped; empty in rows that did not read it"),
    ("sm_clock_mhz", "BIGINT", "MHz", "gauge", "SM clock"),
    ("memory_clock_mhz", "BIGINT", "MHz", "gauge", "memory clock"),
    ("temperature_c", "BIGINT", "C", "gauge", "GPU core temperature"),
    ("event_reasons", "BIGINT", "", "text", "bit mask of NVML's clock event reasons"),
    ("memory_used_bytes", "BIGINT", "bytes", "gauge", "device memory in use by all processes"),
    ("gpu_utilization_percent", "BIGINT", "%", "gauge", "NVML's GPU utilisation"),
    ("memory_utilization_percent", "BIGINT", "%", "gauge", "NVML's memory controller utilisation"),
)

ATTEMPTS = _columns(
    ("t_ns", "BIGINT", "ns", "instant", "when the line was written, on CLOCK_MONOTONIC"),
    ("utc", "VARCHAR", "", "text", "the same on the wall clock, for people"),
    ("event", "VARCHAR", "", "text", "start or finish: a start without a finish is a crash of the host side"),
    ("cell_key", "VARCHAR", "", "key", "the cell that was attempted"),
    ("worker", "VARCHAR", "", "text", "the worker process that was to run it"),
    ("status", "VARCHAR", "", "text", "finish only: the cell's status, or interrupted"),
    ("message", "VARCHAR", "", "text", "finish only: the reason in one line"),
)

PASSES = _columns(
    ("i", "BIGINT", "", "key", "number of the timed pass as its source published it, from 0"),
    ("images", "BIGINT", "images", "count", "images in one pass"),
    ("duration_s", "DOUBLE", "s", "gauge", "elapsed time of the pass; imported results know no instants"),
)

QUANTILES = _columns(
    ("quantile", "DOUBLE", "", "key", "share of the inferences, between 0 and 1, that took at most latency_ns"),
    ("latency_ns", "DOUBLE", "ns", "gauge", "as an imported source published it; our own come from samples.csv"),
)

ENERGY = _columns(
    ("i", "BIGINT", "", "key", "number of the measured region (imported: of the timed pass), from 0"),
    ("domain", "VARCHAR", "", "key", "gpu, or RAPL's package-0, dram-0, ..."),
    ("energy_mj", "DOUBLE", "mJ", "gauge", "energy of the whole region, as its source measured it"),
    ("time_ns", "DOUBLE", "ns", "gauge", "length of the region by the energy meter's own clock"),
    ("source", "VARCHAR", "", "text", "what measured it, in the words of the source"),
)

#: File name within a run (or within `cells/<key>/`) -> its columns.
FILES: Mapping[str, Tuple[Column, ...]] = {
    "cell.csv": CELL,
    "phases.csv": PHASES,
    "samples.csv": SAMPLES,
    "device_times.csv": DEVICE_TIMES,
    "trace.csv": TRACE,
    "traced.csv": TRACED,
    "kernels.csv": KERNELS,
    "passes.csv": PASSES,
    "quantiles.csv": QUANTILES,
    "energy.csv": ENERGY,
    "power.csv": POWER,
    "attempts.csv": ATTEMPTS,
}

#: Columns that came after runs had been published (26 November 2026): a file without them is whole, and says nothing of them.
LATER: Mapping[str, FrozenSet[str]] = {
    "cell.csv": frozenset(
        (
            "tuning",
            "input",
            "version",
            "model_file",
            "model_born",
            "weights_dtype",
            "item",
            "items_per_sample",
            "cpus_other",
            "cpus_own",
            "parity_output",
            "parity_by_output",
        )
    ),
}

PHASE_NAMES = (
    "import",
    "convert",
    "load",
    "compile",
    "first",
    "parity",
    "idle_before",
    "warmup",
    "measure",
    "device",
    "idle",
    "trace",
)
RECORD_KINDS = (
    "kernel", "memcpy", "memset", "operator", "dispatch", "launch", "graph_launch", "copy_call", "sync",
)  # fmt: skip
STATUSES = ("ok", "oom", "unsupported", "timeout", "crashed", "parity_failed")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "int8-dynamic")
IO_MODES = ("host", "device")
FRONTENDS = ("script", "notebook")
#: levels of tuning, from what a tutorial does to what takes framewatt
TUNINGS = ("stock", "tuned", "rewritten")
INPUTS = ("float32", "uint8")
SCENARIOS = ("single-stream", "offline", "multi-stream", "server")
STOP_REASONS = ("converged", "noisy", "unsteady", "budget")


def header(file_name: str) -> List[str]:
    """Names of the columns of a file, in order."""
    return [column.name for column in FILES[file_name]]


def format_row(file_name: str, row: Mapping[str, Any]) -> List[str]:
    """One row as strings in column order; None becomes the empty field, and what no CSV can hold is spelled out.

    Raises KeyError for a name that the schema does not know, so that a typo cannot lose a fact.
    """
    names = header(file_name)
    unknown = set(row) - set(names)
    if unknown:
        raise KeyError(f"{file_name} has no column {', '.join(sorted(unknown))}")
    return ["" if row.get(name) is None else shortened(storable(str(row[name])), MOST_TEXT) for name in names]


def to_csv(file_name: str, rows: Iterable[Mapping[str, Any]], with_header: bool = True) -> str:
    """Rows as CSV text with `\\n` line ends."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if with_header:
        writer.writerow(header(file_name))
    for row in rows:
        writer.writerow(format_row(file_name, row))
    return out.getvalue()


def duckdb_columns(file_name: str) -> Dict[str, str]:
    """Column name -> DuckDB type, in order: the `columns` argument of read_csv."""
    return {column.name: column.type for column in FILES[file_name]}


def column_names(columns: Sequence[Column]) -> List[str]:
    return [column.name for column in columns]
