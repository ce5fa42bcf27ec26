"""The published layout of the PERFACCT study of inference frameworks (BSD-3-Clause): one folder per GPU.

`<framework>_10_it_<site>_py.csv`: ten timed passes for each batch size (seconds, images/s, seconds per image, bytes).
`ema/*.csv`: energy in microjoules and time in microseconds, one row per pass and meter, the machine's GPUs in their order first.
Only the meters of the GPU that ran, and of the CPU where there are any, are taken: other GPUs of the machine idled.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.importers import foreign_csv
from analysis.importers.foreign_csv import Line, Refused
from analysis.importers.imported import Facts, Format, Imported, ImportedCell, one_device
from analysis.readers.csv_by_line import Problem
from common.cell import Cell
from common.errors import UserError, unknown

ORIGIN = "PERFACCT study"
MEASURED = "winter 2023/24"
NOTE = (
    "Imported: the source gives no single inferences, hence no percentiles, and does not say whether TF32 was off; "
    "images per pass differ between frameworks."
)
MODEL = "MobileNetV3L"

#: Names in files and regions -> (variant, precision).
FRAMEWORKS: Mapping[str, tuple[str, str]] = {
    "tf": ("tf", "fp32"),
    "tfxla": ("tfxla", "fp32"),
    "keras": ("keras", "fp32"),
    "kerasxla": ("kerasxla", "fp32"),
    "onnxrt": ("onnxrt", "fp32"),
    "torch": ("torch", "fp32"),
    "tftrtfp32": ("tftrt", "fp32"),
    "tftrtfp16": ("tftrt", "fp16"),
}
#: NVIDIA's compute capability of the study's GPUs: which is newer than which.
_COMPUTE_CAPABILITY = {"NVIDIA A2": "8.6", "Tesla V100S-PCIE-32GB": "7.0", "NVIDIA TITAN X (Pascal)": "6.1"}

_FILE = re.compile(r"(.+)_(\d+)_it_[a-z0-9]+_(py|nb)\.csv", re.IGNORECASE)
_MACHINE_PREFIX = re.compile(r"[a-z]+[0-9]+")
_REGION = re.compile(r"(.+)_(\d+)_(\d+)")
_CPU_METER = re.compile(r"CPU-(\d+)\.(package|dram)(?:-\d+)?")
_TIMES = ("Batch_Size", "Elapsed_Times", "Throughput", "Latency")
_METERS = ("region_idf", "device_name", "energy", "time")
#: Watts of one meter, and the time of a meter's region by that of its pass: outside of these the units are others.
_PLAUSIBLE_W = (0.01, 5000.0)
_PLAUSIBLE_RATIO = (0.1, 10.0)

#: (framework, batch size, frontend)
_Key = tuple[str, int, str]


def _recognises(path: Path) -> bool:
    return path.is_dir() and any(_FILE.fullmatch(file.name) for file in path.glob("*.csv"))


def _read(path: Path, facts: Facts) -> Imported:
    problems: list[Problem] = []
    cells: dict[_Key, ImportedCell] = {}
    sources = []
    for file in sorted(path.glob("*.csv")):
        match = _FILE.fullmatch(file.name)
        if match is None:
            problems.append(Problem(file, "is not named as the study's files are; left out", loses=False))
            continue
        sources.append(file)
        framework = _framework(match[1])
        if framework is None:
            problems.append(Problem(file, str(unknown("framework", match[1], FRAMEWORKS))))
            continue
        frontend = "script" if match[3].lower() == "py" else "notebook"
        _passes(file, framework, frontend, int(match[2]), cells, problems)
    meters = sorted((path / "ema").glob("*.csv"))
    ordinal, name = 0, None
    if meters:
        regions = [(file, _regions(file, problems)) for file in meters]
        ordinal = _ordinal([rows for _, found in regions for rows in found.values()], facts.gpu_ordinal)
        for file, found in regions:
            name = _energy(file, found, ordinal, cells, problems) or name
    else:
        ordinal = facts.gpu_ordinal or 0
        problems.append(Problem(path / "ema", "does not exist: energy and power stay unknown", loses=False))
    name = facts.gpu_name or name
    device = one_device(Facts(gpu_ordinal=ordinal), name, _COMPUTE_CAPABILITY.get(name or ""))
    for one in cells.values():
        one.cell = Cell.from_dict({**one.cell.to_dict(), "device": device["device"]})
        one.columns["device_name"] = name
    return Imported(
        origin=ORIGIN, cells=list(cells.values()), sources=sources + meters, licence=_licence(path), measured=MEASURED,
        note=NOTE, devices=[device], problems=problems,
    )  # fmt: skip


def _framework(name: str) -> str | None:
    """The framework of a file's name, which may begin with the machine's: v100tfxla."""
    lower = name.lower()
    if lower in FRAMEWORKS:
        return lower
    endings = [
        known for known in FRAMEWORKS if lower.endswith(known) and _MACHINE_PREFIX.fullmatch(lower.removesuffix(known))
    ]
    return max(endings, key=len, default=None)


def _licence(path: Path) -> str | None:
    """Title and copyright lines of the licence that lies with the data."""
    for folder in (path, path.resolve().parent):
        for file in sorted(folder.glob("LICEN[CS]E*")):
            try:
                lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            except (OSError, UnicodeDecodeError):
                continue
            if lines:
                return ", ".join([lines[0], *(line for line in lines[1:] if line.startswith("Copyright"))])
    return None


def _passes(
    file: Path, framework: str, frontend: str, announced: int, cells: dict[_Key, ImportedCell], problems: list[Problem]
) -> None:
    refused, unknown_memory = Refused(file), Refused(file)
    found: dict[int, list[dict[str, Any]]] = {}
    memory: dict[int, list[int]] = {}
    for line in foreign_csv.read(file, _TIMES, ["GPU_Memory_Usage"], problems):
        try:
            batch_size = line.whole("Batch_Size")
            rows = found.setdefault(batch_size, [])
            images, duration = _pass(line)
        except ValueError as error:
            refused.add(line, str(error))
            continue
        rows.append({"i": len(rows), "images": images, "duration_s": repr(duration)})
        if line.fields.get("GPU_Memory_Usage"):
            try:
                memory.setdefault(batch_size, []).append(line.bytes_in("GPU_Memory_Usage"))
            except ValueError as error:
                unknown_memory.add(line, f"{error}; taken as unknown")
    problems += refused.problems() + unknown_memory.problems(loses=False)
    variant, precision = FRAMEWORKS[framework]
    for batch_size, rows in found.items():
        key = (framework, batch_size, frontend)
        if not rows:
            continue
        if key in cells:
            problems.append(Problem(file, f"measures batch {batch_size} of {framework} a second time", rows=len(rows)))
            continue
        if len(rows) != announced:
            message = f"has {len(rows)} usable passes at batch {batch_size}; its name says {announced}"
            problems.append(Problem(file, message, loses=False))
        cell = Cell(MODEL, variant, precision, batch_size, frontend=frontend)
        settings = {"images_per_pass": rows[0]["images"], "passes": len(rows), "tf32": "unknown"}
        peak = max(memory.get(batch_size, ()), default=None)
        columns = {
            "settings": json.dumps(settings),
            "device_peak_bytes": peak,
            "message": None,
        }
        cells[key] = ImportedCell(cell, columns, {"passes.csv": rows})


def _pass(line: Line) -> tuple[int, float]:
    """(images, seconds) of a pass; ValueError where its three figures do not belong together."""
    duration, rate, per_image = (line.positive(name) for name in ("Elapsed_Times", "Throughput", "Latency"))
    images = round(duration * rate)
    if not 1 <= images <= foreign_csv.MOST_COUNT or abs(duration * rate - images) > 1e-3:
        raise ValueError("Elapsed_Times x Throughput is no whole number of images: other units than s and images/s?")
    if not math.isclose(per_image * rate, 1, rel_tol=1e-6):
        raise ValueError("Latency is not 1 / Throughput: other units than s per image and images/s?")
    return images, duration


def _regions(file: Path, problems: list[Problem]) -> dict[str, list[Line]]:
    """Region -> its rows in the order of the file."""
    found: dict[str, list[Line]] = {}
    others = ("thread", "file", "line", "function", "visits")
    for line in foreign_csv.read(file, _METERS, others, problems):
        found.setdefault(line.fields["region_idf"], []).append(line)
    return found


def _gpu_rows(rows: list[Line]) -> list[Line]:
    return [line for line in rows if not _CPU_METER.fullmatch(line.fields["device_name"])]


def _ordinal(regions: list[list[Line]], given: int | None) -> int:
    most = max((len(_gpu_rows(rows)) for rows in regions), default=1)
    if given is None and most > 1:
        raise UserError(
            f"the energy files list {most} GPUs a pass; say which one ran with --gpu-ordinal 0 to {most - 1}"
        )
    if given is not None and not 0 <= given < max(most, 1):
        raise UserError(f"there is no GPU {given}; the energy files list {most}: --gpu-ordinal 0 to {most - 1}")
    return given or 0


def _energy(
    file: Path,
    regions: Mapping[str, list[Line]],
    ordinal: int,
    cells: Mapping[_Key, ImportedCell],
    problems: list[Problem],
) -> str | None:
    """Adds energy.csv to the cells that the regions name; returns the name of the GPU that ran."""
    refused = Refused(file)
    name = None
    frontend = "notebook" if file.stem.lower().endswith("_nb") else "script"
    for region, rows in regions.items():
        match = _REGION.fullmatch(region)
        framework = match[1].lower() if match else None
        if match is None or framework is None:
            refused.add(rows[0], f"'{region[:40]}' is no <framework>_<batch>_<pass>")
            continue
        if framework not in FRAMEWORKS:
            refused.add(rows[0], str(unknown("framework", match[1], FRAMEWORKS)))
            continue
        one = cells.get((framework, int(match[2]), frontend))
        if one is None:
            refused.add(rows[0], f"energy of {framework} at batch {match[2]}, which has no timed pass")
            continue
        gpus = _gpu_rows(rows)
        wanted = [(line, "gpu") for line in gpus[ordinal : ordinal + 1]]
        if not wanted:
            refused.add(rows[0], f"lists {len(gpus)} GPUs, not the one that ran")
        else:
            name = name or gpus[ordinal].fields["device_name"]
        for line in rows:
            meter = _CPU_METER.fullmatch(line.fields["device_name"])
            if meter:
                wanted.append((line, f"{meter[2]}-{meter[1]}"))
        number = int(match[3])
        seconds = {int(row["i"]): float(row["duration_s"]) for row in one.files["passes.csv"]}.get(number)
        for line, domain in wanted:
            try:
                row = _reading(line, seconds)
            except ValueError as error:
                refused.add(line, str(error))
                continue
            earlier = list(one.files.get("energy.csv", ()))
            if any(old["i"] == number and old["domain"] == domain for old in earlier):
                refused.add(line, "measures the same pass and meter a second time")
                continue
            one.files["energy.csv"] = [*earlier, {"i": number, "domain": domain, **row}]
    problems += refused.problems()
    return name


def _reading(line: Line, pass_s: float | None) -> dict[str, Any]:
    energy_uj, time_us = line.number_in("energy"), line.positive("time")
    low, high = _PLAUSIBLE_W
    if not low <= energy_uj / time_us <= high:
        raise ValueError(
            "energy / time is no power that a meter could show: other units than microjoules, microseconds?"
        )
    if pass_s is not None and not _PLAUSIBLE_RATIO[0] <= time_us / 1e6 / pass_s <= _PLAUSIBLE_RATIO[1]:
        raise ValueError("time is far from the elapsed time of its pass: other units than microseconds?")
    return {"energy_mj": repr(energy_uj / 1e3), "time_ns": repr(time_us * 1e3), "source": "EMA"}


FORMAT = Format("study", "the published layout of the PERFACCT study", _recognises, _read)
