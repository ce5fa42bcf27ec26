"""Runs as one compressed file each, `<run>.tar.xz`: what `invoke keep --seal` writes and every task that takes a RUN reads.

A run has thousands of rows in dozens of files; sealed, it is about a seventh of the size and one file in a repository. It is
unpacked once, into the cache folder, and read there like any other run.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

from common import names, schema
from common.errors import UserError
from common.held_folders import holding
from common.host import regular_files
from common.whole_writes import write_whole

SUFFIX = ".tar.xz"
#: An archive itself; what it holds in all, and for each byte of it (those of the reference hold 4 to 11); files in it.
MOST_ARCHIVE_BYTES = 512 * 2**20
MOST_BYTES = 4 * 2**30
MOST_RATIO = 100
#: Below this any ratio will do: small files of zeros harm nobody.
FREE_BYTES = 16 * 2**20
MOST_FILES = 1_000_000
MOST_MEMORY = 256 * 2**20
#: Between two members: headers and padding.
_MOST_HEADER_BYTES = 2**16

_OF_RUN = re.compile(r"run\.json|attempts\.csv|power[A-Za-z0-9_-]{0,80}\.csv")
_OF_CELL = frozenset(schema.FILES) - {"power.csv", "attempts.csv"}


def is_archive(path: Path) -> bool:
    return path.name.endswith(SUFFIX) and path.is_file()


def seal(folder: Path) -> Path:
    """Replaces a run folder by the archive beside it; the same files give the same bytes. Returns the archive."""
    target = folder.with_name(folder.name + SUFFIX)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
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


def unpacked(archive: Path, cache: Path) -> Path:
    """The run folder of an archive, unpacked below `cache` unless it is there already, as it was unpacked.

    Raises UserError for a file that is no sealed run, is damaged, or holds more than it may.
    """
    try:
        with os.fdopen(os.open(archive, regular_files.OPEN & ~os.O_NOFOLLOW), "rb") as file:  # the user may name a link
            if os.fstat(file.fileno()).st_size > MOST_ARCHIVE_BYTES:
                raise UserError(
                    f"{archive} is larger than {regular_files.size_in_words(MOST_ARCHIVE_BYTES)}: no run is"
                )
            content = file.read(MOST_ARCHIVE_BYTES)
    except OSError as error:
        raise UserError(f"{archive} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    name = archive.name[: -len(SUFFIX)]
    # the name too: the same archive under another name is another run
    place = cache / "unsealed" / f"{digest}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
    note = place.with_name(f"{place.name}.note")
    if _is_as_unpacked(place, note):
        return place / name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{digest[:12]}-"))
    except OSError as error:
        raise UserError(f"{place.parent} cannot be written: {error.strerror}") from error
    try:
        with holding(part):
            _unpack(archive, content, name, part)
            if not (part / name / "run.json").is_file():
                raise UserError(f"{archive} holds no run: there is no {name}/run.json in it")
            _put_in_place(part, place, note)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place / name


def _put_in_place(part: Path, place: Path, note: Path) -> None:
    for changed in (place, note):
        _remove(changed)
    try:
        part.replace(place)
    except OSError:
        if not _is_as_unpacked(place, note):  # else another process was first
            raise
        return
    write_whole(note, _looks(place).encode("ascii"))


def _remove(path: Path) -> None:
    """What somebody changed, whatever stands there now; a link is not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _is_as_unpacked(place: Path, note: Path) -> bool:
    try:
        return regular_files.read(note, 1024).decode("ascii") == _looks(place)
    except (OSError, ValueError):
        return False


def _looks(folder: Path) -> str:
    """A digest of names, kinds, sizes and times of all that lies in a folder. Raises OSError."""
    digest = hashlib.sha256()
    for at, folders, files in os.walk(folder, onerror=_raise):
        folders.sort()
        for name in sorted((*folders, *files)):
            path = os.path.join(at, name)  # noqa: PTH118 - Path costs three times as much
            status = os.lstat(path)
            facts = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            digest.update(os.fsencode(os.path.relpath(path, folder)) + b"\0" + repr(facts).encode())
    return digest.hexdigest()


def _raise(error: OSError) -> None:
    raise error


class _Bounded(io.RawIOBase):
    """What an archive holds, unpacked piece by piece: at most so many bytes in all, and within so much memory.

    allowed: how many bytes may still come before somebody says again how many (`allow`).
    """

    def __init__(self, archive: Path, content: bytes) -> None:
        self._archive = archive
        self._content = memoryview(content)
        self._at = 0
        self._unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MOST_MEMORY)
        self._most = min(MOST_BYTES, max(FREE_BYTES, MOST_RATIO * len(content)))
        self._given = 0
        self._allowed = 0
        #: whether there was nothing left where there should have been
        self.cut_off = False
        self.allow(0)

    def allow(self, size: int) -> None:
        """The next member has so many bytes."""
        self._allowed = self._given + size + _MOST_HEADER_BYTES

    def finish(self) -> None:
        """Reads what is behind the last member: the checksum that xz puts there. Raises EOFError where it is cut off."""
        self.allow(0)
        while self.read(2**16):
            pass

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        pieces: list[bytes] = []
        while size > 0 and not self._unpacker.eof:
            if self._unpacker.needs_input:
                more = bytes(self._content[self._at : self._at + 2**16])
                self._at += len(more)
                if not more:
                    self.cut_off = True
                    raise EOFError("it ends too early")
            else:
                more = b""
            piece = self._unpacker.decompress(more, size)
            pieces.append(piece)
            size -= len(piece)
            self._given += len(piece)
            if self._given > self._most:
                raise UserError(
                    f"{self._archive} holds more than {regular_files.size_in_words(self._most)}, {MOST_RATIO} times its own "
                    "size: no sealed run does; nothing of it was kept"
                )
            if self._given > self._allowed:
                raise tarfile.ReadError("its headers are larger than any member's")
        return b"".join(pieces)


def _unpack(archive: Path, content: bytes, name: str, folder: Path) -> None:
    """The files of a run, below `name/`, and nothing else."""
    stream = _Bounded(archive, content)
    seen: set[str] = set()
    try:
        # blocks of 512 bytes: what is read ahead of a member's header is nothing
        with tarfile.open(fileobj=stream, mode="r|", bufsize=512, encoding="utf-8", errors="surrogateescape") as opened:
            for entry in opened:
                _check_member(archive, name, entry, seen)
                stream.allow(entry.size)
                source = opened.extractfile(entry)
                assert source is not None
                target = folder / entry.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, 2**16)
                stream.allow(0)
        stream.finish()
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, OverflowError) as error:
        if stream.cut_off:
            raise UserError(f"{archive} is cut off: it ends before what it holds is complete; copy it again") from error
        raise UserError(f"{archive} is damaged: {error}") from error
    except OSError as error:
        raise UserError(f"{archive} cannot be unpacked: {error.strerror or error}") from error


def _check_member(archive: Path, name: str, entry: tarfile.TarInfo, seen: set[str]) -> None:
    """Raises UserError for what no sealed run holds."""
    wrong = None
    if not entry.isreg() or entry.issparse():
        wrong = "which is no plain file"
    elif not _belongs(entry.name, name):
        wrong = "which no run has"
    elif entry.name in seen:
        wrong = "twice"
    of_run = entry.name.partition("/")[0]
    if wrong and not seen and entry.isreg() and of_run[:1] != "." and _belongs(entry.name, of_run):
        raise UserError(f"{archive} holds the run {of_run[:200]}: give it its name again, {of_run[:200]}{SUFFIX}")
    if wrong:
        raise UserError(f"{archive} is not a run sealed by invoke keep: it holds {entry.name[:200]!r}, {wrong}")
    if len(seen) >= MOST_FILES:
        raise UserError(f"{archive} is not a run sealed by invoke keep: it holds more than {MOST_FILES:,} files")
    seen.add(entry.name)


def _belongs(path: str, name: str) -> bool:
    parts = path.split("/")
    if parts[0] != name:
        return False
    if len(parts) == 2:
        return _OF_RUN.fullmatch(parts[1]) is not None
    return len(parts) == 4 and parts[1] == "cells" and not names.key_fault(parts[2]) and parts[3] in _OF_CELL
