"""Which processors the work of several GPUs of one host runs on: each worker near its GPU, sidecars elsewhere, no core shared.

    node 0   core 0 core 1 core 2 | core 3 core 4 core 5 | core 6 core 7      node 1   core 8 ...
             worker of gpu0         worker of gpu1         sidecars                    worker of gpu2 ...

A worker's share is the same for all, so that cells of different GPUs stay comparable: as many cores as the node with the most
GPUs a core can give each. Whole cores are shared out, with both of their hardware threads. What is left on all nodes is for the
sidecars and the host. Memory comes from the node of the thread that first writes it (the kernel's first touch), so that the
buffers that a worker pins lie near its GPU too; containers are held to the node besides (cpuset.mems).

One GPU, or the CPU, is measured as ever: nothing is bound, unless FRAMEWATT_PLACEMENT=host asks for it.
Sources: the kernel's documentation of sysfs (devices/system/node, devices/system/cpu topology, bus/pci
local_cpulist), NVML's nvmlDeviceGetCpuAffinity.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.host.devices import Device, usable_gpus

SYS = Path("/sys")
#: FRAMEWATT_PLACEMENT=0 binds nothing; =host binds a GPU that is measured alone as if all GPUs of the host were
VARIABLE = "FRAMEWATT_PLACEMENT"
VALUES = ("", "0", "host")
#: cores that a worker should have: its timing loop, and the threads that feed the GPU and its copies beside it
COMFORTABLE_CORES = 2
#: cores of all sidecars and the host together: eight sidecars took 10 to 20 % of one (docs/method.md: 1.2 to 2.4 % each)
OTHER_CORES = 1


@dataclass(frozen=True)
class Core:
    """cpus: its hardware threads. node: NUMA node, 0 where the kernel tells none."""

    cpus: tuple[int, ...]
    node: int


@dataclass(frozen=True)
class Share:
    """Where a GPU's worker runs. near: whether all of it is as near to the GPU as the machine allows; None is unknown.
    memory_node: the one NUMA node of its cores, None where they are of several."""

    cpus: tuple[int, ...]
    near: bool | None
    memory_node: int | None


@dataclass(frozen=True)
class Placement:
    """workers: device name -> share; empty where nothing is bound. sidecars: CPUs of all sidecars, () is any.

    short: a sentence, where the machine has fewer cores than its GPUs need at once.
    """

    workers: Mapping[str, Share]
    sidecars: tuple[int, ...] = ()
    short: str = ""

    def worker_cpus(self, device: str) -> tuple[int, ...]:
        """() is any."""
        share = self.workers.get(device)
        return share.cpus if share else ()

    def describe(self) -> dict[str, Any]:
        """For run.json; CPUs as the kernel writes lists."""
        return {
            "workers": {name: {**asdict(share), "cpus": cpu_list(share.cpus)} for name, share in self.workers.items()},
            "sidecars": cpu_list(self.sidecars) or None,
            "short": self.short or None,
        }


#: nothing is bound
NOWHERE = Placement({})


def cores_of(usable: AbstractSet[int], sys: Path = SYS) -> list[Core]:
    """The cores that have a usable CPU, with those of their CPUs that are, in order."""
    nodes = {
        cpu: int(folder.name.removeprefix("node"))
        for folder in sys.glob("devices/system/node/node[0-9]*")
        for cpu in parse_list(_text(folder / "cpulist"))
    }
    cores: dict[tuple[int, ...], Core] = {}
    for cpu in sorted(usable):
        siblings = parse_list(_text(sys / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")) or [cpu]
        threads = tuple(sorted({*siblings, cpu} & usable))
        cores.setdefault(threads, Core(threads, nodes.get(cpu, 0)))
    return list(cores.values())


def near_cpus(gpu: Device, sys: Path = SYS) -> frozenset[int]:
    """The CPUs next to a GPU, by sysfs, else by NVML; empty where neither tells (virtual machines often hide it)."""
    address = str(gpu.facts.get("pci_bus_id") or "").lower()
    # NVML writes eight digits of the PCI domain, sysfs four.
    domain, _, rest = address.partition(":")
    folder = sys / "bus/pci/devices" / f"{domain[-4:]}:{rest}"
    node = _text(folder / "numa_node")
    if node and node != "-1":
        return frozenset(parse_list(_text(folder / "local_cpulist")))
    return frozenset(cpu for cpu in gpu.facts.get("cpu_affinity") or () if isinstance(cpu, int))


def place(devices: Sequence[Device], usable: AbstractSet[int], sys: Path = SYS) -> Placement:
    """Shares out the usable CPUs. Fewer than two GPUs are not bound; nor is a machine that has no core for each worker."""
    gpus = [device for device in devices if device.kind == "gpu"]
    if len(gpus) < 2 or len(gpus) < len(devices):
        return NOWHERE
    cores = cores_of(usable, sys)
    short = _short_of(len(gpus), len(cores))
    if len(cores) < len(gpus) + OTHER_CORES:
        return Placement({}, short=short)
    near = {gpu.name: near_cpus(gpu, sys) for gpu in gpus}
    # a GPU of which no near CPU may be used takes any: it must not halve the shares of the others
    wanted = {name: [core for core in cores if cpus & {*core.cpus}] or cores for name, cpus in near.items()}
    share = max(size for size in range(1, len(cores) // len(gpus) + 1) if size == 1 or _fits(wanted, size, len(cores)))
    given = _share_out(wanted, cores, share)
    workers = {name: _share(given[name], near[name]) for name in given}
    taken = {core for chosen in given.values() for core in chosen}
    sidecars = tuple(sorted(cpu for core in cores if core not in taken for cpu in core.cpus))
    return Placement(workers, sidecars, short)


def _fits(wanted: Mapping[str, list[Core]], size: int, cores: int) -> bool:
    """Whether each GPU gets `size` cores of those near it, and OTHER_CORES are left."""
    if size * len(wanted) + OTHER_CORES > cores:
        return False
    # Sets of near cores are those of nodes: equal or disjoint. Those of unknown place take what the others leave.
    groups: dict[tuple[Core, ...], int] = {}
    for chosen in wanted.values():
        groups[tuple(chosen)] = groups.get(tuple(chosen), 0) + 1
    return all(size * gpus <= len(near) for near, gpus in groups.items())


def _share_out(wanted: Mapping[str, list[Core]], cores: Sequence[Core], size: int) -> dict[str, list[Core]]:
    """GPUs that have fewer cores near them choose first; a GPU whose node is full gets others, OTHER_CORES stay."""
    free = list(cores)
    given: dict[str, list[Core]] = {}
    for name in sorted(wanted, key=lambda name: (len(wanted[name]), list(wanted).index(name))):
        chosen = [core for core in wanted[name] if core in free][:size]
        chosen += [core for core in free if core not in chosen][: size - len(chosen)]
        given[name] = chosen
        free = [core for core in free if core not in chosen]
    return {name: given[name] for name in wanted}


def _share(cores: Sequence[Core], near: AbstractSet[int]) -> Share:
    cpus = tuple(sorted(cpu for core in cores for cpu in core.cpus))
    nodes = {core.node for core in cores}
    return Share(cpus, near >= {*cpus} if near else None, nodes.pop() if len(nodes) == 1 else None)


def _short_of(gpus: int, cores: int) -> str:
    """A sentence where so many cores are too few for so many GPUs at once, else ""."""
    needed = gpus * COMFORTABLE_CORES + OTHER_CORES
    if cores >= needed:
        return ""
    if cores < gpus + OTHER_CORES:
        return f"{gpus} GPUs at once on {cores} cores: workers share cores; {needed} would give each worker {COMFORTABLE_CORES}"
    return f"{gpus} GPUs at once on {cores} cores: {needed} would give each worker {COMFORTABLE_CORES}"


def placement_of(devices: Sequence[Device], cpus: str = "", sys: Path = SYS) -> Placement:
    """Of this machine and what the user allows. cpus: as `--cpus` takes it, "" is all that this process may use.

    Raises UserError for a value of the variable that it does not have.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in VALUES:
        raise UserError(
            f"{VARIABLE} is '{value}'; it takes 0 (binds nothing) or host (binds a GPU as if all were at work)"
        )
    if value == "0":
        return NOWHERE
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    usable = frozenset(parse_list(cpus)) & mine if cpus else frozenset(mine)
    if value != "host" or any(device.kind != "gpu" for device in devices):
        return place(devices, usable, sys)
    full = place(usable_gpus(), usable, sys)
    chosen = {device.name: full.workers[device.name] for device in devices if device.name in full.workers}
    return Placement(chosen, full.sidecars, full.short if len(devices) > 1 else "")


def parse_list(text: str) -> list[int]:
    """`0-2,5` as the kernel writes it -> [0, 1, 2, 5]; what is no number is left out."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            found += range(int(first), int(last if dash else first) + 1)
    return found


def cpu_list(cpus: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> `0-2,5`."""
    spans: list[list[int]] = []
    for cpu in sorted(cpus):
        if spans and cpu == spans[-1][1] + 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
