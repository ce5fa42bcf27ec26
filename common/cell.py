"""A cell: one measurement that framewatt makes, and the name by which every number is traced back to it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, Mapping, Optional, Tuple

from common import names
from common.text import shortened
from common.typed_json import check

#: Bounds of the key columns that are whole numbers: column -> (least, most).
BOUNDS: Mapping[str, Tuple[int, int]] = {
    "batch_size": (1, names.MOST_BATCH_SIZE),
    "streams": (1, names.MOST_STREAMS),
    "replicate": (0, names.MOST_REPLICATES),
}


def fault_of(values: Mapping[str, Any]) -> Optional[str]:
    """What is wrong with the values of a cell's key columns in one sentence, or None. Missing ones and None are unknown."""
    for column in NAMES:
        text = values.get(column)
        wrong = names.fault(str(text)) if text is not None else None
        if wrong:
            return f"{column} is {wrong}"
    for column, (least, most) in BOUNDS.items():
        number = values.get(column)
        if number is not None and not least <= number <= most:
            return f"{column} is {shortened(str(number), 40)}, not a whole number from {least} to {most}"
    rate = values.get("target_rate_per_s")
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= names.MOST_RATE_PER_S):
        return f"target_rate_per_s is {rate:g}, not a rate above 0 and up to {names.MOST_RATE_PER_S:g}"
    return None


def key_fault_of(key: str) -> Optional[str]:
    wrong = names.key_fault(key)
    return f"cell_key is {wrong}" if wrong else None


@dataclass(frozen=True)
class Cell:
    """What is measured: the key columns of `cell.csv` (see common/schema.py for their meaning).

    Raises ValueError for what cannot be a cell: its names become a folder (common/names.py), its numbers go into sums.
    """

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
    tuning: str = "tuned"
    input: str = "float32"
    #: of the framework, where another than the lock's was asked for
    version: Optional[str] = None

    def __post_init__(self) -> None:
        wrong = fault_of(self.to_dict()) or key_fault_of(self.key)
        if wrong:
            raise ValueError(wrong)

    @property
    def key(self) -> str:
        """Readable, unique within a run, safe as a folder name; sorts by batch size within a variant."""
        scenario = self.scenario
        if self.streams != 1:
            scenario += f"-x{self.streams}"
        if self.target_rate_per_s is not None:
            scenario += f"-{self.target_rate_per_s:g}ps"
        # what is as ever adds nothing, so that the keys of older runs stay what they are
        io = self.io if self.input == "float32" else f"{self.io}-{self.input}"
        variant = self.variant if self.version is None else f"{self.variant}@{self.version}"
        parts = (
            self.model, variant, self._level, f"b{self.batch_size:04d}", io, scenario,
            self.frontend, self.device, f"r{self.replicate}",
        )  # fmt: skip
        return "_".join(parts)

    @property
    def worker(self) -> str:
        """What the cells of one worker share, as a name that a container may bear: of its job, its log and its container."""
        version = "" if self.version is None else f"-{self.version.replace('+', '_')}"
        return "_".join((self.variant + version, self._level, self.frontend, self.device, f"r{self.replicate}"))

    @property
    def _level(self) -> str:
        return self.precision if self.tuning == "tuned" else f"{self.precision}-{self.tuning}"

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """Raises TypeError or ValueError for values that are no cell's."""
        return cls(**check(cls, values))


#: Key columns that are names.
NAMES = tuple(field.name for field in fields(Cell) if field.type in ("str", "Optional[str]"))
