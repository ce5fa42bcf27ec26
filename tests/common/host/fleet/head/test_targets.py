"""From what the cluster has and what is typed to targets and their cells."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import UserError
from common.host.devices import Device
from common.host.fleet.head.targets import Target, Wanted, choose_accelerators, make_targets, plan_work
from common.host.fleet.transport.cluster import Node
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES
from common.host.plan.jobs import make_plan, planned_keys
from common.host.plan.model_terms import ModelTerms
from common.host.plan.options import Options
from common.host.plan.subset import Subset, work_key
from tests.common.host.faults.conftest import DOCKERFILE

NODES = [
    Node("1", "east", gpus=2, accelerators=("A2",)),
    Node("2", "west", gpus=1, accelerators=("A2",)),
    Node("3", "north", gpus=1, accelerators=("V100",)),
    Node("4", "head"),
]


def test_all_accelerators_that_there_are_or_those_that_are_named() -> None:
    assert choose_accelerators(Wanted(), NODES) == ["A2", "V100"]
    assert choose_accelerators(Wanted("v100,A2,A2"), NODES) == ["V100", "A2"]


@pytest.mark.parametrize(
    ("nodes", "named", "words"),
    [
        (NODES, "A3", "unknown accelerator 'A3'; there is A2, V100. Did you mean A2?"),
        (NODES, ",", "no accelerator given; there is A2, V100"),
        ([Node("4", "head")], "", "no host of this cluster offers a GPU of one known type; ray start"),
        ([Node("5", "south", gpus=1)], "", "host south has GPUs whose type Ray does not know"),
        ([Node("1", "east", gpus=1, accelerators=("A2",), alive=False)], "", "no host of this cluster offers a GPU"),
    ],
)
def test_an_accelerator_that_is_not_there_is_one_line(nodes: list[Node], named: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_accelerators(Wanted(named), nodes)
    assert words in str(caught.value)


def test_targets_by_number_and_all() -> None:
    assert make_targets(Wanted(), ["A2", "V100"], NODES) == [Target("A2", 1), Target("V100", 1)]
    assert make_targets(Wanted(per_accelerator="3"), ["A2"], NODES) == [Target("A2", n) for n in (1, 2, 3)]
    assert [target.name for target in make_targets(Wanted(per_accelerator="all"), ["A2", "V100"], NODES)] == [
        "A2-1", "A2-2", "A2-3", "V100-1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "words"),
    [
        ("4", "--per-accelerator 4, but there are 3 A2"),
        ("0", "--per-accelerator must be at least 1"),
        ("many", "--per-accelerator 'many' is not a whole number"),
    ],
)
def test_more_gpus_than_there_are_is_one_line(count: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_targets(Wanted(per_accelerator=count), ["A2"], NODES)


def test_each_target_has_the_cells_that_bench_would_plan_in_an_order_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "Dockerfile").write_text(DOCKERFILE)
    images = load_images(tmp_path)
    gpu = Device("gpu0", "gpu", "NVIDIA A2", "GPU-1", {"compute_capability": "8.6"})
    options = Options(batch_sizes="1,2,4,8,16", replicates=2)
    targets = [Target("A2", 1), Target("A2", 2)]
    work = plan_work(options, images, targets, {"A2": gpu}, 7, Console(quiet=True))
    first, second = (work.cells[target] for target in targets)
    assert work.total == 40
    assert sorted(first) == sorted(second)
    assert first != second
    assert plan_work(options, images, targets, {"A2": gpu}, 7, Console(quiet=True)) == work
    assert plan_work(options, images, targets, {"A2": gpu}, 8, Console(quiet=True)) != work

    told = plan_work(options, images, targets, {"A2": gpu}, 7, Console(quiet=True), ModelTerms(takes_bytes=True))
    assert told.total == 40
    assert all("_host-uint8_" in key for keys in told.cells.values() for key in keys)

    # The host's own plan for the GPU that it gives is the same, whatever the GPU's number.
    from dataclasses import replace

    from common.host.plan.request import request_of

    request = request_of(options, images, [replace(gpu, name="gpu5", uuid="GPU-9")], Console(quiet=True))
    plan = make_plan(request, targets[0].seed(7))
    part = Subset("run", frozenset(first[:3]), "", {})
    assert [work_key(key) for key in planned_keys(plan)] == list(first)
    assert sorted(work_key(key) for key in planned_keys(part.of(plan))) == sorted(first[:3])
    assert all("_gpu5_" in key for key in planned_keys(part.of(plan)))


def test_a_variant_that_a_type_of_gpu_cannot_run_is_not_planned_for_it() -> None:
    options = Options(batch_sizes="1")
    devices = {
        name: Device("gpu0", "gpu", name, "", {"compute_capability": capability})
        for name, capability in (("V100", "7.0"), ("H100", "9.0"))
    }
    console = Console(file=io.StringIO(), width=200)
    work = plan_work(options, load_images(IMAGES), [Target("V100", 1), Target("H100", 1)], devices, 1, console)
    assert "V100: onnxrt is left out: " in console.file.getvalue()  # type: ignore[attr-defined]
    planned = {target.accelerator: {key.split("_")[1] for key in keys} for target, keys in work.cells.items()}
    assert "onnxrt" in planned["H100"] - planned["V100"]
