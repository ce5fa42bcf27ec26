"""What the first half of the export of a model born in PyTorch left (torch_onnx.py), for the second half (user_onnx.py)."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np

from common.errors import UserError
from common.export.progress import Progress
from common.export.store import Digest, file_sha256, publish, temporary_folder
from common.model_files import ModelFiles
from common.pixels import PixelValues
from common.torch_modules import EXPORTER


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

    @property
    def refused(self) -> str:
        """Why torch.onnx could not export it, "" where it could."""
        return str(self.facts.get("refused", ""))

    @property
    def stays_in_double(self) -> str:
        """Of a module with float64, why its weights in float32 do not make it float32 throughout; "" where they do."""
        return str(self.facts.get("stays_in_double", ""))

    def digest(self) -> str:
        """How it is built; its weights are in the ONNX file too, where there is one."""
        weights = file_sha256(self.folder / "torch" / "weights.pt") if self.refused else ""
        return f"{file_sha256(self.folder / 'torch' / 'build.json')}{self.facts['source_sha256']}{weights}"

    def given_to(self, model: ModelFiles, folder: Path) -> ModelFiles:
        shutil.copytree(self.folder / "torch", folder / "torch")
        return replace(
            model,
            born=self.facts["born"],
            exporters={"torch": "itself", **({} if self.refused else {"onnx": self.facts["exporter"]})},
            refused={"onnx": self.refused} if self.refused else None,
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


def finish_refused(born: Born, out: Path, name: str, progress: Progress) -> str:
    """The second half for a module without an ONNX file: its folder within `out`, whose name is returned."""
    progress.step("description")
    digest = Digest()
    digest.text("module", born.digest())
    reference = born.folder / "reference.npz"
    with np.load(reference) as arrays:
        for one in sorted(arrays.files):
            if one.startswith("input"):
                digest.array(one, arrays[one])
    values = PixelValues.of_description(born.facts)
    # the same inputs, where the user's own function gave them, but another model to whoever gives pictures
    if values.given:
        digest.text("pixels", json.dumps(values.described()))
    digest.text("refused by", json.dumps({name: born.facts["versions"].get(name) for name in EXPORTER}))
    with temporary_folder(out) as folder:
        model = ModelFiles.of(folder, {**born.facts["model"], "name": name or "model", "hash": digest.short()})
        shutil.copyfile(reference, folder / model.reference)
        facts = {fact: born.facts[fact] for fact in ("reference_by", "versions", "input_range", "input_range_said")}
        return publish(folder, born.given_to(model, folder), {**born.described(), **facts}).name
