"""The exported model on disk: `data/models/<name>-<hash>/`, made once by common/export, read by every adapter."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from common.typed_json import check

DESCRIPTION = "model.json"
#: forms that the exporter always makes, each with a field of its own
MAIN_FORMS = ("onnx", "keras", "saved_model")


@dataclass(frozen=True)
class ModelFiles:
    """One model in the forms that the frameworks read.

    `root` is where the folder lies for the process that asks (a container sees another path than the host);
    the file fields are names relative to it, None where the model does not exist in that form.
    """

    root: Path
    name: str
    hash: str
    onnx: Optional[str]
    keras: Optional[str]
    saved_model: Optional[str]
    #: .npz with `inputs` (8, *input_shape) float32, `outputs` (8, classes) float32 or float64
    reference: str
    #: shape of one image as the input tensor has it, without the batch axis: (H, W, C) or (C, H, W)
    input_shape: Tuple[int, ...]
    #: NHWC or NCHW: what input_shape and the reference inputs are in
    layout: str
    #: name of the ONNX graph's input and output tensors
    onnx_input: Optional[str]
    onnx_output: Optional[str]
    #: probabilities (a softmax comes out) or raw (anything else)
    output_kind: str
    classes: int
    #: imagenet, seeded or user
    weights: str
    #: one sentence for people: where the weights come from; stands under every table
    weights_note: str
    #: name of a form -> file or folder, every form of the model: those of the three fields above and whatever
    #: common/export/forms.py made of them (tflite, ...). None (a description of before it had this): the three alone
    forms: Optional[Dict[str, str]] = None

    def __post_init__(self) -> None:
        own = {name: value for name in MAIN_FORMS for value in [getattr(self, name)] if value is not None}
        object.__setattr__(self, "forms", {**own, **(self.forms or {})})

    def path(self, name: Optional[str]) -> Path:
        """Absolute path of one of the file fields. Raises FileNotFoundError where the model lacks that form."""
        if name is None:
            raise FileNotFoundError(f"model {self.name} does not exist in this form")
        return self.root / name

    def form(self, name: str) -> Path:
        """Absolute path of a form by its name. Raises FileNotFoundError, naming those that there are, where it is missing."""
        forms = self.forms or {}
        if name not in forms:
            raise FileNotFoundError(f"model {self.name} has no {name} form, only {', '.join(forms) or 'none'}")
        return self.root / forms[name]

    @classmethod
    def read(cls, root: Path) -> ModelFiles:
        """Reads `root/model.json`. Raises FileNotFoundError, or ValueError for a file that is not one."""
        try:
            values = json.loads((root / DESCRIPTION).read_text())
            known = {
                name: values[name] if name in values or field.default is MISSING else field.default
                for name, field in cls.__dataclass_fields__.items()
                if name != "root"
            }
            fields = check(cls, known)
            fields["input_shape"] = tuple(fields["input_shape"])
            return cls(root=root, **fields)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{root / DESCRIPTION} is not a model description: {error!r}") from error

    def describe(self) -> Dict[str, Any]:
        """What `model.json` holds of this (the exporter adds file hashes and versions beside it)."""
        values = asdict(self)
        del values["root"]
        return values
