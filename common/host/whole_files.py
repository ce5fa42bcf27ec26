"""Files for people are written whole or not at all: beside their place under another name, then renamed.

A full disk, a kill or an error in the middle leaves what was there before. Caches are written by common/whole_writes.py, which
makes folders, removes what kills left and waits for the disk: in a user's own folder that is not ours to do, and a link there, a
mode and /dev/stdout stay what they are.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import UserError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The path to write to in the block, with the same suffix; at its end that file takes the place of `path`.

    When the block raises nothing of it is left. A link stays one and its target is replaced; what is no file, such as
    /dev/stdout, is written to as it is. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        yield path
        return
    part = target.with_name(f".{target.stem[:150]}.{uuid.uuid4().hex[:8]}.part{target.suffix}")
    try:
        yield part
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def check_targets(folder: Path, names: Sequence[str] = ()) -> None:
    """Raises UserError, before any work is done, where files of these names cannot come to be in a folder."""
    if os.path.lexists(folder) and not _is_folder(folder):
        raise UserError(f"cannot write to {folder}: it is a file, and has to be a folder; move it away")
    for name in names:
        if _is_folder(folder / name):
            raise UserError(f"cannot write {folder / name}: it is a folder, and has to be a file; move it away")
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if _is_folder(place))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {folder}: you may not write to {existing}")


def check_target(path: Path) -> None:
    """Raises UserError, before any work is done, where a file that a user named cannot be written."""
    folder = path.absolute().parent
    if not _is_folder(folder):
        raise UserError(f"cannot write {path}: there is no folder {folder}")
    if os.path.lexists(path) and not _is_folder(path) and not path.is_file() and os.access(path, os.W_OK):
        return  # such as /dev/stdout: nothing comes to be in its folder
    check_targets(folder, (path.name,))


def _is_folder(path: Path) -> bool:
    """As Path.is_dir, but False where that raises: in a folder that may not be searched, for a name that is too long."""
    try:
        return path.is_dir()
    except OSError:
        return False


def write_text(path: Path, text: str) -> None:
    """As Path.write_text in UTF-8, whole. Raises OSError."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
