"""Builds run folders through the schema, so that the tests read what the harness would have written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from analysis.database.connection import Database
from analysis.database.open_runs import open_runs
from analysis.plots.catalogue import Gallery
from common import schema
from common.cell import Cell

SECOND = 10**9
CORES = 4


@dataclass
class RunBuilder:
    """One run folder. Times are on one clock that `cell` moves on; durations in ns."""

    folder: Path
    device: str = "cpu"
    device_name: str = "Test CPU"
    uuid: str | None = None
    now_ns: int = 1000 * SECOND
    power_rows: list[Mapping[str, Any]] = field(default_factory=list)

    def run_json(self, **changes: Any) -> RunBuilder:
        document: dict[str, Any] = {
            "schema_version": 1,
            "run": self.folder.name,
            "command": "invoke bench",
            "created_utc": "2026-01-02T03:04:05Z",
            "origin": "framewatt",
            "seed": 0,
            "host": {"cpu_model": "Test CPU", "logical_cores": CORES},
            "devices": [{"device": self.device, "uuid": self.uuid or "", "name": self.device_name, "processes": []}],
            "model": {"name": "ResNet50", "weights": "seeded", "weights_note": "Seeded weights."},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "run.json").write_text(json.dumps({**document, **changes}))
        return self

    def cell(
        self,
        variant: str = "onnxrt",
        batch_size: int = 8,
        durations_ns: Iterable[int] = (),
        idle_ns: int = 0,
        phases: Mapping[str, int] | None = None,
        gap_ns: int = 0,
        precision: str = "fp32",
        io: str = "host",
        replicate: int = 0,
        **columns: Any,
    ) -> Path:
        """Writes `cells/<key>/` and returns it. The window begins at `now_ns`; columns go to cell.csv as they are."""
        cell = Cell(
            columns.pop("model", "ResNet50"), variant, precision, batch_size, io=io, replicate=replicate, device=self.device,
            scenario=columns.pop("scenario", "single-stream"), frontend=columns.pop("frontend", "script"),
            version=columns.pop("version", None),
            tuning=columns.pop("tuning", "tuned"), input=columns.pop("input", "float32"),
            target_rate_per_s=columns.pop("target_rate_per_s", None),
        )  # fmt: skip
        samples, at = [], self.now_ns
        for i, duration in enumerate(durations_ns):
            samples.append({"i": i, "start_ns": at, "end_ns": at + duration})
            at += duration + gap_ns
        at -= gap_ns if samples else 0
        rows, begin = [], self.now_ns
        for name, length in reversed(list((phases or {}).items())):
            rows.insert(0, {"phase": name, "start_ns": begin - length, "end_ns": begin})
            begin -= length
        rows.append({"phase": "measure", "start_ns": self.now_ns, "end_ns": at})
        if idle_ns:
            rows.append({"phase": "idle", "start_ns": at, "end_ns": at + idle_ns})
        self.now_ns = at + idle_ns + SECOND
        key = columns.pop("cell_key", cell.key)
        folder = self.folder / "cells" / str(columns.pop("folder", key))
        folder.mkdir(parents=True)
        row = {
            **{name: value for name, value in cell.to_dict().items() if value is not None},
            "cell_key": key, "status": "ok", "device_name": self.device_name, "device_uuid": self.uuid,
            "samples": len(samples), "stop_reason": "converged", "load_average_start": 0.5, "load_average_end": 0.5,
            "weights": "seeded", "origin": "framewatt", **columns,
        }  # fmt: skip
        (folder / "cell.csv").write_text(schema.to_csv("cell.csv", [row]))
        (folder / "phases.csv").write_text(schema.to_csv("phases.csv", rows))
        if samples:
            (folder / "samples.csv").write_text(schema.to_csv("samples.csv", samples))
        return folder

    def power(self, readings: Iterable[Mapping[str, Any]], name: str = "power.csv") -> None:
        (self.folder / name).write_text(schema.to_csv("power.csv", readings))


#: what the fixtures `build` and `opened` give: a name, fields of the builder -> it; runs -> a database of them
Build = Callable[..., RunBuilder]
Opened = Callable[..., Database]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(name: str = "run", **fields: Any) -> RunBuilder:
        return RunBuilder(tmp_path / "results" / name, **fields).run_json()

    return make


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """For what looks at text alone: of an analysis, drawing the figures takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gallery, "__iter__", lambda self: iter(()))
        yield


@pytest.fixture
def undrawn() -> Iterator[None]:
    with nothing_drawn():
        yield


@pytest.fixture
def opened() -> Iterable[Opened]:
    databases: list[Database] = []

    def open_these(*runs: Path | RunBuilder) -> Database:
        database = open_runs([run.folder if isinstance(run, RunBuilder) else run for run in runs])
        databases.append(database)
        return database

    yield open_these
    for database in databases:
        database.close()
