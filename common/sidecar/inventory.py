"""Static facts of the GPUs, through NVML: `python -m common.sidecar.inventory` prints them as JSON.

Works in a container beside the sidecar and as a library on the host.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from common.sidecar.nvml import NvmlUnavailable, describe, first_that_answers, open_nvml, probe_errors

Facts = Dict[str, Any]

__all__ = ["Facts", "NvmlUnavailable", "describe_gpus"]


def describe_gpus() -> List[Facts]:
    """One dict a GPU, in NVML's order. What cannot be asked is None, and `missing` maps it to the reason.

    Keys: index, uuid, name, driver, cuda ("13.0": the newest that the driver serves), compute_capability ("9.0"),
    memory_bytes, memory_used_bytes, power_limit_mw, power_limit_default_mw, power_limit_enforced_mw,
    ecc, persistence (bool), mig_mode (bool), pcie_generation, pcie_generation_max, pcie_width, pcie_width_max,
    sm_clock_default_mhz, memory_clock_default_mhz, sm_clock_max_mhz, memory_clock_max_mhz,
    pci_bus_id ("00000000:1B:00.0"), cpu_affinity (list of the CPUs next to it),
    processes (list of {pid, name, memory_bytes}: compute processes, as far as this PID namespace shows them),
    missing. Raises NvmlUnavailable.
    """
    nvml = open_nvml()
    try:
        return [_describe(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        raise NvmlUnavailable(f"NVML: {describe(error)}") from None
    finally:
        try:
            nvml.nvmlShutdown()
        except nvml.NVMLError:
            pass


def _describe(nvml: Any, index: int) -> Facts:
    facts: Facts = {"index": index}
    missing: Dict[str, str] = {}
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        facts.update(dict.fromkeys(_PROBES))
        return {**facts, "missing": dict.fromkeys(_PROBES, describe(error))}
    for name, probe in _PROBES.items():
        try:
            facts[name] = probe(nvml, handle)
        except probe_errors(nvml) as error:  # noqa: PERF203 (each fact may be missing alone)
            facts[name], missing[name] = None, describe(error)
    return {**facts, "missing": missing}


def _cuda_version(nvml: Any, handle: Any) -> str:
    version = first_that_answers(nvml, (lambda: nvml.nvmlSystemGetCudaDriverVersion_v2(),
                                        lambda: nvml.nvmlSystemGetCudaDriverVersion()))  # fmt: skip
    return f"{version // 1000}.{version % 1000 // 10}"


def _compute_capability(nvml: Any, handle: Any) -> str:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return f"{major}.{minor}"


def _memory(field: str) -> Callable[[Any, Any], int]:
    def probe(nvml: Any, handle: Any) -> int:
        memory = first_that_answers(nvml, (
            lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2),
            lambda: nvml.nvmlDeviceGetMemoryInfo(handle),
        ))  # fmt: skip
        return int(getattr(memory, field))

    return probe


def _default_clock(clock: str) -> Callable[[Any, Any], int]:
    """The older call first: the newer one answers "not supported" on boards where both exist."""

    def probe(nvml: Any, handle: Any) -> int:
        kind = getattr(nvml, clock)
        return first_that_answers(nvml, (
            lambda: int(nvml.nvmlDeviceGetDefaultApplicationsClock(handle, kind)),
            lambda: int(nvml.nvmlDeviceGetClock(handle, kind, nvml.NVML_CLOCK_ID_APP_CLOCK_DEFAULT)),
        ))  # fmt: skip

    return probe


def _max_clock(clock: str) -> Callable[[Any, Any], int]:
    return lambda nvml, handle: int(nvml.nvmlDeviceGetMaxClockInfo(handle, getattr(nvml, clock)))


def _processes(nvml: Any, handle: Any) -> List[Facts]:
    """Compute processes. Older drivers offer older versions of the call."""
    calls = [
        lambda name=name: getattr(nvml, name)(handle)
        for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetComputeRunningProcesses_v2")
    ]
    return [
        {"pid": int(process.pid), "name": _process_name(nvml, process.pid), "memory_bytes": process.usedGpuMemory}
        for process in first_that_answers(nvml, calls)
    ]


def _process_name(nvml: Any, pid: int) -> Optional[str]:
    try:
        return str(nvml.nvmlSystemGetProcessName(pid))
    except probe_errors(nvml):
        pass
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None  # a process of another user or PID namespace


def _cpu_affinity(nvml: Any, handle: Any) -> List[int]:
    """The CPUs next to the GPU, by the driver."""
    bits = 64
    words = nvml.nvmlDeviceGetCpuAffinity(handle, -(-(os.cpu_count() or 1) // bits))
    return [bits * place + bit for place, word in enumerate(words) for bit in range(bits) if int(word) >> bit & 1]


def _pci_bus_id(nvml: Any, handle: Any) -> str:
    """domain:bus:device.function in hexadecimal digits."""
    found = nvml.nvmlDeviceGetPciInfo(handle).busId
    return found.decode() if isinstance(found, bytes) else str(found)


_PROBES: Dict[str, Callable[[Any, Any], Any]] = {
    "uuid": lambda nvml, handle: str(nvml.nvmlDeviceGetUUID(handle)),
    "name": lambda nvml, handle: str(nvml.nvmlDeviceGetName(handle)),
    "driver": lambda nvml, handle: str(nvml.nvmlSystemGetDriverVersion()),
    "cuda": _cuda_version,
    "compute_capability": _compute_capability,
    "memory_bytes": _memory("total"),
    "memory_used_bytes": _memory("used"),
    "power_limit_mw": lambda nvml, handle: int(nvml.nvmlDeviceGetPowerManagementLimit(handle)),
    "power_limit_default_mw": lambda nvml, handle: int(nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle)),
    "power_limit_enforced_mw": lambda nvml, handle: int(nvml.nvmlDeviceGetEnforcedPowerLimit(handle)),
    "ecc": lambda nvml, handle: bool(nvml.nvmlDeviceGetEccMode(handle)[0]),
    "persistence": lambda nvml, handle: bool(nvml.nvmlDeviceGetPersistenceMode(handle)),
    "mig_mode": lambda nvml, handle: bool(nvml.nvmlDeviceGetMigMode(handle)[0]),
    "pcie_generation": lambda nvml, handle: int(nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)),
    "pcie_generation_max": lambda nvml, handle: int(nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)),
    "pcie_width": lambda nvml, handle: int(nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)),
    "pcie_width_max": lambda nvml, handle: int(nvml.nvmlDeviceGetMaxPcieLinkWidth(handle)),
    "sm_clock_default_mhz": _default_clock("NVML_CLOCK_SM"),
    "memory_clock_default_mhz": _default_clock("NVML_CLOCK_MEM"),
    "sm_clock_max_mhz": _max_clock("NVML_CLOCK_SM"),
    "memory_clock_max_mhz": _max_clock("NVML_CLOCK_MEM"),
    "pci_bus_id": _pci_bus_id,
    "cpu_affinity": _cpu_affinity,
    "processes": _processes,
}


def main() -> int:
    try:
        gpus = describe_gpus()
    except NvmlUnavailable as error:
        print(f"no GPU facts: {error.reason}", file=sys.stderr)
        return 3
    print(json.dumps(gpus, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
