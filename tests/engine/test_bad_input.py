"""Every failure of engine, image or machine is one line with its cause and what mends it; nothing is left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from common.errors import UserError
from common.host.paths import ROOT
from common.host.runners.containers import engine, images, leftovers
from common.host.runners.containers.limits import Limits
from tests.engine.conftest import BASE, PREFIX, Bench
from tests.fake_nvml import build as fake_nvml


def output(fresh_bench: Bench, environment: dict[str, str] | None = None, **values: Any) -> str:
    """The only line on standard error of a command that must fail with exit code 2."""
    done = subprocess.run(
        fresh_bench.command(**values),
        env=fresh_bench.environment() | (environment or {}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert not list(fresh_bench.data.results.glob("*/run.json"))
    return line


def test_no_engine(fresh_bench: Bench, tmp_path: Path) -> None:
    line = output(fresh_bench, {"DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"})
    assert "no Docker engine answers at unix://" in line
    assert "systemctl start docker" in line and "--runner local" in line


#: `invoke bench` by a user who may not talk to the engine; what it needs is imported while that user still may read it
AS_NOBODY = """
import importlib, os, sys, urllib3.connection
sys.path.insert(0, sys.argv[1])
import tasks
for name in ("bench.command", "runners.containers.runner", "runners.containers.limits", "runners.local"):
    importlib.import_module("common.host." + name)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
tasks.bench_task.body(None, framework="onnxrt", device="cpu", runner="docker", batch_sizes="1", quick=True)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user who may not")
def test_an_engine_that_does_not_let_the_user_in() -> None:
    # pytest's own folders are their owner's alone
    with tempfile.TemporaryDirectory(prefix="framewatt-") as folder:
        Path(folder).chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(ROOT)], capture_output=True, text=True, cwd=ROOT,
            env={**os.environ, "FRAMEWATT_DATA": f"{folder}/data"},
        )  # fmt: skip
        assert done.returncode == 2, done.stdout + done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: the Docker engine at its default socket does not let this user in: ")
        assert "sudo usermod -aG docker $USER" in line
        assert not list(Path(folder).iterdir())


def test_an_image_that_is_not_built(fresh_bench: Bench) -> None:
    line = output(fresh_bench, {"FRAMEWATT_IMAGES": "framewatt-nothing"})
    assert "is not built: invoke build --framework onnxrt --cpu" in line


def test_an_image_with_older_code(fresh_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "source_digest", lambda image: "newer")
    with pytest.raises(UserError, match="older code than this checkout: invoke build --framework onnxrt --cpu"):
        fresh_bench()


def test_a_base_image_that_cannot_be_fetched(client: DockerClient) -> None:
    # Nothing listens on the discard port of this machine.
    command = ["build", "--framework", "sidecar", "--cpu", "--base", "127.0.0.1:9/base:latest"]
    done = subprocess.run([str(ROOT / "invoke"), *command], capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert re.match(r"error: .*127\.0\.0\.1:9/base:latest: the base image cannot be fetched.*--base", line)
    assert "docker login" in line


def test_a_gpu_without_a_gpu_runtime(client: DockerClient, fresh_bench: Bench, tmp_path: Path) -> None:
    if "nvidia" in client.info()["Runtimes"]:
        pytest.skip("this engine has NVIDIA's runtime")
    if fake_nvml.compiler() is None:
        pytest.skip("no C compiler for the NVML stand-in")
    library = fake_nvml.build(tmp_path)
    line = output(fresh_bench, fake_nvml.library_path(library), device="", gpu="0")
    assert "neither NVIDIA's runtime nor a CDI device" in line
    assert "nvidia-ctk runtime configure --runtime=docker" in line


def test_a_build_that_fails_says_pips_words(client: DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    # Folders that no image has, which pip does not try again: its arguments are part of the layer's key, so that nothing
    # comes from the cache.
    monkeypatch.setenv("PIP_FIND_LINKS", "file:///nothing")
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nothing/simple")
    with pytest.raises(UserError, match=f"image {PREFIX}/sidecar:cpu cannot be built: ") as raised:
        images.build(client, "sidecar", "cpu", base=BASE, network="none")
    assert "of nvidia-ml-py==" in str(raised.value) and "there is no release" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"memory": "much"}, "--memory 'much' is not a size"),
        ({"cpus": "0-400"}, "--cpus 0-400 names CPUs that this process may not use"),
        ({"pids": -1}, "--pids must be at least 1"),
        ({"python": sys.executable}, "--python is for the local runner"),
    ],
)
def test_limits_that_mean_nothing(fresh_bench: Bench, values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        fresh_bench(**values)
    assert not fresh_bench.data.results.exists()


def test_mounts_must_exist() -> None:
    with pytest.raises(UserError, match="FRAMEWATT_CONTAINER_MOUNTS names /nowhere/at/all"):
        Limits().with_environment({"FRAMEWATT_CONTAINER_MOUNTS": "/usr:/nowhere/at/all"})
    limits = Limits().with_environment({"FRAMEWATT_CONTAINER_INIT": "0", "FRAMEWATT_CONTAINER_MOUNTS": "/usr"})
    assert limits.arguments()["init"] is False
    assert limits.volumes() == {"/usr": {"bind": "/usr", "mode": "ro"}}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk(fresh_bench: Bench) -> None:
    folder = fresh_bench.data.root
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        with pytest.raises(UserError, match="MiB left, a run needs"):
            fresh_bench()
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "install NVIDIA's container toolkit"),
        ("write /var/lib/docker/tmp/x: no space left on device", "the disk is full: docker system df"),
        ("driver failed programming: port is already allocated", "a port is taken"),
        ("unresolvable CDI devices nvidia.com/gpu=7", "nvidia-ctk cdi generate"),
        ("exec: docker-init: executable file not found: docker-init not found", "FRAMEWATT_CONTAINER_INIT=0"),
    ],
)
def test_the_engines_words_get_a_remedy(words: str, hint: str) -> None:
    assert hint in engine.explain(words)


def test_clean_removes_what_has_the_label_and_nothing_else(
    client: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A label of the test's own: what else framewatt has on this engine may be somebody's.
    label = f"{PREFIX}-clean"
    monkeypatch.setattr(leftovers, "LABEL", label)
    monkeypatch.setattr(leftovers, "OWNER", f"{label}.owner")
    ours = client.containers.create(BASE, ["true"], labels={label: "1"}, name=f"{PREFIX}-ours")
    other = client.containers.create(BASE, ["true"], name=f"{PREFIX}-other")
    running = client.containers.create(BASE, ["sleep", "600"], labels={label: "1"}, name=f"{PREFIX}-running")
    volume = client.volumes.create(f"{PREFIX}-ours", labels={label: "1"})
    foreign = client.volumes.create(f"{PREFIX}-other")
    image = ours.commit(f"{PREFIX}/clean", "test", changes=f"LABEL {label}=1")
    try:
        running.start()
        removed, left = leftovers.remove_all(client, images=False)
        assert removed == [f"container {ours.name}", f"volume {volume.name}"]
        assert left == [f"container {running.name} is running (docker compose down, or end its run)"]
        mine = sorted(c.name for c in client.containers.list(all=True) if PREFIX in c.name)
        assert mine == [other.name, running.name]
        assert foreign.name in [v.name for v in client.volumes.list()]
        assert client.images.get(image.id)
        removed, _ = leftovers.remove_all(client, images=True)
        assert removed == [f"image {PREFIX}/clean:test"]
        assert client.images.get(BASE)
    finally:
        other.remove()
        running.remove(force=True)
        foreign.remove()
