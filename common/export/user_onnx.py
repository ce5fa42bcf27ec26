"""Takes a user's own ONNX file into data/models: checks what framewatt needs of it, and computes its reference outputs.

Runs where onnx and onnxruntime are installed (the ONNX Runtime image). The reference is ONNX Runtime on the CPU with graph
optimization off, one unit at a time, so that a batch is compared with single runs; of a small graph onnx's evaluator in float64.
"""

from __future__ import annotations

import json
import math
import platform
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

import numpy as np
import onnx
import onnxruntime

from common.errors import UserError
from common.export import axes, batching, double, given_values, onnx_reading, values
from common.export.batching import NoBatch
from common.export.born import Born
from common.export.inputs import REFERENCE_IMAGES, clearest
from common.export.network import Network, first_line
from common.export.onnx_graph import BATCH, lift_constants, node_counts, opset, real_inputs
from common.export.progress import Progress
from common.export.store import Digest, existing, file_sha256, publish, temporary_folder
from common.harness.parity import TOLERANCES, differing, judged_as
from common.harness.reference import archive
from common.model_files import ModelFiles, Tensor
from common.pixels import PixelValues

STEPS = 4
#: where float64 is not quick, see double.py
BY_ONNX_RUNTIME = (
    f"onnxruntime {onnxruntime.__version__} on the CPU without graph optimization, in the file's own types"
)
NOTE = "The model and its weights are the user's own ONNX file."
#: of one sample of an input: a batch of them has to fit into memory many times
MAX_INPUT_VALUES = 32 * 10**6
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

    def described(self) -> Dict[str, Any]:
        return {
            "shape": self.shape,
            "rebatch": self.rebatch,
            "inputs_sha256": file_sha256(self.inputs) if self.inputs is not None else "",
        }


def export(file: Path, out: Path, options: ExportOptions, progress: Progress) -> str:
    """Exports to `out/<name>-<hash>/` and returns that folder's name; nothing is written where it exists already.

    Constants become initializers, bound axes numbers, and the batch axis gets a name; the graph is otherwise left as it is.
    Raises UserError, naming file and tensor, for a file that is no ONNX model, axes that nobody bound, values that do not
    fit, or a graph that ONNX Runtime cannot run.
    """
    progress.step(f"{file.name}: read and check")
    arrays = given_values.read(options.inputs) if options.inputs is not None else None
    proto = onnx_reading.read(file)
    lift_constants(proto)
    before = {value.name: type(value).FromString(value.SerializeToString()) for value in proto.graph.input}
    bound = _bind(file, proto, options, arrays)
    with temporary_folder(out) as folder:
        onnx_reading.save(proto, folder / "model.onnx")
        network = Network(file, folder / "model.onnx", bound)
        progress.step("reference outputs")
        work = _Work(network, proto, options, arrays)
        optimized = network.optimized(folder / "model.onnx", work.inputs[0])
        if optimized is None:
            _open_again(proto, before, bound)
            onnx_reading.save(proto, folder / "model.onnx")
            work.notes.append("its axes stay open in the file: with fixed ones ONNX Runtime cannot optimize it")
        else:
            work.look_at_rounding(optimized)
        if network.dynamic:
            work.find_batch_axes()
        work.look_at_outputs()
        born = Born.read(options.born) if options.born is not None else None
        digest = _digest(proto, work, born, options)
        title = options.name or stem(file)
        if existing(out, title, digest):
            return f"{title}-{digest}"
        progress.step("ONNX file")
        _describe_shapes(proto, work)
        onnx_reading.save(proto, folder / "model.onnx")
        model = work.model(folder, title, digest)
        if born is not None:
            model = born.given_to(model, folder)
        exact = double.outputs(proto, work.inputs, work.outputs)
        np.savez(str(folder / "reference.npz"), **archive(model, work.inputs, exact or work.outputs))  # type: ignore[arg-type]
        progress.step("description")
        extra = _facts(file, proto, options, exact is not None)
        if born is not None:
            extra.update(born.described())
        return publish(folder, model, extra).name


def _digest(proto: Any, work: _Work, born: Optional[Born], options: ExportOptions) -> str:
    """Of the graph with its weights, the reference inputs and what else makes two exports different models."""
    digest = Digest()
    if born is not None:
        digest.text("module", born.digest())
    onnx_reading.add_to_digest(digest, proto)
    for unit in work.inputs:
        for name, array in unit.items():
            digest.array(name, np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array)
    if options.pixels.given:  # the same values, but a picture's classes may be claimed
        digest.text("pixels", json.dumps(options.pixels.described()))
    return digest.short()


def _facts(file: Path, proto: Any, options: ExportOptions, exact: bool) -> Dict[str, Any]:
    """What model.json says beside the model itself. exact: whether the reference was computed in float64."""
    return {
        "source": file.name,
        "source_sha256": file_sha256(file),
        "source_files": {name: file_sha256(file.parent / name) for name in onnx_reading.external_files(file)},
        "asked": options.described(),
        **options.pixels.described(),
        "reference_by": f"onnx {onnx.__version__}'s evaluator, float64" if exact else BY_ONNX_RUNTIME,
        "onnx_opset": opset(proto),
        "onnx_opsets": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        "onnx_ir_version": proto.ir_version,
        "onnx_nodes": len(proto.graph.node),
        "onnx_node_counts": node_counts(proto),
        "versions": {
            "python": platform.python_version(),
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
        },
    }


def stem(file: Path) -> str:
    """The model's name: the file's stem, safe in folder names and cell keys; letters of any script stay."""
    plain = unicodedata.normalize("NFC", file.stem).replace("_", "-")
    return re.sub(r"[^\w.-]+", "-", plain).strip("-.") or "model"


def _bind(file: Path, proto: Any, options: ExportOptions, arrays: Optional[Mapping[str, np.ndarray]]) -> axes.Bound:
    """Binds the axes and writes them into the graph."""
    inputs = real_inputs(proto)
    if not inputs:
        raise UserError(f"{file} takes no input: its outputs are constants, and nothing can be measured")
    for value in inputs:
        if not value.type.HasField("tensor_type"):
            raise UserError(
                f"{file}: input '{value.name}' is {value.type.WhichOneof('value')}, no tensor; it cannot be fed"
            )
    _give_shapes(file, inputs, options, arrays)
    known = {value.name: axes.axes_of(value) for value in inputs}
    if options.rebatch:
        sizes = [one[0] for one in known.values() if len(one) > 1]
        if not sizes or not isinstance(sizes[0], int):
            raise UserError(f"--rebatch is for a fixed batch; the batch of {file} is dynamic already")
        batching.make_dynamic(proto, sizes[0])
        known = {value.name: axes.axes_of(value) for value in inputs}
    if arrays is not None and options.inputs is not None:
        bound = given_values.bind(options.inputs, known, arrays, options.shape, str(file))
    else:
        bound = axes.bind(known, options.shape, str(file))
    for name, axis_sizes in bound.shapes.items():
        if math.prod(size or 1 for size in axis_sizes) > MAX_INPUT_VALUES:
            shape = ", ".join(str(size or "batch") for size in axis_sizes)
            raise UserError(
                f"{file}: input '{name}' ({shape}) has more than {MAX_INPUT_VALUES // 10**6} million values a sample"
            )
    for value in inputs:
        for dim, size in zip(value.type.tensor_type.shape.dim, bound.shapes[value.name]):
            dim.Clear()
            if size is None:
                dim.dim_param = BATCH
            else:
                dim.dim_value = size
    del proto.graph.value_info[:]  # it tells of the axes as they were
    return bound


def _give_shapes(
    file: Path, inputs: List[Any], options: ExportOptions, arrays: Optional[Mapping[str, np.ndarray]]
) -> None:
    """Gives an input of which the file tells no shape, not even how many axes, as many open ones as --shape or --inputs has."""
    shapes = axes.parse(options.shape) if options.shape else {}
    for value in inputs:
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            continue
        kind.shape.SetInParent()
        if value.name in shapes:
            count = len(shapes[value.name])
        elif arrays is not None and value.name in arrays:
            count = arrays[value.name].ndim
        else:
            raise UserError(
                f"{file} does not tell the shape of input '{value.name}'; say it: --shape '{value.name}=N,3,224,224' "
                "(N is the batch), or give values by --inputs"
            )
        for _ in range(count):
            kind.shape.dim.add()


def _open_again(proto: Any, before: Mapping[str, Any], bound: axes.Bound) -> None:
    """Gives the inputs the axes that the file had, but for the batch's name.

    A graph with branches for several lengths has no valid shape in those that are not taken, once the length is fixed.
    """
    for value in proto.graph.input:
        if value.name in bound.shapes:
            value.CopyFrom(before[value.name])
            for dim, size in zip(value.type.tensor_type.shape.dim, bound.shapes[value.name]):
                if size is None:
                    dim.Clear()
                    dim.dim_param = BATCH


class _Work:
    """Reference inputs and outputs of a network, unit by unit, and what is known of its outputs."""

    def __init__(
        self, network: Network, proto: Any, options: ExportOptions, arrays: Optional[Mapping[str, np.ndarray]]
    ) -> None:
        self._network, self._asked, self._proto = network, options, proto
        self.fixed = network.fixed
        self.notes: List[str] = list(network.left_out)
        given = {one.name: one for one in network.inputs}
        unit_size = self.fixed or 1
        if arrays is not None and options.inputs is not None:
            self.inputs = given_values.units_of(options.inputs, arrays, given, unit_size)
            self.notes.append(f"inputs: {options.inputs.name}, {len(self.inputs)} units")
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
            shapes = ", ".join(f"'{name}' {tuple(one.shape)}" for name, one in unit.items())
            raise UserError(
                f"{self._network.file}: ONNX Runtime cannot run it with {shapes}: {first_line(error)}{self._other_sizes()}"
            ) from error

    def _random_outputs(self) -> Set[str]:
        """Outputs that differ between two runs of one input: the graph draws random numbers, and nothing can be compared."""
        again = self._run(self.inputs[0])
        found = {name for name, one in self.outputs[0].items() if differing(again[name], one) > batching.CLOSE}
        self.notes += [
            f"output '{name}' is another one in every run, as the graph draws random numbers: it is not compared"
            for name in self._network.outputs
            if name in found
        ]
        return found

    def _other_sizes(self) -> str:
        """What to try where a graph does not run at these sizes; an axis 0 that was taken for the batch may be a length of audio."""
        words = "; another size of --shape may do" if any(one.open_axes for one in self._network.inputs) else ""
        batched = next((one for one in self._network.inputs if one.batch_axis == 0 and self.fixed is None), None)
        if batched is None or axes.BATCH_WORD in re.split("[=,]", self._asked.shape):
            return words
        sizes = ",".join(str(size) for size in (axes.LENGTH, *batched.shape[1:]))
        return (
            f"{words}; axis 0 of '{batched.name}' is taken for the batch, if it is none say its size, such as "
            f"--shape '{batched.name}={sizes}'"
        )

    def _is_classifier_of_images(self) -> bool:
        first = self._network.inputs[0]
        return len(self._network.inputs) == 1 and bool(values.image_layout(first)) and self.fixed is None

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
            if self._asked.rebatch:
                raise UserError(f"{network.file} cannot be made dynamic: {error}") from error
            self.fixed = 1
            self.batch_axes = {name: self._likely_axis(name) for name in network.outputs}
            self.notes.append(f"its batch axis is dynamic, but {error}; it is measured at batch 1")
            return
        for name, distance in distances.items():
            if not distance <= batching.CLOSE and name not in self.random:
                words = f"output '{name}' of a batch differs from that of single runs by {distance:.2g}"
                if self._asked.rebatch:
                    raise UserError(f"{network.file} cannot be made dynamic: {words}")
                self.notes.append(f"{words}: larger batches will not pass parity")
        if self._asked.rebatch and not any(axis is not None for axis in self.batch_axes.values()):
            raise UserError(f"{network.file} cannot be made dynamic: no output grows with the batch")

    def look_at_outputs(self) -> None:
        """Says which outputs tell nothing: the same for every input, NaN or infinite."""
        for name in self._network.outputs:
            units = [unit[name] for unit in self.outputs]
            if len(units) > 1 and all(np.array_equal(units[0], one, equal_nan=_is_float(one)) for one in units[1:]):
                self.notes.append(f"output '{name}' is the same for all {len(units)} inputs")
            if any(_is_float(one) and np.isnan(one).any() for one in units):
                self.notes.append(f"output '{name}' holds NaN for these inputs{self._advice()}")
            if any(_is_float(one) and np.isinf(one).any() for one in units):
                self.notes.append(f"output '{name}' is infinite for these inputs{self._advice()}")

    def look_at_rounding(self, optimized: Mapping[str, np.ndarray]) -> None:
        """Says which outputs another order of the same sums moves by more than parity allows, for the first input."""
        allowed = TOLERANCES[judged_as("fp32", onnx_reading.weights_dtype(self._proto))][1]
        for name, wanted in self.outputs[0].items():
            apart = differing(optimized[name], wanted)
            if not apart <= allowed and name not in self.random and "float" in wanted.dtype.name:
                self.notes.append(
                    f"output '{name}' differs by {apart:.2g} between ONNX Runtime with and without graph optimization: "
                    f"rounding alone may fail parity{self._advice()}"
                )

    def _advice(self) -> str:
        pictured = any(values.image_layout(one) for one in self._network.inputs)
        return (
            "; give the values that the model expects by --input-range, or --mean and --std"
            if pictured
            else "; give others by --inputs"
        )

    def model(self, folder: Path, title: str, digest: str) -> ModelFiles:
        first = self._network.inputs[0]
        layout = values.image_layout(first)
        inputs = tuple(Tensor(one.name, one.dtype, one.shape, one.batch_axis) for one in self._network.inputs)
        outputs = tuple(self._output(name) for name in self._network.outputs)
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
            item=_item(inputs, layout),
            weights_dtype=onnx_reading.weights_dtype(self._proto),
            born="the user's ONNX file",
            exporters={"onnx": "as it came"},
            notes=tuple(self.notes),
        )

    def _output(self, name: str) -> Tensor:
        units = [unit[name] for unit in self.outputs]
        shape = units[0].shape
        if any(one.ndim != units[0].ndim for one in units):
            shape = (-1,)
        else:
            shape = tuple(
                size if all(one.shape[axis] == size for one in units) else -1 for axis, size in enumerate(shape)
            )
        dtype = "str" if units[0].dtype.kind == "U" else units[0].dtype.name
        kind = "random" if name in self.random else "probabilities" if _are_probabilities(units) else "raw"
        return Tensor(name, dtype, shape, self.batch_axes[name], kind)


def _item(inputs: Tuple[Tensor, ...], layout: str) -> str:
    """What one sample is called: an image; a sequence where whole numbers come in a row; else a sample."""
    if layout:
        return "image"
    first = inputs[0]
    if first.dtype in ("int32", "int64") and len(first.shape) == 2:
        return "sequence"
    return "sample"


def _describe_shapes(proto: Any, work: _Work) -> None:
    """Writes the shapes of the outputs as they came out: those in the file spoke of axes as they were."""
    shapes = {tensor.name: tensor for tensor in (work._output(name) for name in work.batch_axes)}
    for value in proto.graph.output:
        tensor = shapes.get(value.name)
        if tensor is None:
            continue
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for axis, size in enumerate(tensor.shape):
            dim = shape.dim.add()
            if axis == tensor.batch_axis and work.fixed is None and size == 1:
                dim.dim_param = BATCH
            elif size >= 0 and not (axis == tensor.batch_axis and work.fixed is None):
                dim.dim_value = size


def _is_float(values: np.ndarray) -> bool:
    return values.dtype.kind == "f"


def _are_probabilities(units: List[np.ndarray]) -> bool:
    if units[0].dtype.kind != "f" or units[0].ndim != 2 or units[0].shape[1] < 2:
        return False
    outputs = np.concatenate(units).astype(np.float64)
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3))
