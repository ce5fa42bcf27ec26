"""Models born in PyTorch: `timm:NAME`, and `FILE.py:FUNCTION`, a function that returns a module and example inputs.

The exported model's folder keeps how to build one (`torch/build.json`) and its weights, so that a worker has the module itself and
not what became of it in another format. Built by the exporter and by PyTorch's adapter, which must come to the same.
Runs on Python 3.9 where torch is installed, for timm where timm is.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import json
import shutil
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from common.errors import EndedBySignal, UserError
from common.text import brief, first_line
from common.without_torchvision import import_timm

FORM = "torch"
BUILD, WEIGHTS, SOURCE = "build.json", "weights.pt", "module.py"
TIMM = "timm:"
#: packages that make up the exporter: what one version of them refuses another may take
EXPORTER = ("torch", "onnx", "onnxscript")
#: random weights are drawn with it
SEED = 20260101
#: of inputs and outputs, by torch's names: those that ONNX Runtime and numpy have too
TYPES = ("float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8")
#: that a message lists
MOST_NAMES = 20
#: names of timm, for a user who knows none
EXAMPLES = ("resnet50", "mobilenetv3_large_100", "vit_base_patch16_224")


@dataclass(frozen=True)
class Built:
    """module: in evaluation mode, on the CPU. inputs: name -> tensor, one batch, of a type that can be fed.

    values: mean and std of its pictures, as they would be typed; empty where they are not known. by_name: whether the module
    takes its inputs as keywords. changes_inputs: whether forward writes to them. outputs: what forward calls its outputs, empty
    where it gives them no names.
    """

    module: Any
    inputs: Dict[str, Any]
    origin: str
    weights: str
    note: str
    values: Mapping[str, str]
    by_name: bool = False
    changes_inputs: bool = False
    outputs: Tuple[str, ...] = ()


def split(text: str) -> Tuple[Path, str]:
    """File and function of FILE.py:FUNCTION. Raises UserError where no function is named."""
    path, colon, function = text.rpartition(":")
    if not colon or not path.endswith(".py") or not function.isidentifier():
        raise UserError(f"--model {text}: a Python file takes the function that builds the model, FILE.py:FUNCTION")
    return Path(path), function


def of_timm(name: str, weights: str) -> Built:
    """weights: imagenet (those that timm publishes), seeded, or auto: published ones where the hub is reached.

    Raises UserError where timm is not installed, has no such model, or published weights cannot be had.
    """
    import torch

    timm = _timm()
    _check_name(timm, name)
    module, note, origin = None, "", "seeded"
    if weights != "seeded":
        try:
            module, origin = timm.create_model(name, pretrained=True), "imagenet"
            note = f"Weights that timm publishes for {name}."
        except Exception as error:  # whatever the hub's client raises
            if weights == "imagenet":
                raise UserError(f"the weights of {name} cannot be had: {first_line(error)}") from error
    if module is None:
        module = _untrained(name)
        note = "Seeded random weights: speed and energy are those of the model, its outputs mean nothing."
    config = module.default_cfg
    if len(config.get("input_size") or ()) != 3:
        raise UserError(f"timm does not tell the size of the pictures that {name} takes")
    pictures = torch.rand(2, *config["input_size"], generator=torch.Generator().manual_seed(SEED))
    values = {part: ",".join(f"{one:g}" for one in config[part]) for part in ("mean", "std")}
    return Built(module.eval(), {"image": pictures}, f"timm {timm.__version__}, {name}", origin, note, values)


def of_file(file: Path, function: str) -> Built:
    """Raises UserError, in one line, for a file that raises, a function that is not there, or one that returns something else."""
    import torch

    module, examples = _call(file, function)
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError(f"{file.name}:{function} returns a module of torch.jit; return the module that it was made of")
    if isinstance(examples, torch.Tensor):
        examples = (examples,)
    if isinstance(examples, Mapping):
        inputs = dict(examples)
    elif isinstance(examples, (tuple, list)):
        inputs = dict(zip(_parameters(module, len(examples)), examples))
    else:
        raise UserError(
            f"{file.name}:{function} returns as example inputs {_kind(examples)}; tensors, or a tuple or dict of them"
        )
    for name, tensor in inputs.items():
        fault = fault_of(tensor, "fed", "leave module and inputs on the CPU, framewatt places them")
        if fault:
            raise UserError(f"{file.name}:{function}: example input '{brief(name)}' {fault}")
    if not inputs:
        raise UserError(f"{file.name}:{function} returns no example inputs")
    # as numpy can have them; copies, as the module may hold the same tensors and write to them
    inputs = {name: one.detach().resolve_neg().clone() for name, one in inputs.items()}
    with users_code(f"the module of {file.name}:{function} cannot be put into evaluation mode"):
        module = module.eval()
    note = f"The module is the user's own, of {file.name}:{function}; its weights are those that it returns."
    return Built(module, inputs, f"{file.name}:{function}", "user", note, {}, isinstance(examples, Mapping))


def save(built: Built, weights: Mapping[str, Any], text: str, folder: Path, copy: Path) -> None:
    """Writes `folder`: what `load` needs. weights: a state_dict; text: as typed; copy: the Python file, which stays as it is."""
    import torch

    folder.mkdir()
    build: Dict[str, Any] = {"inputs": list(built.inputs), "by_name": built.by_name}
    if built.changes_inputs:  # said only then: the model's hash is over this file
        build["changes_inputs"] = True
    if text.startswith(TIMM):
        build["timm"] = text[len(TIMM) :]
    else:
        build["function"] = split(text)[1]
        shutil.copyfile(copy, folder / SOURCE)
    (folder / BUILD).write_text(json.dumps(build) + "\n")
    torch.save(weights, folder / WEIGHTS)


def load(folder: Path) -> Any:
    """The module with its weights, outputs as a flat tuple. Raises UserError where it cannot be built here."""
    import torch

    build = json.loads((folder / BUILD).read_text())
    named = build.get("timm")
    module = _untrained(named) if named else _call(folder / SOURCE, build["function"])[0]
    with users_code("built a second time the module does not take its weights", whole=True):
        module.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
    with users_code("built a second time the module cannot be put into evaluation mode"):
        module = module.eval().requires_grad_(False)
    return flat(module, build["inputs"], build["by_name"], build.get("changes_inputs", False))


def flat(module: Any, names: List[str], by_name: bool, changes_inputs: bool = False) -> Any:
    """The module as one that takes its inputs in this order and returns a tensor or a tuple of tensors.

    changes_inputs: gives the module copies, so that what is fed stays the same from one inference to the next.
    """
    import torch
    from torch.utils import _pytree

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *values: Any) -> Any:
            if changes_inputs:
                values = tuple(one.clone() for one in values)
            made = self.module(**dict(zip(names, values))) if by_name else self.module(*values)
            if isinstance(made, torch.Tensor):
                return made
            return tuple(one for one in _pytree.tree_leaves(made) if isinstance(one, torch.Tensor))

    return Flat()


def names_of(made: Any) -> Tuple[str, ...]:
    """What a module that returns a dict, or an object with fields, calls its tensors, in the order of flat(); empty for any other.

    What lies deeper has the way to it as its name, `cache.0.keys`; names that are not told apart are none.
    """
    import torch
    from torch.utils import _pytree

    found = []
    for path, one in _pytree.tree_flatten_with_path(made)[0]:
        if isinstance(one, torch.Tensor):
            steps = [getattr(step, "key", getattr(step, "name", None)) for step in path]
            if not steps or steps[0] is None:
                return ()
            found.append(".".join(str(getattr(path[i], "idx", step)) for i, step in enumerate(steps)))
    usable = all(name.strip() and name.isprintable() for name in found)
    return tuple(found) if usable and len(set(found)) == len(found) else ()


@contextmanager
def users_code(what: str, whole: bool = False) -> Iterator[None]:
    """Whatever the user's code raises inside becomes a UserError in one line, SystemExit and kinds of its own included.

    what: begins the line. whole: with all lines of the error in one, rather than its kind and first line. Signals stay what they are.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if is_of_signal(error):
            raise
        words = " ".join(str(error).split())[:300] if whole else f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{what}: {words}") from error


def is_of_signal(error: BaseException) -> bool:
    """Whether it ends the process from outside rather than being the user's code's own.

    A KeyboardInterrupt of Python's own handler cannot be told from one that the code raises, and counts as the keyboard's.
    """
    own_handler = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    return isinstance(error, EndedBySignal) or (isinstance(error, KeyboardInterrupt) and not own_handler)


def fault_of(tensor: Any, use: str, place: str) -> str:
    """What keeps a value from being an input that can be fed, or an output that can be compared; "" for one that can.

    use: "fed" or "compared". place: what to do where it is on another device.
    """
    import torch

    if not isinstance(tensor, torch.Tensor):
        return f"is {_kind(tensor)}, no tensor"
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return f"is {'quantized' if tensor.is_quantized else str(tensor.layout).rpartition('.')[2]}, no plain tensor"
    if tensor.device.type != "cpu":
        return f"is on the device '{tensor.device}'; {place}"
    if str(tensor.dtype).rpartition(".")[2] not in TYPES:
        return f"is of {tensor.dtype}, which cannot be {use}; {', '.join(TYPES)} can"
    if not tensor.numel():
        return f"has no values: {tuple(tensor.shape)}"
    return ""


def _check_name(timm: Any, name: str) -> None:
    """Raises UserError, with names that exist, for one of no model of timm."""
    known = timm.list_models()
    architecture, _, tag = name.partition(".")
    if architecture not in known:
        near = difflib.get_close_matches(architecture.lower(), known, 3)
        words = f"did you mean {', '.join(near)}?" if near else f"it has {len(known)}, such as {', '.join(EXAMPLES)}"
        raise UserError(f"timm has no model '{brief(name)}'; {words}")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UserError(
            f"timm has no weights '{tag}' of {architecture}; there is {', '.join(filter(None, tags)) or 'none'}"
        )


def _untrained(name: str) -> Any:
    """That model of timm with random weights, the same in every process. Raises UserError where timm cannot build it."""
    import torch

    timm = _timm()
    torch.manual_seed(SEED)
    try:
        return timm.create_model(name, pretrained=False)
    except Exception as error:  # whatever a model's own code raises
        raise UserError(f"timm cannot build {name}: {type(error).__name__}: {first_line(error)}") from error


def _timm() -> Any:
    try:
        return import_timm()
    except ImportError as error:
        raise UserError(
            f"timm cannot be imported ({first_line(error)}); images/torch/requirements-timm.txt says what it needs"
        ) from error


def _call(file: Path, function: str) -> Tuple[Any, Any]:
    """Module and example inputs of the function of that file, the same in every process.

    The file alone is imported, its folder is not searched. Raises UserError for one that raises, or returns something else.
    """
    import torch

    torch.manual_seed(SEED)
    with users_code(f"{file.name} cannot be imported by itself"):
        spec = importlib.util.spec_from_file_location("framewatt_users_module", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickles look there
        spec.loader.exec_module(module)
    build = getattr(module, function, None)
    if not callable(build):
        there = [name for name, one in vars(module).items() if inspect.isfunction(one) and one.__module__ == spec.name]
        more = f" and {len(there) - MOST_NAMES} more" if len(there) > MOST_NAMES else ""
        raise UserError(
            f"{file.name} has no function {function}; it has {', '.join(there[:MOST_NAMES]) or 'none'}{more}"
        )
    with users_code(f"{file.name}:{function} fails"):
        made = build()
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], torch.nn.Module)):
        raise UserError(
            f"{file.name}:{function} returns no torch.nn.Module with example inputs beside it, but {_kind(made)}"
        )
    return made


def _parameters(module: Any, count: int) -> List[str]:
    """Names of the first parameters of `forward`; numbered where it takes any."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [one.name for one in parameters if one.kind in kinds][:count]
    return names if len(names) == count else [f"input_{number}" for number in range(count)]


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(one).__name__ for one in value[:4]) or 'nothing'}{', ...' if len(value) > 4 else ''}"
    return "nothing" if value is None else f"a {type(value).__name__}"
