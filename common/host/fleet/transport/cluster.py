"""A host of a Ray cluster, as those who send work see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A host as Ray knows it. accelerators: what it declares; framewatt uses hosts that declare one."""

    id: str
    name: str
    address: str = ""
    gpus: int = 0
    accelerators: tuple[str, ...] = ()
    alive: bool = True

    @property
    def accelerator(self) -> str:
        """The one that it declares, "" where it takes no cells."""
        return self.accelerators[0] if self.gpus and len(self.accelerators) == 1 else ""
