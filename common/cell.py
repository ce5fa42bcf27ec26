"""A cell: one measurement that framewatt makes, and the name by which every number is traced back to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Optional

from common.typed_json import check


@dataclass(frozen=True)
class Cell:
    """What is measured: the key columns of `cell.csv` (see common/schema.py for their meaning)."""

    model: str
    variant: str
    precision: str
    batch_size: int
    io: str = "host"
    scenario: str = "single-stream"
    frontend: str = "script"
    streams: int = 1
    target_rate_per_s: Optional[float] = None
    replicate: int = 0
    device: str = "cpu"

    @property
    def key(self) -> str:
        """Readable, unique within a run, safe as a folder name; sorts by batch size within a variant."""
        scenario = self.scenario
        if self.streams != 1:
            scenario += f"-x{self.streams}"
        if self.target_rate_per_s is not None:
            scenario += f"-{self.target_rate_per_s:g}ps"
        parts = (
            self.model, self.variant, self.precision, f"b{self.batch_size:04d}", self.io, scenario,
            self.frontend, self.device, f"r{self.replicate}",
        )  # fmt: skip
        return "_".join(parts)

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """Raises TypeError for values that are no cell's."""
        return cls(**check(cls, values))
