"""Models on the user's machine: finds an exported one in data/models, or has it exported by the image that can.

The exporter (`python -m common.export`) never runs in the host's own interpreter: it needs TensorFlow, or ONNX Runtime
for a user's ONNX file. A local runner calls ensure_model; another one runs `exporter_arguments` itself and hands the
lines that it prints to `read_progress`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from common import models, names, pixels, weights_beside
from common.errors import UserError, unknown
from common.export import axes, forms
from common.harness.job_end import ended_by
from common.harness.rows import one_line
from common.held_folders import OWNER, nothing_left, remove_abandoned
from common.host import regular_files
from common.host.children import guarded
from common.host.paths import ROOT
from common.model_files import DESCRIPTION, ModelFiles
from common.pixels import PixelValues
from common.torch_modules import EXAMPLES, EXPORTER, TIMM
from common.typed_json import parse_object

#: (steps done, steps in all or None, what is being done)
OnStep = Callable[[int, int | None, str], None]
#: variable that sets how long an export may take, in s, and its default
EXPORT_LIMIT, EXPORT_LIMIT_SECONDS = "FRAMEWATT_EXPORT_TIMEOUT", 1800.0
#: an exporter whose host is gone, and whose container is not, ends by itself so much after the limit, in s
EXPORT_LIMIT_SLACK = 30.0
#: an export has a dozen
_MOST_STEPS = 1000
#: a file's times are no finer than a tick of the kernel's clock, 10 ms at the most, or a second where a file system has no finer ones
_YOUNG_NS = 2 * 10**9
#: bytes of a model's description; the exporter's have some thousand
_MOST_DESCRIPTION_BYTES = 16 * 2**20
#: `auto` prefers them in this order among models that exist
_ORIGINS = {"auto": ("imagenet", "seeded"), "imagenet": ("imagenet",), "seeded": ("seeded",), "user": ("user",)}


@dataclass(frozen=True)
class ExportOptions:
    """What the user asked for of a model's export, beside its name; the defaults are a registered model's.

    shape, rebatch, inputs, input_range, mean, std: as typed, see `invoke bench --help`; for ONNX files alone.
    """

    weights: str = "auto"
    shape: str = ""
    rebatch: bool = False
    inputs: Path | None = None
    input_range: str = ""
    mean: str = ""
    std: str = ""

    def described(self) -> dict[str, object]:
        """As the exporter keeps it in model.json."""
        digest = _sha256(self.inputs) if self.inputs is not None else ""
        return {"shape": self.shape, "rebatch": self.rebatch, "inputs_sha256": digest}


@dataclass(frozen=True)
class Source:
    """What the user named: a model of the registry, an ONNX file, or a model born in PyTorch."""

    name: str
    #: None for a model that is none
    onnx: Path | None
    #: timm:NAME, or FILE.py:FUNCTION with the file's whole path; "" for a model that is not born in PyTorch
    module: str = ""

    @property
    def image(self) -> str:
        """Folder under images/ whose environment exports it, its first half where it is born in PyTorch."""
        if self.module:
            return "torch"
        return "tensorflow" if self.onnx is None else "onnxrt"

    @property
    def needs(self) -> tuple[str, ...]:
        """Modules beside Keras that a registered model is built with."""
        registered = self.onnx is None and not self.module
        return (models.KERAS_HUB,) if registered and models.find(self.name).package == models.KERAS_HUB else ()

    @property
    def needs_timm(self) -> bool:
        """Whether what measures it needs timm: the user's own file may build one of its models, and tells by naming it."""
        if not self.module or self.file is None:
            return bool(self.module)
        return re.search(rb"\btimm\b", self.file.read_bytes()) is not None

    @property
    def file(self) -> Path | None:
        """The user's own file, if it is one."""
        if self.module and not self.module.startswith(TIMM):
            return Path(self.module.rpartition(":")[0])
        return self.onnx


def source(name_or_path: str) -> Source:
    """Tells a registered name from a path. Raises UserError for a name that does not exist or a path without a file."""
    if name_or_path.lower().startswith(TIMM):
        named = name_or_path[len(TIMM) :].strip()
        if not named:
            raise UserError(f"--model {TIMM} names no model of timm; write {TIMM}NAME, such as {TIMM}{EXAMPLES[0]}")
        return Source(_made_name(named.replace("_", "-")), None, f"{TIMM}{named}")
    path = Path(name_or_path).expanduser()
    ends = [found.end() for found in re.finditer(r"\.py(?=:|$)", name_or_path, re.IGNORECASE)]
    suffix = path.suffix.lower()
    if ends and suffix != ".onnx" and (suffix == ".py" or not path.is_file()):
        # of several a folder may end with it, too: the first that is a file
        end = next((end for end in ends if Path(name_or_path[:end]).expanduser().is_file()), ends[0])
        return _python_source(name_or_path, end)
    if suffix != ".onnx" and "/" not in name_or_path and not path.is_file():
        return Source(_registered(name_or_path), None)
    if not path.exists():
        raise UserError(f"the ONNX file {name_or_path} does not exist")
    if not path.is_file():
        raise UserError(
            f"{name_or_path} is not a file; --model takes a name ({', '.join(models.MODELS)}) or an ONNX file"
        )
    return Source(stem(path), _as_named(path))


def _registered(name: str) -> str:
    try:
        return models.find(name).name
    except UserError as error:
        raise UserError(
            f"{error} --model also takes a path of an .onnx file, {TIMM}NAME, and FILE.py:FUNCTION"
        ) from error


def _python_source(text: str, end: int) -> Source:
    """Of FILE.py:FUNCTION, whose file's name ends at `end`. Raises UserError where the function or the file is missing."""
    file, function = text[:end], text[end:].lstrip(":")
    if not function:
        raise UserError(f"--model {text}: which function builds the model? write {file}:FUNCTION")
    if not function.isidentifier() or text[end:] != f":{function}":
        raise UserError(f"--model {text}: '{text[end + 1 :]}' is no name of a function; write {file}:FUNCTION")
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(
            f"{file} is a folder, no Python file" if path.is_dir() else f"the Python file {file} does not exist"
        )
    if path.suffix != ".py":
        raise UserError(f"--model {text}: a Python file's name ends with .py")
    name = stem(path) if function == "build" else _made_name(f"{stem(path)}-{function.replace('_', '-')}")
    return Source(name, None, f"{_as_named(path)}:{function}")


def _as_named(file: Path) -> Path:
    """The whole path of a file by the name that it was given, not of what it leads to where it is a link.

    Its weights lie beside the link, and caches of model hubs call what it leads to by a sum.
    """
    return file.parent.resolve() / file.name


class ModelOptions(Protocol):
    """Those of the command line's options that say which model, and how it is exported."""

    @property
    def weights(self) -> str: ...

    @property
    def input_range(self) -> str: ...

    @property
    def mean(self) -> str: ...

    @property
    def std(self) -> str: ...

    @property
    def shape(self) -> str: ...

    @property
    def rebatch(self) -> bool: ...

    @property
    def inputs(self) -> str: ...


def export_options_of(options: ModelOptions) -> ExportOptions:
    """What the options ask for of the model's export. Raises UserError for a range that is none or weights that do not exist."""
    if options.weights not in ("auto", "imagenet", "seeded"):
        raise unknown("weights", options.weights, ["auto", "imagenet", "seeded"])
    pixels.parse(options.input_range, options.mean, options.std)
    inputs = Path(options.inputs).expanduser() if options.inputs else None
    return ExportOptions(
        options.weights, options.shape, options.rebatch, inputs, options.input_range, options.mean, options.std
    )


def stem(file: Path) -> str:
    """The model's name: the file's stem as typed, safe in folder names and cell keys; letters of any script stay.

    A long one is its beginning and a digest.
    """
    plain = unicodedata.normalize("NFC", file.stem).replace("_", "-")
    return names.with_digest(re.sub(r"[^\w.-]+", "-", plain).strip("-.") or "model")


def _made_name(text: str) -> str:
    return names.from_text(names.with_digest(text))


def find_model(models_dir: Path, name: str, weights: str = "auto", shape: str = "") -> ModelFiles | None:
    """The newest whole export of that name and origin of weights in models_dir, None without one.

    weights: imagenet, seeded, user, or auto: ImageNet's if they exist, else seeded ones. shape: sizes of a registered
    model's axes, as typed.
    """
    found = [model for model in _newest_first(models_dir) if model.name == name]
    entry = models.MODELS.get(name)
    if entry is not None and entry.axes:
        sizes = entry.sized(axes.sizes(shape))
        # a user's ONNX file may have the same name
        found = [model for model in found if model.weights == "user" or _axes_of(model) == sizes]
    for origin in _ORIGINS[weights]:
        for model in found:
            if model.weights == origin:
                return model
    return None


def _axes_of(model: ModelFiles) -> object:
    return json.loads((model.root / DESCRIPTION).read_text()).get("axes")


def find_user_model(
    models_dir: Path, file: Path, export_options: ExportOptions = ExportOptions(), name: str = ""
) -> ModelFiles | None:
    """The export of exactly this ONNX file, weights beside it included, for what was asked; None without one.

    name: that it must have; a copy under another name is a model of its own in tables.
    """
    for model in _newest_first(models_dir):
        if model.weights != "user" or (name and model.name != name):
            continue
        extra = json.loads((model.root / DESCRIPTION).read_text())
        if (
            PixelValues.of_description(extra)
            == pixels.parse(export_options.input_range, export_options.mean, export_options.std)
            and extra.get("asked") == export_options.described()
            and extra.get("source_sha256") == _sha256(file)
            and _are_beside(file, extra.get("source_files", {}))
            and not _keeps_doubles(model, extra)
        ):
            return model
    return None


def _keeps_doubles(model: ModelFiles, extra: Mapping[str, Any]) -> bool:
    """Whether a file in float64 was taken as it is, as it once was: some frameworks would compute in float64."""
    kinds = {model.weights_dtype, *(tensor.dtype for tensor in (*model.inputs, *model.outputs))}
    return "float64" in kinds and model.onnx is not None and "float64_as" not in extra and not model.unmeasurable


def find_module(
    models_dir: Path, wanted: Source, export_options: ExportOptions, exporter: Mapping[str, str] = MappingProxyType({})
) -> ModelFiles | None:
    """The export of this model born in PyTorch, of the same Python file where it is of one; None without one.

    exporter: versions of torch.onnx. Of a module that other versions refused there is none: these may take it.
    """
    exported_from = (
        f"{wanted.file.name}:{wanted.module.rpartition(':')[2]}" if wanted.file is not None else wanted.module
    )
    values = pixels.parse(export_options.input_range, export_options.mean, export_options.std)
    for model in _newest_first(models_dir):
        if model.name != wanted.name:
            continue
        extra = json.loads((model.root / DESCRIPTION).read_text())
        if (
            extra.get("module") == exported_from
            and not _keeps_doubles(model, extra)
            and (wanted.file is None or extra.get("source_sha256") == _sha256(wanted.file))
            and (wanted.file is not None or model.weights in _ORIGINS[export_options.weights])
            and (not values.given or PixelValues.of_description(extra) == values)
            and (not model.refused or all(extra.get("versions", {}).get(name) == one for name, one in exporter.items()))
        ):
            return model
    return None


def _exporters_versions(python: Path) -> dict[str, str]:
    """Of torch.onnx as this interpreter has it: package -> version; empty where it lacks one."""
    names = ", ".join(map(repr, EXPORTER))
    done = subprocess.run(
        [str(python), "-c", f"from importlib.metadata import version as v; print(*(v(one) for one in ({names})))"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return dict(zip(EXPORTER, done.stdout.split(), strict=True)) if done.returncode == 0 else {}


def _are_beside(file: Path, sums: object) -> bool:
    """Whether the files that a description names, path in the model -> SHA-256, lie beside the ONNX file as they did."""
    if not isinstance(sums, dict):
        return False
    try:
        return all(_sha256(weights_beside.place_of(file, one)) == digest for one, digest in sums.items())
    except (weights_beside.NotBeside, OSError):
        return False


def ensure_model(
    name_or_path: str,
    models_dir: Path,
    python_for: Callable[[str], Path],
    on_step: OnStep,
    export_options: ExportOptions = ExportOptions(),
    wanted_forms: Iterable[str] = (),
) -> ModelFiles:
    """The exported model: an existing one, or a new one by the interpreter of the image that can make it.

    python_for: folder under images/ -> interpreter of its environment; called only when something has to be exported,
        and for a module that torch.onnx has refused, whose refusal holds for these versions alone.
    wanted_forms: names of forms (common/export/forms.py) that it shall have where they can be made of it.
    Raises UserError with the exporter's one line when it fails; its whole output then stays in a log file
    that the error names unless the user's input was to blame.
    """
    wanted = source(name_or_path)
    model = existing_model(wanted, models_dir, export_options)
    if model is not None and model.refused:
        with suppress(UserError):  # without that environment nothing could be exported anew
            model = find_module(models_dir, wanted, export_options, _exporters_versions(python_for(wanted.image)))
    if model is None:
        with nothing_left(models_dir) as owner:
            arguments = exporter_arguments(wanted, models_dir.absolute(), export_options)
            folder = _export(python_for(wanted.image), arguments, wanted.name, on_step, owner)
            if wanted.module:
                arguments = second_half_arguments(wanted, models_dir.absolute(), folder, export_options)
                folder = _export(python_for("onnxrt"), arguments, wanted.name, on_step, owner)
        model = ModelFiles.read(models_dir / folder)
    for image, lacking in forms_by_image(model, wanted_forms).items():
        _export(python_for(image), form_arguments(model, models_dir.absolute(), lacking), wanted.name, on_step)
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
    wanted: Source, models_dir: Path, export_options: ExportOptions = ExportOptions()
) -> ModelFiles | None:
    """What ensure_model would return without exporting anything, else None. What killed exports left goes."""
    check(wanted, export_options)
    remove_abandoned(models_dir)
    return known_model(wanted, models_dir, export_options)


def known_model(wanted: Source, models_dir: Path, export_options: ExportOptions = ExportOptions()) -> ModelFiles | None:
    """The same without a change to the folder."""
    if wanted.module:
        return find_module(models_dir, wanted, export_options)
    if wanted.onnx is None:
        return find_model(models_dir, wanted.name, export_options.weights, export_options.shape)
    return find_user_model(models_dir, wanted.onnx, export_options, wanted.name)


def check(wanted: Source, export_options: ExportOptions) -> None:
    """Raises UserError for what cannot be asked of this kind of model, or a file of values that is not there."""
    if wanted.onnx is None:
        known = ("shape", "rebatch", "inputs", *(() if wanted.module else ("input_range", "mean", "std")))
        if not wanted.module and export_options.shape and models.find(wanted.name).axes:
            models.find(wanted.name).sized(axes.sizes(export_options.shape))
            known = known[1:]
        for option in known:
            if getattr(export_options, option) and wanted.module:
                raise UserError(
                    f"--{option} is for ONNX files; the shapes and values of {wanted.name} are those of its example inputs"
                )
            if getattr(export_options, option):
                raise UserError(
                    f"--{option.replace('_', '-')} is for ONNX files; {wanted.name} is a registered model, whose shapes "
                    "and values are known"
                )
    if export_options.inputs is not None and not export_options.inputs.is_file():
        what = "is no file" if export_options.inputs.exists() else "does not exist"
        raise UserError(f"--inputs {export_options.inputs} {what}; it takes an .npz file with one array per input")


def exporter_arguments(wanted: Source, out: Path, export_options: ExportOptions = ExportOptions()) -> list[str]:
    """Arguments after `python -m`; paths are the host's, a runner with other paths replaces `--onnx`, `--inputs` and `--out`."""
    always = ["--out", str(out), "--time-limit", f"{export_limit_s() + EXPORT_LIMIT_SLACK:g}"]
    if wanted.module:
        return [
            "common.export",
            "--module",
            wanted.module,
            *always,
            "--weights",
            export_options.weights,
            *_value_arguments(export_options),
        ]
    if wanted.onnx is None:
        of_shape = [f"--shape={export_options.shape}"] if export_options.shape else []
        return ["common.export", "--model", wanted.name, *always, "--weights", export_options.weights, *of_shape]
    arguments = [
        "common.export",
        "--onnx",
        str(wanted.onnx),
        *always,
        *_value_arguments(export_options),
        f"--name={wanted.name}",
    ]
    if export_options.shape:
        arguments.append(f"--shape={export_options.shape}")
    if export_options.rebatch:
        arguments.append("--rebatch")
    if export_options.inputs is not None:
        arguments += ["--inputs", str(_as_named(export_options.inputs))]
    return arguments


def second_half_arguments(wanted: Source, out: Path, folder: str, export_options: ExportOptions) -> list[str]:
    """Arguments after `python -m` that finish a model born in PyTorch; folder: the one within `out` that the first half named."""
    return [
        *("common.export", "--born", str(out / folder), "--out", str(out)),
        *_value_arguments(export_options),
        f"--name={wanted.name}",
    ]


def _value_arguments(export_options: ExportOptions) -> list[str]:
    # with "=": a LOW below zero would be taken for an option
    given = (("input-range", export_options.input_range), ("mean", export_options.mean), ("std", export_options.std))
    return [f"--{option}={value}" for option, value in given if value]


def files_beside(file: Path) -> list[Path]:
    """Files beside the ONNX file (weights_beside.py) that it names as holders of its weights, links to such files included."""
    content = file.read_bytes() if file.stat().st_size < 2**31 else b""
    names = {one.name for folder in weights_beside.folders_of(file) for one in folder.iterdir()} - {file.name}
    found = []
    for name in sorted(name for name in names if os.fsencode(name) in content):
        with suppress(weights_beside.NotBeside):  # a folder, or a link to another one: it is not for the container
            found.append(weights_beside.place_of(file, name))
    return found


def export_limit_s() -> float:
    """How long an export may take, in s. Raises UserError for a variable that is no positive number."""
    text = os.environ.get(EXPORT_LIMIT, "")
    try:
        limit = float(text) if text else EXPORT_LIMIT_SECONDS
    except ValueError:
        limit = 0.0
    if not 0 < limit < 1e9:
        raise UserError(f"{EXPORT_LIMIT} is a positive number of seconds, not '{text}'")
    return limit


def over_time(name: str, limit_s: float) -> str:
    """What to say of an export that was ended after its time."""
    return f"the export of {name} took longer than {limit_s:g} s and was ended; {EXPORT_LIMIT} sets another limit"


def read_progress(lines: Iterable[str], on_step: OnStep) -> str | None:
    """Passes the exporter's progress on; returns the model's folder within --out, None where the exporter named none."""
    folder = None
    for line in lines:
        event = parse_object(line)  # {} for what is not the exporter's: a container's entry point may print too
        step, steps, name = (event.get(field) for field in ("step", "steps", "name"))
        if isinstance(step, int) and isinstance(steps, int) and isinstance(name, str):
            on_step(min(max(step, 0), _MOST_STEPS), min(max(steps, 0), _MOST_STEPS), one_line(name))
        if isinstance(event.get("folder"), str):
            folder = event["folder"]
    return folder


def error_line(stderr: str) -> str | None:
    """The exporter's own last word, without its `error: `; None where it has none (killed)."""
    words = [line.removeprefix("error: ") for line in stderr.splitlines() if line.startswith("error: ")]
    return words[-1] if words else None


def _export(python: Path, arguments: list[str], name: str, on_step: OnStep, owner: str = "") -> str:
    # -P, 3.11's safe path, is not in 3.9: PYTHONPATH names the checkout, and nothing else of the host's is inherited
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", OWNER: owner}
    return _run([str(python), "-m", *arguments], environment, name, on_step)


def _run(command: list[str], environment: dict[str, str], name: str, on_step: OnStep) -> str:
    descriptor, log = tempfile.mkstemp(prefix=f"framewatt-export-{name}-", suffix=".log")
    keep = False
    try:
        with os.fdopen(descriptor, "w+") as stderr:
            limit = export_limit_s()
            try:
                with guarded(command, stdout=subprocess.PIPE, stderr=stderr, env=environment, limit_s=limit) as child:
                    assert child.process.stdout is not None
                    folder = read_progress(child.process.stdout, on_step)
                    code = child.process.wait()
            except OSError as error:
                raise UserError(f"the exporter cannot be started: {command[0]}: {error.strerror}") from error
            if code == 0 and folder is not None:
                return folder
            if child.over_time:
                raise UserError(over_time(name, limit))
            stderr.seek(0)
            reason = error_line(stderr.read())
        if code == 2 and reason is not None:
            raise UserError(reason)
        keep = True
        raise UserError(f"{reason or f'the exporter of {name} {ended_by(code)}'} (its output: {log})")
    finally:
        if not keep:
            Path(log).unlink(missing_ok=True)


def _newest_first(models_dir: Path) -> Iterator[ModelFiles]:
    folders = [folder for folder in models_dir.glob("[!.]*") if _is_description(folder / DESCRIPTION)]
    for folder in sorted(folders, key=lambda folder: (folder / DESCRIPTION).stat().st_mtime_ns, reverse=True):
        try:
            model = ModelFiles.read(folder)
        except ValueError:
            continue  # somebody else's folder, or an older format: exported anew
        if not model.lacking():  # else the exporter completes it
            yield model


def _is_description(path: Path) -> bool:
    """Whether it is a file at all, and not too large to be one: no link, FIFO or device is ever opened."""
    try:
        return regular_files.kind_of(path) is None and os.lstat(path).st_size <= _MOST_DESCRIPTION_BYTES
    except OSError:
        return False


def _sha256(file: Path) -> str:
    """Read once, however many sweeps of a plan ask, as long as the file is the same one.

    One that was changed a moment ago is read again: another change in the same tick of the clock would not be seen.
    """
    found = file.stat()
    if time.time_ns() - found.st_ctime_ns < _YOUNG_NS:
        return _read_sha256(file)
    return _known_sha256(file, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@functools.lru_cache(maxsize=64)
def _known_sha256(file: Path, *_facts: int) -> str:
    return _read_sha256(file)


def _read_sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
