"""Where things lie on the user's machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "images"
ENVIRONMENTS = ROOT / ".envs"


@dataclass(frozen=True)
class DataFolder:
    """`data/` of the checkout, or the folder that FRAMEWATT_DATA names."""

    root: Path

    @classmethod
    def default(cls) -> DataFolder:
        return cls(Path(os.environ.get("FRAMEWATT_DATA", ROOT / "data")).resolve())

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def report(self) -> Path:
        return self.root / "report"
