"""What an exporter's container left becomes a model of the data folder, or nothing does.

The container writes a folder of its own, in which the exporter makes `<name>-<hash>/`, or adds forms to the copy of one; it
sees no other model. When it has ended the host looks through what lies there: folders and plain files alone, a description
that names files within it and nothing else. What holds is moved to data/models, where every later worker reads it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from common import names
from common.errors import UserError
from common.held_folders import held_folder, owner
from common.host.runs.untrusted import Refused, names_in, opened_file, opened_folder, remove_folder, shown
from common.model_files import DESCRIPTION, ModelFiles
from common.pixels import PixelValues

#: where the exporter keeps what it downloads, within the folder that it writes
DOWNLOADS = ".keras"
_MOST_NAME = 200
_MOST_FILES, _MOST_DEPTH = 10_000, 16
_MOST_DESCRIPTION_BYTES = 16 * 2**20


@contextmanager
def exporters_folder(models_dir: Path, before: ModelFiles | None = None) -> Iterator[Path]:
    """An empty folder for one exporter, or one with a copy of the model that shall get more forms. Raises UserError."""
    with ExitStack() as held:
        try:
            models_dir.mkdir(parents=True, exist_ok=True)
            folder = held.enter_context(held_folder(models_dir, owner()))
        except OSError as error:
            raise UserError(f"{models_dir} cannot be written: {error.strerror}") from error
        try:
            folder.chmod(0o755)
            (folder / DOWNLOADS).mkdir()
            if before is not None:
                copy_model(before, folder)
            yield folder
        finally:
            remove_folder(folder)


def copy_model(model: ModelFiles, folder: Path) -> None:
    """Raises UserError when the disk does not take it."""
    try:
        shutil.copytree(model.root, folder / model.root.name)
    except (OSError, shutil.Error) as error:
        reason = getattr(error, "strerror", None) or "not all of its files can be copied"
        raise UserError(f"{model.root} cannot be copied to {folder}: {reason}") from error


def take_model(folder: Path, name: str, models_dir: Path, before: ModelFiles | None = None) -> ModelFiles:
    """The model `name` that an exporter left in its folder, moved to models_dir. Only when nothing writes there any more.

    before: the model of that name that it was to give more forms; all else of it must be as it was.
    Raises UserError for what is no model.
    """
    try:
        model = _checked(folder, name)
        if before is not None:
            _check_same(before, model)
    except Refused as why:
        raise UserError(f"what the export of {shown(name)} left is refused: {why}") from why
    final = models_dir / name
    try:
        if final.is_dir() and before is None and not ModelFiles.read(final).lacking():
            return ModelFiles.read(final)  # another export was first
    except (OSError, ValueError):
        pass  # no model, or one that lacks files: this one takes its place
    try:
        with exporters_folder(models_dir) as aside:
            part = aside / name
            try:
                model.root.rename(part)
            except OSError as error:
                if error.errno != errno.EXDEV:  # two mounts of one container are two devices
                    raise
                shutil.copytree(model.root, part, symlinks=True)
            if os.path.lexists(final):
                final.rename(aside / "before")
            part.rename(final)
    except (OSError, shutil.Error) as error:
        raise UserError(f"{final} cannot be written: {getattr(error, 'strerror', None) or 'not all of it'}") from error
    return ModelFiles.read(final)


def _checked(folder: Path, name: str) -> ModelFiles:
    fault = names.fault(name, _MOST_NAME)
    if fault:
        raise Refused(f"its name is {fault}")
    try:
        with opened_folder(folder) as top, opened_folder(name, top) as inside:
            _check_tree(inside, [0], 0)
            with opened_file(DESCRIPTION, inside) as file:
                if os.fstat(file).st_size > _MOST_DESCRIPTION_BYTES:
                    raise Refused(f"{DESCRIPTION} is larger than {_MOST_DESCRIPTION_BYTES} bytes")
        model = ModelFiles.read(folder / name)
    except FileNotFoundError as error:
        raise Refused(f"{shown(Path(str(error.filename)).name)} is missing") from error
    except ValueError as error:
        raise Refused(str(error)) from error
    try:
        PixelValues.of_description(_described(model))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise Refused(f"{DESCRIPTION} has an input_range that is none") from error
    if f"{model.name}-{model.hash}" != name:
        raise Refused(f"{DESCRIPTION} is of {shown(f'{model.name}-{model.hash}')}")
    lacking = model.lacking()
    if lacking:
        raise Refused(f"{shown(lacking[0])} is missing or of another size")
    return model


def _check_tree(folder: int, seen: list[int], depth: int) -> None:
    """Raises Refused for anything but folders and plain files with one name. seen: how many there were."""
    if depth > _MOST_DEPTH:
        raise Refused(f"folders lie more than {_MOST_DEPTH} deep")
    for name in names_in(folder, _MOST_FILES):
        seen[0] += 1
        if seen[0] > _MOST_FILES:
            raise Refused(f"it holds more than {_MOST_FILES} files")
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            with opened_folder(name, folder) as inside:
                _check_tree(inside, seen, depth + 1)
        else:
            with opened_file(name, folder):
                pass  # it is one


def _check_same(before: ModelFiles, after: ModelFiles) -> None:
    """Raises Refused where something else than forms has come or changed."""
    was, now = ({**_described(model), "forms": None, "files": None} for model in (before, after))
    if was != now:
        raise Refused(f"{DESCRIPTION} has changed beyond its forms")
    for path in sorted(before.root.rglob("*")):
        place = path.relative_to(before.root)
        if path.is_file() and place != Path(DESCRIPTION) and _sha256(path) != _sha256(after.root / place):
            raise Refused(f"{shown(str(place))} has changed")


def _described(model: ModelFiles) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model.root / DESCRIPTION).read_text())
    return found


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
