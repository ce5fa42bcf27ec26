"""Reference inputs and outputs of a user's model, unit by unit, and what they tell of it: which axes are the batch, what is random.

Of an ONNX file in ONNX Runtime (user_onnx.py), or of a module that torch.onnx refuses, in PyTorch (refused_module.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from common.errors import UserError
from common.export import axes, batching, given_values, onnx_reading, values
from common.export.batching import NoBatch
from common.export.error_lines import words_of
from common.export.given import Given, image_layout
from common.export.inputs import REFERENCE_IMAGES, clearest
from common.harness.parity import TOLERANCES, beyond_figures, differing, judged_as
from common.model_files import ModelFiles, Tensor
from common.pixels import PixelValues
from common.text import brief

NOTE = "The model and its weights are the user's own ONNX file."
#: values of all units together; larger models get fewer units
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class ExportOptions:
    """What the user asked for beside the file. All of it is kept in model.json, so that another call finds the model."""

    pixels: PixelValues = field(default_factory=PixelValues)
    shape: str = ""
    rebatch: bool = False
    inputs: Optional[Path] = None
    #: the model's name, "" for the file's stem
    name: str = ""
    #: of a model born in PyTorch: the folder of its first half, see torch_onnx.py
    born: Optional[Path] = None

    def described(self, inputs_sha256: str) -> Dict[str, Any]:
        """inputs_sha256: of the file of inputs as it was read, "" without one."""
        return {"shape": self.shape, "rebatch": self.rebatch, "inputs_sha256": inputs_sha256}


class Network(ABC):
    """A network that runs here, one unit or a batch of them at a time.

    file: for messages; by: what runs it, in words; fixed: its batch size, None where it is dynamic; left_out: a line for each output
    that is not read; in_single: it runs in float64 here, and frameworks get it in float32.
    """

    file: Path
    by: str
    fixed: Optional[int]
    bound: axes.Bound
    inputs: List[Given]
    outputs: List[str]
    left_out: Sequence[str] = ()
    in_single: bool = False

    def measured_as(self, dtype: str) -> str:
        """The type that a tensor of this one has for frameworks."""
        return "float32" if self.in_single and dtype == "float64" else dtype

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Outputs by name. Raises whatever the library raises that runs it."""


class Work:
    """Reference inputs and outputs of a network, unit by unit, and what is known of its outputs."""

    def __init__(
        self, network: Network, proto: Any, options: ExportOptions, arrays: Optional[Mapping[str, np.ndarray]]
    ) -> None:
        self._network, self._options, self._proto = network, options, proto
        if options.pixels.given and not any(image_layout(one) for one in network.inputs):
            raise UserError(
                f"{network.file} takes no picture, which --input-range, --mean and --std are for: of four axes, the batch first, with "
                "1 or 3 channels and at least 8 pixels a side; leave them out"
            )
        self.fixed = network.fixed
        self.refused_batch = ""
        self.notes: List[str] = list(network.left_out)
        given = {one.name: one for one in network.inputs}
        unit_size = self.fixed or 1
        if arrays is not None and options.inputs is not None:
            self.inputs = given_values.units_of(options.inputs, arrays, given, unit_size)
            what, many = (
                ("sample", "samples") if unit_size == 1 else (f"batch of {unit_size}", f"batches of {unit_size}")
            )
            count = len(self.inputs)
            of_module = options.born is not None
            self.notes.append(
                f"inputs: the {count} {what if count == 1 else many} of {'its example inputs' if of_module else options.inputs.name}"
            )
        else:
            size = sum(int(np.prod(one.shape)) * 8 for one in network.inputs)
            count = max(1, min(-(-REFERENCE_IMAGES // unit_size), _MOST_BYTES // max(size, 1)))
            candidates = 2 * count if self._is_classifier_of_images() else count
            self.inputs, words = values.draw(proto, network.inputs, candidates, options.pixels)
            self.notes += words
        self.outputs = [self._run(unit) for unit in self.inputs]
        self.random = self._random_outputs()
        if arrays is None and self._is_classifier_of_images():
            self._keep_clearest()
        self.batch_axes: Dict[str, Optional[int]] = {name: self._likely_axis(name) for name in network.outputs}

    def _run(self, unit: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        try:
            return self._network.run(unit)
        except Exception as error:
            words = words_of(error)
            if self._options.rebatch:
                raise UserError(
                    f"{self._network.file} cannot be made dynamic: a batch of 1 fails: {words}; leave --rebatch out to measure it at "
                    "its own batch"
                ) from error
            given = self._options.inputs if self._options.born is None else None
            shapes = ", ".join(f"'{brief(name)}' {_told(one, given is not None)}" for name, one in unit.items())
            source, advice = (f" of {given}", "") if given is not None else ("", self._other_sizes())
            raise UserError(
                f"{self._network.file}: {self._network.by} cannot run it with {shapes}{source}: {words}{advice}"
            ) from error

    def _random_outputs(self) -> Set[str]:
        """Outputs that differ between two runs of one input: the graph draws random numbers, and nothing can be compared."""
        again = self._run(self.inputs[0])
        found = {name for name, one in self.outputs[0].items() if differing(again[name], one) > batching.CLOSE}
        self.notes += [
            f"output '{brief(name)}' is another one in every run, as the graph draws random numbers: it is not compared"
            for name in self._network.outputs
            if name in found
        ]
        return found

    def _other_sizes(self) -> str:
        """What to try where a graph does not run at these sizes; an axis 0 that was taken for the batch may be a length of audio."""
        words = "; another size of --shape may do" if any(one.open_axes for one in self._network.inputs) else ""
        batched = next((one for one in self._network.inputs if one.batch_axis == 0 and self.fixed is None), None)
        if batched is None or self._network.bound.is_said or image_layout(batched) or len(batched.shape) == 4:
            return words
        line = axes.parse(self._options.shape) if self._options.shape else {}
        line[batched.name] = [str(size) for size in (axes.LENGTH, *batched.shape[1:])]
        return (
            f"{words}; axis 0 of '{brief(batched.name)}' is taken for the batch, if it is none say its size, such as "
            f"--shape '{axes.line_of(line)}'"
        )

    def _is_classifier_of_images(self) -> bool:
        first = self._network.inputs[0]
        return len(self._network.inputs) == 1 and bool(image_layout(first)) and self.fixed is None

    def _keep_clearest(self) -> None:
        first = [unit[self._network.outputs[0]] for unit in self.outputs]
        count = len(self.inputs) // 2
        usable = first[0].ndim == 2 and first[0].dtype.kind == "f" and first[0].shape[1] > 1 and len(first[0]) == 1
        together = np.concatenate(first) if usable else np.empty(0)
        chosen = clearest(together, count) if usable and np.isfinite(together).all() else list(range(count))
        self.inputs = [self.inputs[number] for number in chosen]
        self.outputs = [self.outputs[number] for number in chosen]

    def _likely_axis(self, name: str) -> Optional[int]:
        """Of a model whose batch is fixed: by its name where the inputs' has one, else 0, else an input's, where it has that size."""
        shape = self.outputs[0][name].shape
        if self._network.bound.named:
            declared = next(axes.axes_of(value) for value in self._proto.graph.output if value.name == name)
            return axes.output_axis(declared, shape, self._network.bound)
        others = [one.batch_axis for one in self._network.inputs if one.batch_axis is not None]
        likely = [axis for axis in (0, *others) if axis < len(shape) and shape[axis] == self.fixed]
        return likely[0] if likely else None

    def find_batch_axes(self) -> None:
        """Runs small batches. Where the graph refuses them its batch is one, which is said; with --rebatch it is an error."""
        network = self._network
        try:
            self.batch_axes, distances = batching.output_axes(network.run, network.inputs, self.inputs, self.outputs)
        except NoBatch as error:
            if self._options.rebatch:
                raise UserError(f"{network.file} cannot be made dynamic: {error}") from error
            self.fixed = 1
            self.refused_batch = str(error)
            self.batch_axes = {name: self._likely_axis(name) for name in network.outputs}
            self.notes.append(f"its batch axis is dynamic, but {error}; it is measured at batch 1")
            return
        for name, distance in distances.items():
            if not distance <= batching.CLOSE and name not in self.random:
                by = f"by {distance:.2g}" if np.isfinite(distance) else "altogether"
                words = f"output '{brief(name)}' of a batch differs from that of single runs {by}"
                if self._options.rebatch:
                    raise UserError(f"{network.file} cannot be made dynamic: {words}")
                self.notes.append(f"{words}: larger batches will not pass parity")
        if self._options.rebatch and not any(axis is not None for axis in self.batch_axes.values()):
            raise UserError(f"{network.file} cannot be made dynamic: no output grows with the batch")

    def look_at_outputs(self) -> None:
        """Says which outputs tell nothing: empty, the same for every input, NaN or infinite."""
        for name in self._network.outputs:
            units = [unit[name] for unit in self.outputs]
            if not any(one.size for one in units):
                self.notes.append(
                    f"output '{brief(name)}' is empty for these inputs, so that nothing of it is compared{self._advice()}"
                )
            elif len(units) > 1 and all(np.array_equal(units[0], one, equal_nan=_is_float(one)) for one in units[1:]):
                self.notes.append(f"output '{brief(name)}' is the same for all {len(units)} inputs")
            if any(_is_float(one) and np.isnan(one).any() for one in units):
                self.notes.append(f"output '{brief(name)}' holds NaN for these inputs{self._advice()}")
            if any(_is_float(one) and np.isinf(one).any() for one in units):
                self.notes.append(f"output '{brief(name)}' is infinite for these inputs{self._advice()}")

    def look_at_rounding(self, optimized: Mapping[str, np.ndarray]) -> None:
        """Says which outputs float32 or another order of the same sums moves by more than parity allows, for the first input.

        Whole numbers and truth values, too, of a file in float64: float32 has fewer digits than what was counted in float64.
        """
        in_single = self._network.in_single
        between = "float64 and float32" if in_single else "ONNX Runtime with and without graph optimization"
        allowed = TOLERANCES[judged_as("fp32", onnx_reading.weights_dtype(self._proto))][1]
        for name, wanted in self.outputs[0].items():
            got, is_float = optimized[name], "float" in wanted.dtype.name
            apart = differing(got, wanted)
            if apart <= allowed or name in self.random or not (is_float or in_single):
                continue
            told = f"output '{brief(name)}' "
            if np.isfinite(apart):
                by = f"differs by {apart:.2g}" if is_float else f"differs in {apart:.2g} of its values"
                told += f"{by} between {between}: rounding alone may fail parity"
            else:
                words = (
                    beyond_figures(got.reshape(1, -1), wanted.reshape(1, -1))
                    if got.size == wanted.size
                    else f"has the shape {tuple(got.shape)}, the reference {tuple(wanted.shape)}"
                )
                told += f"{'in float32' if in_single else 'with graph optimization'} {words}: it may fail parity"
            self.notes.append(f"{told}{self._advice()}")

    def _advice(self) -> str:
        pictured = any(image_layout(one) for one in self._network.inputs)
        return (
            "; give the values that the model expects by --input-range, or --mean and --std"
            if pictured
            else "; give others by --inputs"
        )

    def model(self, folder: Path, title: str, digest: str) -> ModelFiles:
        first = self._network.inputs[0]
        layout = image_layout(first)
        inputs = tuple(Tensor(one.name, one.dtype, one.shape, one.batch_axis) for one in self._network.inputs)
        outputs = tuple(self.output(name) for name in self._network.outputs)
        per_sample = tuple(size for axis, size in enumerate(first.shape) if axis != first.batch_axis)
        made = outputs[0]
        return ModelFiles(
            root=folder,
            name=title,
            hash=digest,
            onnx="model.onnx",
            keras=None,
            saved_model=None,
            reference="reference.npz",
            input_shape=per_sample,
            layout=layout,
            onnx_input=first.name,
            onnx_output=made.name,
            output_kind=made.kind,
            classes=made.shape[1] if len(made.shape) == 2 and made.batch_axis == 0 else 0,
            weights="user",
            weights_note=NOTE,
            inputs=inputs,
            outputs=outputs,
            fixed_batch=self.fixed,
            refused_batch=self.refused_batch,
            item=item_of(inputs, layout),
            weights_dtype=onnx_reading.weights_dtype(self._proto),
            born="the user's ONNX file",
            exporters={"onnx": "as it came"},
            notes=tuple(self.notes),
        )

    def output(self, name: str) -> Tensor:
        units = [unit[name] for unit in self.outputs]
        shape, axis = units[0].shape, self.batch_axes[name]
        if any(one.ndim != units[0].ndim for one in units):
            shape, axis = (-1,), 0 if axis == 0 else None  # another one lies elsewhere among more or fewer axes
        else:
            shape = tuple(
                size if all(one.shape[axis] == size for one in units) else -1 for axis, size in enumerate(shape)
            )
        dtype = "str" if units[0].dtype.kind == "U" else self._network.measured_as(units[0].dtype.name)
        kind = "random" if name in self.random else "probabilities" if _are_probabilities(units) else "raw"
        return Tensor(name, dtype, shape, axis, kind)


def item_of(inputs: Tuple[Tensor, ...], layout: str) -> str:
    """What one sample is called: an image; a sequence where whole numbers come in a row; else a sample."""
    if layout:
        return "image"
    first = inputs[0]
    if first.dtype in ("int32", "int64") and len(first.shape) == 2:
        return "sequence"
    return "sample"


def _told(one: np.ndarray, with_values: bool) -> str:
    """Shape of an input, and of the user's own whole numbers the range: an index may lie beyond a table."""
    shape = str(tuple(one.shape))
    if not with_values or one.dtype.kind not in "iu" or not one.size:
        return shape
    least, most = one.min(), one.max()
    return f"{shape} [{'all' if least == most else f'{least} to'} {most}]"


def _is_float(values: np.ndarray) -> bool:
    return values.dtype.kind == "f"


def _are_probabilities(units: List[np.ndarray]) -> bool:
    if units[0].dtype.kind != "f" or units[0].ndim != 2 or units[0].shape[1] < 2:
        return False
    outputs = np.concatenate(units).astype(np.float64)
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3))
