"""What Ray runs on a host, without Ray: the agent of a real checkout is started, and what it makes is carried away in pieces."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from common.host.fleet.head.collect import Receiving
from common.host.fleet.worker import on_host, shipper
from common.host.fleet.worker.code_digest import code_digest
from common.host.plan.options import Options
from tests.common.host.faults.conftest import ROOT, descendants, make_model, read_rows
from tests.common.host.fleet.conftest import make_checkout
from tests.fake_nvml import build
from tests.waiting import wait_for

Spec = Callable[..., dict[str, Any]]
KEYS = [f"MobileNetV3S_good_fp32_b000{size}_host_single-stream_script_r0" for size in (1, 2)]


@pytest.fixture
def host(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a host that has the checkout and a model."""
    data = tmp_path / "data"
    make_model(data / "models" / "MobileNetV3S-0123456789ab")
    monkeypatch.setenv("FRAMEWATT_DATA", str(data))
    monkeypatch.setenv("FRAMEWATT_CHECKOUT", str(checkout))
    return data


@pytest.fixture
def spec(checkout: Path) -> Spec:
    def make(**changes: Any) -> dict[str, Any]:
        options = Options(
            framework="good", model="MobileNetV3S", weights="seeded", batch_sizes="1,2", runner="local",
            python=sys.executable, threads=1,
            settings={"min_seconds": 0.05, "max_seconds": 0.2, "warmup_max_seconds": 0.05, "idle_seconds": 0.02,
                      "min_images": 1, "min_samples": 16, "precision_of_median": 0.5, "cell_timeout_s": 60.0},
        )  # fmt: skip
        return {
            "attempt": "test/A2-1/0", "device": "cpu", "code": code_digest((checkout / "common", checkout / "images")),
            "options": asdict(options), "run": "20261125-120000_A2-1-0", "cells": KEYS, "command": "invoke fleet sweep",
            "facts": {"sweep": "test", "target": "A2-1"}, "model_hash": "", "seed": 3, **changes,
        }  # fmt: skip

    return make


def everything(spec: dict[str, Any], task: str = "run", inputs: Any = None) -> list[dict[str, Any]]:
    return list(on_host.on_host(task, spec, inputs))


def rebuilt(messages: list[dict[str, Any]], folder: Path) -> Path:
    """What a receiver makes of the messages."""
    receiving = Receiving(folder)
    for message in messages:
        if message["kind"] == "cell":
            receiving.cell(message["cell_key"], message["whole"], message["files"])
        else:
            receiving.take(message.get("files", []))
    receiving.end()
    return folder


def test_a_run_is_carried_away_whole_and_nothing_stays(host: Path, spec: Spec, tmp_path: Path) -> None:
    messages = everything(spec())
    kinds = [message["kind"] for message in messages if message["kind"] != "state"]
    assert kinds == ["host", "run", "cell", "cell", "files", "files", "end"]
    assert messages[-1] == {"kind": "end", "interrupted": False, "errors": [], "refused": ""}
    (run,) = [message for message in messages if message["kind"] == "run"]
    assert sorted(run["plan"]) == sorted(KEYS)
    assert run["model_hash"] == "0123456789ab"
    assert [path for path in (host / "fleet").iterdir() if path.is_dir()] == []
    assert not (host / "results").exists()

    folder = rebuilt(messages, tmp_path / "head" / "20261125-120000_A2-1-0")
    description = json.loads((folder / "run.json").read_text())
    assert description["finished_utc"]
    assert description["fleet"] == {"sweep": "test", "target": "A2-1"}
    assert description["command"] == "invoke fleet sweep"
    assert sorted(path.name for path in folder.iterdir()) == ["attempts.csv", "cells", "jobs", "logs", "run.json"]
    for key in description["plan"]:
        (row,) = read_rows(folder / "cells" / key / "cell.csv")
        assert row["status"] == "ok"
        assert len(read_rows(folder / "cells" / key / "samples.csv")) == int(row["samples"])
    assert len(read_rows(folder / "attempts.csv")) == 4


def test_the_cells_that_are_asked_for_and_no_others(host: Path, spec: Spec) -> None:
    messages = everything(spec(cells=KEYS[:1]))
    assert [m["cell_key"] for m in messages if m["kind"] == "cell"] == [KEYS[0].replace("_r0", "_cpu_r0")]


def test_large_files_come_in_pieces(host: Path, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper, "PIECE_BYTES", 500)
    messages = everything(spec(cells=KEYS[:1]))
    of_each = [[p for p in message.get("files", []) if p["path"] != "run.json"] for message in messages]
    pieces = [piece for found in of_each for piece in found]
    assert max(len(piece["data"]) for piece in pieces) <= 500
    assert max(sum(len(piece["data"]) for piece in found) for found in of_each) < 2 * 500
    samples = [piece for piece in pieces if piece["path"].endswith("samples.csv")]
    assert len(samples) > 1
    (cell,) = [message for message in messages if message["kind"] == "cell"]
    whole = b"".join(piece["data"] for piece in samples)
    assert cell["whole"][samples[0]["path"]] == [len(whole), hashlib.sha256(whole).hexdigest()]
    folder = rebuilt(messages, tmp_path / "head" / "run")
    (row,) = read_rows(folder / "cells" / cell["cell_key"] / "cell.csv")
    assert len(read_rows(folder / "cells" / cell["cell_key"] / "samples.csv")) == int(row["samples"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": "other"}, "its checkout has other code than the sweep was started with"),
        ({"checkout": "/nowhere"}, "no checkout of framewatt at /nowhere: give --checkout PATH, or start Ray"),
        ({"cells": ["MobileNetV3S_other_r0"]}, "1 of 1 cells are not in this host's plan, such as MobileNetV3S_other_r0"),
        ({"model_hash": "ffffffffffff"}, "is 0123456789ab on this host, the sweep measures ffffffffffff"),
        ({"device": "gpu"}, "Ray assigned 0 GPUs to this task, not one"),
    ],
)  # fmt: skip
def test_what_a_host_cannot_do_is_one_line_and_leaves_nothing(
    host: Path, spec: Spec, change: dict[str, Any], words: str
) -> None:
    messages = everything(spec(**change))
    assert [message["kind"] for message in messages if message["kind"] != "state"] == ["host", "end"]
    assert words in messages[-1]["refused"]
    assert "\n" not in messages[-1]["refused"]
    assert [path for path in host.glob("fleet/*") if path.is_dir()] == []


def test_a_checkout_from_before_the_fleet_is_named(host: Path, spec: Spec, tmp_path: Path) -> None:
    old = tmp_path / "old" / "common" / "host"
    old.mkdir(parents=True)
    (old / "paths.py").touch()
    (end,) = [message for message in everything(spec(checkout=str(tmp_path / "old"))) if message["kind"] == "end"]
    assert "its agent ended with exit code 1" in end["refused"]
    assert "common.host.fleet" in end["refused"]


def test_a_file_of_the_senders_machine_is_there_for_the_agent(host: Path, spec: Spec) -> None:
    options = {**spec()["options"], "image": "/only/on/the/sender/cat.png"}
    messages = everything(spec(options=options, cells=KEYS[:1]), inputs={"image": ("cat.png", b"no picture")})
    assert "cat.png" in messages[-1]["refused"]
    assert "/only/on/the/sender" not in messages[-1]["refused"]


@pytest.mark.parametrize(("sent", "counts"), [({"FRAMEWATT_GOOD_LEVEL": "3"}, {"FRAMEWATT_GOOD_LEVEL": "3"}), ({}, {})])
def test_the_senders_variables_are_measured_with_and_not_the_hosts(
    host: Path, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: Any, counts: Any
) -> None:
    own = make_checkout(tmp_path / "framewatt")
    dockerfile = own / "images" / "toy" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + 'LABEL framewatt.variables="FRAMEWATT_GOOD_LEVEL"\n')
    there = {"checkout": str(own), "code": code_digest((own / "common", own / "images"))}
    monkeypatch.setenv("FRAMEWATT_GOOD_LEVEL", "7")
    messages = everything(spec(environment={**sent, "LD_PRELOAD": "/nowhere.so"}, cells=KEYS[:1], **there))
    folder = rebuilt(messages, tmp_path / "run")
    assert json.loads((folder / "run.json").read_text())["environment"] == counts
    (row,) = read_rows(next(folder.glob("cells/*/cell.csv")))
    said = {name: value for name, value in json.loads(row["settings"]).items() if name.startswith("FRAMEWATT_")}
    assert (row["status"], said) == ("ok", counts)
    checked = everything(spec(environment=sent, **there), "check")
    (facts,) = (message["facts"] for message in checked if message["kind"] == "facts")
    assert facts["own_variables"] == {"FRAMEWATT_GOOD_LEVEL": "7"}


def test_what_ray_sets_for_its_workers_does_not_reach_the_benchmark(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("FRAMEWATT_TRT_PROFILES", "each")
    parent = subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], "CUDA_VISIBLE_DEVICES": "2,3"})
    try:
        wait_for(lambda: b"sleep" in Path(f"/proc/{parent.pid}/cmdline").read_bytes())
        found = on_host.environment(checkout, parent.pid)
    finally:
        parent.kill()
        parent.wait()
    assert "OMP_NUM_THREADS" not in found
    assert found["CUDA_VISIBLE_DEVICES"] == "2,3", "as Ray itself was started"
    assert found["FRAMEWATT_TRT_PROFILES"] == "each"
    assert found["PYTHONPATH"].split(os.pathsep)[0] == str(checkout)


# -- GPUs, by the stand-in of NVML -------------------------------------------------------------------------------------


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if build.compiler() is None:
        pytest.skip("no C compiler for the NVML stand-in")
    folder = tmp_path / "nvml"
    folder.mkdir()
    for name, value in {**build.library_path(build.build(folder)), "FAKE_NVML_GPUS": "2"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("given", ["1", build.uuid(1)])
def test_the_gpu_that_ray_assigned_is_measured_with_its_own_power(
    two_gpus: None, host: Path, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr(on_host, "ray_gpus", lambda: [given])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # as Ray sets it; the run must not believe it
    messages = everything(spec(device="gpu", cells=KEYS[:1]))
    assert messages[-1]["refused"] == ""
    (run,) = [message for message in messages if message["kind"] == "run"]
    assert (run["device"]["device"], run["device"]["uuid"]) == ("gpu1", build.uuid(1))
    folder = rebuilt(messages, tmp_path / "head" / "20261125-120000_A2-1-0")
    (key,) = [path.name for path in (folder / "cells").iterdir()]
    (row,) = read_rows(folder / "cells" / key / "cell.csv")
    assert (row["device"], row["device_uuid"]) == ("gpu1", build.uuid(1))
    readings = read_rows(folder / "power.csv")
    assert {reading["uuid"] for reading in readings} == {build.uuid(1)}
    idle_end = max(int(phase["end_ns"]) for phase in read_rows(folder / "cells" / key / "phases.csv"))
    (cell,) = [message for message in messages if message["kind"] == "cell"]
    sent_with_it = [piece for piece in cell["files"] if piece["path"] == "power.csv"]
    last = sent_with_it[-1]["data"].decode().splitlines()[-1]
    assert int(last.split(",")[0]) >= idle_end, "a cell comes with the power readings of its whole time"


# -- ends --------------------------------------------------------------------------------------------------------------


def long(spec: Spec) -> dict[str, Any]:
    """Nine cells: it is not done when the first of them arrives."""
    sizes = range(1, 10)
    options = {**spec()["options"], "batch_sizes": ",".join(map(str, sizes))}
    return spec(options=options, cells=[KEYS[0].replace("b0001", f"b000{size}") for size in sizes])


def until_a_cell(messages: Iterator[dict[str, Any]]) -> None:
    for message in messages:
        if message["kind"] == "cell":
            return


def agent_of(pid: int) -> int:
    """Its lowest: a process that is just being started still has the command line of its parent."""
    return min(child for child, command in descendants(pid).items() if on_host.AGENT in command)


def gone(pid: int) -> bool:
    path = Path(f"/proc/{pid}/cmdline")
    return not path.exists() or path.read_bytes() == b""


def test_a_cancelled_task_takes_its_agent_and_workers_along(host: Path, spec: Spec) -> None:
    messages = on_host.on_host("run", long(spec))
    until_a_cell(messages)
    agent = agent_of(os.getpid())
    started = [agent, *descendants(agent)]
    messages.close()  # type: ignore[attr-defined]
    assert all(gone(pid) for pid in started)
    assert [path for path in (host / "fleet").iterdir() if path.is_dir()] == []


def test_an_agent_that_is_told_to_stop_hands_over_what_is_finished(host: Path, spec: Spec) -> None:
    messages = on_host.on_host("run", long(spec))
    until_a_cell(messages)
    assert on_host.stop_agents(["test/A2-1/7"]) == 0
    assert everything({"attempts": ["test/A2-1/0"]}, "stop") == [{"kind": "stopped", "agents": 1}]
    rest = list(messages)
    assert rest[-1]["interrupted"]
    assert len([message for message in rest if message["kind"] == "cell"]) < 8
    assert rest[-2]["kind"] == "files", "run.json, logs and the last readings still come"


def test_when_rays_worker_is_killed_the_agent_ends_and_cleans_up(host: Path, spec: Spec) -> None:
    program = (
        "import json, sys; from common.host.fleet.worker.on_host import on_host\n"
        "for message in on_host('run', json.loads(sys.argv[1])): print(message['kind'], flush=True)"
    )
    options = {**spec()["options"], "settings": {**spec()["options"]["settings"], "min_seconds": 5, "max_seconds": 5}}
    worker = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(spec(options=options))], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    wait_for(lambda: worker.stdout.readline().strip() == "run")  # type: ignore[union-attr]
    agent = agent_of(worker.pid)
    wait_for(lambda: "common.harness" in "".join(descendants(agent).values()))
    started = [agent, *descendants(agent)]
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    wait_for(lambda: all(gone(pid) for pid in started))
    assert [path for path in (host / "fleet").iterdir() if path.is_dir()] == []
