"""Where workers and sidecars of several GPUs run, on machines whose sysfs is written here."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from common.host import placement
from common.host.children import dying_with_parent
from common.host.devices import Device, the_cpu
from common.host.placement import VARIABLE, Core, cores_of, cpu_list, near_cpus, parse_list, place, placement_of


def machine(root: Path, nodes: list[list[list[int]]], gpu_nodes: list[int]) -> Path:
    """nodes: of each its cores, of each its hardware threads. gpu_nodes: of each GPU its node, -1 is not reported."""
    for number, cores in enumerate(nodes):
        folder = root / f"devices/system/node/node{number}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpu_list([cpu for core in cores for cpu in core]) + "\n")
        for core in cores:
            for cpu in core:
                topology = root / f"devices/system/cpu/cpu{cpu}/topology"
                topology.mkdir(parents=True)
                (topology / "thread_siblings_list").write_text(cpu_list(core) + "\n")
    for number, node in enumerate(gpu_nodes):
        folder = root / f"bus/pci/devices/0000:{number + 1:02x}:00.0"
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{node}\n")
        cpus = [cpu for core in nodes[node] for cpu in core] if node >= 0 else []
        (folder / "local_cpulist").write_text(cpu_list(cpus) + "\n")
    return root


def gpus(count: int, **facts: object) -> list[Device]:
    return [
        Device(f"gpu{i}", "gpu", "H100", f"GPU-{i}", {"pci_bus_id": f"00000000:{i + 1:02X}:00.0", **facts})
        for i in range(count)
    ]


def two_sockets(cores: int) -> list[list[list[int]]]:
    """Hyper-threads are numbered behind all cores, as Linux does."""
    return [[[core, core + 2 * cores] for core in range(node * cores, (node + 1) * cores)] for node in (0, 1)]


def test_eight_gpus_on_two_sockets(tmp_path: Path) -> None:
    sys_root = machine(tmp_path, two_sockets(32), [0, 0, 0, 0, 1, 1, 1, 1])
    placed = place(gpus(8), frozenset(range(128)), sys_root)
    shares = placed.workers
    assert len(shares) == 8 and placed.short == ""
    assert {len(share.cpus) for share in shares.values()} == {14}, "7 cores each, so that one of 64 and more are left"
    assert all(share.near for share in shares.values())
    assert [share.memory_node for share in shares.values()] == [0, 0, 0, 0, 1, 1, 1, 1]
    used = [set(share.cpus) for share in shares.values()] + [set(placed.sidecars)]
    assert all(not a & b for a, b in itertools.combinations(used, 2))
    assert set.union(*used) == set(range(128)), "what is left is the sidecars'"
    for cpus in used:
        assert {cpu % 64 for cpu in cpus} == {cpu % 64 for cpu in cpus if cpu < 64}, "whole cores"


def test_a_node_with_most_gpus_sets_the_share_of_all(tmp_path: Path) -> None:
    placed = place(
        gpus(4),
        frozenset(range(32)),
        machine(tmp_path, [[[c] for c in range(16)], [[c] for c in range(16, 32)]], [0, 0, 0, 1]),
    )
    assert {len(share.cpus) for share in placed.workers.values()} == {5}
    assert placed.workers["gpu3"].memory_node == 1


def test_a_node_that_is_too_small_lends_cores_of_the_other(tmp_path: Path) -> None:
    placed = place(
        gpus(4), frozenset(range(12)), machine(tmp_path, [[[0], [1]], [[c] for c in range(2, 12)]], [0, 0, 0, 0])
    )
    assert [share.near for share in placed.workers.values()] == [True, True, False, False]
    assert {len(share.cpus) for share in placed.workers.values()} == {1}
    assert len(placed.sidecars) == 8


def test_a_gpu_none_of_whose_cpus_may_be_used_leaves_the_others_their_shares(tmp_path: Path) -> None:
    """`--cpus` of one socket, or a container held to it."""
    sys_root = machine(tmp_path, [[[c] for c in range(16)], [[c] for c in range(16, 32)]], [0, 0, 0, 1])
    placed = place(gpus(4), frozenset(range(16)), sys_root)
    assert {len(share.cpus) for share in placed.workers.values()} == {3}
    assert [share.near for share in placed.workers.values()] == [True, True, True, False]
    used = [*placed.sidecars, *(cpu for share in placed.workers.values() for cpu in share.cpus)]
    assert sorted(used) == list(range(16))


@pytest.mark.parametrize("where", ["nvml", "nobody"])
def test_where_sysfs_hides_the_node(tmp_path: Path, where: str) -> None:
    sys_root = machine(tmp_path, [[[c] for c in range(8)], [[c] for c in range(8, 16)]], [-1, -1])
    devices = gpus(2)
    if where == "nvml":
        for device, cpus in zip(devices, (range(8, 16), range(8)), strict=True):
            device.facts["cpu_affinity"] = list(cpus)
    placed = place(devices, frozenset(range(16)), sys_root)
    near = {name: share.near for name, share in placed.workers.items()}
    if where == "nvml":
        assert near == {"gpu0": True, "gpu1": True}
        assert set(placed.workers["gpu0"].cpus) <= set(range(8, 16))
    else:
        assert near == {"gpu0": None, "gpu1": None}
    assert not set(placed.workers["gpu0"].cpus) & set(placed.workers["gpu1"].cpus)


@pytest.mark.parametrize(
    ("cores", "bound", "message"),
    [
        (17, True, ""),
        (16, True, "8 GPUs at once on 16 cores: 17 would"),
        (9, True, "on 9 cores"),
        (8, False, "workers share cores"),
    ],
)
def test_a_machine_with_few_cores_says_so(tmp_path: Path, cores: int, bound: bool, message: str) -> None:
    sys_root = machine(tmp_path, [[[cpu] for cpu in range(cores)]], [0] * 8)
    placed = place(gpus(8), frozenset(range(cores)), sys_root)
    assert bool(placed.workers) == bound
    assert message in placed.short and bool(placed.short) == bool(message)
    if bound:
        assert placed.sidecars


def test_only_what_this_process_may_use_is_shared_out(tmp_path: Path) -> None:
    sys_root = machine(tmp_path, two_sockets(8), [0, 1])
    allowed = frozenset({0, 1, 2, 8, 9, 10, 16})
    placed = place(gpus(2), allowed, sys_root)
    used = [*placed.sidecars, *(cpu for share in placed.workers.values() for cpu in share.cpus)]
    assert sorted(used) == sorted(allowed) and len(set(used)) == len(used)
    assert cores_of(allowed, sys_root)[0] == Core((0, 16), 0), "a core of which one thread is not allowed has the other"


def test_one_gpu_and_the_cpu_are_bound_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sys_root = machine(tmp_path, two_sockets(8), [0, 1])
    for devices in (gpus(1), [the_cpu()], [*gpus(2), the_cpu()]):
        placed = place(devices, frozenset(range(32)), sys_root)
        assert placed.worker_cpus("gpu0") == () == placed.sidecars and placed.short == ""
    monkeypatch.setenv(VARIABLE, "0")
    assert placement_of(gpus(2), sys=sys_root).workers == {}
    monkeypatch.setenv(VARIABLE, "hots")
    with pytest.raises(UserError, match="FRAMEWATT_PLACEMENT is 'hots'; it takes 0 "):
        placement_of(gpus(2), sys=sys_root)


def test_a_gpu_alone_may_be_bound_as_among_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sys_root = machine(tmp_path, two_sockets(8), [0, 1])
    monkeypatch.setattr(placement, "usable_gpus", lambda: gpus(2))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)))
    both = placement_of(gpus(2), sys=sys_root)
    monkeypatch.setenv(VARIABLE, "host")
    alone = placement_of(gpus(2)[1:], sys=sys_root)
    assert alone.workers == {"gpu1": both.workers["gpu1"]} and alone.sidecars == both.sidecars
    assert placement_of([the_cpu()], sys=sys_root).workers == {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert placement_of(gpus(2)[:1], sys=sys_root) == placement.NOWHERE


def test_a_gpu_that_sysfs_does_not_know(tmp_path: Path) -> None:
    assert near_cpus(Device("gpu0", "gpu", "x", "y", {}), tmp_path) == frozenset()


def test_lists_as_the_kernel_writes_them() -> None:
    assert parse_list("0-2,5\n") == [0, 1, 2, 5] and parse_list("") == [] and parse_list("x") == []
    assert cpu_list([5, 0, 1, 2]) == "0-2,5" and cpu_list([]) == ""


def test_it_is_said_in_run_json(tmp_path: Path) -> None:
    placed = place(gpus(2), frozenset(range(16)), machine(tmp_path, two_sockets(4), [0, 1]))
    assert placed.describe() == {
        "workers": {
            "gpu0": {"cpus": "0-2,8-10", "near": True, "memory_node": 0},
            "gpu1": {"cpus": "4-6,12-14", "near": True, "memory_node": 1},
        },
        "sidecars": "3,7,11,15",
        "short": None,
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sched_setaffinity is Linux'")
def test_a_process_begins_on_its_cpus() -> None:
    mine = sorted(os.sched_getaffinity(0))
    show = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
    for cpus in (mine[:1], mine[-1:], []):
        message = subprocess.run(dying_with_parent(show, cpus=cpus), capture_output=True, text=True, check=True).stdout
        assert message.strip() == str(cpus or mine)
    gone = subprocess.run(dying_with_parent(show, cpus=[1_000_000]), capture_output=True, text=True)
    assert gone.returncode == 1 and "error" in gone.stderr
