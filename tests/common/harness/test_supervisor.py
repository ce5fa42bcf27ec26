"""Whatever a framework does costs one cell, leaves one row with a reason, and the next cell runs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.harness import cell_folder, journal
from common.schema import STATUSES
from tests.common.harness.conftest import QUICK, REPOSITORY, Bench
from tests.waiting import wait_for

MISBEHAVIOUR = [
    ("killed", "crashed", ["SIGKILL", "in phase compile", "a last line before the end"]),
    ("segfaults", "crashed", ["SIGSEGV", "Segmentation fault"]),
    ("raises", "crashed", ["ValueError: a kernel of two lines"]),
    ("memory-error", "oom", ["MemoryError"]),
    ("address-space", "oom", ["allocate"]),
    ("device-memory", "oom", ["2.1 GiB asked"]),
    ("starves", "oom", ["SIGABRT", "std::bad_alloc"]),
    ("quits", "crashed", ["exited with code 3"]),
    ("system-exit", "crashed", ["SystemExit: 3"]),
    ("unsupported", "unsupported", ["no engine for batch 2"]),
    ("picky", "unsupported", ["not to its taste"]),
    ("junk", "ok", []),
]


@pytest.mark.parametrize(("variant", "status", "words"), MISBEHAVIOUR, ids=[case[0] for case in MISBEHAVIOUR])
def test_misbehaviour_costs_one_cell(bench: Bench, variant: str, status: str, words: list[str]) -> None:
    job = bench.job(variant, (2, 1))
    code, events = bench.run(job)
    bad, good = (bench.cell(cell) for cell in job.cells)
    assert code == 0
    assert bad["status"] == status
    for word in words:
        assert word in bad["message"]
    assert "\n" not in bad["message"]
    assert good["status"] == "ok"
    assert (good["worker"] == bad["worker"]) == (status in ("ok", "unsupported"))
    assert [(a["event"], a["status"]) for a in bench.attempts()] == [
        ("start", ""), ("finish", status), ("start", ""), ("finish", "ok"),
    ]  # fmt: skip
    finished = [(e["cell_key"], e["status"]) for e in events if e["event"] == "cell_finish"]
    assert finished == [(job.cells[0].key, status), (job.cells[1].key, "ok")]
    assert events[-1] == {"event": "job_finish"}
    if status in ("crashed", "oom"):
        assert bad["framework_version"] == "1.2.3"
        assert bad["model_hash"] == bench.model.hash
        assert bench.file(job.cells[0], "samples.csv") == []
        assert bad["samples"] == "0"
        assert [p["phase"] for p in bench.file(job.cells[0], "phases.csv")] == ["import", "load", "compile"]


def test_a_hanging_worker_is_a_timeout_that_names_the_phase(bench: Bench) -> None:
    job = bench.job(
        "hangs", (1, 2, 4), settings=replace(QUICK, cell_timeout_s=8.0)
    )  # a busy machine needs seconds to import numpy
    code, _ = bench.run(job)
    rows = [bench.cell(cell) for cell in job.cells]
    assert code == 0
    assert [row["status"] for row in rows] == ["ok", "timeout", "ok"]
    assert rows[1]["message"] == "not done after 8 s, in phase compile"
    assert rows[0]["worker"] == rows[1]["worker"] != rows[2]["worker"]
    phases = {p["phase"]: p for p in bench.file(job.cells[1], "phases.csv")}
    assert list(phases) == ["import", "load", "compile"]
    assert phases["load"]["end_ns"] and not phases["compile"]["end_ns"]


@pytest.mark.parametrize(("variant", "status"), [("absent", "unsupported"), ("import-fails", "crashed")])
def test_a_framework_that_cannot_start_gives_a_row_for_each_cell(bench: Bench, variant: str, status: str) -> None:
    job = bench.job(variant, (1, 2), framework_version="1.2.0")
    code, _ = bench.run(job)
    assert code == 0
    assert [bench.cell(cell)["status"] for cell in job.cells] == [status, status]
    assert [bench.cell(cell)["framework_version"] for cell in job.cells] == ["1.2.0"] * 2, "as the host knows it"


def test_the_version_that_a_worker_tells_counts_before_the_one_that_the_host_knows(bench: Bench) -> None:
    job = bench.job(framework_version="1.2.0")
    bench.run(job)
    assert bench.cell(job.cells[0])["framework_version"] == "1.2.3"


def test_unknown_scenario_is_a_row(bench: Bench) -> None:
    job = bench.job()
    cells = [replace(job.cells[0], scenario="no-such"), replace(job.cells[0], streams=3), job.cells[0]]
    bench.run(replace(job, cells=cells))
    assert [bench.cell(cell)["status"] for cell in cells] == ["unsupported", "unsupported", "ok"]
    assert "no-such" in bench.cell(cells[0])["message"]


def test_a_second_run_of_the_same_job_does_nothing(bench: Bench) -> None:
    job = bench.job("raises", (1, 2))
    bench.run(job)
    before = {p: p.read_bytes() for p in sorted(bench.run_dir.rglob("*")) if p.is_file()}
    code, events = bench.run(job)
    assert code == 0
    assert events == [{"event": "job_finish"}]
    assert {p: p.read_bytes() for p in sorted(bench.run_dir.rglob("*")) if p.is_file()} == before


def dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def start_hanging(bench: Bench) -> tuple[subprocess.Popen[str], list[int]]:
    """A supervisor whose worker hangs with a child of its own; returns it and the pids of worker and child."""
    pids = bench.folder / "pids"
    job = bench.job("hangs", (1, 2, 4))
    process = bench.start(job, env={**os.environ, "TOY_PIDS": str(pids)})
    wait_for(lambda: pids.is_dir() and len(list(pids.iterdir())) == 2)
    return process, [int(p.name) for p in pids.iterdir()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_discards_the_running_cell_and_keeps_the_others(bench: Bench, number: int, code: int) -> None:
    process, pids = start_hanging(bench)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert all(dead(pid) for pid in pids)
    job = bench.job("hangs", (1, 2, 4))
    assert sorted(p.name for p in (bench.run_dir / "cells").iterdir()) == [job.cells[0].key]
    assert [(a["event"], a["status"]) for a in bench.attempts()][2:] == [("start", ""), ("finish", "interrupted")]
    assert list((bench.run_dir / cell_folder.UNFINISHED).iterdir()) == []
    assert "job_finish" not in out


def test_when_the_supervisor_is_killed_its_worker_and_the_workers_children_die(bench: Bench) -> None:
    process, pids = start_hanging(bench)
    process.kill()
    process.wait()
    wait_for(lambda: all(dead(pid) for pid in pids))


@pytest.mark.parametrize("kernel_offers_it", [True, False])
def test_the_lifeline_ends_the_group_with_or_without_the_kernels_help(kernel_offers_it: bool) -> None:
    code = (
        "import fcntl, sys, time\n"
        "def refuse(*_): raise OSError(22, 'no such thing here')\n"
        f"if not {kernel_offers_it}: fcntl.fcntl = refuse\n"
        "from common.harness.process import die_with\n"
        "die_with(int(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    theirs, ours = os.pipe()
    worker = subprocess.Popen(
        [sys.executable, "-c", code, str(theirs)],
        cwd=REPOSITORY, pass_fds=[theirs], start_new_session=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(theirs)
    assert worker.stdout is not None
    with worker.stdout as lines:
        assert lines.readline() == "ready\n"
    os.close(ours)
    assert worker.wait(timeout=60) == -signal.SIGKILL


def test_when_nobody_reads_the_events_the_job_ends(bench: Bench) -> None:
    process, pids = start_hanging(bench)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert all(dead(pid) for pid in pids)
    assert bench.attempts()[-1]["status"] == "interrupted"


def test_killed_at_any_moment_nothing_is_lost_doubled_or_half_written(bench: Bench) -> None:
    job = bench.job("slow", (1, 2, 4, 8, 16, 32))
    rng = random.Random(11)
    for _ in range(7):
        process = bench.start(job)
        try:
            process.communicate(timeout=rng.uniform(0.1, 0.9))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        for folder in (bench.run_dir / "cells").glob("*"):
            assert {"cell.csv", "phases.csv", "samples.csv"} <= {p.name for p in folder.iterdir()}
    code, _ = bench.run(job)
    assert code == 0
    assert sorted(p.name for p in (bench.run_dir / "cells").iterdir()) == sorted(cell.key for cell in job.cells)
    assert list((bench.run_dir / cell_folder.UNFINISHED).iterdir()) == []
    for cell in job.cells:
        row = bench.cell(cell)
        assert row["status"] == "ok"
        assert int(row["samples"]) == len(bench.file(cell, "samples.csv"))
    events = [(a["event"], a["cell_key"]) for a in bench.attempts()]
    for cell in job.cells:
        # A kill between the rename and the journal leaves a start without a finish, never a second measurement.
        assert events.count(("finish", cell.key)) <= 1 <= events.count(("start", cell.key))


def test_the_supervisor_imports_no_numpy() -> None:
    code = "import sys, common.harness.supervisor; print('numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda job, path: path.unlink(), "cannot read job.json"),
        (lambda job, path: path.write_text("{}"), "not a job"),
        (lambda job, path: replace(job, model_dir="/nowhere").write(path), "cannot read the model in /nowhere"),
        (lambda job, path: replace(job, adapter="/nowhere.py").write(path), "no adapter at /nowhere.py"),
        (
            lambda job, path: replace(job, cells=[*job.cells, replace(job.cells[0], precision="fp16")]).write(path),
            "one variant, version, precision, tuning, front end, replicate and device",
        ),
    ],
)
def test_a_bad_job_is_one_line_and_creates_nothing(bench: Bench, spoil, words: str) -> None:
    path = bench.folder / "job.json"
    job = bench.job()
    job.write(path)
    spoil(job, path)
    done = subprocess.run(
        [sys.executable, "-m", "common.harness", str(path)], cwd=REPOSITORY, capture_output=True, text=True
    )
    (event,) = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 2
    assert event["event"] == "error"
    assert words in event["message"]
    assert done.stderr == ""
    assert not bench.run_dir.exists()


def test_a_results_folder_that_cannot_be_written_is_one_line(bench: Bench) -> None:
    bench.run_dir.write_text("a file where the folder should be")
    code, events = bench.run(bench.job())
    assert code == 2
    assert [event["event"] for event in events] == ["error"]
    assert "cannot write results" in events[0]["message"]


def test_no_space_left_keeps_finished_cells(bench: Bench) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    bench.run_dir.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(bench.run_dir)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this machine mounts no tmpfs")
    try:
        sizes = (1, 2, 4, 8, 16, 32)
        job = bench.job(batch_sizes=sizes, settings=replace(QUICK, min_seconds=0.1, max_seconds=0.2))
        code, events = bench.run(job)
        kept = [cell for cell in job.cells if cell_folder.exists(bench.run_dir, cell.key)]
        assert code == 2
        assert events[-1]["event"] == "error"
        assert "no space left" in events[-1]["message"]
        assert kept == job.cells[: len(kept)] and len(kept) < len(job.cells)
        assert all(bench.cell(cell)["status"] == "ok" for cell in kept)
        assert list((bench.run_dir / cell_folder.UNFINISHED).iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(bench.run_dir)], check=True)


def test_stale_folders_go_and_those_of_living_processes_stay(tmp_path: Path) -> None:
    (tmp_path / cell_folder.UNFINISHED / "old-1").mkdir(parents=True)
    with cell_folder.staged(tmp_path, "alive") as folder:
        (folder / "cell.csv").write_text("x\n")
        assert cell_folder.remove_stale(tmp_path) == 1
        assert folder.is_dir()
    assert cell_folder.exists(tmp_path, "alive")
    assert list((tmp_path / cell_folder.UNFINISHED).iterdir()) == []


def test_a_cell_that_another_process_finished_meanwhile_stays(tmp_path: Path) -> None:
    with cell_folder.staged(tmp_path, "k") as folder:
        (folder / "cell.csv").write_text("second\n")
        (tmp_path / "cells" / "k").mkdir(parents=True)
        (tmp_path / "cells" / "k" / "cell.csv").write_text("first\n")
    assert (tmp_path / "cells" / "k" / "cell.csv").read_text() == "first\n"


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), cell_folder.staged(tmp_path, "k") as folder:
        (folder / "cell.csv").write_text("half")
        raise ZeroDivisionError
    assert not cell_folder.exists(tmp_path, "k")
    assert list((tmp_path / cell_folder.UNFINISHED).iterdir()) == []


def test_the_journal_of_several_supervisors_has_one_header_and_whole_lines(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from common.harness import journal\n"
        "for i in range(50): journal.append(Path(sys.argv[1]), 'start', f'cell{i}', sys.argv[2])"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"w{n}"], cwd=REPOSITORY) for n in range(3)]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    lines = (tmp_path / journal.FILE).read_text().splitlines()
    assert len(lines) == 151
    assert lines[0].startswith("t_ns,utc,event")
    assert {line.count(",") for line in lines} == {6}


def test_the_journal_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    (tmp_path / journal.FILE).write_text("t_ns,utc,event,cell_key,worker,status,message\n12,tor")
    journal.append(tmp_path, "start", "k", "w")
    assert (tmp_path / journal.FILE).read_text().splitlines()[-1].endswith("start,k,w,,")


def test_every_status_that_a_supervisor_or_worker_gives_is_in_the_schema() -> None:
    assert {status for _, status, _ in MISBEHAVIOUR} | {"timeout", "parity_failed"} <= set(STATUSES)


@pytest.mark.parametrize("runner", ["local", "docker"])
def test_what_a_framework_leaves_in_the_temporary_folder(bench: Bench, tmp_path: Path, runner: str) -> None:
    """TensorFlow's AutoGraph and inductor leave files in $TMPDIR when a worker ends without ceremony, as workers do."""
    system = tmp_path / "system"
    system.mkdir()
    process = bench.start(bench.job("litters", (2, 1), runner=runner), {**os.environ, "TMPDIR": str(system)})
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert not list((bench.run_dir / cell_folder.UNFINISHED).iterdir())
    # a container's own /tmp ends with it
    assert len(list(system.iterdir())) == (0 if runner == "local" else 2)
