"""The folder of an exported model: made under a temporary name, renamed when it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator

from common.errors import UserError
from common.held_folders import held_folder, remove_abandoned
from common.model_files import DESCRIPTION, ModelFiles

if TYPE_CHECKING:
    import numpy as np

#: part of every model's hash: raise it when the exporter makes other files of the same weights
EXPORT_VERSION = 1
HASH_DIGITS = 12


class Digest:
    """SHA-256 over labelled parts, so that moving a byte from one part to the next changes it."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self.text("export", str(EXPORT_VERSION))

    def data(self, label: str, content: bytes) -> None:
        self._sha.update(f"{label}:{len(content)}:".encode())
        self._sha.update(content)

    def text(self, label: str, content: str) -> None:
        self.data(label, content.encode())

    def array(self, label: str, values: np.ndarray) -> None:
        import numpy as np  # here: the host takes file_sha256 from this module before it needs any array

        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        self.text(label, f"{little.dtype.str}{little.shape}")
        self.data(label, little.tobytes())

    def short(self) -> str:
        return self._sha.hexdigest()[:HASH_DIGITS]


def existing(out: Path, name: str, digest: str) -> bool:
    """True when that model lies in `out`, whole and readable."""
    folder = out / f"{name}-{digest}"
    try:
        return not ModelFiles.read(folder).lacking()
    except (OSError, ValueError):
        return False


@contextmanager
def temporary_folder(out: Path) -> Iterator[Path]:
    """A folder in `out` that is gone at the end unless it was published. Raises UserError where `out` cannot be written."""
    with ExitStack() as held:
        try:
            out.mkdir(parents=True, exist_ok=True)
            remove_abandoned(out)
            folder = held.enter_context(held_folder(out))
        except OSError as error:
            raise UserError(f"cannot write models to {out}: {error.strerror}") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, model: ModelFiles, extra: Dict[str, Any]) -> Path:
    """Writes model.json beside the files, makes them readable for containers, renames the folder to its final name.

    extra: what model.json holds beside ModelFiles.describe(). Where another exporter was first with the same model,
    that one stays; where that model's folder is there and lacks files, it gets them. Returns the final folder.
    """
    description = {**model.describe(), **extra, "files": _file_hashes(folder), "export_version": EXPORT_VERSION}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)  # mkdtemp made it private; a container's user is another one
    final = folder.parent / f"{model.name}-{model.hash}"
    try:
        folder.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        if not existing(folder.parent, model.name, model.hash):
            _complete(final, folder)
    return final


def _complete(final: Path, whole: Path) -> None:
    """Moves the files of `whole` to `final` one by one, the description last: who reads there meanwhile keeps what it has."""
    files = sorted(path for path in whole.rglob("*") if path.is_file() and path != whole / DESCRIPTION)
    for path in [*files, whole / DESCRIPTION]:
        target = final / path.relative_to(whole)
        for folder in reversed([final, *target.parents]):
            if final in folder.parents and not folder.is_dir():
                folder.unlink(missing_ok=True)  # a file where a folder belongs
                folder.mkdir()
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)


def _file_hashes(folder: Path) -> Dict[str, Dict[str, Any]]:
    """Relative path -> SHA-256 and size in bytes."""
    files: Iterable[Path] = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in files
    }


@contextmanager
def unchanged(path: Path) -> Iterator[str]:
    """SHA-256 of a file that is read inside, so that it is of what was read whatever becomes of the file later.

    Raises UserError for a file that cannot be read, and at the end for one that is not the same any more.
    """
    try:
        before = file_sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    yield before
    try:
        after = file_sha256(path)
    except OSError:  # it is gone
        after = ""
    if after != before:
        raise changed(path)


def changed(path: Path) -> UserError:
    return UserError(f"{path} changed while it was exported; export it again")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
