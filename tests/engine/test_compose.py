"""`docker compose --profile cpu up` for real; of the GPU sweep what can be seen without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from common.host.compose.generator import always_measured
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, ROOT, DataFolder
from common.host.runners.containers.images import tag_of
from tests.engine.conftest import PREFIX, measuring, rows, running
from tests.waiting import wait_for

PROJECT = PREFIX
#: windows as those of the tests of bench
SHORT = {
    "FRAMEWATT_MIN_SECONDS": "0.3", "FRAMEWATT_MAX_SECONDS": "0.6", "FRAMEWATT_WARMUP_SECONDS": "0.2",
    "FRAMEWATT_IDLE_SECONDS": "0.05",
}  # fmt: skip
#: images of other frameworks are onnxrt's: their adapters are missing, so they fail at once
STANDS_IN = tuple(image.name for image in load_images(IMAGES) if image.name != "onnxrt")


def swept(kind: str) -> set[str]:
    """The variants that compose measures without a profile of their own."""
    return always_measured(kind, load_images(IMAGES))


def environment(data: Path, **variables: str) -> dict[str, str]:
    return {
        **os.environ,
        "FRAMEWATT_DATA": str(data),
        "FRAMEWATT_QUICK": "1",
        "FRAMEWATT_BATCH_SIZES": "1,2",
        **SHORT,
    } | variables


@pytest.fixture
def sweep(client: DockerClient, registered_model: DataFolder) -> Iterator[Path]:
    """Data folder of a sweep; images of both flavours, of which those of other frameworks are stand-ins."""
    made = []
    for flavour in ("cpu", "gpu"):
        for name in ("onnxrt", "sidecar", *STANDS_IN):
            if flavour == "cpu" and name in ("onnxrt", "sidecar"):
                continue
            source = "sidecar" if name == "sidecar" else "onnxrt"
            repository, _, tag = tag_of(name, flavour).rpartition(":")
            client.images.get(tag_of(source, "cpu")).tag(repository, tag)
            made.append(f"{repository}:{tag}")
    yield registered_model.root
    down = ["docker", "compose", "-p", PROJECT, "--profile", "*", "down", "-t", "1"]
    subprocess.run(down, cwd=ROOT, env=environment(registered_model.root), check=True, capture_output=True)
    for name in made:
        client.images.remove(name)


def states(client: DockerClient) -> dict[str, Any]:
    """Service -> state of its container."""
    found = client.containers.list(all=True, filters={"label": f"com.docker.compose.project={PROJECT}"})
    return {c.labels["com.docker.compose.service"]: c.attrs["State"] for c in found}


def test_the_cpu_sweep_ends_by_itself_whatever_becomes_of_a_framework(sweep: Path, client: DockerClient) -> None:
    command = ["docker", "compose", "-p", PROJECT, "--profile", "cpu", "up"]
    variables = {"FRAMEWATT_CELL_TIMEOUT": "100"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(sweep, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            wait_for(lambda: measuring(sweep / "results"))
            container = running(client, f"{PROJECT}-onnxrt-cpu")
            assert container.attrs["HostConfig"]["ReadonlyRootfs"]
            _, status = container.exec_run(["cat", "/proc/1/status"])
            assert b"CapEff:\t0000000000000000" in status and b"NoNewPrivs:\t1" in status
            assert container.exec_run(["ls", "/sys/class/net"])[1].split() == [b"lo"]
            container.kill()
            log, _ = process.communicate(timeout=200)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, log
    assert "throughput (images/s), more is better" in log, log
    ends = {service: state["ExitCode"] for service, state in states(client).items()}
    assert ends["onnxrt-cpu"] == 137
    assert ends["analyze-cpu"] == 0, log
    assert not any(state["Running"] for state in states(client).values())
    (run,) = (sweep / "results").iterdir()
    description = json.loads((run / "run.json").read_text())
    assert description["finished_utc"]
    cells = rows(run)
    assert sorted(cells) == sorted(description["plan"])
    assert {row["variant"] for row in cells.values()} == swept("cpu")
    assert swept("cpu") >= {"onnxrt", "torch", "keras", "kerasxla", "tf", "tfxla", "jax", "openvino", "litert"}
    messages = [row["message"] for row in cells.values() if row["variant"] == "onnxrt" and row["status"] == "crashed"]
    assert "the container ended while it ran" in messages
    assert all(ends[f"{name}-cpu"] == 2 for name in ("torch", "keras", "tfxla"))
    of_others = [row for row in cells.values() if row["variant"] != "onnxrt"]
    # The model is an ONNX file alone: who reads another form is refused by the plan, before a service starts a worker.
    refused = {row["variant"] for row in of_others if row["status"] == "unsupported"}
    assert refused == {"keras", "kerasxla", "tf", "tfxla", "jax", "litert"}
    assert all("has no" in row["message"] for row in of_others if row["variant"] in refused)
    rest = {(row["status"], row["message"].partition(" at ")[0]) for row in of_others if row["variant"] not in refused}
    assert rest == {("crashed", "there is no adapter")}
    # Everything is the checkout's owner's again.
    owner = (ROOT / "compose.yaml").stat().st_uid
    assert {path.lstat().st_uid for path in sweep.rglob("*")} == {owner}
    assert (sweep / "report" / run.name / "report.html").is_file()


def test_a_second_sweep_makes_the_same_rows_as_bench_would(sweep: Path, client: DockerClient) -> None:
    variables = {"FRAMEWATT_FRAMEWORKS": "onnxrt"}
    command = ["docker", "compose", "-p", PROJECT, "--profile", "cpu", "up"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(sweep, **variables), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (sweep / "results").iterdir()
    cells = rows(run)
    assert {row["status"] for row in cells.values()} == {"ok"}
    assert set(cells) == {f"MobileNetV3L_onnxrt_fp32_b000{size}_host_single-stream_script_cpu_r0" for size in (1, 2)}
    assert {row["runner"] for row in cells.values()} == {"docker"}


def test_too_little_memory_gives_oom_rows_as_under_bench(sweep: Path, client: DockerClient) -> None:
    variables = {"FRAMEWATT_FRAMEWORKS": "onnxrt", "FRAMEWATT_MEMORY": "40m", "FRAMEWATT_BATCH_SIZES": "1"}
    command = ["docker", "compose", "-p", PROJECT, "--profile", "cpu"]
    with_less = {**environment(sweep), **variables}
    subprocess.run([*command, "create", "--no-build"], cwd=ROOT, env=with_less, check=True, capture_output=True)
    # The sweep's own services are held by the same setting; only the framework's is to starve.
    for container in client.containers.list(all=True, filters={"label": f"com.docker.compose.project={PROJECT}"}):
        if container.labels["com.docker.compose.service"] != "onnxrt-cpu":
            container.update(mem_limit="2g", memswap_limit="2g")
    done = subprocess.run(
        [*command, "up", "--no-build", "--no-recreate"],
        cwd=ROOT,
        env=with_less,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (sweep / "results").iterdir()
    (row,) = rows(run).values()
    assert row["status"] == "oom", row["message"]


def test_the_gpu_sweep_asks_for_one_gpu(sweep: Path, client: DockerClient) -> None:
    """Plain `docker compose up` is the GPU sweep; its containers can be made without a GPU, only not started."""
    command = ["docker", "compose", "-p", PROJECT, "create", "--no-build"]
    subprocess.run(
        command,
        cwd=ROOT,
        env=environment(sweep, FRAMEWATT_GPU="2"),
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found = client.containers.list(all=True, filters={"label": f"com.docker.compose.project={PROJECT}"})
    requests = {c.labels["com.docker.compose.service"]: c.attrs["HostConfig"]["DeviceRequests"] for c in found}
    with_gpu = swept("gpu") | {"sidecar", "plan"}
    assert with_gpu >= {"tensorrt", "onnxrt", "torch", "keras", "kerasxla", "tf", "tfxla", "jax"}
    assert set(requests) == with_gpu | {"prepare", "export", "analyze"}
    for service, request in requests.items():
        if service in with_gpu:
            (one,) = request
            assert (one["Driver"], one["DeviceIDs"]) == ("nvidia", ["2"]), service
            assert "gpu" in one["Capabilities"][0]
        else:
            assert not request, service


def test_cdi_is_asked_for_where_env_says_so(sweep: Path) -> None:
    values = {"FRAMEWATT_GPU_DRIVER": "cdi", "FRAMEWATT_GPU": "nvidia.com/gpu=0"}
    command = ["docker", "compose", "config", "--format", "json"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(sweep, **values), capture_output=True, text=True, check=True
    )
    devices = json.loads(done.stdout)["services"]["torch"]["deploy"]["resources"]["reservations"]["devices"]
    assert [(d["driver"], d["device_ids"]) for d in devices] == [("cdi", ["nvidia.com/gpu=0"])]
