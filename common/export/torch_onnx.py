"""The first half of the export of a model born in PyTorch, in PyTorch's environment: the module to ONNX by torch.onnx.

What it leaves is a folder for the second half (user_onnx.py, in ONNX Runtime's environment), which computes the reference outputs
as for any ONNX file: `model.onnx`, `torch/` (common/torch_modules.py), `inputs.npz` of a user's own module, and `born.json`. Of a
module that torch.onnx cannot export it leaves `reference.npz` instead of the ONNX file (refused_module.py).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import warnings
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import onnx

from common import torch_modules
from common.errors import UserError, causes
from common.export import floats, module_checks, refused_module
from common.export.progress import Progress
from common.export.store import changed, file_sha256
from common.harness.memory import names_out_of_memory
from common.held_folders import held_folder, remove_abandoned
from common.pixels import PixelValues
from common.pixels import parse as pixel_values
from common.text import first_line
from common.torch_modules import Built

STEPS = 3
BORN, ONNX, INPUTS = "born.json", "model.onnx", "inputs.npz"
#: of weights: more go into a file beside the ONNX file, whose one message has a limit
INLINE_BYTES = 2**31 - 2**27
#: axis 0 of every input that has as many as the first
_BATCH = "batch"
#: of a node, the lines of Python that it comes from: with paths of this machine, by which the same model would differ
_TRACE = "pkg.torch.onnx.stack_trace"
#: errors of files that say nothing about whose file it was: the disk is full or read-only, too many files are open
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)


def export(text: str, out: Path, weights: str, pixels: PixelValues, progress: Progress) -> str:
    """Makes the folder within `out` and returns its name. Raises UserError for what cannot be built.

    pixels: of the pictures of a module that cannot be exported, where the user gave them; else the module's own are.
    """
    progress.step(f"{text}: build")
    file, sha256 = Path(), ""
    if text.startswith(torch_modules.TIMM):
        built = torch_modules.of_timm(text[len(torch_modules.TIMM) :], weights)
    else:
        file, function = torch_modules.split(text)
        with suppress(OSError):  # of_file says what is wrong with it
            sha256 = file_sha256(file)
        built = torch_modules.of_file(file, function)
    out.mkdir(parents=True, exist_ok=True)
    remove_abandoned(out)
    with held_folder(out) as folder:
        try:
            _fill(folder, built, text, file, sha256, pixels, progress)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder.name


def _fill(
    folder: Path, built: Built, text: str, file: Path, sha256: str, pixels: PixelValues, progress: Progress
) -> None:
    """sha256: of the Python file before it was imported, "" without one."""
    import torch

    form = folder / torch_modules.FORM
    built, outputs, weights = module_checks.check_forward(built)
    torch_modules.save(built, weights, text, form, file)
    # from here on the copy is what is built from; the module and its weights are those of the file as it was imported
    if file.name and file_sha256(form / torch_modules.SOURCE) != sha256:
        raise changed(file)
    del weights  # as large as the model
    module_checks.check_kept(built, outputs, form)
    progress.step("ONNX by torch.onnx")
    batch, refusal = _to_onnx(built, form, folder / ONNX)
    progress.step("reference outputs by the module itself" if refusal else "description")
    if not text.startswith(torch_modules.TIMM):
        np.savez(str(folder / INPUTS), **{name: one.detach().numpy() for name, one in built.inputs.items()})
    born: Dict[str, Any] = {
        "module": text if text.startswith(torch_modules.TIMM) else f"{file.name}:{text.rpartition(':')[2]}",
        "source_sha256": sha256,
        "born": f"PyTorch {torch.__version__}: {built.origin}",
        "exporter": f"torch.onnx of {torch.__version__}, {batch} batch",
        "weights": built.weights,
        "weights_note": built.note,
        "values": dict(built.values),
        "stays_in_double": _stays_in_double(built, form, folder / ONNX),
    }
    if refusal:
        values = (
            pixels if pixels.given else pixel_values(mean=built.values.get("mean", ""), std=built.values.get("std", ""))
        )
        born.update(refused_module.describe(built, form, folder, refusal, values))
    (folder / BORN).write_text(json.dumps(born) + "\n")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the second half may be another user's


def _stays_in_double(built: Built, form: Path, file: Path) -> str:
    """Of a module whose ONNX file has float64, which becomes float32, why it does not become so, too; "" where it does."""
    if not file.exists() or not floats.has_doubles(onnx.load(str(file), load_external_data=False)):
        return ""
    return module_checks.stays_in_double(form, built.inputs)


def _to_onnx(built: Built, form: Path, path: Path) -> Tuple[str, str]:
    """Whether its batch is `dynamic` or `fixed`: a module that takes its example's batch alone is exported as it is.

    Beside it why torch.onnx cannot export it, in its own words, where nothing was exported; "" where it was.

    form: what `torch_modules.save` wrote. What is traced is built from it, as by a worker: a module that has been called may hold
    what the call computed of its weights, which would be traced as a constant, and one of a failed trace holds torch's stand-ins.
    """
    import torch

    os.environ.setdefault("TORCH_LOGS", "-all")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    names = list(built.inputs)
    sizes = [int(one.shape[0]) if one.ndim else None for one in built.inputs.values()]
    batched = [size is not None and size == sizes[0] for size in sizes]
    # an exporter takes an axis of one for a constant
    pairs = tuple(
        torch.cat([one, one]) if together and sizes[0] == 1 else one
        for one, together in zip(built.inputs.values(), batched)
    )
    axes = tuple({0: torch.export.Dim(_BATCH)} if together else None for together in batched)
    reason = ""
    if sizes[0] is not None:
        reason = _save(form, pairs, names, axes, path, built.outputs)
        if not reason:
            return "dynamic", ""
    fixed = _save(form, tuple(built.inputs.values()), names, None, path, built.outputs)
    if not fixed:
        return "fixed", ""
    path.unlink(missing_ok=True)
    return "no", f"torch.onnx of {torch.__version__} cannot export {built.origin}: {reason or fixed}"


def _save(
    form: Path, values: Tuple[Any, ...], names: List[str], axes: Any, path: Path, outputs: Sequence[str] = ()
) -> str:
    """Writes the ONNX file, its weights beside it where they are large; "", or why torch.onnx cannot.

    outputs: what the module calls them, () for what the exporter does.
    """
    import torch

    module = torch_modules.load(form)
    with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(None):
        warnings.simplefilter("ignore")
        program, refusal = _judged(
            lambda: torch.onnx.export(
                module, values, dynamo=True, input_names=names, dynamic_shapes=axes and (axes,), verbose=False
            ),
            path.parent,
        )
        if refusal:
            return refusal
        for graph in (program.model.graph, *program.model.functions.values()):
            for node in graph.all_nodes():
                node.metadata_props.pop(_TRACE, None)
        _name_outputs(program.model.graph, outputs)
        beside = _weight_bytes(program.model.graph) >= INLINE_BYTES
        return _judged(lambda: program.save(str(path), external_data=beside), path.parent)[1]


def _name_outputs(graph: Any, names: Sequence[str]) -> None:
    """Gives the outputs of the graph these names; each that a value keeps which is not renamed stays with the exporter's."""
    if not names or len(names) != len(graph.outputs):
        return
    values = [*graph.inputs, *graph.initializers.values(), *(one for node in graph.all_nodes() for one in node.outputs)]
    outputs = {id(one) for one in graph.outputs if one.producer() is not None}
    taken = {one.name for one in values if id(one) not in outputs}
    renamed: Dict[int, Tuple[Any, str]] = {}
    for value, name in zip(graph.outputs, names):
        # an input or weight that is handed on keeps its name, and one value that is two outputs gets the first that is free
        if id(value) in outputs and name not in taken:
            renamed.setdefault(id(value), (value, name))
    blocked = [0]
    while blocked:  # what is left out keeps its name, which may be the one that another was to have
        taken = {one.name for one in values if id(one) not in renamed}
        blocked = [key for key, (_, name) in renamed.items() if name in taken]
        for key in blocked:
            del renamed[key]
    # the exporter may call one output what another is to be called: no two values ever have one name
    unused = max((*names, *(one.name or "" for one in values)), key=len) + "_"
    for number, (value, _) in enumerate(renamed.values()):
        value.name = f"{unused}{number}"
    for value, name in renamed.values():
        value.name = name


def _weight_bytes(graph: Any) -> int:
    """Of what goes into the ONNX file: beside parameters and buffers also constants that the exporter made of tensors."""
    return sum(one.const_value.nbytes for one in graph.initializers.values() if one.const_value is not None)


def _judged(exporter: Callable[[], Any], folder: Path) -> Tuple[Any, str]:
    """What a call of torch.onnx returns, and "" or why it refuses. Nothing of ours is called in it: a fault there is no refusal."""
    try:
        return exporter(), ""
    except BaseException as error:  # the exporter has many of its own, and it calls the user's code
        _check_refusal(error, folder)
        return None, _telling(error)


def _check_refusal(error: BaseException, folder: Path) -> None:
    """Raises what is no matter of the module: a signal, a full disk, too little memory, no onnxscript, which torch.onnx needs.

    folder: that is being written. What the user's code meets elsewhere, a file that it misses, is a matter of the module.
    """
    if torch_modules.is_of_signal(error):
        raise error
    for cause in causes(error):
        if isinstance(cause, OSError) and (cause.errno in _OF_THE_MACHINE or _is_within(cause.filename, folder)):
            raise cause
        if isinstance(cause, MemoryError) or names_out_of_memory(str(cause)):
            raise cause
        if isinstance(cause, ImportError) and "onnxscript" in str(cause):
            raise UserError(f"torch.onnx cannot be used: {_telling(cause)}") from error


def _is_within(file: Any, folder: Path) -> bool:
    if not isinstance(file, (str, bytes, os.PathLike)):
        return False
    return folder.resolve() in Path(os.fsdecode(file)).resolve().parents


def _telling(error: BaseException) -> str:
    """The first line of the innermost cause, which names the operator or line, and what it means where it names neither."""
    *_, error = causes(error)
    line = first_line(error)
    means = "; a branch, loop or .item() that depends on values is not exported" if "data-dependent" in line else ""
    return f"{line}{means}"
