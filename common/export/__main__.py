"""`python -m common.export`: makes `OUT/<name>-<hash>/` of a registered model or of a user's ONNX file, or forms of one that is there.

Standard output: progress, see common/export/progress.py. Exit code 2 and `error: ...` as the last line of standard
error when the user can mend it; 1 and the same, after the traceback, when framewatt or a library is to blame.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import faulthandler
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, List, Optional, TextIO

from common import models, pixels
from common.errors import EndedBySignal, UserError, causes
from common.export.progress import Progress, claim_stdout
from common.harness.memory import names_out_of_memory

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def parser() -> argparse.ArgumentParser:
    names = ", ".join(models.MODELS)
    result = argparse.ArgumentParser(prog="python -m common.export", description=__doc__.splitlines()[0])
    what = result.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", metavar="NAME", help=f"a registered model: {names}")
    what.add_argument("--onnx", metavar="FILE", type=Path, help="the user's own ONNX file")
    what.add_argument(
        "--module", metavar="MODULE", help="timm:NAME or FILE.py:FUNCTION: its first half, in PyTorch's image"
    )
    what.add_argument(
        "--born", metavar="FOLDER", type=Path, help="what --module left: its second half, in ONNX Runtime's image"
    )
    what.add_argument("--of", metavar="NAME-HASH", help="an exported model's folder in --out, to be given more forms")
    result.add_argument(
        "--form",
        action="append",
        default=[],
        metavar="NAME",
        help="of a registered or exported model: also in this form (tflite, tflite-int8-dynamic); may be repeated",
    )
    result.add_argument(
        "--out", metavar="FOLDER", type=Path, required=True, help="where model folders lie: data/models"
    )
    result.add_argument(
        "--weights",
        choices=("auto", "imagenet", "seeded"),
        default="auto",
        help="of a registered model; auto (default): ImageNet's where the download works, else seeded ones",
    )
    result.add_argument(
        "--precision-of-reference",
        choices=("float64", "float32"),
        default="float64",
        help="of a registered model's reference outputs (default float64)",
    )
    result.add_argument(
        "--input-range",
        metavar="LOW,HIGH",
        default="",
        help="what the ONNX file expects of black and white (default 0,255)",
    )
    result.add_argument("--mean", metavar="M,...", default="", help="instead: what pictures of 0 to 1 are less")
    result.add_argument("--std", metavar="S,...", default="", help="and what they are divided by then")
    result.add_argument(
        "--time-limit", metavar="SECONDS", type=float, default=0.0, help="ends by itself after so long (default: never)"
    )
    add = result.add_argument
    add("--name", metavar="NAME", default="", help="the model's name (default: the ONNX file's stem)")
    add(
        "--shape",
        metavar="NAME=SIZE,...",
        default="",
        help="sizes of the ONNX file's dynamic axes, by axis or by input; of a registered model's, by axis",
    )
    add("--rebatch", action="store_true", help="make the fixed batch of the ONNX file dynamic, where it allows that")
    add("--inputs", metavar="FILE.npz", type=Path, help="values of the ONNX file's inputs (default: seeded)")
    return result


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    if options.time_limit > 0:
        # By a thread below Python's level: it ends this process also while a library computes without end.
        faulthandler.dump_traceback_later(options.time_limit, exit=True, file=sys.stderr)
    out = claim_stdout()
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that temporary folders go
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's
            signal.signal(number, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's job in the background ignores it
        signal.signal(signal.SIGINT, _end)
    try:
        folder = _export(options, out)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in UNWRITABLE:
            return _failed(error)
        print(f"error: cannot write models to {options.out}: {error.strerror}", file=sys.stderr)
        return 2
    except Exception as error:
        if any(isinstance(one, MemoryError) or names_out_of_memory(str(one)) for one in causes(error)):
            print(
                f"error: too little memory for this export ({_words(error)}); free some, or export on a larger machine",
                file=sys.stderr,
            )
            return 2
        return _failed(error)
    print(f"exported {options.out / folder}", file=sys.stderr)
    return 0


def _end(number: int, frame: Any) -> None:
    raise EndedBySignal(128 + number)


def _failed(error: Exception) -> int:
    traceback.print_exc()
    print(f"error: the export failed: {_words(error)}", file=sys.stderr)
    return 1


def _words(error: Exception) -> str:
    """In one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _export(options: argparse.Namespace, out: TextIO) -> str:
    if options.of is not None:
        return _add_forms(options, Progress(out, len(options.form)), options.of)
    if options.module is not None:
        from common.export import torch_onnx

        progress = Progress(out, torch_onnx.STEPS)
        values = pixels.parse(options.input_range, options.mean, options.std)
        folder = torch_onnx.export(options.module, options.out, options.weights, values, progress)
    elif options.onnx is not None or options.born is not None:
        from common.export import reference_work, user_onnx

        progress = Progress(out, user_onnx.STEPS)
        export_options = reference_work.ExportOptions(
            pixels.parse(options.input_range, options.mean, options.std),
            options.shape,
            options.rebatch,
            options.inputs,
            options.name,
        )
        if options.born is not None:
            folder = _finish_born(options.born, options.out, export_options, progress)
        else:
            folder = user_onnx.export(options.onnx, options.out, export_options, progress)
    else:
        entry = models.find(options.model)
        options.out.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the same weights and references wherever it runs
        downloads = options.out.absolute() / ".keras"
        os.environ.setdefault("KERAS_HOME", str(downloads))  # not into the user's home
        from common.export import axes, registered, weights

        if os.environ["KERAS_HOME"] == str(downloads):
            weights.remove_damaged(downloads / "models")
        progress = Progress(out, registered.STEPS + len(options.form))
        folder = registered.export(
            entry, options.out, options.weights, options.precision_of_reference, progress, axes.sizes(options.shape)
        )
        return _add_forms(options, progress, folder)
    progress.finish(folder)
    return folder


def _finish_born(folder: Path, out: Path, export_options: Any, progress: Progress) -> str:
    """The second half of the export of a model born in PyTorch; the folder of the first is gone afterwards."""
    from common.export import user_onnx
    from common.export.born import Born, finish_refused
    from common.held_folders import TEMPORARY, holding

    try:
        born = Born.read(folder)
        values = born.values
        with holding(folder):
            if born.refused:
                return finish_refused(born, out, export_options.name, progress)
            pictured = (
                export_options.pixels
                if export_options.pixels.given
                else pixels.parse(mean=values.get("mean", ""), std=values.get("std", ""))
            )
            inputs = folder / "inputs.npz"
            given = inputs if inputs.is_file() else None
            export_options = dataclasses.replace(export_options, born=folder, pixels=pictured, inputs=given)
            return user_onnx.export(folder / "model.onnx", out, export_options, progress)
    finally:
        if folder.name.startswith(TEMPORARY):
            shutil.rmtree(folder, ignore_errors=True)


def _add_forms(options: argparse.Namespace, progress: Progress, folder: str) -> str:
    from common.export import forms

    forms.add(options.out / folder, options.form, progress.step)
    progress.finish(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
