"""Runs as one compressed file each, `<run>.tar.xz`: what `invoke keep --seal` writes and every task that takes a RUN reads.

A run has thousands of rows in dozens of files; sealed, it is about a seventh of the size and one file in a repository. It is
unpacked once, into the cache folder, and read there like any other run.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from common.errors import UserError

SUFFIX = ".tar.xz"


def is_sealed(path: Path) -> bool:
    return path.name.endswith(SUFFIX) and path.is_file()


def seal(folder: Path) -> Path:
    """Replaces a run folder by the archive beside it; the same files give the same bytes. Returns the archive."""
    target = folder.with_name(folder.name + SUFFIX)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(part, "w:xz", preset=9) as archive:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                entry = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
                entry.size = path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(entry, file)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    shutil.rmtree(folder)
    return target


def unsealed(archive: Path, cache: Path) -> Path:
    """The run folder of an archive, unpacked below `cache` unless it is there already.

    Raises UserError for a file that is no sealed run, or is damaged.
    """
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()[:12]
    name = archive.name[: -len(SUFFIX)]
    place = cache / "unsealed" / digest
    if (place / name / "run.json").is_file():
        return place / name
    place.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{digest}-"))
    try:
        _unpack(archive, name, part)
        if not (part / name / "run.json").is_file():
            raise UserError(f"{archive} holds no run: there is no {name}/run.json in it")
        shutil.rmtree(place, ignore_errors=True)  # of which somebody took files away
        part.replace(place)
    except OSError:
        if not (place / name / "run.json").is_file():
            raise
        # another process was first
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place / name


def _unpack(archive: Path, name: str, folder: Path) -> None:
    """Plain files below `name/` alone: an archive may come from anywhere."""
    try:
        with tarfile.open(archive, "r:xz") as opened:
            for entry in opened:
                parts = PurePosixPath(entry.name).parts
                if not entry.isfile() or parts[:1] != (name,) or ".." in parts:
                    raise UserError(f"{archive} is not a run sealed by invoke keep: it holds {entry.name}")
                source = opened.extractfile(entry)
                assert source is not None
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise UserError(f"{archive} is damaged: {str(error) or 'it ends too early'}") from error
