"""The machine at the time of a run: what stands in run.json beside the plan."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from common.host.devices import cpu_model
from common.host.paths import ROOT


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip() or None
    except OSError:
        return None


def _memory_bytes() -> int | None:
    for line in (_read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _hypervisor() -> str | None:
    """Name of the hypervisor, "yes" when there is one without a name, None on bare metal as far as the CPU tells."""
    if "hypervisor" not in (_read("/proc/cpuinfo") or ""):
        return None
    return _read("/sys/class/dmi/id/sys_vendor") or _read("/sys/hypervisor/type") or "yes"


def describe_host() -> dict[str, Any]:
    """Facts of the host that explain a number; None is unknown."""
    return {
        "cpu_model": cpu_model(),
        "logical_cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": _memory_bytes(),
        "kernel": platform.release(),
        "os": _os_name(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo": _read("/sys/devices/system/cpu/intel_pstate/no_turbo")
        or _read("/sys/devices/system/cpu/cpufreq/boost"),
        "clock_source": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "hypervisor": _hypervisor(),
        "load_average": list(os.getloadavg()),
    }


def boot_id() -> str | None:
    """Changes with each boot of the kernel, the same in all its containers; None where it is not shown."""
    return _read("/proc/sys/kernel/random/boot_id")


def source_revision() -> str | None:
    """Commit of the checkout, with "+changes" when tracked files differ; None outside a git checkout."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
        )
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
