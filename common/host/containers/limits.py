"""How tightly a container is held. Tight by default; each limit is an option of `invoke bench`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from common.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Defaults fit a model of a few hundred MB; empty text leaves a limit out."""

    #: CPUs that the worker may use, as the kernel writes lists ("0-3"); the sidecar gets the others where there are any
    cpus: str = ""
    #: memory limit as Docker writes it ("8g"); over it the worker is killed and its cell becomes an `oom` row
    memory: str = ""
    #: processes and threads; frameworks start hundreds
    pids: int = 4096
    shm: str = "1g"
    #: size of the tmpfs on /tmp: XLA's and inductor's temporary files
    tmp: str = "4g"

    def arguments(self) -> dict[str, Any]:
        """Arguments of the SDK's containers.create that are the same for worker and sidecar."""
        arguments: dict[str, Any] = {
            "read_only": True,
            "tmpfs": {"/tmp": f"size={self.tmp},mode=1777,exec"},
            "network_mode": "none",
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "pids_limit": self.pids,
            "shm_size": self.shm,
        }
        if self.memory:
            # Without swap: a worker that swaps would be timed, not stopped.
            arguments |= {"mem_limit": self.memory, "memswap_limit": self.memory}
        return arguments

    def worker_cpus(self) -> str | None:
        return self.cpus or None

    def sidecar_cpus(self) -> str | None:
        """The CPUs that the worker does not use; None (any) when it may use all."""
        if not self.cpus:
            return None
        rest = sorted(os.sched_getaffinity(0) - set(parse_cpu_list(self.cpus)))
        return ",".join(map(str, rest)) or None


def parse_cpu_list(text: str) -> list[int]:
    """`0-2,5` -> [0, 1, 2, 5]. Raises UserError for anything else, or for CPUs that this machine does not have."""
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        try:
            cpus += range(int(first), int(last or first) + 1)
        except ValueError:
            raise UserError(f"--cpus '{text}' is not a list of CPUs; write for example 0-3,8") from None
    missing = sorted(set(cpus) - os.sched_getaffinity(0))
    if missing or not cpus:
        have = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        raise UserError(f"--cpus {text} names CPUs that this process may not use; there is {have}")
    return cpus
