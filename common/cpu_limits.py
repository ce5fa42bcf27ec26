"""How much of the machine's processors this process may use: its CPU affinity and its control group's quota.

Thread pools of frameworks are sized by the machine's cores: within a cpuset they would fight for the few CPUs that are left,
under a quota (`docker run --cpus`, Kubernetes' limits, systemd's CPUQuota) all of them are stopped for the rest of each
period once the quota is used up. Sources: the kernel's documentation of cgroup-v2 (cpu.max) and of CFS bandwidth control
(cpu.cfs_quota_us); sched_setaffinity(2).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Iterator, List, Optional

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def cpu_quota(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> Optional[float]:
    """CPUs' worth of time that the control group and those above it allow, None without a limit or where it is not shown."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    quotas = [quota for line in lines for quota in _quotas(line, root) if quota is not None]
    return min(quotas, default=None)


def _quotas(line: str, root: Path) -> Iterator[Optional[float]]:
    """Of the groups of one line of /proc/self/cgroup, `hierarchy:controllers:path`, from the own one up."""
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if not controllers:
        bases, read = [root, root / "unified"], _quota_v2
    elif "cpu" in controllers.split(","):
        bases, read = [root / "cpu", root / "cpu,cpuacct", root / controllers], _quota_v1
    else:
        return
    for base in bases:
        group = base / path.strip("/")
        # In a container the path may be the host's, while its own group is mounted as the root.
        for folder in [group, *group.parents]:
            if folder != base and base not in folder.parents:
                break
            yield read(folder)


def _quota_v2(folder: Path) -> Optional[float]:
    words = _words(folder / "cpu.max")
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> Optional[float]:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return _ratio(quota[0], period[0]) if quota and period else None


def _words(file: Path) -> List[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _ratio(quota: str, period: str) -> Optional[float]:
    """None for `max`, -1 and anything that is no limit."""
    if not (quota.isdigit() and period.isdigit() and int(quota) and int(period)):
        return None
    return int(quota) / int(period)


def default_threads() -> Optional[int]:
    """Threads for a computation that may use all that this process may; None where that is the whole machine.

    min(CPUs of the affinity, quota rounded up): more of them would wait for each other.
    """
    usable, quota = usable_cpus(), cpu_quota()
    threads = usable if quota is None else min(usable, max(1, math.ceil(quota)))
    return threads if threads < (os.cpu_count() or 1) else None
