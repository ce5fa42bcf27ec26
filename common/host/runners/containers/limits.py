"""How tightly a container is held. Tight by default; each limit is an option of `invoke bench`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
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
    #: docker-init as process 1; switched off by FRAMEWATT_CONTAINER_INIT=0 for engines that lack the program
    init: bool = True
    #: host folders that every container sees read-only under the same path (FRAMEWATT_CONTAINER_MOUNTS, ':' between
    #: them): a Python environment of the host that the base image does not hold
    mounts: tuple[str, ...] = ()

    def with_environment(self, environment: Mapping[str, str]) -> Limits:
        """These limits with what the environment variables say of an unusual host. Raises UserError for a bad folder."""
        mounts = tuple(filter(None, environment.get("FRAMEWATT_CONTAINER_MOUNTS", "").split(":")))
        for mount in mounts:
            if not Path(mount).is_absolute() or not Path(mount).exists():
                raise UserError(
                    f"FRAMEWATT_CONTAINER_MOUNTS names {mount}, which is not the full path of a folder here"
                )
        init = environment.get("FRAMEWATT_CONTAINER_INIT", "1") != "0"
        return replace(self, init=init, mounts=mounts)

    def volumes(self) -> dict[str, dict[str, str]]:
        return {mount: {"bind": mount, "mode": "ro"} for mount in self.mounts}

    def check(self) -> None:
        """Raises UserError for a size that Docker would not take."""
        for option, size in (("--memory", self.memory), ("--shm", self.shm), ("--tmp", self.tmp)):
            if size and not re.fullmatch(r"[1-9][0-9]*[bkmgBKMG]?", size):
                raise UserError(f"{option} '{size}' is not a size; write for example 8g or 512m")
        if self.cpus:
            parse_cpu_list(self.cpus)

    def arguments(self) -> dict[str, Any]:
        """Arguments of the SDK's containers.create that are the same for worker and sidecar."""
        arguments: dict[str, Any] = {
            "init": self.init,
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
        first, dash, last = part.strip().partition("-")
        try:
            span = range(int(first), int(last if dash else first) + 1)
            if not span:
                raise ValueError
            cpus += span
        except ValueError:
            raise UserError(f"--cpus '{text}' is not a list of CPUs; write for example 0-3,8") from None
    missing = sorted(set(cpus) - os.sched_getaffinity(0))
    if missing or not cpus:
        have = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        raise UserError(f"--cpus {text} names CPUs that this process may not use; there is {have}")
    return cpus
