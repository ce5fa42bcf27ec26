"""`trtexec --exportTimes=FILE.json`: the instants of every inference, in ms of the device's events.

Each entry holds startH2dMs .. endD2hMs (TensorRT 8.0 and before: startInMs .. endOutMs), the lengths h2dMs, computeMs and d2hMs,
and latencyMs, their sum. That sum is trtexec's latency, and here too: instants are printed with six digits, so that differences of
late ones mean little, and where copies of one inference overlap the kernels of another, as they do by default, an inference also
waits between its copies and its kernels. Such a file is no single-stream: what it had in flight at a time stands in `streams`.
The file says nothing of batch size, precision and GPU.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.importers import foreign_csv
from analysis.importers.imported import Facts, Format, Imported, ImportedCell, one_device
from analysis.readers.csv_by_line import Problem
from common import names
from common.cell import Cell
from common.errors import UserError
from common.host import regular_files
from common.stats.percentiles import MIN_SAMPLES_OF_PERCENTILE

_BEGIN, _END = ("startH2dMs", "startInMs"), ("endD2hMs", "endOutMs")
MOST_LINES = 5
#: As C++ prints numbers unless told otherwise. A file in which no instant has so many was not cut: its numbers are round.
PRINTED_DIGITS = 6
#: The last digit of instants is at most this share of a latency that is taken from them.
MOST_COARSE = 0.001
#: Later than this, 30 years, is no time of a benchmark; NaN and infinity are not below it either.
MOST_MS = 1e12


def _recognises(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            return '"startComputeMs"' in foreign_csv.text_of(file.read(8192), "replace")
    except (OSError, ValueError):
        return False


def _read(path: Path, facts: Facts) -> Imported:
    try:
        text = foreign_csv.text_of(regular_files.read(path, foreign_csv.MOST_FILE_BYTES, follow=True))
        entries = json.loads(text, parse_float=Number.of, parse_int=Number.of)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON; trtexec --exportTimes may have been cut short") from None
    if not isinstance(entries, list):
        raise UserError(f"{path} is not the list of times that trtexec --exportTimes writes")
    cell = Cell(
        model=facts.model or names.from_text(path.stem),
        variant=facts.framework or "tensorrt",
        precision=facts.need("precision", "trtexec's times do not say the precision"),
        batch_size=facts.need("batch_size", "trtexec's times do not say the batch size"),
        device=f"gpu{facts.gpu_ordinal or 0}",
    )
    problems: list[Problem] = []
    bad: dict[str, list[int]] = {}
    times: list[_Times] = []
    digits = _digits(entries)
    for number, entry in enumerate(entries, 1):
        try:
            times.append(_times(entry, digits))
        except ValueError as error:
            bad.setdefault(str(error), []).append(number)
    for reason, numbers in bad.items():
        first = ", ".join(map(str, numbers[:MOST_LINES]))
        problems.append(Problem(path, f"entry {first}: {reason}", rows=len(numbers)))
    if not times:
        return Imported("trtexec", [], [path], problems=problems)
    times.sort(key=lambda one: (one.start_ms, one.end_ms))
    streams = in_flight(times)
    if streams > 1:
        message = (
            f"has up to {streams} inferences in flight (copies of one overlap kernels of another): imported as multi-stream, with "
            "trtexec's own latency, which leaves out the waiting between copies and kernels"
        )
        problems.append(Problem(path, message, loses=False))
        cell = Cell.from_dict({**cell.to_dict(), "scenario": "multi-stream", "streams": streams})
    return Imported(
        origin="trtexec",
        cells=[_cell(cell, times, facts)],
        sources=[path],
        devices=[one_device(facts, facts.gpu_name)],
        problems=problems,
    )


@dataclass(frozen=True)
class _Times:
    """One inference, in ms. slack_ms: the last digit of its instants; latency_ms: trtexec's own."""

    start_ms: float
    end_ms: float
    latency_ms: float
    slack_ms: float


def in_flight(times: Sequence[_Times]) -> int:
    """The most inferences that were under way at a time, for long enough not to be a matter of the last digit. times: by start."""
    edges = sorted(
        edge
        for one in times
        for edge in ((one.start_ms + one.slack_ms, 1), (max(one.end_ms, one.start_ms + one.slack_ms), -1))
    )
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return max(most, 1)


def _cell(cell: Cell, times: Sequence[_Times], facts: Facts) -> ImportedCell:
    zero = times[0].start_ms
    window_ms = max(one.end_ms for one in times) - zero
    settings = {"clock": "device events of trtexec; 0 is the first inference", "latency": "trtexec's own (latencyMs)"}
    columns = {"device_name": facts.gpu_name, "settings": json.dumps(settings)}
    if cell.scenario == "single-stream":
        samples, free = [], 0
        for i, one in enumerate(times):
            # digits that are missing would make an inference begin before the last one ended
            start = max(round((one.start_ms - zero) * 1e6), free)
            free = start + round(one.latency_ms * 1e6)
            samples.append({"i": i, "start_ns": start, "end_ns": free})
        window = {"phase": "measure", "start_ns": 0, "end_ns": max(free, round(window_ms * 1e6))}
        return ImportedCell(
            cell, {**columns, "samples": len(samples)}, {"samples.csv": samples, "phases.csv": [window]}
        )
    # the instants tell of the whole window, the latencies of the single inference: no samples hold both
    passed = {"i": 0, "images": len(times) * cell.batch_size, "duration_s": repr(window_ms / 1e3)}
    latencies = sorted(one.latency_ms * 1e6 for one in times)
    quantiles = [
        {"quantile": percentile / 100, "latency_ns": _quantile(latencies, percentile / 100)}
        for percentile, count in MIN_SAMPLES_OF_PERCENTILE.items()
        if len(latencies) >= count
    ]
    return ImportedCell(cell, columns, {"passes.csv": [passed], **({"quantiles.csv": quantiles} if quantiles else {})})


def _quantile(values: Sequence[float], share: float) -> float:
    """Between the two nearest of the sorted values, as DuckDB's quantile_cont."""
    place = share * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


def _digits(entries: Sequence[Any]) -> int:
    """Significant digits of the file's instants: the most that one has, for zeros at the end are not printed."""
    found = 1
    for entry in entries:
        for name in (*_BEGIN, *_END) if isinstance(entry, Mapping) else ():
            value = entry.get(name)
            if isinstance(value, Number):
                found = max(found, value.digits)
    return found


def _times(entry: Any, digits: int) -> _Times:
    """Raises ValueError with the reason."""
    if not isinstance(entry, Mapping):
        raise ValueError("is no object")
    start, end = _time(entry, _BEGIN), _time(entry, _END)
    if end < start:
        raise ValueError("ends before it begins")
    compute = entry.get("computeMs")
    if isinstance(compute, (int, float)) and compute < 0:
        raise ValueError("computeMs is negative")
    rounded = digits >= PRINTED_DIGITS and end > 0
    slack = 10.0 ** (math.floor(math.log10(end)) + 1 - digits) if rounded else 0.0
    latency = _own_latency(entry)
    if latency is None:
        if slack > MOST_COARSE * (end - start):
            raise ValueError("has no latencyMs, and instants of too few digits to tell one from")
        latency = end - start
    return _Times(start, end, latency, slack)


def _own_latency(entry: Mapping[str, Any]) -> float | None:
    """What trtexec calls latency: its own figure, or the lengths that it sums up; None where neither is there."""
    if "latencyMs" in entry:
        return _time(entry, ("latencyMs",))
    for parts in (("h2dMs", "computeMs", "d2hMs"), ("inMs", "computeMs", "outMs")):
        if all(part in entry for part in parts):
            return sum(_time(entry, (part,)) for part in parts)
    return None


class Number(float):
    """A number as it was written. digits: significant ones."""

    digits: int

    @classmethod
    def of(cls, text: str) -> Number:
        number = cls(text)
        number.digits = len(text.lower().partition("e")[0].lstrip("+-0.").replace(".", "")) or 1
        return number


def _time(entry: Mapping[str, Any], names: tuple[str, ...]) -> float:
    for name in names:
        if name in entry:
            value = entry[name]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST_MS:
                raise ValueError(f"{name} is no time")
            return float(value)
    raise ValueError(f"lacks {names[0]}")


FORMAT = Format("trtexec", "trtexec --exportTimes JSON", _recognises, _read)
