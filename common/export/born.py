"""What the first half of the export of a model born in PyTorch left (torch_onnx.py), for the second half (user_onnx.py)."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Mapping

from common.errors import UserError
from common.export.store import file_sha256
from common.model_files import ModelFiles


@dataclass(frozen=True)
class Born:
    """What the first half left in its folder."""

    folder: Path
    facts: Dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Born:
        try:
            return cls(folder, json.loads((folder / "born.json").read_text()))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} does not hold a model born in PyTorch: {error}") from error

    @property
    def values(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.facts["values"]
        return found

    def digest(self) -> str:
        """How it is built; its weights are in the ONNX file too."""
        return f"{file_sha256(self.folder / 'torch' / 'build.json')}{self.facts['source_sha256']}"

    def given_to(self, model: ModelFiles, folder: Path) -> ModelFiles:
        shutil.copytree(self.folder / "torch", folder / "torch")
        return replace(
            model,
            born=self.facts["born"],
            exporters={"torch": "itself", "onnx": self.facts["exporter"]},
            weights=self.facts["weights"],
            weights_note=self.facts["weights_note"],
            forms={**(model.forms or {}), "torch": "torch"},
        )

    def described(self) -> Dict[str, Any]:
        return {
            "source": self.facts["module"],
            "module": self.facts["module"],
            "source_sha256": self.facts["source_sha256"],
            "asked": {"shape": "", "rebatch": False, "inputs_sha256": ""},
        }
