"""The same worker in a Jupyter kernel: the same files, what a notebook has around it, and nothing that outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.harness import cell_folder
from common.harness.frontends import refusal
from common.schema import FRONTENDS
from tests.common.harness.conftest import ADAPTERS, QUICK, REPOSITORY, Bench
from tests.common.harness.test_supervisor import MISBEHAVIOUR, dead
from tests.waiting import wait_for

SLOW_TO_START = replace(QUICK, cell_timeout_s=120.0)
TELLING = ("killed", "segfaults", "raises", "address-space", "starves", "aborts", "quits", "junk")
CASES = [case for case in [*MISBEHAVIOUR, ("aborts", "oom", ["SIGABRT", "std::bad_alloc"])] if case[0] in TELLING]


def groups() -> dict[int, list[int]]:
    """Process group -> its living members."""
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rsplit(")", 1)[1].split()[:3]
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            found.setdefault(int(group), []).append(int(path.parent.name))
    return found


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home that a kernel has no business in."""
    folder = tmp_path / "home"
    startup = folder / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "mine.py").write_text("import os; os._exit(77)\n")
    (folder / "startup.py").write_text("import os; os._exit(78)\n")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PYTHONSTARTUP", str(folder / "startup.py"))
    return folder


def test_both_front_ends_give_the_same_files(bench: Bench, home: Path) -> None:
    before = sorted(home.rglob("*"))
    rows, phases, files = {}, {}, {}
    for frontend in FRONTENDS:
        job = bench.job(batch_sizes=(1, 8), frontend=frontend, settings=SLOW_TO_START)
        assert bench.run(job)[0] == 0
        for cell in job.cells:
            folder = cell_folder.cell_path(bench.run_dir, cell.key)
            files[frontend, cell.batch_size] = sorted(path.name for path in folder.iterdir())
            rows[frontend, cell.batch_size] = row = bench.cell(cell)
            phases[frontend, cell.batch_size] = [p["phase"] for p in bench.file(cell, "phases.csv")]
            assert row["status"] == "ok"
            assert row["frontend"] == frontend
            assert int(row["samples"]) == len(bench.file(cell, "samples.csv")) >= QUICK.min_samples
    same = (
        "python_version",
        "framework_version",
        "settings",
        "parity_rel_l2",
        "parity_top1",
        "warmup_stop",
        "model_hash",
    )
    for size in (1, 8):
        script, notebook = rows["script", size], rows["notebook", size]
        assert {name: script[name] for name in same[:-2]} == {name: notebook[name] for name in same[:-2]}
        assert phases["script", size] == phases["notebook", size]
        assert files["script", size] == files["notebook", size]
        assert "ipykernel" not in json.loads(script["versions"])
        assert {"framework", "ipykernel", "ipython", "pyzmq"} <= json.loads(notebook["versions"]).keys()
    assert rows["notebook", 1]["worker"] == rows["notebook", 8]["worker"], "one kernel takes all cells of a job"
    assert list((bench.run_dir / cell_folder.UNFINISHED).iterdir()) == []
    assert sorted(home.rglob("*")) == before, "nothing of the user's own Jupyter is read or written"


def test_around_the_timed_code_is_what_a_notebook_has(bench: Bench) -> None:
    seen = {}
    for frontend in FRONTENDS:
        job = bench.job(frontend=frontend, adapter=str(ADAPTERS / "looks_around.py"), settings=SLOW_TO_START)
        bench.run(job)
        assert bench.cell(job.cells[0])["status"] == "ok"
        seen[frontend] = json.loads(bench.cell(job.cells[0])["settings"])
    script, notebook = seen["script"], seen["notebook"]
    assert script["main_thread"] == notebook["main_thread"] == "True"
    assert (script["loop"], script["threads"], script["in_a_cell"]) == ("none", "MainThread", "False")
    assert "EventLoop" in notebook["loop"]
    assert {"Heartbeat", "IOPub", "IPythonHistorySavingThread"} <= set(notebook["threads"].split())
    assert notebook["shell"] == "ipykernel.zmqshell.ZMQInteractiveShell"
    assert notebook["stdout"] == "ipykernel.iostream.OutStream"
    assert notebook["stderr_is_a_pipe"] == "True"
    assert notebook["display_hook"] == "ipykernel.displayhook.ZMQShellDisplayHook"
    assert notebook["history"].startswith(str(bench.run_dir / cell_folder.UNFINISHED))
    assert "in_kernel.work(" in notebook["cell"]
    assert notebook["in_a_cell"] == "True"
    assert "common.harness.frontends.notebook" in notebook["client"]


@pytest.mark.parametrize(("variant", "status", "words"), CASES, ids=[case[0] for case in CASES])
def test_misbehaviour_costs_one_cell(bench: Bench, variant: str, status: str, words: list[str]) -> None:
    job = bench.job(variant, (2, 1), frontend="notebook", settings=SLOW_TO_START)
    code, events = bench.run(job)
    bad, good = (bench.cell(cell) for cell in job.cells)
    assert code == 0
    assert bad["status"] == status
    for word in words:
        assert word in bad["message"]
    assert good["status"] == "ok"
    assert (good["worker"] == bad["worker"]) == (status == "ok")
    assert bad["framework_version"] == "1.2.3"
    assert json.loads(bad["versions"])["ipykernel"]
    if status != "ok":
        assert [p["phase"] for p in bench.file(job.cells[0], "phases.csv")] == ["import", "load", "compile"]
    assert events[-1] == {"event": "job_finish"}
    assert list((bench.run_dir / cell_folder.UNFINISHED).iterdir()) == []


def test_an_error_of_python_leaves_its_traceback_in_the_log(bench: Bench) -> None:
    job = bench.job("raises", (2,), frontend="notebook", settings=SLOW_TO_START)
    bench.run(job)
    (log,) = (bench.run_dir / "logs").iterdir()
    assert "in do_raises" in log.read_text()


def start_hanging(bench: Bench) -> tuple[subprocess.Popen[str], int, int]:
    """A supervisor whose kernel hangs with a child of its own; returns it, the kernel and the process group of both."""
    pids = bench.folder / "pids"
    job = bench.job("hangs", (1, 2, 4), frontend="notebook", settings=SLOW_TO_START)
    process = bench.start(job, env={**os.environ, "TOY_PIDS": str(pids)})
    wait_for(lambda: pids.is_dir() and len(list(pids.iterdir())) == 2, 60)
    kernel = next(pid for pid in (int(path.name) for path in pids.iterdir()) if b"ipykernel" in command_line(pid))
    group = os.getpgid(kernel)
    assert len(groups()[group]) == 3, "client, kernel, and the kernel's child"
    return process, kernel, group


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_hanging_kernel_is_a_timeout_and_another_one_goes_on(bench: Bench) -> None:
    job = bench.job("hangs", (1, 2, 4), frontend="notebook", settings=replace(QUICK, cell_timeout_s=15.0))
    code, _ = bench.run(job)
    rows = [bench.cell(cell) for cell in job.cells]
    assert code == 0
    assert [row["status"] for row in rows] == ["ok", "timeout", "ok"]
    assert rows[1]["message"] == "not done after 15 s, in phase compile"
    assert rows[0]["worker"] == rows[1]["worker"] != rows[2]["worker"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_kernel_and_keeps_finished_cells(bench: Bench, number: int, code: int) -> None:
    process, _, group = start_hanging(bench)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert group not in groups()
    assert len(list((bench.run_dir / "cells").iterdir())) == 1
    assert bench.attempts()[-1]["status"] == "interrupted"
    assert list((bench.run_dir / cell_folder.UNFINISHED).iterdir()) == []


def test_no_kernel_survives_a_supervisor_that_is_killed(bench: Bench) -> None:
    process, _, group = start_hanging(bench)
    process.kill()
    process.wait()
    wait_for(lambda: group not in groups())


def test_no_kernel_survives_a_supervisor_that_is_killed_while_it_starts(bench: Bench) -> None:
    process = bench.start(bench.job(frontend="notebook", settings=SLOW_TO_START))

    def group_of_the_client() -> int | None:
        for pid in (pid for members in groups().values() for pid in members):
            try:
                if f"{bench.folder}/job.json".encode() in command_line(pid) and b"frontends.notebook" in command_line(
                    pid
                ):
                    return pid
            except OSError:
                continue
        return None

    group = wait_for(group_of_the_client)
    wait_for(lambda: len(groups().get(group, [])) == 2)
    process.kill()
    process.wait()
    wait_for(lambda: group not in groups())


@pytest.mark.parametrize("whom", ["kernel", "client"])
def test_a_kill_from_outside_costs_one_cell(bench: Bench, whom: str) -> None:
    process, kernel, group = start_hanging(bench)
    os.kill(kernel if whom == "kernel" else group, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == 0
    job = bench.job("hangs", (1, 2, 4), frontend="notebook")
    rows = [bench.cell(cell) for cell in job.cells]
    assert [row["status"] for row in rows] == ["ok", "crashed", "ok"]
    assert rows[1]["message"].startswith("the worker was ended by SIGKILL in phase compile")
    assert dead(kernel)
    assert group not in groups()


def test_a_kernel_that_cannot_start_is_a_row_that_says_why(bench: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "IPython.py").write_text("raise ImportError('IPython is of another century')\n")
    job = bench.job(frontend="notebook", settings=SLOW_TO_START)
    process = bench.start(job, env={**os.environ, "PYTHONPATH": str(broken)})
    process.communicate(timeout=60)
    row = bench.cell(job.cells[0])
    assert process.returncode == 0
    assert row["status"] == "crashed"
    assert row["message"].endswith("its last words: ImportError: IPython is of another century")


def test_without_ipykernel_nothing_begins_and_one_line_says_what_to_do(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['ipykernel'] = None\n")
    job = bench.job(batch_sizes=(1, 2), frontend="notebook")
    path = bench.folder / "job.json"
    job.write(path)
    done = subprocess.run(
        [sys.executable, "-m", "common.harness", str(path)],
        cwd=REPOSITORY, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    (event,) = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 2
    assert event["event"] == "error"
    assert event["message"].startswith("the front end notebook needs ipykernel, which ")
    assert "requirements-notebook.txt; an image has it after invoke build --notebook" in event["message"]
    assert done.stderr == ""
    assert not bench.run_dir.exists()


def test_a_front_end_that_does_not_exist_is_named() -> None:
    assert refusal("fortran") == "there is no front end fortran; there is script, notebook"
    assert refusal("script") is None


def test_a_job_has_one_front_end(bench: Bench) -> None:
    job = bench.job()
    code, events = bench.run(replace(job, cells=[*job.cells, replace(job.cells[0], frontend="notebook")]))
    assert code == 2
    assert "one variant, version, precision, tuning, front end, replicate and device" in events[0]["message"]


def test_the_supervisor_imports_nothing_of_jupyter() -> None:
    code = "import sys, common.harness.supervisor; print({'zmq', 'IPython', 'ipykernel', 'jupyter_client'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert out.stdout == "set()\n"
