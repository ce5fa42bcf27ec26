"""The first half of the export of a model born in PyTorch, in PyTorch's environment: the module to ONNX by torch.onnx.

What it leaves is a folder for the second half (user_onnx.py, in ONNX Runtime's environment), which computes the reference outputs
as for any ONNX file: `model.onnx`, `torch/` (common/torch_modules.py), `inputs.npz` of a user's own module, and `born.json`. Of a
module that torch.onnx cannot export it leaves `reference.npz` instead of the ONNX file (refused_module.py).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from common import torch_modules
from common.errors import UserError
from common.export import module_checks, refused_module
from common.export.progress import Progress
from common.export.store import file_sha256
from common.held_folders import held_folder, remove_abandoned
from common.pixels import PixelValues
from common.pixels import parse as pixel_values
from common.torch_modules import Built

STEPS = 3
BORN, ONNX, INPUTS = "born.json", "model.onnx", "inputs.npz"
#: of weights: more go into a file beside the ONNX file, whose one message has a limit
INLINE_BYTES = 2**31 - 2**27
#: axis 0 of every input that has as many as the first
_BATCH = "batch"
#: of a node, the lines of Python that it comes from: with paths of this machine, by which the same model would differ
_TRACE = "pkg.torch.onnx.stack_trace"


def export(text: str, out: Path, weights: str, pixels: PixelValues, progress: Progress) -> str:
    """Makes the folder within `out` and returns its name. Raises UserError for what cannot be built.

    pixels: of the pictures of a module that cannot be exported, where the user gave them; else the module's own are.
    """
    progress.step(f"{text}: build")
    file = Path()
    if text.startswith(torch_modules.TIMM):
        built = torch_modules.of_timm(text[len(torch_modules.TIMM) :], weights)
    else:
        file, function = torch_modules.split(text)
        built = torch_modules.of_file(file, function)
    out.mkdir(parents=True, exist_ok=True)
    remove_abandoned(out)
    with held_folder(out) as folder:
        try:
            _fill(folder, built, text, file, pixels, progress)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder.name


def _fill(folder: Path, built: Built, text: str, file: Path, pixels: PixelValues, progress: Progress) -> None:
    import torch

    form = folder / torch_modules.FORM
    built, outputs, weights = module_checks.check_forward(built)
    torch_modules.save(built, weights, text, form, file)
    del weights  # as large as the model
    module_checks.check_kept(built, outputs, form)
    progress.step("ONNX by torch.onnx")
    batch, refusal = _to_onnx(built, form, folder / ONNX)
    progress.step("reference outputs by the module itself" if refusal else "description")
    if not text.startswith(torch_modules.TIMM):
        np.savez(str(folder / INPUTS), **{name: one.detach().numpy() for name, one in built.inputs.items()})
    born: Dict[str, Any] = {
        "module": text if text.startswith(torch_modules.TIMM) else f"{file.name}:{text.rpartition(':')[2]}",
        "source_sha256": file_sha256(file) if file.name else "",
        "born": f"PyTorch {torch.__version__}: {built.origin}",
        "exporter": f"torch.onnx of {torch.__version__}, {batch} batch",
        "weights": built.weights,
        "weights_note": built.note,
        "values": dict(built.values),
    }
    if refusal:
        values = (
            pixels if pixels.given else pixel_values(mean=built.values.get("mean", ""), std=built.values.get("std", ""))
        )
        born.update(refused_module.describe(built, form, folder, refusal, values))
    (folder / BORN).write_text(json.dumps(born) + "\n")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the second half may be another user's


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
    try:
        if sizes[0] is None:
            raise ValueError("its first input is a scalar, which has no batch")
        _save(torch_modules.load(form), pairs, names, axes, path)
        return "dynamic", ""
    except BaseException as error:  # the exporter has many of its own, and it calls the user's code
        _check_refusal(error)
        reason = _telling(error)
    try:
        _save(torch_modules.load(form), tuple(built.inputs.values()), names, None, path)
        return "fixed", ""
    except BaseException as error:
        _check_refusal(error)
        reason = reason if sizes[0] is not None else _telling(error)
    path.unlink(missing_ok=True)
    return "no", f"torch.onnx of {torch.__version__} cannot export {built.origin}: {reason}"


def _check_refusal(error: BaseException) -> None:
    """Raises what is no matter of the module: a signal, a full disk, too little memory, a package that is not installed."""
    if torch_modules.is_of_signal(error):
        raise error
    for cause in _causes(error):
        # torch raises OSError without a number where it finds no source of a function
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None):
            raise cause
        if isinstance(cause, ImportError) and "onnxscript" in str(cause):
            raise UserError(f"torch.onnx cannot be used: {_telling(cause)}") from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it comes of, down to the innermost."""
    one: Optional[BaseException] = error
    while one is not None:
        yield one
        one = one.__cause__


def _save(module: Any, values: Tuple[Any, ...], names: List[str], axes: Any, path: Path) -> None:
    import torch

    with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(None):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, values, dynamo=True, input_names=names, dynamic_shapes=axes and (axes,), verbose=False
        )
        for graph in (program.model.graph, *program.model.functions.values()):
            for node in graph.all_nodes():
                node.metadata_props.pop(_TRACE, None)
        weights = sum(one.numel() * one.element_size() for one in module.state_dict().values())
        program.save(str(path), external_data=weights >= INLINE_BYTES)


def _telling(error: BaseException) -> str:
    """The first line of the innermost cause, which names the operator or line, and what it means where it names neither."""
    *_, error = _causes(error)
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    means = "; a branch, loop or .item() that depends on values is not exported" if "data-dependent" in line else ""
    return f"{line}{means}"
