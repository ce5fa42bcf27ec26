"""Memory of a process, and how to recognise that there was none left."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Optional

#: what frameworks, drivers and allocators say when memory runs out
_OUT_OF_MEMORY = re.compile(
    r"out of memory|outofmemory|std::bad_alloc|bad allocation|\bMemoryError\b|can(?:not|'t) allocate memory"
    r"|not enough memory"
    r"|RESOURCE_EXHAUSTED|ResourceExhausted|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|failed to allocate memory",
    re.IGNORECASE,
)


def names_out_of_memory(text: str) -> bool:
    """Whether a message or a log line says that memory ran out."""
    return _OUT_OF_MEMORY.search(text) is not None


def reset_peak() -> bool:
    """Makes peak_bytes() count from now; False where the kernel does not offer it (then it counts from the start)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """Peak resident set of this process since reset_peak(), or since its start, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return 1024 * (int(found.group(1)) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def oom_kills() -> Optional[int]:
    """How often the kernel's out-of-memory killer has struck in this process's control group (else: on this machine).

    Only the difference of two calls means anything. None where the kernel does not tell.
    """
    for path in (*group_files(), Path("/proc/vmstat")):
        try:
            found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found.group(1))
    return None


class OomKills:
    """Whether the kernel's out-of-memory killer has struck in this control group since this was made."""

    def __init__(self) -> None:
        self._before = oom_kills()

    def struck(self) -> bool:
        """False where the kernel does not tell."""
        now = oom_kills()
        return None not in (self._before, now) and now != self._before


def group_files() -> list[Path]:
    """Where the kills of this control group are counted, for version 2 and 1, seen from outside and inside a container."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    files = []
    for line in lines:
        number, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            files += [root / "memory" / place / "memory.oom_control" for place in (group.lstrip("/"), "")]
        elif number == "0" and not controllers:
            files += [root / place / "memory.events" for place in (group.lstrip("/"), "")]
    return files
