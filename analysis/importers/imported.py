"""What a format hands over: cells with the files that the schema knows, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.readers.csv_by_line import Problem
from common.cell import Cell
from common.errors import UserError

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Facts:
    """What the user says because the files may not: None where nothing was said.

    gpu_ordinal: which GPU of the machine ran, counted from 0 in the order of the files.
    """

    gpu_ordinal: int | None = None
    gpu_name: str | None = None
    framework: str | None = None
    model: str | None = None
    precision: str | None = None
    batch_size: int | None = None

    def need(self, name: str, why: str) -> Any:
        """The fact, or UserError naming the option that gives it."""
        value = getattr(self, name)
        if value is None:
            raise UserError(f"{why}; give --{name.replace('_', '-')}")
        return value


@dataclass
class ImportedCell:
    """One cell. columns: of cell.csv beside the key's; files: file name -> rows, only of what was measured."""

    cell: Cell
    columns: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Rows] = field(default_factory=dict)


@dataclass
class Imported:
    """origin, licence, measured: for people; None where unknown. devices: as in run.json. sources: files that were read."""

    origin: str
    cells: list[ImportedCell]
    sources: list[Path]
    licence: str | None = None
    measured: str | None = None
    note: str | None = None
    devices: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """recognises: whether a file or folder looks like this format; reads little.

    read: everything of it; raises UserError only where the user has to say more or nothing at all can be used.
    """

    name: str
    title: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Facts], Imported]


def one_device(facts: Facts, name: str | None, compute_capability: str | None = None) -> dict[str, Any]:
    """The entry of `devices` in run.json for the GPU that ran."""
    device = {"device": f"gpu{facts.gpu_ordinal or 0}", "uuid": "", "name": name}
    return {**device, "compute_capability": compute_capability} if compute_capability else device
