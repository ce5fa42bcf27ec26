"""A host of a fleet that measures in containers: what Ray would run there, with the ordinary docker runner."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from rich.console import Console

from common.host.devices import the_cpu
from common.host.fleet.head.collect import Receiving
from common.host.fleet.worker.code_digest import code_digest
from common.host.fleet.worker.on_host import on_host, stop_agents
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, ROOT
from common.host.plan.jobs import make_plan, planned_keys
from common.host.plan.request import request_of
from common.host.plan.subset import work_key
from tests.engine.conftest import Bench, by_batch, containers, running
from tests.waiting import wait_for

Spec = Callable[..., dict[str, Any]]


@pytest.fixture
def spec(run_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """As the sweep's machine sends it: the model's path is only there, its content goes along."""
    monkeypatch.setenv("FRAMEWATT_CHECKOUT", str(ROOT))
    monkeypatch.setenv("FRAMEWATT_DATA", str(run_bench.data.root))

    def make(**values: Any) -> dict[str, Any]:
        options = run_bench.options(**values)
        plan = make_plan(request_of(options, load_images(IMAGES), [the_cpu()], Console(file=io.StringIO())), 1)
        return {
            "attempt": "engine/CPU-1/0", "device": "cpu", "code": code_digest(),
            "options": {**asdict(options), "model": "/only/there/tiny.onnx"}, "run": "20261125-120000_CPU-1-0",
            "cells": [work_key(key) for key in planned_keys(plan)], "command": "invoke fleet sweep", "facts": {},
            "model_hash": "", "seed": 1,
        }  # fmt: skip

    return make


def test_a_host_measures_in_containers_and_hands_everything_over(
    run_bench: Bench, spec: Spec, tmp_path: Path, client: DockerClient
) -> None:
    receiving = Receiving(tmp_path / "head" / "run")
    messages = list(on_host("run", spec(), {"model": ("tiny.onnx", run_bench.model.read_bytes())}))
    assert messages[-1]["refused"] == "", messages[-1]
    for message in messages:
        if message["kind"] == "cell":
            receiving.cell(message["cell_key"], message["whole"], message["files"])
        else:
            receiving.take(message.get("files", []))
    found = by_batch(receiving.folder)
    assert {size: (row["status"], row["runner"]) for size, row in found.items()} == {
        1: ("ok", "docker"),
        2: ("ok", "docker"),
    }
    assert all(row["image_digest"] for row in found.values())
    assert [path for path in run_bench.data.root.glob("fleet/*") if path.is_dir()] == []
    assert containers(client) == []


def test_a_host_that_is_stopped_leaves_no_container(run_bench: Bench, spec: Spec, client: DockerClient) -> None:
    messages = on_host(
        "run", spec(min_seconds=20.0, max_seconds=20.0), {"model": ("tiny.onnx", run_bench.model.read_bytes())}
    )
    assert next(messages)["kind"] == "host"
    assert next(message for message in messages if message["kind"] == "run")
    wait_for(lambda: running(client, "onnxrt"))
    assert stop_agents(["engine/CPU-1/0"]) == 1
    rest = list(messages)
    assert rest[-1]["interrupted"]
    assert containers(client) == []


def test_a_host_tells_of_its_images(run_bench: Bench, spec: Spec) -> None:
    messages = list(on_host("check", spec(), {"model": ("tiny.onnx", run_bench.model.read_bytes())}))
    (facts,) = [message["facts"] for message in messages if message["kind"] == "facts"]
    assert sorted(facts["images"]) == ["onnxrt", "sidecar"]
    for image in facts["images"].values():
        assert image["current"]
        assert image["id"].startswith("sha256:")
        assert image["base_id"].startswith("sha256:")
    assert facts["engine_version"]
