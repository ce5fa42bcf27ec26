"""Which device a run is for: `--device cpu`, `--gpu 2`, `--gpu GPU-1f3c...`, `--gpu 0,1` or `--gpu all`."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.sidecar.inventory import NvmlUnavailable, describe_gpus


@dataclass(frozen=True)
class Device:
    """One device that a worker stream may occupy alone."""

    #: cpu, or gpu<index> as NVML numbers them
    name: str
    kind: str
    product: str
    uuid: str = ""
    #: everything else that is known of it, for run.json
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def index(self) -> int | None:
        return int(self.name.removeprefix("gpu")) if self.kind == "gpu" else None

    @property
    def compute_capability(self) -> str | None:
        value = self.facts.get("compute_capability")
        return str(value) if value else None

    def describe(self) -> dict[str, Any]:
        return {**self.facts, "device": self.name, "uuid": self.uuid, "name": self.product}


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Product name of the processor, the machine architecture where the kernel does not tell."""
    try:
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def the_cpu() -> Device:
    return Device(name="cpu", kind="cpu", product=cpu_model())


def list_gpus() -> list[Device]:
    """All GPUs that NVML shows. Raises UserError when there is no NVML or no GPU."""
    try:
        descriptions = describe_gpus()
    except NvmlUnavailable as error:
        raise UserError(f"no NVIDIA GPU can be used here ({error}); --device cpu runs on the processor") from error
    if not descriptions:
        raise UserError("the NVIDIA driver answers but shows no GPU; --device cpu runs on the processor")
    return [
        Device(
            name=f"gpu{facts['index']}",
            kind="gpu",
            product=str(facts["name"]),
            uuid=str(facts["uuid"]),
            facts=dict(facts),
        )
        for facts in descriptions
    ]


def choose_devices(device: str | None, gpu: str | None) -> list[Device]:
    """The devices that the options name. Without either: GPU 0 where there is one, else the CPU.

    Raises UserError for a device that does not exist, naming those that do.
    """
    if device not in (None, "", "cpu", "gpu"):
        raise UserError(f"unknown device '{device}'; there is cpu, or gpu (then --gpu INDEX says which)")
    if device == "cpu":
        if gpu:
            raise UserError("--device cpu and --gpu exclude each other; give one of them")
        return [the_cpu()]
    if not gpu:
        try:
            return list_gpus()[:1]
        except UserError:
            if device == "gpu":
                raise
            return [the_cpu()]
    gpus = list_gpus()
    if gpu == "all":
        return gpus
    chosen: list[Device] = []
    for word in (part.strip() for part in gpu.split(",")):
        found = [g for g in gpus if word == str(g.index) or (word.startswith("GPU-") and g.uuid.startswith(word))]
        if len(found) != 1:
            existing = ", ".join(f"{g.index} ({g.product}, {g.uuid})" for g in gpus)
            raise UserError(f"no GPU '{word}'; there is {existing}")
        if found[0] not in chosen:
            chosen.append(found[0])
    for one in chosen:
        if one.facts.get("mig_mode"):
            raise UserError(
                f"GPU {one.index} ({one.product}) is in MIG mode; framewatt measures whole GPUs: choose another one, or leave MIG mode"
            )
    return chosen
