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
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from common.errors import UserError
from common.without_torchvision import import_timm

FORM = "torch"
BUILD, WEIGHTS, SOURCE = "build.json", "weights.pt", "module.py"
TIMM = "timm:"
#: random weights are drawn with it
SEED = 20260101


@dataclass(frozen=True)
class Built:
    """module: in evaluation mode on the CPU. inputs: name -> tensor, one batch.

    values: mean and std of its pictures, as they would be typed; empty where they are not known. by_name: whether the module
    takes its inputs as keywords.
    """

    module: Any
    inputs: Dict[str, Any]
    origin: str
    weights: str
    note: str
    values: Mapping[str, str]
    by_name: bool = False


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
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        near = difflib.get_close_matches(name, known, 3)
        raise UserError(f"timm has no model '{name}'{f'; did you mean {chr(32).join(near)}?' if near else ''}")
    module, note, origin = None, "", "seeded"
    if weights != "seeded":
        try:
            module, origin = timm.create_model(name, pretrained=True), "imagenet"
            note = f"Weights that timm publishes for {name}."
        except Exception as error:  # whatever the hub's client raises
            if weights == "imagenet":
                raise UserError(f"the weights of {name} cannot be had: {_first_line(error)}") from error
    if module is None:
        torch.manual_seed(SEED)
        module = timm.create_model(name, pretrained=False)
        note = "Seeded random weights: speed and energy are those of the model, its outputs mean nothing."
    config = module.default_cfg
    pictures = torch.rand(2, *config["input_size"], generator=torch.Generator().manual_seed(SEED))
    values = {part: ",".join(f"{one:g}" for one in config[part]) for part in ("mean", "std")}
    return Built(module.eval(), {"image": pictures}, f"timm {timm.__version__}, {name}", origin, note, values)


def of_file(file: Path, function: str) -> Built:
    """Raises UserError, in one line, for a file that raises, a function that is not there, or one that returns something else."""
    import torch

    torch.manual_seed(SEED)
    made = _call(file, function)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], torch.nn.Module)):
        raise UserError(
            f"{file.name}:{function} returns no torch.nn.Module with example inputs beside it, but {_kind(made)}"
        )
    module, examples = made
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
        if not isinstance(tensor, torch.Tensor):
            raise UserError(f"{file.name}:{function}: example input '{name}' is {_kind(tensor)}, no tensor")
    if not inputs:
        raise UserError(f"{file.name}:{function} returns no example inputs")
    note = f"The module is the user's own, of {file.name}:{function}; its weights are those that it returns."
    return Built(module.eval(), inputs, f"{file.name}:{function}", "user", note, {}, isinstance(examples, Mapping))


def save(built: Built, text: str, folder: Path, copy: Path) -> None:
    """Writes `folder`: what `load` needs. text: as typed; copy: the Python file, which stays as it is."""
    import torch

    folder.mkdir()
    build: Dict[str, Any] = {"inputs": list(built.inputs), "by_name": built.by_name}
    if text.startswith(TIMM):
        build["timm"] = text[len(TIMM) :]
    else:
        build["function"] = split(text)[1]
        shutil.copyfile(copy, folder / SOURCE)
    (folder / BUILD).write_text(json.dumps(build) + "\n")
    torch.save(built.module.state_dict(), folder / WEIGHTS)


def load(folder: Path) -> Any:
    """The module with its weights, outputs as a flat tuple. Raises UserError where it cannot be built here."""
    import torch

    build = json.loads((folder / BUILD).read_text())
    named = build.get("timm")
    module = _timm().create_model(named, pretrained=False) if named else _call(folder / SOURCE, build["function"])[0]
    module.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
    return flat(module.eval().requires_grad_(False), build["inputs"], build["by_name"])


def flat(module: Any, names: List[str], by_name: bool) -> Any:
    """The module as one that takes its inputs in this order and returns a tensor or a tuple of tensors."""
    import torch
    from torch.utils import _pytree

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *values: Any) -> Any:
            made = self.module(**dict(zip(names, values))) if by_name else self.module(*values)
            if isinstance(made, torch.Tensor):
                return made
            return tuple(one for one in _pytree.tree_leaves(made) if isinstance(one, torch.Tensor))

    return Flat()


def _timm() -> Any:
    try:
        return import_timm()
    except ImportError as error:
        raise UserError(
            f"timm cannot be imported ({_first_line(error)}); images/torch/requirements-timm.txt says what it needs"
        ) from error


def _call(file: Path, function: str) -> Any:
    """What the function of that file returns; the file alone is imported, its folder is not searched."""
    try:
        spec = importlib.util.spec_from_file_location("framewatt_users_module", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickles look there
        spec.loader.exec_module(module)
    except BaseException as error:  # the user's code may raise anything, SystemExit and kinds of its own included
        raise UserError(
            f"{file.name} cannot be imported by itself: {type(error).__name__}: {_first_line(error)}"
        ) from error
    build = getattr(module, function, None)
    if not callable(build):
        there = [name for name, one in vars(module).items() if inspect.isfunction(one) and one.__module__ == spec.name]
        raise UserError(f"{file.name} has no function {function}; it has {', '.join(there) or 'none'}")
    try:
        return build()
    except BaseException as error:  # the user's code may raise anything, SystemExit and kinds of its own included
        raise UserError(f"{file.name}:{function} raises {type(error).__name__}: {_first_line(error)}") from error


def _parameters(module: Any, count: int) -> List[str]:
    """Names of the first parameters of `forward`; numbered where it takes any."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [one.name for one in parameters if one.kind in kinds][:count]
    return names if len(names) == count else [f"input_{number}" for number in range(count)]


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
