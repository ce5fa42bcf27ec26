"""What is asked of the engine for a GPU, on a machine that has none: a container can be made, only not started."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from rich.console import Console

from common.errors import UserError
from common.host.bench.execution import run_all
from common.host.bench.opening import open_run
from common.host.devices import Device
from common.host.frameworks.registry import Variant, load_images
from common.host.models import ExportOptions
from common.host.paths import IMAGES
from common.host.plan.jobs import make_plan
from common.host.plan.request import Request, settings_of
from common.host.runners.base import Context
from common.host.runners.containers import engine
from common.host.runners.containers.images import tag_of
from common.host.runners.containers.leftovers import name_of
from common.host.runners.containers.limits import Limits
from common.host.runners.containers.runner import DockerRunner
from tests.engine.conftest import PREFIX, Bench
from tests.engine.test_hardening import inside, status
from tests.fake_nvml import build
from tests.waiting import wait_for

GPUS = tuple(
    Device(f"gpu{i}", "gpu", "Fake GPU", build.uuid(i), {"index": i, "compute_capability": "9.0"}) for i in range(2)
)


@pytest.mark.parametrize(
    ("driver", "wanted"),
    [
        ("nvidia", {"Driver": "nvidia", "DeviceIDs": [GPUS[1].uuid], "Capabilities": [["gpu", "compute", "utility"]]}),
        ("cdi", {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=1"], "Capabilities": None}),
    ],
)
def test_one_gpu_is_requested(client: DockerClient, driver: str, wanted: dict[str, Any]) -> None:
    runner = DockerRunner({}, Limits(), driver)
    runner._driver = driver
    container = runner._create(tag_of("onnxrt", "cpu"), f"{PREFIX}-{driver}", [], **runner._device_arguments(GPUS[1]))
    try:
        container.reload()
        (request,) = container.attrs["HostConfig"]["DeviceRequests"]
        assert {key: request[key] or None for key in wanted} == {key: value or None for key, value in wanted.items()}
        assert request["Count"] in (0, None)
    finally:
        container.remove()


def test_without_a_gpu_runtime_the_start_says_what_to_install(client: DockerClient) -> None:
    if "nvidia" in client.info()["Runtimes"]:
        pytest.skip("this engine has NVIDIA's runtime")
    with pytest.raises(UserError, match="install NVIDIA's container toolkit"):
        engine.gpu_driver(client)
    runner = DockerRunner({}, Limits(), "nvidia")
    runner._driver = "nvidia"
    container = runner._create(tag_of("onnxrt", "cpu"), f"{PREFIX}-start", [], **runner._device_arguments(GPUS[0]))
    try:
        with pytest.raises(UserError, match="no GPU runtime"), engine.explained("the container of x cannot be run"):
            container.start()
    finally:
        container.remove()


@pytest.fixture
def fake_gpus(client: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Containers that ask for GPU i see the NVML stand-in with two GPUs instead; worker images are the CPU's."""
    if build.compiler() is None:
        pytest.skip("no C compiler for the NVML stand-in")
    library = build.build(tmp_path)
    tmp_path.chmod(0o755)
    monkeypatch.setenv("FRAMEWATT_CONTAINER_MOUNTS", str(library.parent))

    def arguments(self: DockerRunner, device: Device) -> dict[str, Any]:
        return {"environment": {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML_GPUS": "2"}}

    monkeypatch.setattr(DockerRunner, "_device_arguments", arguments)
    for name in ("onnxrt", "sidecar"):
        client.images.get(tag_of(name, "cpu")).tag(tag_of(name, "gpu").rpartition(":")[0], "gpu")
    yield
    for name in ("onnxrt", "sidecar"):
        client.images.remove(tag_of(name, "gpu"))


@contextmanager
def context_of(run_bench: Bench) -> Iterator[tuple[Context, DockerRunner, list[Any]]]:
    images = {image.name: image for image in load_images(IMAGES)}
    runner = DockerRunner(images, Limits(), "cdi")
    variant: Variant = next(v for v in images["onnxrt"].variants if v.name == "onnxrt")
    model = runner.ensure_model(str(run_bench.model), run_bench.data, ExportOptions(), lambda *step: None)
    runner.prepare([variant], "gpu", lambda *step: None)
    options = run_bench.options()
    request = Request(
        variants=(variant,), precisions=("fp32",), batch_sizes=(1, 2), io_modes=("host",), model=model.name,
        model_hash=model.hash, devices=tuple(g.name for g in GPUS), device_uuids=tuple(g.uuid for g in GPUS),
        replicates=1, runner="docker", settings=settings_of(options),
    )  # fmt: skip
    console = Console(file=run_bench.output, width=200)
    run, seed = open_run(run_bench.data, request, options, GPUS, runner, model, console)
    context = Context(run, request, model, run_bench.data, images, {g.name: g for g in GPUS}, None, seed)
    yield context, runner, make_plan(request, seed)


def readings(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_two_gpus_have_a_stream_and_a_sidecar_each(run_bench: Bench, fake_gpus: None) -> None:
    with context_of(run_bench) as (context, runner, plan):
        outcome = run_all(context, runner, plan, Console(file=run_bench.output, width=200))
    folder = outcome.run.folder
    assert outcome.run.finished, run_bench.output.getvalue()
    cells = [readings(path)[0] for path in folder.glob("cells/*/cell.csv")]
    # ONNX Runtime's CPU wheel cannot use the stand-in: what counts here is that each device has its own rows.
    assert sorted((row["device"], row["device_uuid"], row["batch_size"]) for row in cells) == sorted(
        (gpu.name, gpu.uuid, size) for gpu in GPUS for size in ("1", "2")
    )
    for gpu in GPUS:
        assert {row["uuid"] for row in readings(folder / f"power-{gpu.name}.csv") if row["domain"] == "gpu"} == {
            gpu.uuid
        }
        assert outcome.run.description["power"][gpu.name]["recording"]
        assert outcome.run.description["sidecar"][gpu.name]["ended_by"] == "SIGTERM"
    assert {path.lstat().st_uid for path in run_bench.data.root.rglob("*")} == {os.getuid()}


def test_the_sidecar_is_held_as_tightly_as_a_worker(run_bench: Bench, client: DockerClient, fake_gpus: None) -> None:
    with context_of(run_bench) as (context, runner, _), runner.sidecar(context, GPUS[0]) as sidecar:
        assert sidecar.state.recording
        container = client.containers.get(name_of(context.run.folder, "sidecar-gpu0"))
        found = status(container, "1")
        assert "0" not in found["Uid"].split() + found["Gid"].split()
        assert {int(found[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {0}
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
        code, words = inside(container, "touch /opt/framewatt/common/x")
        assert code != 0 and "Read-only file system" in words
        assert inside(container, "ls /sys/class/net") == (0, "lo")


def test_a_sidecar_that_dies_is_recorded_and_harms_nobody(
    run_bench: Bench, client: DockerClient, fake_gpus: None
) -> None:
    with context_of(run_bench) as (context, runner, _):
        with runner.sidecar(context, GPUS[0]) as sidecar:
            assert sidecar.state.recording
            power = context.run.folder / "power-gpu0.csv"
            client.containers.get(name_of(context.run.folder, "sidecar-gpu0")).kill()
            assert sidecar.take() == "" and readings(power)
        assert context.run.description["sidecar"]["gpu0"] == {"event": "lost"}
        context.run.save()
        assert json.loads((context.run.folder / "run.json").read_text())["sidecar"]["gpu0"]["event"] == "lost"


def test_a_sidecar_that_died_is_started_again(run_bench: Bench, client: DockerClient, fake_gpus: None) -> None:
    with context_of(run_bench) as (context, runner, _):
        name = name_of(context.run.folder, "sidecar-gpu0")
        power = context.run.folder / "power-gpu0.csv"
        with runner.sidecar(context, GPUS[0]) as sidecar:
            assert sidecar.revive() == ""
            client.containers.get(name).kill()
            assert sidecar.take() == ""
            before = power.read_bytes()
            assert "gpu0 ended with exit code 137" in (output := sidecar.revive()) and "is started again" in output
            assert power.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
            client.containers.get(name).remove(force=True)
            assert "was removed" in sidecar.revive()
            wait_for(lambda: sidecar.take() == "" and len(power.read_bytes()) > len(before) + 1000)
        facts = context.run.description["sidecar"]["gpu0"]
        assert (facts["event"], len(facts["deaths"])) == ("done", 2)
        assert {row["uuid"] for row in readings(power) if row["domain"] == "gpu"} == {GPUS[0].uuid}
