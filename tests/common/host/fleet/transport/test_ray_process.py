"""What Ray says of hosts and of failures, in plain words."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.fleet


@pytest.fixture
def ray_link() -> ModuleType:
    pytest.importorskip("ray", reason="Ray is not installed")
    return importlib.import_module("common.host.fleet.transport.ray_process")


def described(node: str, name: str, host: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {
        "NodeID": node, "NodeName": name, "NodeManagerHostname": host, "NodeManagerAddress": "10.0.0.1", "Alive": alive,
        "Resources": resources,
    }  # fmt: skip


def test_hosts_by_name_and_those_of_equal_name_apart(ray_link: ModuleType) -> None:
    found = ray_link.nodes_of([
        described("aaaa1", "10.0.0.1", "gpu-a", GPU=2.0, **{"accelerator_type:A2": 1.0}),
        described("bbbb1", "east", "vm", GPU=1.0),
        described("cccc1", "", "gpu-a"),
        described("dddd1", "east", "vm", alive=False),
    ])  # fmt: skip
    assert [node.name for node in found] == ["gpu-a-aaaa", "east", "gpu-a-cccc", "east"]
    assert [node.accelerator for node in found] == ["A2", "", "", ""]
    assert [node.gpus for node in found] == [2, 1, 0, 0]
    assert [node.alive for node in found] == [True, True, True, False]


def test_rays_errors_in_plain_words(ray_link: ModuleType) -> None:
    from ray.exceptions import WorkerCrashedError

    assert ray_link.reason_of(WorkerCrashedError()) == "Ray's worker died"
    assert ray_link.reason_of(ValueError("one\ntwo\n")) == "ValueError: two"
