"""Further forms of a model that is exported already, made when a framework first needs them: `--of FOLDER --form NAME`.

    form                   made from     by
    tflite                 SavedModel    TensorFlow's TFLiteConverter, float32
    tflite-int8-dynamic    SavedModel    the same with dynamic-range quantization: int8 weights, no calibration pictures

Runs where the form's maker is installed (FORMS says which image that is). The model's hash stays: its weights and its
reference are the same.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List

from common.errors import UserError, unknown
from common.export.store import file_sha256
from common.model_files import DESCRIPTION, ModelFiles
from common.whole_writes import write_whole


@dataclass(frozen=True)
class Form:
    """A form that is made on demand.

    source: the form that it is made from; a model without that cannot have it. image: folder under images/ whose
    environment makes it. file: its name in the model's folder. make: the source's path -> the file's content.
    """

    source: str
    image: str
    file: str
    make: Callable[[Path], bytes]


def _tflite(saved_model: Path, quantized: bool) -> bytes:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf

    # An unset batch axis becomes 1, which an interpreter resizes.
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    if quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    content: bytes = converter.convert()
    return content


FORMS: Dict[str, Form] = {
    "tflite": Form("saved_model", "tensorflow", "model.tflite", lambda path: _tflite(path, False)),
    "tflite-int8-dynamic": Form(
        "saved_model", "tensorflow", "model-int8-dynamic.tflite", lambda path: _tflite(path, True)
    ),
}


def missing(model: ModelFiles, wanted: Iterable[str]) -> List[str]:
    """Those forms that the model lacks and can be given, each once. Raises UserError for a name that is no form."""
    has = model.forms or {}
    found: List[str] = []
    for name in wanted:
        if name in has or name in found:
            continue
        if name not in FORMS:
            raise unknown("form of a model", name, [*has, *FORMS])
        if FORMS[name].source in has:
            found.append(name)
    return found


def add(folder: Path, wanted: Iterable[str], on_form: Callable[[str], None] = lambda name: None) -> None:
    """Makes the missing forms in the model's folder and enters them into its description; one process at a time.

    on_form: told the name of each before it is made. Raises UserError where the folder holds no model.
    """
    try:
        model = ModelFiles.read(folder)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{folder} holds no exported model: {error}") from error
    if not missing(model, wanted := list(wanted)):
        return
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two sweeps that begin at once make it once
        for name in missing(ModelFiles.read(folder), wanted):
            on_form(name)
            _add(folder, name, FORMS[name])
    finally:
        os.close(lock)


def _add(folder: Path, name: str, form: Form) -> None:
    model = ModelFiles.read(folder)
    content = form.make(model.form(form.source))
    write_whole(folder / form.file, content)
    description: Dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
    description["forms"] = {**(model.forms or {}), name: form.file}
    files = description.setdefault("files", {})
    files[form.file] = {"sha256": file_sha256(folder / form.file), "bytes": len(content)}
    write_whole(folder / DESCRIPTION, (json.dumps(description, indent=1) + "\n").encode())
