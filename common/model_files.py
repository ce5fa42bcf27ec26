"""The exported model on disk: `data/models/<name>-<hash>/`, made once by common/export, read by every adapter."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from common.text import brief
from common.torch_modules import FORM
from common.typed_json import check

DESCRIPTION = "model.json"
#: forms that the exporter always makes, each with a field of its own
MAIN_FORMS = ("onnx", "keras", "saved_model")


def is_within(path: str) -> bool:
    """Whether a relative path stays within the folder that it is relative to."""
    return bool(path) and not path.startswith("/") and "\0" not in path and ".." not in path.split("/")


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model, under its name in every form of the model.

    dtype: numpy's name (float32, int64, bool, str). shape: of one unit, batch axis included: one sample, or one whole
    batch where the model fixes it; -1 where the size depends on the values. batch_axis: None for a tensor that has none,
    such as a sampling rate: it is fed once, whatever the batch size.
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]
    batch_axis: Optional[int] = 0
    #: of an output: probabilities (a softmax comes out), raw, or random (another one in every run of the same input)
    kind: str = "raw"

    @classmethod
    def of(cls, values: Any) -> Tensor:
        """Raises TypeError or ValueError for values that are no tensor's, and for a batch axis that the shape has not."""
        fields = check(cls, values)
        fields["shape"] = tuple(fields["shape"])
        tensor = cls(**fields)
        if tensor.batch_axis is not None and not 0 <= tensor.batch_axis < len(tensor.shape):
            raise ValueError(f"'{tensor.name}' {list(tensor.shape)} has no axis {tensor.batch_axis} to be the batch")
        return tensor

    def sized(self, batch_size: int) -> Tuple[int, ...]:
        """The shape at this batch size."""
        if self.batch_axis is None:
            return self.shape
        return (*self.shape[: self.batch_axis], batch_size, *self.shape[self.batch_axis + 1 :])


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
    #: .npz of reference inputs and outputs, see common/harness/reference.py
    reference: str
    #: shape of one sample of the first input, without the batch axis; of an image (H, W, C) or (C, H, W)
    input_shape: Tuple[int, ...]
    #: NHWC or NCHW: what input_shape and the reference inputs are in; "" where the first input is no image
    layout: str
    #: name of the ONNX graph's first input and output
    onnx_input: Optional[str]
    onnx_output: Optional[str]
    #: of the first output: probabilities (a softmax comes out) or raw (anything else)
    output_kind: str
    #: values of one sample of the first output where that is (batch, classes), else 0
    classes: int
    #: imagenet, seeded or user
    weights: str
    #: one sentence for people: where the weights come from; stands under every table
    weights_note: str
    #: all inputs and outputs; a description from before there could be several has the first of each alone
    inputs: Tuple[Tensor, ...] = ()
    outputs: Tuple[Tensor, ...] = ()
    #: the one batch size that the graph takes; None where the batch axis is dynamic
    fixed_batch: Optional[int] = None
    #: what became of another batch size that was tried, where the batch axis is dynamic and the model takes fixed_batch alone
    refused_batch: str = ""
    #: what one sample is called in rates: image, sequence, sample
    item: str = "image"
    #: type of the weights in the file, in words: float32, float16, "int8 (quantized: QDQ)"; "" where nobody looked
    weights_dtype: str = ""
    #: where the model comes from, in words
    born: str = ""
    #: form -> by which exporter the model reached it, in words
    exporters: Optional[Dict[str, str]] = None
    #: form -> why the model cannot be had in it, in the words of what should have made it
    refused: Optional[Dict[str, str]] = None
    #: why no framework can be measured with it, "" where it can: what there is no reference for is not compared
    unmeasurable: str = ""
    #: what a person should know of it, a line each: which values are fed, which outputs tell nothing
    notes: Tuple[str, ...] = ()

    #: modules beside Keras that layers of the .keras file are of: keras_hub
    needs: Tuple[str, ...] = ()
    #: name of a form -> file or folder, every form of the model: those of the three fields above and whatever
    #: common/export/forms.py made of them (tflite, ...). None (a description of before it had this): the three alone
    forms: Optional[Dict[str, str]] = None

    def __post_init__(self) -> None:
        own = {name: value for name in MAIN_FORMS for value in [getattr(self, name)] if value is not None}
        object.__setattr__(self, "forms", {**own, **(self.forms or {})})
        if not self.inputs:
            given = Tensor(self.onnx_input or "input", "float32", (1, *self.input_shape))
            object.__setattr__(self, "inputs", (given,))
        if not self.outputs:
            made = Tensor(self.onnx_output or "output", "float32", (1, self.classes), 0, self.output_kind)
            object.__setattr__(self, "outputs", (made,))

    @property
    def unit_size(self) -> int:
        """Samples in one unit of the reference: a whole batch where the model fixes it."""
        return self.fixed_batch or 1

    @property
    def origin(self) -> str:
        """Where the model was born and by which exporter it reached each of its forms, in one line; "" where nobody wrote it down."""
        reached = "; ".join(f"{form}: {how}" for form, how in (self.exporters or {}).items())
        refused = "".join(f"; no {form}" for form in self.refused or {})
        return f"{self.born} ({reached}{refused})" if self.born and reached else self.born

    def unfit(self, batch_size: int) -> Optional[str]:
        """None, or why the model itself cannot be run at this batch size."""
        if self.fixed_batch is None or batch_size == self.fixed_batch:
            return None
        size = self.fixed_batch
        is_module = FORM in (self.forms or {})
        measured = f"--batch-sizes {size} measures it"
        if self.refused_batch:
            return f"the model takes batches of {size} alone: {brief(self.refused_batch, 200)}; {measured}"
        if all(one.batch_axis is None for one in self.inputs):
            what = (
                "the module takes its example inputs as they are"
                if is_module
                else "no input of the model has a batch axis"
            )
            return f"{what}, which counts as a batch of {size}; {measured}"
        if is_module:  # its own code decides, and --rebatch is for ONNX files
            return f"the module takes batches of {size} alone, as its example inputs are; {measured}"
        return f"the model's batch size is fixed at {size}; {measured}, and --rebatch tries to make it dynamic"

    def not_fed_as(self, kind: str) -> Optional[str]:
        """None, or why its images cannot be fed in values of this type (float32, uint8), whatever they are."""
        images = self.inputs[0]
        if kind == "float32" or (self.layout and (images.dtype == kind or images.dtype.startswith("float"))):
            return None
        return f"{self.name} takes no images as numbers, so that none can be fed as {kind}"

    def lack(self, form: str) -> str:
        """In one line, that the model has not this form, which forms it has, and why where that was written down."""
        why = (self.refused or {}).get(form, "")
        reason = f": {why}" if why else ""
        return f"model {self.name} has no {form} form, only {', '.join(self.forms or {}) or 'none'}{reason}"

    def path(self, name: Optional[str]) -> Path:
        """Absolute path of one of the file fields. Raises FileNotFoundError where the model lacks that form."""
        if name is None:
            raise FileNotFoundError(f"model {self.name} does not exist in this form")
        return self.root / name

    def form(self, name: str) -> Path:
        """Absolute path of a form by its name. Raises FileNotFoundError, naming those that there are, where it is missing."""
        forms = self.forms or {}
        if name not in forms:
            raise FileNotFoundError(self.lack(name))
        return self.root / forms[name]

    @classmethod
    def read(cls, root: Path) -> ModelFiles:
        """Reads `root/model.json`. Raises FileNotFoundError, or ValueError for a file that is not one."""
        try:
            return cls.of(root, json.loads((root / DESCRIPTION).read_text()))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{root / DESCRIPTION} is not a model description: {error!r}") from error

    @classmethod
    def of(cls, root: Path, values: Any) -> ModelFiles:
        """The model that a description's values describe. Raises KeyError, TypeError or ValueError for what describes none."""
        known = {
            name: values[name] if name in values or field.default is MISSING else field.default
            for name, field in cls.__dataclass_fields__.items()
            if name != "root"
        }
        fields = check(cls, known)
        fields["input_shape"] = tuple(fields["input_shape"])
        fields["notes"] = tuple(fields["notes"])
        fields["needs"] = tuple(fields["needs"])
        for name in ("inputs", "outputs"):
            if name in values and not values[name]:  # a description of before there could be several has no such field
                raise ValueError(f"its {name} are an empty list")
            fields[name] = tuple(Tensor.of(one) for one in fields[name])
        model = cls(root=root, **fields)
        own = (getattr(model, name) for name in MAIN_FORMS)
        for place in (model.reference, *own, *(model.forms or {}).values()):
            if place is not None and not is_within(place):
                raise ValueError(f"{place!r} is no file within the folder")
        return model

    def lacking(self) -> List[str]:
        """Files of this model, relative to root, that are not there or have another size than when it was exported."""
        forms = [form for form in (self.onnx, self.keras, self.saved_model, self.reference) if form is not None]
        lacking = [form for form in forms if not (self.root / form).exists()]
        try:
            listed = json.loads((self.root / DESCRIPTION).read_text()).get("files")
        except (OSError, ValueError, AttributeError):
            return [*lacking, DESCRIPTION]
        for name, facts in listed.items() if isinstance(listed, dict) else ():
            try:
                whole = is_within(name) and (
                    not isinstance(facts, dict) or (self.root / name).stat().st_size == facts.get("bytes")
                )
            except OSError:
                whole = False
            if not whole and name not in lacking:
                lacking.append(name)
        return lacking

    def describe(self) -> Dict[str, Any]:
        """What `model.json` holds of this (the exporter adds file hashes and versions beside it)."""
        values = asdict(self)
        del values["root"]
        return values
