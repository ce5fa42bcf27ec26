"""An ONNX file as a torch module: onnx2torch, with what it lacks mended before and after."""

from __future__ import annotations

import json
import sys
import types
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from common import onnx_known_values, onnx_rewrites, onnx_spelling
from common.harness.adapter import Unsupported
from common.text import first_line
from images.torch import padding

#: of a setting: onnx2torch alone does it
NONE = "none"
#: operators and versions whose converters are those of converters.py
_ADDED: Set[Tuple[str, int]] = set()


#: operators for which onnx2torch calls torchvision
_OF_TORCHVISION = ("NonMaxSuppression", "RoiAlign")
#: attribute of an imported operator's module: which operator it is, in words
OPERATOR = "framewatt_operator"
#: likewise: names in the file of the tensors that it takes; and name and shape of those of its node that are constants
TAKEN, CONSTANTS = "framewatt_taken", "framewatt_constants"
#: attribute of the module that holds constants for others: name here -> name in the file
NAMES = "framewatt_names"


class Imported(NamedTuple):
    """A module with the names of what it takes and of what it returns, in order.

    computes_sizes: whether it reads shapes of tensors while it runs; with the sizes of its inputs given it may not have to.
    folded: how many operators of the file are in the weights of a convolution now. sizes: of its inputs, where they are fixed.
    """

    module: Any
    settings: Dict[str, str]
    inputs: List[str]
    outputs: List[str]
    computes_sizes: bool = False
    folded: int = 0
    sizes: Optional[Mapping[str, Sequence[int]]] = None


def load(path: Path, sizes: Optional[Mapping[str, Sequence[int]]] = None, fold: bool = True) -> Imported:
    """The model as a torch.fx.GraphModule in evaluation mode on the CPU, and what was rewritten.

    sizes: input -> shape, for a module that takes inputs of these shapes alone. fold: whether scales, shifts and batch
    normalisations go into the convolutions before them, as torch.nn.utils.fusion does it; a tutorial does not.

    The graph is traced by torch.compile and captured by CUDA graphs, so nothing in it may read a tensor's values on the
    host: shapes and paddings that are constants become plain numbers. Raises Unsupported, naming operator and version,
    for a model that onnx2torch does not know how to convert.
    """
    model = _read(path)
    onnx2torch = import_onnx2torch(any(node.op_type in _OF_TORCHVISION for node in model.graph.node))
    import onnx

    from images.torch import plain_numbers  # needs torch, which this module must do without

    if sizes is not None:
        onnx_known_values.fix_sizes(model, sizes)
    lifted = onnx_rewrites.lift_constants(model)
    spelt = onnx_spelling.spell_plainly(model)
    settled = onnx_known_values.settle(model)
    left = onnx_known_values.computes_sizes(model)
    _refuse_unknown_operators(model)
    computed = onnx_rewrites.fold_constants(model)
    # in this order: a hard-swish begins with an addition that could be folded into the convolution before it
    fused = onnx_rewrites.fuse_hard_swish(model)
    folded = onnx_rewrites.fold_scale_and_shift(model) if fold else 0
    normalised = onnx_rewrites.fold_batch_normalisation(model) if fold else 0
    padded = padding.spell_out_padding(model)
    names = _names(model)  # before an output that no node makes gets another name inside
    apart = onnx_rewrites.give_outputs_nodes_of_their_own(model)
    # some converters must know the rank of what comes in, which onnx2torch's own inference of shapes does not always find
    with suppress(Exception):
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    added = _converters_added(model)
    module, replaced_converters = _converted(onnx2torch, model)
    replaced = plain_numbers.use_plain_numbers(module)
    rewrites = ", ".join(
        [
            f"{lifted} constants lifted",
            f"{computed} computed in advance",
            *(
                [f"{folded} scales and shifts and {normalised} batch normalisations folded into convolutions"]
                if fold
                else []
            ),
            f"{fused} hard-swish and hard-sigmoid as PyTorch has them",
            f"{apart} outputs told apart",
            f"{spelt} nodes spelt plainly",
            f"{settled} sizes and branches settled",
            f"{padded} paddings written out",
        ]
    )
    settings = {"model": rewrites, "converters": ", ".join(added) or NONE, "plain_numbers": ", ".join(replaced) or NONE}
    if replaced_converters:
        settings["converters_replaced"] = ", ".join(sorted(replaced_converters))
    if sizes is not None:
        settings["sizes_fixed"] = json.dumps({name: list(shape) for name, shape in sizes.items()})
    return Imported(module.eval().requires_grad_(False), settings, *names, left, folded + normalised, sizes)


def _names(model: Any) -> Tuple[List[str], List[str]]:
    """Of what a caller feeds, and of what comes out."""
    constants = {tensor.name for tensor in model.graph.initializer}
    given = [value.name for value in model.graph.input if value.name not in constants]
    return given, [value.name for value in model.graph.output]


def _converted(onnx2torch: Any, model: Any) -> Tuple[Any, Set[str]]:
    """The module, and the operators whose converter of onnx2torch could not do it, and ours did. Raises Unsupported."""
    replaced: Set[str] = set()
    try:
        with _operators_named(replaced):
            module = onnx2torch.convert(model)
        _name_constants(module)
        return module, replaced
    except Unsupported:
        raise
    except Exception as error:
        raise Unsupported(f"onnx2torch cannot convert this model: {first_line(error)}") from error


def _name_constants(module: Any) -> None:
    """Writes down which constant of the file each is that the graph fetches for its modules; onnx2torch numbers them."""
    names: Dict[str, str] = {}
    for node in module.graph.nodes:
        if node.op == "call_module":
            taken = getattr(module.get_submodule(node.target), TAKEN, ())
            for given, name in zip([*node.args, *node.kwargs.values()], taken):
                if given.op == "get_attr":
                    names[given.target] = name
    for holder in {name.rpartition(".")[0] for name in names}:
        setattr(module.get_submodule(holder), NAMES, names)


def _read(path: Path) -> Any:
    import onnx

    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf raises its own kinds
        raise Unsupported(f"not a readable ONNX file: {first_line(error)}") from error


def computes_sizes(path: Path) -> bool:
    """Whether the model reads shapes of tensors while it runs, as it is without sizes of its inputs."""
    model = _read(path)
    onnx_spelling.spell_plainly(model)
    onnx_known_values.settle(model)
    return onnx_known_values.computes_sizes(model)


def _operators(model: Any) -> Dict[Tuple[str, str, int], str]:
    """(domain, operator, version) of all nodes -> its name for people. The version is that in which it last changed."""
    import onnx

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    found = {}
    for node in model.graph.node:
        version = opsets.get(node.domain, 1)
        try:
            schema = onnx.defs.get_schema(node.op_type, domain=node.domain, max_inclusive_version=version)
            version = schema.since_version
        except (RuntimeError, onnx.defs.SchemaError):
            pass  # an operator that the package onnx does not know either: the number of its set
        found[node.domain, node.op_type, version] = f"{node.domain}.{node.op_type}-{version}".lstrip(".")
    return found


def _refuse_unknown_operators(model: Any) -> None:
    """Raises Unsupported that names every operator, with its version, for which there is no converter, or no torchvision."""
    from onnx2torch.node_converters.registry import get_converter  # type: ignore[import-not-found]

    unknown, waiting = [], []
    for (domain, operator, version), name in _operators(model).items():
        try:
            get_converter(operation_type=operator, version=version, domain=domain)
        except NotImplementedError:
            unknown.append(name)
        if (
            operator in _OF_TORCHVISION and not domain and "torchvision" not in sys.modules
        ):  # imported before, where it can be
            waiting.append(name)
    if unknown:
        raise Unsupported(f"onnx2torch has no converter for {', '.join(unknown)}")
    if waiting:
        needs = "needs" if len(waiting) == 1 else "need"
        raise Unsupported(f"{' and '.join(sorted(waiting))} {needs} torchvision, which cannot be imported")


def _converters_added(model: Any) -> List[str]:
    """Operators of the model, with their versions, whose converters are not onnx2torch's but those of converters.py."""
    return sorted(name for (domain, *key), name in _operators(model).items() if not domain and tuple(key) in _ADDED)


@contextmanager
def _operators_named(replaced: Set[str]) -> Iterator[None]:
    """Within the block a converter that fails raises Unsupported with its operator, version and node.

    replaced: gets the operators that onnx2torch's own converter could not do, and ours did.
    """
    from onnx2torch import converter as module  # type: ignore[import-not-found]

    from images.torch import converters

    original = module.get_converter

    def get_converter(operation_type: str, version: int, domain: str = "") -> Any:
        convert = original(operation_type=operation_type, version=version, domain=domain)

        def named(node: Any, graph: Any) -> Any:
            try:
                made = convert(node, graph)
                setattr(made.torch_module, OPERATOR, f"{operation_type} of opset {version}")
                setattr(made.torch_module, TAKEN, [name for name in made.onnx_mapping.inputs if name])
                known = [(name, graph.initializers.get(name)) for name in node.input_values]
                setattr(made.torch_module, CONSTANTS, [(name, list(one.proto.dims)) for name, one in known if one])
                ours = convert is converters.REPLACED.get(operation_type, ((), None))[1]
                if ours and isinstance(made.torch_module, converters.Call):
                    replaced.add(operation_type)
                return made
            except Exception as error:
                where = f" (node '{node.name}')" if node.name else ""
                what = f"{operation_type} of opset {version}{where}"
                raise Unsupported(f"onnx2torch cannot convert {what}: {first_line(error)}") from error

        return named

    module.get_converter = get_converter
    try:
        yield
    finally:
        module.get_converter = original


def import_onnx2torch(detects: bool = False) -> Any:
    """onnx2torch without torchvision, unless the model detects: has an operator that is computed by torchvision.

    onnx2torch imports torchvision for these two operators, and that takes as long as importing torch does (it brings
    torch._dynamo along). Functions that import it when they are called stand in its place.
    """
    if detects:
        with suppress(ImportError, RuntimeError):  # torchvision of another build than torch's raises the latter
            import torchvision  # type: ignore[import-not-found]  # noqa: F401
    if "torchvision" in sys.modules:
        return _onnx2torch()
    vision, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    for name in ("nms", "box_convert", "roi_align"):
        setattr(ops, name, _of_torchvision(name))
    vision.ops = ops  # type: ignore[attr-defined]
    sys.modules.update({"torchvision": vision, "torchvision.ops": ops})
    try:
        return _onnx2torch()
    finally:  # nobody else must take this for the real one
        del sys.modules["torchvision"], sys.modules["torchvision.ops"]


def _of_torchvision(name: str) -> Callable[..., Any]:
    """A function of torchvision.ops, imported when it is called. Raises Unsupported then where that fails."""

    def call(*values: Any, **named: Any) -> Any:
        try:
            from torchvision import ops
        except (ImportError, RuntimeError) as error:
            raise Unsupported(f"{name} of torchvision cannot be imported: {first_line(error)}") from error
        return getattr(ops, name)(*values, **named)

    return call


def _onnx2torch() -> Any:
    try:
        import onnx2torch  # type: ignore[import-not-found]
    except ImportError as error:
        raise Unsupported(f"onnx2torch cannot be imported: {first_line(error)}") from error
    from images.torch import converters  # needs torch and onnx2torch, which this module must do without

    _ADDED.update(converters.register_converters())
    return onnx2torch
