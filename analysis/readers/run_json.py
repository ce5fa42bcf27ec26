"""What `run.json` says of a run, as rows for SQL. Anything missing or of another type is unknown, never an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.readers.csv_by_line import Problem
from common.host import regular_files
from common.text import shortened, storable

#: column of the table `run` -> (DuckDB type, where it stands in run.json)
RUN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "command": ("VARCHAR", ("command",)),
    "created_utc": ("VARCHAR", ("created_utc",)),
    "finished_utc": ("VARCHAR", ("finished_utc",)),
    "origin": ("VARCHAR", ("origin",)),
    "seed": ("BIGINT", ("seed",)),
    "runner": ("VARCHAR", ("runner",)),
    "cpu_model": ("VARCHAR", ("host", "cpu_model")),
    "logical_cores": ("BIGINT", ("host", "logical_cores")),
    "memory_bytes": ("BIGINT", ("host", "memory_bytes")),
    "kernel": ("VARCHAR", ("host", "kernel")),
    "os": ("VARCHAR", ("host", "os")),
    "governor": ("VARCHAR", ("host", "governor")),
    "turbo": ("VARCHAR", ("host", "turbo")),
    "clock_source": ("VARCHAR", ("host", "clock_source")),
    "usable_cores": ("BIGINT", ("host", "usable_cores")),
    "cpu_quota": ("DOUBLE", ("host", "cpu_quota")),
    "cores_short": ("VARCHAR", ("placement", "short")),
    "virtualization": ("VARCHAR", ("host", "hypervisor")),
    "source_revision": ("VARCHAR", ("source_revision",)),
    "cool_to_c": ("DOUBLE", ("settings", "cool_to_c")),
    "weights_note": ("VARCHAR", ("model", "weights_note")),
}

#: column of the table `run_device` -> DuckDB type; the same names in an entry of `devices`
DEVICE: Mapping[str, str] = {
    "device": "VARCHAR",
    "uuid": "VARCHAR",
    "name": "VARCHAR",
    "driver": "VARCHAR",
    "cuda": "VARCHAR",
    "compute_capability": "VARCHAR",
    "memory_bytes": "BIGINT",
    "power_limit_mw": "DOUBLE",
    "power_limit_default_mw": "DOUBLE",
    "ecc": "VARCHAR",
    "persistence": "VARCHAR",
    "pcie_generation": "BIGINT",
    "pcie_generation_max": "BIGINT",
    "pcie_width": "BIGINT",
    "pcie_width_max": "BIGINT",
    "mig_mode": "VARCHAR",
    "sm_clock_default_mhz": "BIGINT",
    "sm_clock_max_mhz": "BIGINT",
    "processes": "BIGINT",
    "no_cpu_energy": "VARCHAR",
    "no_power": "VARCHAR",
}

#: column of the table `cooling` -> DuckDB type; the same names in an entry of `cooling`
COOLING: Mapping[str, str] = {"seconds": "DOUBLE", "temperature_c": "DOUBLE", "target_c": "DOUBLE"}

#: column of the table `idle_spell` -> DuckDB type; the same names in the entries of `idle_without_context`
IDLE_SPELL: Mapping[str, str] = {"start_ns": "BIGINT", "end_ns": "BIGINT"}

Value = str | int | float | None

#: Bytes of run.json, and characters of one text in it.
MOST_BYTES = 16 * 2**20
MOST_TEXT = 4096


def _value(kind: str, value: object) -> Value:
    if isinstance(value, bool):
        return ("on" if value else "off") if kind == "VARCHAR" else None
    if kind == "VARCHAR":
        return _text(value) if isinstance(value, (str, int, float)) and value != "" else None
    # whole numbers of any size are compared as they are: one beyond 1e308 is no float
    if not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:
        return None
    if kind == "BIGINT":
        return int(value) if -(2**63) <= value < 2**63 else None
    return float(value)


_LARGEST = sys.float_info.max


def _text(value: object) -> str:
    try:
        return shortened(storable(str(value)), MOST_TEXT)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"


def _at(document: object, path: Sequence[str]) -> object:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def read(run_dir: Path) -> tuple[dict[str, Any], Problem | None]:
    """The document, {} where there is none, and what is wrong with it."""
    path = run_dir / "run.json"
    try:
        document = json.loads(regular_files.read(path, MOST_BYTES))
    except FileNotFoundError:
        return {}, Problem(path, "is missing: machine and settings of this run are unknown")
    except OSError as error:
        return {}, Problem(path, f"cannot be read: {error.strerror}")
    except (ValueError, RecursionError):
        return {}, Problem(path, "is not JSON: machine and settings of this run are unknown")
    if not isinstance(document, dict):
        return {}, Problem(path, "is not a JSON object: machine and settings of this run are unknown")
    return document, None


def run_row(document: Mapping[str, Any]) -> list[Value]:
    """Values in the order of RUN."""
    return [_value(kind, _at(document, path)) for kind, path in RUN.values()]


def device_rows(document: Mapping[str, Any]) -> list[list[Value]]:
    """One row per entry of `devices`, values in the order of DEVICE; `processes` is their number.

    no_cpu_energy, no_power: what `power` says of the device's sidecar; the second why it recorded nothing, empty where it did.
    """
    rows: list[list[Value]] = []
    devices = document.get("devices")
    for device in devices if isinstance(devices, list) else []:
        if isinstance(device, dict):
            processes = device.get("processes")
            values = {
                **device,
                "processes": len(processes) if isinstance(processes, list) else None,
                "no_cpu_energy": _at(document, ("power", str(device.get("device")), "no_cpu_energy")),
                "no_power": _no_power(_at(document, ("power", str(device.get("device"))))),
            }
            rows.append([_value(kind, values.get(name)) for name, kind in DEVICE.items()])
    return rows


def _no_power(state: object) -> object:
    if not isinstance(state, dict) or state.get("recording") is not False:
        return None
    return state.get("reason") or "the sidecar said no reason"


def cooling_rows(document: Mapping[str, Any]) -> list[list[Value]]:
    """One row per cell before which the GPU was to cool: its key, then values in the order of COOLING."""
    cooling = document.get("cooling")
    cells = cooling.items() if isinstance(cooling, dict) else ()
    return [
        [_value("VARCHAR", key), *(_value(kind, waited.get(name)) for name, kind in COOLING.items())]
        for key, waited in cells
        if isinstance(waited, dict)
    ]


def earlier_boots(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What was measured before reboots in the middle of the run, oldest first: boot 1, 2, ...; common/host/runs/run.py writes it."""
    found = document.get("earlier_boots")
    return [boot if isinstance(boot, dict) else {} for boot in (found if isinstance(found, list) else [])]


def boots_of(document: Mapping[str, Any], what: str) -> dict[str, int]:
    """Cell key or name of a power file (what: "cells", "power") -> the earlier boot that it belongs to; others to the last."""
    return {
        name: number
        for number, boot in enumerate(earlier_boots(document), 1)
        for name in (boot[what] if isinstance(boot.get(what), list) else [])
        if isinstance(name, str)
    }


def idle_spell_rows(document: Mapping[str, Any]) -> list[list[Value]]:
    """One row per spell in which no worker was on a device: device, earlier boot, then values in the order of IDLE_SPELL."""
    rows: list[list[Value]] = []
    for number, part in [(None, document), *enumerate(earlier_boots(document), 1)]:
        spells = part.get("idle_without_context")
        rows += [
            [_value("VARCHAR", device), number, *(_value(kind, spell.get(name)) for name, kind in IDLE_SPELL.items())]
            for device, found in (spells.items() if isinstance(spells, dict) else ())
            for spell in (found if isinstance(found, list) else [])
            if isinstance(spell, dict)
        ]
    return rows
