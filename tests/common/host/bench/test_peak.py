"""The search for the peak rate, against a simulated server whose truth can be computed."""

from __future__ import annotations

import csv
import io
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from common import schema
from common.cell import Cell
from common.errors import UserError
from common.harness.scenarios import server
from common.host.bench import peak
from common.host.paths import DataFolder
from common.host.plan.options import Options
from common.host.runners.sidecar import SidecarState
from common.job import Settings
from common.model_files import ModelFiles
from tests.common.harness.conftest import make_toy_model

BASE = Cell("M", "toy", "fp32", 1)
BOUND = peak.Bound(max_p99_ms=10.0, queries=1000, longest_s=300.0)


class SimulatedFramework:
    """Every inference takes service_ms; measures cells in virtual time and writes their samples."""

    def __init__(
        self, folder: Path, service_ms: float, statuses: dict[str, tuple[str, str, str]] | None = None
    ) -> None:
        self.cells = folder / "cells"
        self.service_ns = round(service_ms * 1e6)
        self.statuses = statuses or {}
        self.measured: list[Cell] = []
        self.windows: list[float] = []

    def simulate(self, cell: Cell, seconds: float) -> server.Served:
        now = 1000

        def wait(instant: int) -> None:
            nonlocal now
            now = instant

        def run() -> None:
            nonlocal now
            now += self.service_ns

        arrivals = server.Arrivals(cell.target_rate_per_s or 0.0, 1, cell.replicate)
        return server.serve(run, arrivals, cell.batch_size, 0, seconds, lambda _: None, lambda: now, wait)

    def __call__(self, cell: Cell, settings: Settings) -> dict[str, str]:
        self.measured.append(cell)
        status, message, stop = self.statuses.get(cell.scenario, ("ok", "", "converged"))
        samples: list[dict[str, int | None]] = []
        if cell.scenario == "server":
            assert settings.min_seconds == settings.max_seconds < settings.cell_timeout_s
            self.windows.append(settings.max_seconds)
            done = self.simulate(cell, settings.max_seconds)
            if done.left or (cell.target_rate_per_s or 0) * done.inference_ns / 1e9 >= cell.batch_size:
                status, message, stop = "timeout", "more than it can serve", "budget"
            rows = zip(done.starts_ns, done.ends_ns, done.scheduled_ns, strict=True)
        else:
            rows = iter([(i * self.service_ns, (i + 1) * self.service_ns, None) for i in range(50)])
        samples = [{"i": i, "start_ns": s, "end_ns": e, "scheduled_ns": d} for i, (s, e, d) in enumerate(rows)]
        folder = self.cells / cell.key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "samples.csv").write_text(schema.to_csv("samples.csv", samples))
        return {"status": status, "message": message, "stop_reason": stop}

    def p99_ms(self, rate: float) -> float:
        done = self.simulate(replace(BASE, scenario="server", target_rate_per_s=rate), 300.0)
        return float(np.quantile(np.array(done.ends_ns) - np.array(done.scheduled_ns), 0.99)) / 1e6


def find(framework: SimulatedFramework, bound: peak.Bound = BOUND, base: Cell = BASE) -> peak.Peak:
    return peak.Target(base, bound, Settings(), framework, framework.cells).find()


@pytest.mark.parametrize(("service_ms", "truth"), [(1.0, 771.0), (3.0, 124.0)])
def test_the_peak_meets_the_bound_and_is_close_to_the_truth(tmp_path: Path, service_ms: float, truth: float) -> None:
    """truth: the rate whose p99 is 10 ms, from M/D/1 queues of 2 million arrivals."""
    framework = SimulatedFramework(tmp_path, service_ms)
    row = find(framework)
    assert row.met is not None and row.not_met is not None and row.p99_ms is not None
    assert row.single_stream_ms == service_ms
    assert framework.p99_ms(row.met) < 10.0 and row.p99_ms < 10.0
    assert 0.75 * truth < row.met < truth
    assert row.not_met > 0.75 * truth and (row.not_met > 0.97 * truth or "neither" in row.why)
    assert row.not_met - row.met <= 0.05 * row.not_met
    assert row.queries >= 662
    servers = [cell for cell in framework.measured if cell.scenario == "server"]
    assert len(servers) < 30 and max(cell.replicate for cell in servers) < peak.TRIES
    for cell, window in zip(servers, framework.windows, strict=True):
        rate = cell.target_rate_per_s or 0.0
        assert window >= max(2.0, 1000 * 2 ** max(0, cell.replicate - 1) / rate)


def test_batches_raise_the_peak(tmp_path: Path) -> None:
    one = find(SimulatedFramework(tmp_path / "1", 3.0))
    four = find(SimulatedFramework(tmp_path / "4", 3.0), base=replace(BASE, batch_size=4))
    assert one.met and four.met and four.met > 2 * one.met


def test_an_inference_that_is_too_slow_by_itself(tmp_path: Path) -> None:
    framework = SimulatedFramework(tmp_path, 12.0)
    row = find(framework)
    assert row.met is None and "one inference alone takes 12 ms" in row.why
    assert [cell.scenario for cell in framework.measured] == ["single-stream"]


def test_no_rate_meets_it(tmp_path: Path) -> None:
    framework = SimulatedFramework(tmp_path, 9.99)  # whoever has to wait at all is late
    row = find(framework, replace(BOUND, longest_s=100.0))
    assert row.met is None and "the lowest rate tried" in row.why
    assert min(cell.target_rate_per_s for cell in framework.measured if cell.target_rate_per_s) >= 10


@pytest.mark.parametrize("scenario", ["single-stream", "server"])
def test_a_cell_that_fails_is_the_reason(tmp_path: Path, scenario: str) -> None:
    framework = SimulatedFramework(tmp_path, 1.0, {scenario: ("oom", "2 GiB asked", "")})
    row = find(framework)
    assert row.met is None and row.why == "oom: 2 GiB asked"


def test_a_worker_that_hangs_is_no_verdict_about_the_rate(tmp_path: Path) -> None:
    row = find(SimulatedFramework(tmp_path, 1.0, {"server": ("timeout", "not done after 900 s", "")}))
    assert row.met is None and row.why.startswith("timeout: not done")


def test_results_are_ranked_and_written(tmp_path: Path) -> None:
    rows = [
        peak.Peak("slow", "fp32", 1, "host", 50.0, None, None, None, 0, "one inference alone takes 50 ms"),
        peak.Peak("b", "fp32", 1, "host", 2.0, 300.0, 310.0, 9.5, 1100, ""),
        peak.Peak("a", "fp32", 1, "host", 1.0, 800.0, 820.0, 9.9, 1650, ""),
    ]
    assert [row.variant for row in peak.ranked(rows)] == ["a", "b", "slow"]
    peak.write_results(rows, BOUND, tmp_path / "report")
    with (tmp_path / "report/peak.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["variant"] for row in table] == ["a", "b", "slow"]
    assert table[2]["met"] == "" and float(table[0]["met"]) == 800
    assert "| a | fp32 | 1 | host | 800 |" in (tmp_path / "report/peak.md").read_text()
    assert json.loads((tmp_path / "report/peak.json").read_text())["bound"]["max_p99_ms"] == 10
    out = io.StringIO()
    peak.print_results(rows, BOUND, Console(file=out, width=160))
    assert "99 %" in out.getvalue() and "one inference alone" in out.getvalue()


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bounds_that_cannot_be(bad: float) -> None:
    with pytest.raises(UserError, match="--max-p99-ms"):
        peak.bound_of(bad, 300.0, quick=False)
    with pytest.raises(UserError, match="--longest-try"):
        peak.bound_of(10.0, bad, quick=False)


@pytest.mark.parametrize("options", [Options(rate="5"), Options(scenario="offline"), Options(replicates=3)])
def test_what_the_search_decides_itself(tmp_path: Path, options: Options) -> None:
    with pytest.raises(UserError, match="leave"):
        peak.peak(options, BOUND, Console(file=io.StringIO()), DataFolder(tmp_path))


class SimulatedRunner:
    """A runner whose jobs are simulated; `stops_after` cells it is interrupted."""

    name = "local"

    def __init__(self, folder: Path, stops_after: int = 1000) -> None:
        self.model = make_toy_model(folder) if not folder.exists() else ModelFiles.read(folder)
        self.stops_after = stops_after
        self.ran: list[str] = []

    def prepare(self, variants, flavour, on_step, notebook=False, pins=()) -> None:
        pass

    def ensure_model(self, name, data, requested, on_step, wanted_forms=()) -> ModelFiles:
        return self.model

    def describe_images(self) -> dict[str, object]:
        return {}

    def interrupt(self) -> None:
        pass

    @contextmanager
    def sidecar(self, context, device):
        yield SimpleNamespace(
            state=SidecarState(recording=False, reason="simulated"), take=lambda: "", revive=lambda: ""
        )

    def run_job(self, context, planned, on_event) -> None:
        (cell,) = planned.cells
        if len(self.ran) == self.stops_after:
            raise KeyboardInterrupt
        self.ran.append(cell.key)
        framework = SimulatedFramework(context.run.folder, 5.0 if cell.variant == "torch" else 2.0)
        row = framework(cell, context.request.settings)
        on_event({"event": "cell_start", "cell_key": cell.key, "worker": "w"})
        (framework.cells / cell.key / "cell.csv").write_text(
            schema.to_csv("cell.csv", [{**cell.to_dict(), "cell_key": cell.key, **row}])
        )
        on_event({"event": "cell_finish", "cell_key": cell.key, "status": row["status"], "message": row["message"]})


def test_a_whole_search_and_one_that_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataFolder(tmp_path / "data")
    options = Options(framework="onnxrt,torch", device="cpu", runner="local", batch_window_ms=3.0)
    out = Console(file=io.StringIO(), width=160)

    def search(runner: SimulatedRunner) -> list[peak.Peak]:
        monkeypatch.setattr("common.host.bench.opening.make_runner", lambda options, images: runner)
        return peak.peak(options, BOUND, out, data)

    first = SimulatedRunner(tmp_path / "model", stops_after=4)
    with pytest.raises(KeyboardInterrupt):
        search(first)
    (folder,) = data.results.iterdir()
    assert json.loads((folder / "run.json").read_text())["finished_utc"] is None

    second = SimulatedRunner(tmp_path / "model")
    found = {row.variant: row for row in search(second)}
    assert [path.name for path in data.results.iterdir()] == [folder.name]
    assert len(first.ran) == 4 and not set(first.ran) & set(second.ran)
    description = json.loads((folder / "run.json").read_text())
    assert description["finished_utc"] and set(description["plan"]) == {*first.ran, *second.ran}
    assert description["settings"]["batch_window_ms"] == 3.0
    met = {name: row.met for name, row in found.items()}
    assert met["onnxrt"] and met["torch"] and met["onnxrt"] > 1.5 * met["torch"]
    assert (data.report / folder.name / "peak.csv").exists()
    assert "meets it" in out.file.getvalue()  # type: ignore[attr-defined]

    third = SimulatedRunner(tmp_path / "model")  # a finished search is not continued: this is another run
    search(third)
    assert len(list(data.results.iterdir())) == 2
