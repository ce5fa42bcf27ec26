"""`perf_analyzer -f FILE.csv`: one row per concurrency or request rate, latency quantiles in microseconds.

`Inferences/Second` counts images, batches resolved. With `--verbose-csv` and `--collect-metrics` there are also columns of the
GPU, as `UUID:value;UUID:value;`. What the file does not say (batch size, precision, framework behind the server, which of several
GPUs it ran on) the user does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.importers import foreign_csv
from analysis.importers.foreign_csv import Line, Refused
from analysis.importers.imported import Facts, Format, Imported, ImportedCell, one_device
from analysis.readers.csv_by_line import Problem
from common import names
from common.cell import Cell

_RATE = "Inferences/Second"
_LOADS = ("Concurrency", "Request Rate")
_QUANTILE = re.compile(r"p(\d+) latency")
_OF_GPUS = ("Avg GPU Power Usage", "Max GPU Memory Usage", "Avg GPU Utilization", "Total GPU Memory")
_KNOWN = (
    "Client Send", "Network+Server Send/Recv", "Server Queue", "Server Compute", "Server Compute Input",
    "Server Compute Infer", "Server Compute Output", "Server Cache Hit", "Server Cache Miss", "Client Recv", "Avg latency",
    "request/response", "response wait", "send/recv", "Delayed Request Count", *_OF_GPUS, *_LOADS,
    *(f"p{percent} latency" for percent in range(1, 100)),
)  # fmt: skip


def _recognises(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() != ".csv":
        return False
    try:
        with path.open("rb") as file:
            text, delimiter = foreign_csv.delimited_by(foreign_csv.text_of(file.read(65536), "replace"))
    except (OSError, ValueError):
        return False
    names = [name.strip().strip('"') for name in text.partition("\n")[0].split(delimiter)]
    return _RATE in names and any(load in names for load in _LOADS)


def _read(path: Path, facts: Facts) -> Imported:
    batch_size = facts.need("batch_size", "perf_analyzer's CSV does not say the batch size (its option -b, default 1)")
    framework = facts.need("framework", "perf_analyzer's CSV does not say which framework served the model")
    precision = facts.need("precision", "perf_analyzer's CSV does not say the precision")
    problems: list[Problem] = []
    refused = Refused(path)
    cells: dict[str, ImportedCell] = {}
    device = one_device(facts, facts.gpu_name)
    gpus: list[str] = []
    for line in foreign_csv.read(path, [_RATE], _KNOWN, problems, follow=True):
        try:
            load = _load(line)
            cell = Cell(
                facts.model or names.from_text(path.stem),
                framework,
                precision,
                batch_size,
                device=f"gpu{facts.gpu_ordinal or 0}",
                **load,
            )
            if cell.key in cells:
                raise ValueError("measures the same load a second time")
            here = _gpus(line, facts.gpu_ordinal)
            cells[cell.key] = _cell(line, cell, facts)
            gpus = gpus or here
        except ValueError as error:
            refused.add(line, str(error))
    if len(gpus) > 1 and facts.gpu_ordinal is None:
        named = ", ".join(f"{number}: {uuid or 'unnamed'}" for number, uuid in enumerate(gpus))
        message = (
            f"has power and memory of {len(gpus)} GPUs ({named}); which of them served the model it does not say: kept in "
            "the settings, not counted; --gpu-ordinal N takes one"
        )
        problems.append(Problem(path, message, loses=False))
    elif gpus:
        device["uuid"] = gpus[facts.gpu_ordinal or 0]
        for one in cells.values():
            one.columns["device_uuid"] = device["uuid"] or None
    return Imported(
        origin="perf_analyzer",
        cells=list(cells.values()),
        sources=[path],
        note="Imported: perf_analyzer measured through the server; latency includes its queue and the network.",
        devices=[device],
        problems=problems + refused.problems(),
    )


def _load(line: Line) -> dict[str, Any]:
    if line.fields.get("Request Rate"):
        return {"scenario": "server", "target_rate_per_s": line.positive("Request Rate")}
    if "Concurrency" not in line.fields:
        raise ValueError("neither Concurrency nor Request Rate is there")
    streams = line.whole("Concurrency")
    return {"scenario": "single-stream"} if streams == 1 else {"scenario": "multi-stream", "streams": streams}


def _cell(line: Line, cell: Cell, facts: Facts) -> ImportedCell:
    seconds = cell.batch_size / line.positive(_RATE)  # what one request of batch_size images took of the time
    quantiles: list[dict[str, float]] = []
    for name, text in line.fields.items():
        match = _QUANTILE.fullmatch(name)
        if match and text:
            latency_us = line.positive(name)
            if quantiles and latency_us * 1e3 < quantiles[-1]["latency_ns"]:
                raise ValueError(f"{name} is below the percentile before it")
            quantiles.append({"quantile": int(match[1]) / 100, "latency_ns": latency_us * 1e3})
    files: dict[str, Any] = {"passes.csv": [{"i": 0, "images": cell.batch_size, "duration_s": repr(seconds)}]}
    if quantiles:
        files["quantiles.csv"] = quantiles
    watts = _of_gpu(line, "Avg GPU Power Usage", facts.gpu_ordinal)
    if watts is not None:
        source = "mean GPU power by Triton's metrics"
        row = {"i": 0, "domain": "gpu", "energy_mj": watts * seconds * 1e3, "time_ns": seconds * 1e9, "source": source}
        files["energy.csv"] = [row]
    peak = _of_gpu(line, "Max GPU Memory Usage", facts.gpu_ordinal)
    if peak is not None and peak > foreign_csv.MOST_BYTES:
        raise ValueError("Max GPU Memory Usage is more than any device has")
    breakdown = {
        name: text
        for name, text in line.fields.items()
        if name.startswith(("Client", "Network", "Server", *_OF_GPUS)) and text
    }
    columns = {
        "device_name": facts.gpu_name,
        "device_peak_bytes": None if peak is None else round(peak),
        "settings": json.dumps({"unit": "us", **breakdown}),
    }
    return ImportedCell(cell, columns, files)


def _gpus(line: Line, ordinal: int | None) -> list[str]:
    """UUIDs of the GPUs of which the line tells something, in its order. Raises ValueError where there is no GPU `ordinal`."""
    for name in _OF_GPUS:
        entries = _entries(line.fields.get(name, ""))
        if entries:
            _within(name, entries, ordinal)
            return [entry.rpartition(":")[0] for entry in entries]
    return []


def _within(name: str, entries: Sequence[str], ordinal: int | None) -> None:
    if (ordinal or 0) >= len(entries):
        raise ValueError(f"{name} is of {len(entries)} GPUs: there is no GPU {ordinal} (--gpu-ordinal counts from 0)")


def _entries(text: str) -> list[str]:
    return [entry for entry in text.split(";") if entry]


def _of_gpu(line: Line, name: str, ordinal: int | None) -> float | None:
    """The GPU's value of `UUID:value;UUID:value;`; None where there is none, or several and nobody said which one ran.

    Raises ValueError where there is no GPU of that number, or its value is none.
    """
    entries = _entries(line.fields.get(name, ""))
    if not entries or (ordinal is None and len(entries) > 1):
        return None
    _within(name, entries, ordinal)
    value = entries[ordinal or 0].rpartition(":")[2]
    return replace(line, fields={name: value}).number_in(name)


FORMAT = Format("perf_analyzer", "perf_analyzer -f CSV", _recognises, _read)
