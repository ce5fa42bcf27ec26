"""`trtexec --exportTimes=FILE.json`: the instants of every inference, in ms of the device's events.

Each entry holds startH2dMs .. endD2hMs (TensorRT 8.0 and before: startInMs .. endOutMs), and computeMs. An inference lasts from
the begin of its copy to the device to the end of the copy back, which is what `io=host` means. The file says nothing of batch
size, precision and GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.importers.imported import Facts, Format, Imported, ImportedCell, one_device
from analysis.readers.csv_by_line import Problem
from common.cell import Cell
from common.errors import UserError

_BEGIN, _END = ("startH2dMs", "startInMs"), ("endD2hMs", "endOutMs")
MOST_LINES = 5
#: Later than this, 30 years, is no time of a benchmark; NaN and infinity are not below it either.
MOST_MS = 1e12


def _recognises(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            return b'"startComputeMs"' in file.read(4096)
    except OSError:
        return False


def _read(path: Path, facts: Facts) -> Imported:
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON; trtexec --exportTimes may have been cut short") from None
    if not isinstance(entries, list):
        raise UserError(f"{path} is not the list of times that trtexec --exportTimes writes")
    cell = Cell(
        model=facts.model or path.stem,
        variant=facts.framework or "tensorrt",
        precision=facts.need("precision", "trtexec's times do not say the precision"),
        batch_size=facts.need("batch_size", "trtexec's times do not say the batch size"),
        device=f"gpu{facts.gpu_ordinal or 0}",
    )
    problems: list[Problem] = []
    spans: list[tuple[int, int]] = []
    bad: dict[str, list[int]] = {}
    for number, entry in enumerate(entries, 1):
        try:
            spans.append(_span(entry))
        except ValueError as error:
            bad.setdefault(str(error), []).append(number)
    for reason, numbers in bad.items():
        first = ", ".join(map(str, numbers[:MOST_LINES]))
        problems.append(Problem(path, f"entry {first}: {reason}", rows=len(numbers)))
    if not spans:
        return Imported("trtexec", [], [path], problems=problems)
    spans.sort()
    zero = spans[0][0]
    samples = [{"i": i, "start_ns": start - zero, "end_ns": end - zero} for i, (start, end) in enumerate(spans)]
    window = {"phase": "measure", "start_ns": 0, "end_ns": max(end for _, end in spans) - zero}
    columns = {
        "device_name": facts.gpu_name,
        "samples": len(samples),
        "settings": json.dumps({"clock": "device events of trtexec; 0 is the first inference"}),
    }
    return Imported(
        origin="trtexec",
        cells=[ImportedCell(cell, columns, {"samples.csv": samples, "phases.csv": [window]})],
        sources=[path],
        devices=[one_device(facts, facts.gpu_name)],
        problems=problems,
    )


def _span(entry: Any) -> tuple[int, int]:
    """(begin, end) in ns; ValueError with the reason."""
    if not isinstance(entry, Mapping):
        raise ValueError("is no object")
    start, end = _time(entry, _BEGIN), _time(entry, _END)
    if end < start:
        raise ValueError("ends before it begins")
    compute = entry.get("computeMs")
    if isinstance(compute, (int, float)) and compute < 0:
        raise ValueError("computeMs is negative")
    return round(start * 1e6), round(end * 1e6)


def _time(entry: Mapping[str, Any], names: tuple[str, ...]) -> float:
    for name in names:
        if name in entry:
            value = entry[name]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST_MS:
                raise ValueError(f"{name} is no time")
            return float(value)
    raise ValueError(f"lacks {names[0]}")


FORMAT = Format("trtexec", "trtexec --exportTimes JSON", _recognises, _read)
