"""Which device a run is for: `--device cpu`, `--gpu 2`, `--gpu GPU-1f3c...`, `--gpu 0,1` or `--gpu all`."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.sidecar.inventory import NvmlUnavailable, describe_gpus
from common.sidecar.visible import VARIABLE, visible


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


def usable_gpus() -> list[Device]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to this process, in its order; all where it is not set.

    Raises UserError when there is none, naming the variable where it is the cause.
    """
    gpus = list_gpus()
    try:
        allowed = visible([(int(gpu.facts["index"]), gpu.uuid, gpu.product) for gpu in gpus], os.environ)
    except LookupError as error:
        raise UserError(str(error.args[0])) from None
    if allowed is None:
        return gpus
    if not allowed:
        raise UserError(
            f"{VARIABLE}={os.environ[VARIABLE]} leaves no GPU to this process; there is {_listed(gpus)}; "
            "--device cpu runs on the processor"
        )
    return [gpu for index in allowed for gpu in gpus if gpu.index == index]


def choose_devices(device: str | None, gpu: str | None) -> list[Device]:
    """The devices that the options name, within what CUDA_VISIBLE_DEVICES allows.

    Without either option: the first GPU that may be used, else the CPU. Raises UserError for a device that does not
    exist, may not be used or is divided into slices, naming those that can be had.
    """
    if device not in (None, "", "cpu", "gpu"):
        raise UserError(f"unknown device '{device}'; there is cpu, or gpu (then --gpu INDEX says which)")
    if device == "cpu":
        if gpu:
            raise UserError("--device cpu and --gpu exclude each other; give one of them")
        return [the_cpu()]
    if not gpu:
        try:
            return _whole(usable_gpus()[:1])
        except UserError:
            # Slices, and a variable that means something else to CUDA, are no reason to measure the processor.
            if device == "gpu" or _gpus_are_usable():
                raise
            return [the_cpu()]
    usable = usable_gpus()
    return _whole(usable if gpu == "all" else _named(gpu, usable))


def _gpus_are_usable() -> bool:
    """Whether there are GPUs, and nobody has said that none of them is meant."""
    none = os.environ.get(VARIABLE, "0").split(",")[0].strip() in ("", "-1", "NoDevFiles")
    try:
        return not none and bool(list_gpus())
    except UserError:
        return False


def _named(text: str, usable: Sequence[Device]) -> list[Device]:
    chosen: list[Device] = []
    for word in (part.strip() for part in text.split(",")):
        if word.startswith("MIG-"):
            raise UserError(
                f"{word} is a slice of a GPU; power is known of whole GPUs only; there is {_listed(usable)}"
            )
        found = [g for g in usable if word == str(g.index) or (word.startswith("GPU-") and g.uuid.startswith(word))]
        if len(found) != 1:
            limit = f" that {VARIABLE}={os.environ[VARIABLE]} allows" if VARIABLE in os.environ else ""
            raise UserError(f"no GPU '{word}'{limit}; there is {_listed(usable)}")
        if found[0] not in chosen:
            chosen.append(found[0])
    return chosen


def _whole(chosen: list[Device]) -> list[Device]:
    """What was chosen, unless one of them is divided into slices."""
    for one in chosen:
        if one.facts.get("mig_mode"):
            raise UserError(
                f"GPU {one.index} ({one.product}) is in MIG mode; framewatt measures whole GPUs: choose another one, or leave MIG mode"
            )
    return chosen


def _listed(gpus: Sequence[Device]) -> str:
    return ", ".join(f"{gpu.index} ({gpu.product}, {gpu.uuid})" for gpu in gpus)


def taken(devices: Sequence[Device]) -> str:
    """What to say of GPUs that CUDA_VISIBLE_DEVICES had a part in choosing, "" where it had none."""
    text = os.environ.get(VARIABLE)
    if text is None:
        return ""
    gpus = [device for device in devices if device.kind == "gpu"]
    what = f"GPU {_listed(gpus)}" if gpus else "the processor"
    return f"{VARIABLE}={text}: {what} is measured"
