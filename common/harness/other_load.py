"""How busy the CPUs were in a measured window, by this process and by everything else.

The load average cannot tell: it looks back a minute, in which this worker compiled, and a framework that uses all cores brings it
above their number by itself.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Dict, NamedTuple, Optional

#: proc(5), /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal (what a hypervisor gave to other machines)
_BUSY = (0, 1, 2, 5, 6, 7)
STAT = Path("/proc/stat")

#: A window was disturbed where others kept more than OTHER_CPUS busy and, with the worker, more than BUSY_SHARE of all
#: CPUs: where CPUs stay free, neighbours take nothing from it. The supervisor and the sidecar count as others, and stay below.
OTHER_CPUS = 0.25
BUSY_SHARE = 0.9


class Reading(NamedTuple):
    wall_s: float
    #: all CPUs of the host
    busy_s: float
    #: the process that is measured, all its threads
    own_s: float


def read(stat: Path = STAT, own_s: Optional[float] = None) -> Optional[Reading]:
    """Now, None where the kernel does not tell. own_s: CPU time of what is measured, where that is not this process."""
    try:
        with stat.open() as file:
            name, *fields = file.readline().split()
        ticks = [int(field) for field in fields]
    except (OSError, ValueError):
        return None
    if name != "cpu" or len(ticks) <= max(_BUSY):
        return None
    per_second = os.sysconf("SC_CLK_TCK")
    return Reading(
        time.monotonic(), sum(ticks[i] for i in _BUSY) / per_second, time.process_time() if own_s is None else own_s
    )


def disturbed(own: float, other: float, cpus: int) -> bool:
    """Whether others took something from a window. own, other: cpus_own and cpus_other; cpus: of the host."""
    return other > OTHER_CPUS and own + other > BUSY_SHARE * cpus


def between(begin: Optional[Reading], end: Optional[Reading]) -> Dict[str, float]:
    """cpus_own and cpus_other, in CPUs (1: one CPU all the time); nothing where one of the readings is missing.

    The kernel counts in hundredths of a second and not at one instant for all CPUs, so that a difference below zero is none.
    """
    if begin is None or end is None or end.wall_s <= begin.wall_s:
        return {}
    wall, own = end.wall_s - begin.wall_s, end.own_s - begin.own_s
    other = max(0.0, end.busy_s - begin.busy_s - own)
    return {"cpus_own": round(own / wall, 3), "cpus_other": round(other / wall, 3)}
