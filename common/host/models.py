"""Models on the user's machine: finds an exported one in data/models, or has it exported by the image that can.

The exporter (`python -m common.export`) never runs in the host's own interpreter: it needs TensorFlow, or ONNX Runtime
for a user's ONNX file. A local runner calls ensure_model; another one runs `exporter_arguments` itself and hands the
lines that it prints to `read_progress`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common import models
from common.errors import UserError
from common.export import forms
from common.host.paths import ROOT
from common.model_files import DESCRIPTION, ModelFiles

#: (step, steps, what is being done)
OnStep = Callable[[int, int, str], None]
DEFAULT_RANGE = (0.0, 255.0)
#: `auto` prefers them in this order among models that exist
_ORIGINS = {"auto": ("imagenet", "seeded"), "imagenet": ("imagenet",), "seeded": ("seeded",), "user": ("user",)}


@dataclass(frozen=True)
class Source:
    """What the user named: a model of the registry, or an ONNX file."""

    name: str
    #: None for a registered model
    onnx: Path | None

    @property
    def image(self) -> str:
        """Folder under images/ whose environment exports it."""
        return "tensorflow" if self.onnx is None else "onnxrt"


def source(name_or_path: str) -> Source:
    """Tells a registered name from a path. Raises UserError for a name that does not exist or a path without a file."""
    path = Path(name_or_path).expanduser()
    if path.suffix.lower() != ".onnx" and "/" not in name_or_path and not path.is_file():
        return Source(models.find(name_or_path).name, None)
    if not path.exists():
        raise UserError(f"the ONNX file {name_or_path} does not exist")
    if not path.is_file():
        raise UserError(
            f"{name_or_path} is not a file; --model takes a name ({', '.join(models.MODELS)}) or an ONNX file"
        )
    return Source(path.stem, path.resolve())


def find_model(models_dir: Path, name: str, weights: str = "auto") -> ModelFiles | None:
    """The newest whole export of that name and origin of weights in models_dir, None without one.

    weights: imagenet, seeded, user, or auto: ImageNet's if they exist, else seeded ones.
    """
    found = [model for model in _newest_first(models_dir) if model.name == name]
    for origin in _ORIGINS[weights]:
        for model in found:
            if model.weights == origin:
                return model
    return None


def find_user_model(
    models_dir: Path, file: Path, input_range: tuple[float, float] = DEFAULT_RANGE
) -> ModelFiles | None:
    """The export of exactly this ONNX file for this range of pixels, None without one."""
    digest = _sha256(file)
    for model in _newest_first(models_dir):
        if model.weights == "user":
            extra = json.loads((model.root / DESCRIPTION).read_text())
            if extra.get("source_sha256") == digest and tuple(extra.get("input_range", ())) == input_range:
                return model
    return None


def ensure_model(
    name_or_path: str,
    models_dir: Path,
    python_for: Callable[[str], Path],
    on_step: OnStep,
    weights: str = "auto",
    input_range: tuple[float, float] = DEFAULT_RANGE,
    wanted_forms: Iterable[str] = (),
) -> ModelFiles:
    """The exported model: an existing one, or a new one by the interpreter of the image that can make it.

    python_for: folder under images/ -> interpreter of its environment; called only when something has to be exported.
    weights: auto, imagenet or seeded, of a registered model; input_range: what a user's ONNX file expects of black
    and white; wanted_forms: names of forms (common/export/forms.py) that it shall have where they can be made of it.
    Raises UserError with the exporter's one line when it fails; its whole output then stays in a log file
    that the error names unless the user's input was to blame.
    """
    wanted = source(name_or_path)
    model = existing_model(wanted, models_dir, weights, input_range)
    if model is None:
        arguments = exporter_arguments(wanted, models_dir.absolute(), weights, input_range)
        folder = _export(python_for(wanted.image), arguments, wanted.name, on_step)
        model = ModelFiles.read(models_dir / folder)
    for image, names in forms_by_image(model, wanted_forms).items():
        _export(python_for(image), form_arguments(model, models_dir.absolute(), names), wanted.name, on_step)
        model = ModelFiles.read(model.root)
    return model


def forms_by_image(model: ModelFiles, wanted: Iterable[str]) -> dict[str, list[str]]:
    """Those of the wanted forms that the model lacks and can be given, by the image that makes them."""
    found: dict[str, list[str]] = {}
    for name in forms.missing(model, wanted):
        found.setdefault(forms.FORMS[name].image, []).append(name)
    return found


def form_arguments(model: ModelFiles, out: Path, names: Iterable[str]) -> list[str]:
    """Arguments after `python -m` that give an exported model more forms."""
    return [
        *("common.export", "--of", model.root.name, "--out", str(out)),
        *(word for name in names for word in ("--form", name)),
    ]


def existing_model(
    wanted: Source, models_dir: Path, weights: str = "auto", input_range: tuple[float, float] = DEFAULT_RANGE
) -> ModelFiles | None:
    """What ensure_model would return without exporting anything, else None."""
    if wanted.onnx is None:
        return find_model(models_dir, wanted.name, weights)
    return find_user_model(models_dir, wanted.onnx, input_range)


def exporter_arguments(
    wanted: Source, out: Path, weights: str = "auto", input_range: tuple[float, float] = DEFAULT_RANGE
) -> list[str]:
    """Arguments after `python -m`; paths are the host's, a runner with other paths replaces `--onnx` and `--out`."""
    if wanted.onnx is None:
        return ["common.export", "--model", wanted.name, "--out", str(out), "--weights", weights]
    # with "=": a LOW below zero would be taken for an option
    values = ",".join(f"{value:g}" for value in input_range)
    return ["common.export", "--onnx", str(wanted.onnx), "--out", str(out), f"--input-range={values}"]


def read_progress(lines: Iterable[str], on_step: OnStep) -> str | None:
    """Passes the exporter's progress on; returns the model's folder within --out, None where the exporter named none."""
    folder = None
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # not the exporter's: a container's entry point may print too
        if not isinstance(event, dict):
            continue
        if "step" in event:
            on_step(event["step"], event["steps"], event["name"])
        folder = event.get("folder", folder)
    return folder


def error_line(stderr: str) -> str | None:
    """The exporter's own last word, without its `error: `; None where it has none (killed)."""
    words = [line.removeprefix("error: ") for line in stderr.splitlines() if line.startswith("error: ")]
    return words[-1] if words else None


def _export(python: Path, arguments: list[str], name: str, on_step: OnStep) -> str:
    # -P, 3.11's safe path, is not in 3.9: PYTHONPATH names the checkout, and nothing else of the host's is inherited
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return _run([str(python), "-m", *arguments], environment, name, on_step)


def _run(command: list[str], environment: dict[str, str], name: str, on_step: OnStep) -> str:
    descriptor, log = tempfile.mkstemp(prefix=f"framewatt-export-{name}-", suffix=".log")
    keep = False
    try:
        with os.fdopen(descriptor, "w+") as stderr:
            try:
                process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
            except OSError as error:
                raise UserError(f"the exporter cannot be started: {command[0]}: {error.strerror}") from error
            with process:
                assert process.stdout is not None
                try:
                    folder = read_progress(process.stdout, on_step)
                except BaseException:
                    process.terminate()  # Ctrl-C: the exporter removes its temporary folder and ends
                    raise
            if process.returncode == 0 and folder is not None:
                return folder
            stderr.seek(0)
            reason = error_line(stderr.read())
        if process.returncode == 2 and reason is not None:
            raise UserError(reason)
        keep = True
        raise UserError(f"{reason or f'the export of {name} ended with {process.returncode}'} (its output: {log})")
    finally:
        if not keep:
            Path(log).unlink(missing_ok=True)


def _newest_first(models_dir: Path) -> Iterator[ModelFiles]:
    folders = [folder for folder in models_dir.glob("[!.]*") if (folder / DESCRIPTION).is_file()]
    for folder in sorted(folders, key=lambda folder: (folder / DESCRIPTION).stat().st_mtime_ns, reverse=True):
        try:
            model = ModelFiles.read(folder)
        except ValueError:
            continue  # somebody else's folder, or an older format: exported anew
        if all((folder / file).exists() for file in (*(model.forms or {}).values(), model.reference)):
            yield model


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
