"""Whole sweeps on a real Ray cluster of processes on this machine: hosts die, differ and come back, and no cell is lost or doubled.

Every host has its own checkout and data folder; what is measured is a toy framework on the CPU.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from analysis.database.open_runs import open_runs
from common.host.fleet.head.loop import Order
from common.host.fleet.head.sweep import run_sweep
from common.host.fleet.head.targets import Target, Work
from common.host.fleet.transport.connection import Changed, Transport
from common.host.fleet.transport.simulated_host import work_keys
from common.host.fleet.worker.on_host import AGENT
from common.host.paths import DataFolder
from common.host.plan.options import Options
from common.host.plan.subset import work_key
from tests.common.host.faults.conftest import descendants, read_rows
from tests.common.host.fleet.conftest import TYPED, Fleet, cells, runs_of
from tests.fake_nvml import build
from tests.waiting import wait_for

pytestmark = pytest.mark.fleet

PLANNED = [f"MobileNetV3S_sleeper_fp32_b{size:04d}_host_single-stream_script_r0" for size in range(1, 6)]


def check_targets(data: Path) -> dict[str, list[str]]:
    """Target -> its cells, sorted, doubles included; every one of them is whole."""
    found: dict[str, list[str]] = {}
    for run in runs_of(data):
        assert (run["folder"] / "attempts.csv").read_bytes().endswith(b"\n")
        assert not list(run["folder"].glob("unfinished/*"))
        for key in run["keys"]:
            (row,) = read_rows(run["folder"] / "cells" / key / "cell.csv")
            samples = read_rows(run["folder"] / "cells" / key / "samples.csv")
            assert (row["cell_key"], row["status"]) == (key, "ok")
            assert [int(sample["i"]) for sample in samples] == list(range(int(row["samples"])))
        found.setdefault(run["fleet"]["target"], []).extend(map(work_key, run["keys"]))
    return {target: sorted(keys) for target, keys in found.items()}


def agents(fleet: Fleet) -> dict[str, int]:
    """Host -> process of the agent that runs there now. By its working folder: agents are children of Ray's workers."""
    found = {}
    for name, host in fleet.hosts.items():
        for pid, command in descendants(host.raylet).items():
            if f"-m {AGENT} run" in command:
                found[name] = pid
    return found


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=150)
    assert "Traceback" not in output, output
    return process.returncode, output


def test_a_whole_sweep_as_it_is_typed(fleet: Fleet, data: Path) -> None:
    code, output = fleet.run(data, *TYPED, task="up-check")
    assert code == 0, output
    assert "2 A2, 2 V100; runner local; 3 hosts are fit and alike" in output
    assert "head: takes no cells (Ray found no GPU there)" in output
    assert not (data / "results").exists()

    code, output = fleet.run(data, *TYPED, "--framework", "sleeper", "--batch-sizes", "1,2", "--accelerators", "v100")
    assert code == 0, output
    assert "[2/2] v100-north V100-1: sleeper fp32 batch" in output
    assert "report.html" in output, "table and report come by themselves"
    assert check_targets(data) == {"V100-1": PLANNED[:2]}
    (run,) = runs_of(data)
    assert run["finished_utc"]
    assert run["command"].startswith("program.py fleet sweep --address")
    assert run["model"]["hash"] == "0123456789ab"
    assert sorted(run["plan"]) == run["keys"]
    facts = {name: run["fleet"][name] for name in ("accelerator", "target", "attempt", "host")}
    assert facts == {"accelerator": "V100", "target": "V100-1", "attempt": 0, "host": "v100-north"}
    for host in fleet.hosts.values():
        assert [path for path in host.data.glob("fleet/*") if path.is_dir()] == [], "nothing stays on a host"
        assert not (host.data / "results").exists()


@pytest.mark.skipif(build.compiler() is None, reason="no C compiler for the NVML stand-in")
def test_gpus_of_a_host_are_measured_side_by_side_and_never_shared(fleet: Fleet, data: Path, closed_gate: Path) -> None:
    sweep = fleet.start(data, accelerators="V100", per_accelerator="2", device="gpu", batch_sizes="1,2")
    wait_for(lambda: len(cells(data)) == 2)
    closed_gate.unlink()
    code, output = ended(sweep)
    assert code == 0, output
    assert "is measured on the same GPU as" not in output
    runs = runs_of(data)
    assert {run["devices"][0]["device"] for run in runs} == {"gpu0", "gpu1"}
    for run in runs:
        (device,) = run["devices"]
        assert device["name"] == "Tesla V100-SXM2-16GB"
        assert {row["uuid"] for row in read_rows(run["folder"] / "power.csv")} == {device["uuid"]}
        rows = [row for key in run["keys"] for row in read_rows(run["folder"] / "cells" / key / "cell.csv")]
        assert {row["device_uuid"] for row in rows} == {device["uuid"]}


def test_ctrl_c_and_a_kill_keep_what_is_finished_and_stop_the_hosts(
    fleet: Fleet, data: Path, closed_gate: Path
) -> None:
    sweep = fleet.start(data, accelerators="A2", per_accelerator="2")
    wait_for(lambda: len(cells(data)) == 2)
    assert len(agents(fleet)) == 2
    sweep.kill()
    sweep.communicate(timeout=60)
    wait_for(lambda: not agents(fleet))
    kept = {path: (path / "samples.csv").read_bytes() for path in cells(data)}

    sweep = fleet.start(data, accelerators="A2", per_accelerator="2")
    wait_for(lambda: len(cells(data)) == 4)
    sweep.send_signal(signal.SIGINT)
    code, output = ended(sweep)
    assert code == 130, output
    assert f"{2 * len(PLANNED) - 4} cells are left; the same command continues" in output
    assert not agents(fleet)
    assert runs_of(data)[-1]["finished_utc"] is None
    assert {path: (path / "samples.csv").read_bytes() for path in kept} == kept
    targets = check_targets(data)
    assert {target: len(set(keys)) for target, keys in targets.items()} == {"A2-1": 2, "A2-2": 2}
    for host in fleet.hosts.values():
        assert [path for path in host.data.glob("fleet/*") if path.is_dir()] == []


def test_a_host_with_other_code_is_named_and_refused(fleet: Fleet, data: Path) -> None:
    odd = next(host for name, host in fleet.hosts.items() if name.startswith("a2"))
    changed = odd.checkout / "common" / "harness" / "loop.py"
    text = changed.read_text()
    changed.write_text(text + "\n# a little faster\n")
    try:
        code, output = fleet.run(data, *TYPED)
        assert code == 2, output
        (line,) = output.strip().splitlines()
        assert line.startswith(f"error: {odd.name}: other code than on this machine")
        assert not list((data / "results").glob("*"))
    finally:
        changed.write_text(text)


def test_a_cluster_that_wants_another_token(fleet: Fleet, data: Path) -> None:
    code, output = fleet.run(data, *TYPED, task="up-check", RAY_AUTH_TOKEN="f" * 64)
    wanted = f"error: Ray at {fleet.address} wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as its hosts have them\n"
    assert (code, output) == (2, wanted)


def test_the_simulated_fleet_of_selfbench_is_a_sweep_too(fleet: Fleet, data: Path) -> None:
    work = Work({Target("A2", number): tuple(work_keys(6)) for number in range(1, 5)})
    order = Order("selfbench", "selfbench", 1, Options(), "gpu", "none")
    folder = DataFolder(data)
    with Transport(fleet.address, folder, ("-m", "common.host.fleet.transport.simulated_ray")) as transport:
        (news,) = transport.poll(30.0)
        assert isinstance(news, Changed)
        result = run_sweep(order, work, None, transport, news.nodes, {}, Console(quiet=True), folder.results)
    assert (result.statuses, result.missing, result.errors) == ({"ok": 24}, {}, [])
    with open_runs(result.runs) as database:
        assert database.problems == []
        assert database.query("SELECT count(images_per_s) AS cells FROM comparison") == [{"cells": 24}]


def test_lost_hosts_lose_no_cell(fleet: Fleet, data: Path, closed_gate: Path) -> None:
    """Of two A2 one dies: the other does its cells. The only V100 dies: its cells are reported, and a new V100 does them."""
    sweep = fleet.start(data)
    wait_for(lambda: len(cells(data)) == 2)
    victims = {run["fleet"]["target"]: run["fleet"]["host"] for run in runs_of(data)}
    assert set(agents(fleet)) == set(victims.values())
    for name in victims.values():
        fleet.hosts[name].kill()
    closed_gate.unlink()
    code, output = ended(sweep)
    assert code == 1, output
    targets = check_targets(data)
    assert targets["A2-1"] == PLANNED, "nothing lost, nothing doubled"
    assert len(targets["V100-1"]) == 1
    assert f"V100-1: {len(PLANNED) - 1} cells are missing: {victims['V100-1']}: the host was lost" in output
    lost, taken = [run for run in runs_of(data) if run["fleet"]["target"] == "A2-1"]
    assert lost["fleet"]["ended"]["reason"] == "the host was lost"
    assert lost["finished_utc"] is None
    assert (taken["fleet"]["attempt"], "ended" in taken["fleet"]) == (1, False)
    assert taken["fleet"]["host"] not in victims.values()
    assert sorted(taken["plan"]) == taken["keys"], "its plan is what it was given"

    before = {path: (path / "samples.csv").read_bytes() for path in cells(data)}
    for name in victims.values():
        fleet.remove(name)
    fleet.add("v100-south", "V100")
    code, output = ended(fleet.start(data))
    assert code == 0, output
    assert f"{len(before)} of {2 * len(PLANNED)} cells are there" in output
    assert check_targets(data) == {"A2-1": PLANNED, "V100-1": PLANNED}
    assert {path: (path / "samples.csv").read_bytes() for path in before} == before
    assert len({run["fleet"]["sweep"] for run in runs_of(data)}) == 1
    with open_runs([run["folder"] for run in runs_of(data)]) as database:
        assert database.problems == []
        rows = database.query("SELECT variant, batch_size, images_per_s FROM comparison ORDER BY batch_size")
    assert [row["batch_size"] for row in rows] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert all(row["images_per_s"] > 0 for row in rows)
