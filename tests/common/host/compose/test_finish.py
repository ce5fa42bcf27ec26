"""The last service of a sweep: turns, cells that are taken while others wait, and rows of those that were lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.cell import Cell
from common.harness import journal
from common.harness.compose_step import ERRORS, KILLS
from common.harness.job_end import JobEnd
from common.harness.rows import begin_row
from common.harness.writer import write_cell
from common.host.compose import finish, prepare
from common.host.compose.finish import Service, measure
from common.host.compose.rendezvous import Rendezvous
from common.host.paths import DataFolder
from common.host.runners.power_intake import PowerIntake
from common.host.runners.staging import journal_rows
from common.host.runs.run import Run
from common.job import Job
from common.locks import alive, wait_for_turn
from tests.common.host.runners.staged_job import PHASES, SAMPLES, job, model
from tests.common.host.runners.test_staging import rows

VARIANTS = ("onnxrt", "torch", "tf")


class Sweep:
    """A run with one job of two cells for each variant, and services that are threads."""

    def __init__(self, folder: Path) -> None:
        self.rendezvous = Rendezvous(folder / "compose" / "cpu")
        self.run = Run(folder / "results" / "run", {"model": {"folder": "m"}})
        self.model = model(folder)
        for place in (self.rendezvous.turn_locks, self.rendezvous.sidecar, self.run.folder / "jobs"):
            place.mkdir(parents=True)
        self.jobs: dict[str, Job] = {}
        self.order: list[str] = []
        for variant in VARIANTS:
            cells = [Cell("m", variant, "fp32", size) for size in (1, 2)]
            self.jobs[variant] = job(cells)
            self.jobs[variant].write(self.run.folder / "jobs" / f"{variant}_fp32_script_cpu_r0.json")
            (self.rendezvous.services / variant).mkdir(parents=True)
        self.threads: list[threading.Thread] = []

    def folder(self, variant: str) -> Path:
        return self.rendezvous.services / variant / f"{variant}_fp32_script_cpu_r0"

    def write(self, variant: str, cell: Cell) -> None:
        row = {**begin_row(self.jobs[variant], cell, self.model, "w"), "status": "ok", "samples": len(SAMPLES[0])}
        write_cell(self.folder(variant), row, PHASES, *SAMPLES)
        journal.append(self.folder(variant), "finish", cell.key, "w", "ok")

    def serve(self, variant: str, work: Callable[[str], None]) -> None:
        def body() -> None:
            with alive(self.rendezvous.services / variant):
                assert wait_for_turn(self.rendezvous.turn_locks / variant, 30)
                self.order.append(variant)
                self.folder(variant).mkdir()
                work(variant)

        self.threads.append(threading.Thread(target=body))
        self.threads[-1].start()

    def measure(self, optional: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
        services = [Service(variant, self.run, self.rendezvous, self.model) for variant in VARIANTS]
        intake = PowerIntake(self.rendezvous.sidecar, self.run.folder / "power.csv")
        try:
            return measure(services, self.rendezvous, intake, optional)
        finally:
            for thread in self.threads:
                thread.join(30)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.setattr(finish, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(finish, "APPEARS_WITHIN_SECONDS", 10.0)
    return Sweep(tmp_path)


def test_all_cells_of_honest_services_become_the_run_s(sweep: Sweep) -> None:
    def all_cells(variant: str) -> None:
        for cell in sweep.jobs[variant].cells:
            sweep.write(variant, cell)

    for variant in reversed(VARIANTS):
        sweep.serve(variant, all_cells)
    planned = sweep.measure()
    assert sweep.order == list(VARIANTS)
    assert planned == [cell.key for variant in VARIANTS for cell in sweep.jobs[variant].cells]
    assert {row["status"] for row in rows(sweep.run.folder).values()} == {"ok"}
    assert set(rows(sweep.run.folder)) == set(planned)


def test_what_is_lost_is_a_row_that_says_how(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "APPEARS_WITHIN_SECONDS", 0.5)

    def killed_in_the_first(variant: str) -> None:
        journal.append(sweep.folder(variant), "start", sweep.jobs[variant].cells[0].key, "w")

    def gave_up(variant: str) -> None:
        text = json.dumps({sweep.folder(variant).name: "there is no adapter"})
        (sweep.rendezvous.services / variant / ERRORS).write_text(text)

    sweep.serve("onnxrt", killed_in_the_first)
    sweep.serve("torch", gave_up)
    planned = sweep.measure(optional={"tf"})  # its profile is not switched on
    assert len(planned) == 4
    found = {
        (row["variant"], row["batch_size"]): (row["status"], row["message"]) for row in rows(sweep.run.folder).values()
    }
    assert found == {
        ("onnxrt", "1"): ("crashed", "the container ended while it ran"),
        ("onnxrt", "2"): ("crashed", "its container ended before its turn"),
        ("torch", "1"): ("crashed", "there is no adapter"),
        ("torch", "2"): ("crashed", "there is no adapter"),
    }
    assert len([row for row in journal_rows(sweep.run.folder) if row["event"] == "finish"]) == 4


@pytest.mark.parametrize(
    ("killed_after_ns", "status"), [(5_000_000, "oom"), (-5_000_000, "crashed"), (None, "crashed")],
    ids=["while the cell ran", "before it began", "never"],
)  # fmt: skip
def test_a_container_that_memory_ended_as_a_whole_is_judged_as_by_bench(
    sweep: Sweep, killed_after_ns: int | None, status: str
) -> None:
    """The engine would say exit code 137 and OOMKilled, but nobody here can ask it: the service told when memory ended."""

    def starved(variant: str) -> None:
        began = time.monotonic_ns()
        journal.append(sweep.folder(variant), "start", sweep.jobs[variant].cells[0].key, "w")
        if killed_after_ns is not None:
            struck = (time.monotonic_ns() if killed_after_ns > 0 else began) + killed_after_ns
            (sweep.rendezvous.services / variant / KILLS).write_bytes(struck.to_bytes(8, "little"))

    sweep.serve("onnxrt", starved)
    sweep.measure(optional={"torch", "tf"})
    found = {row["batch_size"]: (row["status"], row["message"]) for row in rows(sweep.run.folder).values()}
    assert found["1"] == JobEnd(None, oom_killed=status == "oom").reason()
    assert found["1"][0] == status
    assert found["2"] == ("crashed", "its container ended before its turn")


@pytest.mark.parametrize("content", [b"", b"\xff" * 3, b"\xff" * 4096])
def test_a_service_that_writes_nonsense_of_memory_costs_itself_alone(sweep: Sweep, content: bytes) -> None:
    def lies(variant: str) -> None:
        (sweep.rendezvous.services / variant / KILLS).write_bytes(content)
        sweep.write(variant, sweep.jobs[variant].cells[0])

    sweep.serve("onnxrt", lies)
    sweep.measure(optional={"torch", "tf"})
    assert sorted(row["status"] for row in rows(sweep.run.folder).values()) == ["crashed", "ok"]


def test_a_job_s_folder_that_is_a_link_is_not_followed(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def elsewhere(variant: str) -> None:
        for cell in sweep.jobs[variant].cells:
            sweep.write(variant, cell)
        sweep.folder(variant).rename(tmp_path / "elsewhere")
        sweep.folder(variant).symlink_to(tmp_path / "elsewhere")

    sweep.serve("onnxrt", elsewhere)
    sweep.measure(optional={"torch", "tf"})
    assert {row["status"] for row in rows(sweep.run.folder).values()} <= {"crashed", "ok"}
    output = capsys.readouterr().out
    assert "onnxrt_fp32_script_cpu_r0 is a link" in output


def test_what_a_stopped_sweep_left_is_taken_by_the_next_one(sweep: Sweep, tmp_path: Path) -> None:
    root = tmp_path / "models" / "m"
    root.mkdir(parents=True)
    sweep.model = replace(sweep.model, root=root)
    (root / "r.npz").write_bytes(b"")
    (root / "model.json").write_text(json.dumps(sweep.model.describe()))
    sweep.run.save()
    sweep.rendezvous.run.symlink_to(sweep.run.folder)
    sweep.folder("torch").mkdir()
    sweep.write("torch", sweep.jobs["torch"].cells[0])
    assert prepare.take_over_earlier(sweep.rendezvous, DataFolder(tmp_path)) == []
    assert [row["variant"] for row in rows(sweep.run.folder).values()] == ["torch"]
