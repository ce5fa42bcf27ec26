"""Which device an agent takes, what it mends of what Ray did to it, and what a host tells of itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.host.devices import Device
from common.host.fleet.worker import agent, facts
from common.host.fleet.worker.code_digest import code_digest
from common.host.fleet.worker.scratch import leftovers, scratch_folder
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, ROOT, DataFolder
from common.host.plan.options import Options
from tests.common.host.bench.test_command import bytes_model, data

__all__ = ["data"]

A2 = [Device(f"gpu{index}", "gpu", "NVIDIA A2", f"GPU-{index}", {"index": index}) for index in range(2)]


@pytest.mark.parametrize(("given", "name"), [("0", "gpu0"), ("1", "gpu1"), ("GPU-1", "gpu1")])
def test_the_gpu_that_ray_assigned(monkeypatch: pytest.MonkeyPatch, given: str, name: str) -> None:
    monkeypatch.setattr(agent, "list_gpus", lambda: A2)
    assert agent.assigned_device("gpu", [given]).name == name


@pytest.mark.parametrize(
    ("gpus", "given", "words"),
    [
        (A2, [], "Ray assigned 0 GPUs to this task, not one"),
        (A2, ["0", "1"], "Ray assigned 2 GPUs"),
        (A2, ["MIG-1f"], "parts of a GPU here (MIG-1f)"),
        (A2, ["7"], "Ray assigned GPU 7, NVML shows 0 (NVIDIA A2), 1 (NVIDIA A2)"),
        (
            [A2[0], Device("gpu1", "gpu", "Tesla V100", "GPU-1", {"index": 1})],
            ["1"],
            "GPU 1 is a Tesla V100, but Ray takes every GPU of this host for a NVIDIA A2",
        ),
    ],
)
def test_a_gpu_that_is_not_what_ray_says(
    monkeypatch: pytest.MonkeyPatch, gpus: list[Device], given: list[str], words: str
) -> None:
    monkeypatch.setattr(agent, "list_gpus", lambda: gpus)
    with pytest.raises(UserError) as caught:
        agent.assigned_device("gpu", given)
    assert words in str(caught.value)


def test_on_the_cpu_nobody_asks_for_a_gpu() -> None:
    assert agent.assigned_device("cpu", ["0"]).kind == "cpu"


def test_what_a_worker_of_ray_passes_on_is_undone() -> None:
    """Niceness 15, SIGINT blocked, first before the OOM killer: a benchmark would inherit all three."""
    program = (
        "import os, signal, json\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
        "os.nice(15)\n"
        "open('/proc/self/oom_score_adj', 'w').write('1000')\n"
        "from common.host.fleet.worker.agent import lost_priority, undo_ray\n"
        "undo_ray(os.getppid())\n"
        "print(json.dumps([lost_priority(os.getppid()), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []),"
        " open('/proc/self/oom_score_adj').read().strip()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    lost, blocked, score = json.loads(done.stdout)
    assert not blocked
    assert score == Path("/proc/self/oom_score_adj").read_text().strip()
    # Only root may raise its priority again; anybody else is warned (facts.py) and refused (agent.run).
    assert lost == (0 if os.geteuid() == 0 else 15)


def test_a_device_that_another_run_is_just_leaving_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataFolder(tmp_path)
    agent.wait_until_free(A2[0], data)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); "
         "print('held', flush=True); sys.stdin.read()", str(data.locks / "GPU-0.lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    monkeypatch.setattr(agent, "LOCK_SECONDS", 0.0)
    with pytest.raises(UserError, match=r"gpu0 \(NVIDIA A2\) is in use by"):
        agent.wait_until_free(A2[0], data)
    monkeypatch.setattr(agent, "LOCK_SECONDS", 60.0)
    monkeypatch.setattr(agent.time, "sleep", lambda seconds: holder.communicate(""))
    agent.wait_until_free(A2[0], data)


def test_scratch_folders_of_dead_agents_are_removed_and_of_living_ones_not(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    with scratch_folder(data, "one") as first:
        (first / "run").mkdir()
        with scratch_folder(data, "two") as second:
            assert first.is_dir()
            assert leftovers(data) == []
        assert leftovers(data) == [second], "its reader did not come"
    with scratch_folder(data, "three"):
        assert not first.exists()
        assert not second.exists()


def test_the_digest_tells_any_change_and_no_caches(tmp_path: Path) -> None:
    (tmp_path / "common" / "__pycache__").mkdir(parents=True)
    (tmp_path / "common" / "a.py").write_text("x")
    first = code_digest((tmp_path / "common",))
    (tmp_path / "common" / "__pycache__" / "a.pyc").write_text("y")
    assert code_digest((tmp_path / "common",)) == first
    (tmp_path / "common" / "b.py").touch()
    assert code_digest((tmp_path / "common",)) != first


# -- facts -------------------------------------------------------------------------------------------------------------


def test_a_host_tells_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMEWATT_DATA", str(tmp_path / "not" / "there" / "yet"))
    options = vars(Options(framework="onnxrt", python=sys.executable))
    found = facts.collect({"options": options, "device": "cpu", "raylet": os.getpid()})
    assert found.code == code_digest()
    assert found.checkout == str(ROOT)
    assert found.lost_priority == 0
    assert found.disk_free_bytes > 0
    assert (found.model_hash, found.model_why) == ("", "not exported yet")
    assert found.model_terms == {}
    assert list(found.environments) == ["onnxrt"]
    assert found.environments["onnxrt"]["packages"]["rich"]
    assert bool(found.engine_version) != bool(found.engine_why)
    json.dumps(vars(found))


def test_a_host_tells_what_its_model_decides(data: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_model(data)
    monkeypatch.setenv("FRAMEWATT_DATA", str(data.root))
    options = vars(Options(framework="onnxrt", python=sys.executable))
    found = facts.collect({"options": options, "device": "cpu", "raylet": os.getpid()})
    assert (found.model_hash, found.model_why) == ("abcdefabcdef", "")
    assert found.model_terms == {"takes_bytes": True, "fixed_batch": None}
    json.dumps(vars(found))


@pytest.mark.parametrize(
    ("options", "gpus", "images"),
    [
        ({"framework": "tf,onnxrt"}, A2, {"onnxrt", "tensorflow"}),
        ({}, [Device("gpu0", "gpu", "V100", "", {"compute_capability": "7.0"})], {"tensorflow", "torch", "tensorrt"}),
    ],
)
def test_only_images_that_would_run_are_looked_at(
    options: dict[str, Any], gpus: list[Device], images: set[str]
) -> None:
    found = {image.name for image in facts.needed_images(Options(**options), "gpu", gpus)}
    assert found <= images if not options else found == images
    assert "onnxrt" not in found or options


def test_environments_that_do_not_work_say_why(tmp_path: Path) -> None:
    (image,) = [image for image in load_images(IMAGES) if image.name == "onnxrt"]
    assert facts.environment(image, "cpu", "/nowhere/python") == {
        "why": "--python /nowhere/python is not an executable file there"
    }
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such library' >&2; exit 3\n")
    broken.chmod(0o755)
    assert facts.environment(image, "cpu", str(broken)) == {"why": f"{broken} does not work: no such library"}
    assert (
        "images/absent has no requirements-cpu.txt"
        in facts.environment(replace(image, name="absent"), "cpu", "")["why"]
    )


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo no list", "it prints no list of its packages"),
        ("echo '[]'", "it prints no list of its packages"),
        ("echo broken >&2; exit 3", "broken"),
        ("exit 3", "exit code 3"),
    ],
)
def test_an_interpreter_that_lists_no_packages_is_reported(tmp_path: Path, script: str, why: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    assert facts.packages_of(python) == {"why": f"{python} does not work: {why}"}


def test_packages_are_listed_after_what_an_interpreter_prints_as_it_starts(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho welcome\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert facts.packages_of(python)["packages"]["rich"]


@pytest.mark.parametrize("message", ["", "no JSON\n", "[]\n"])
def test_an_agent_without_a_specification_refuses(message: str) -> None:
    command = [sys.executable, "-m", "common.host.fleet.worker.agent", "check", "1"]
    done = subprocess.run(command, cwd=ROOT, input=message, capture_output=True, text=True, check=False)
    event = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, event["event"]) == (2, "done")
    assert "a line of JSON" in event["refused"]
    assert "Traceback" not in done.stderr
