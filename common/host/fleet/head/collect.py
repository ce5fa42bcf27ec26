"""Files that come from a host, in pieces, become a run folder under data/results: each piece is verified by its hash.

A cell's pieces are put together under `unfinished/` and become `cells/<key>/` whole, when their sizes and hashes are those
that the host read off its own disk. Files that grow are appended to. run.json comes when the run begins and again when it
ends; of an attempt that was lost it stays as it was, with the reason in `fleet.ended`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.harness.cell_folder import UNFINISHED, CannotWrite, staged
from common.host.runs.run import DESCRIPTION, Run, utc_now

Piece = Mapping[str, Any]


@dataclass
class _Progress:
    """What there is of a file."""

    size: int = 0
    hash: Any = field(default_factory=hashlib.sha256)


class Corrupt(Exception):
    """What arrived is not what was sent, or not what a run consists of; one line."""


class Receiving:
    """The run folder of one attempt. Raises UserError when it cannot be written, Corrupt for what must not be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._progress: dict[str, _Progress] = {}
        self._description: dict[str, Any] = {}
        #: what only we know of the attempt, for `fleet` in run.json
        self.facts: dict[str, Any] = {}

    @property
    def exists(self) -> bool:
        """Whether the run has begun here: its run.json is written."""
        return bool(self._description)

    def take(self, pieces: Iterable[Piece]) -> None:
        """Pieces as on_host.Shipper makes them; those of a cell wait for the rest of it."""
        for piece in pieces:
            name, data = _verified(piece)
            if name == DESCRIPTION:
                self._describe(data)
            else:
                parts = name.split("/")
                cell = self.folder / _waiting(parts[1]) if parts[0] == "cells" else None
                self._append(piece, cell / parts[2] if cell is not None else self.folder.joinpath(*parts))

    def cell(self, key: str, whole: Mapping[str, Any], pieces: Iterable[Piece] = ()) -> None:
        """A cell appears, with the pieces that came last. whole: path -> [bytes, sha256] of each file as the host read it."""
        if "/" in key or key in ("", ".", ".."):
            raise Corrupt(f"{key!r} is no cell")
        ours: list[Piece] = []
        others: list[Piece] = []
        for piece in pieces:
            (ours if str(piece["path"]).startswith(f"cells/{key}/") else others).append(piece)
        self.take(others)
        waiting = self.folder / _waiting(key)
        try:
            with staged(self.folder, key) as folder:
                for path in waiting.iterdir() if waiting.is_dir() else ():
                    path.rename(folder / path.name)
                for piece in ours:
                    self._append(piece, folder / _verified(piece)[0].rpartition("/")[2])
                for name, (size, digest) in whole.items():
                    progress = self._progress.pop(name, None)
                    if progress is None or progress.size != size or progress.hash.hexdigest() != digest:
                        raise Corrupt(f"{name} is not what the host has")
                if f"cells/{key}/cell.csv" not in whole:
                    raise Corrupt(f"cell {key} came without its row")
        except CannotWrite as error:
            raise UserError(f"{self.folder}: {error}") from error
        finally:
            if waiting.is_dir():
                shutil.rmtree(waiting, ignore_errors=True)

    def _append(self, piece: Piece, target: Path) -> None:
        name, offset = str(piece["path"]), int(piece["offset"])
        progress = self._progress.get(name)
        if offset == 0:
            progress = self._progress[name] = _Progress()
        elif progress is None:
            raise Corrupt(f"{name} arrived without its beginning")
        if progress.size != offset:
            raise Corrupt(f"{name} has {progress.size} bytes, the next piece begins at {offset}")
        try:
            if not target.parent.is_dir():
                target.parent.mkdir(parents=True)
            with target.open("ab" if offset else "wb") as file:
                file.write(piece["data"])
        except OSError as error:
            raise _cannot_write(target, error) from error
        progress.size += len(piece["data"])
        progress.hash.update(piece["data"])

    def _describe(self, data: bytes) -> None:
        try:
            description = json.loads(data)
        except ValueError as error:
            raise Corrupt(f"{DESCRIPTION} is not JSON: {error}") from error
        if not isinstance(description, dict):
            raise Corrupt(f"{DESCRIPTION} is not an object")
        self._description = {**description, "run": self.folder.name}
        self._description["fleet"] = {**description.get("fleet", {}), **self.facts}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        Run(self.folder, self._description).save()

    def end(self, reason: str = "") -> None:
        """No more will come. reason: why the attempt ended early, "" where it did not. Without a cell nothing stays."""
        shutil.rmtree(self.folder / UNFINISHED, ignore_errors=True)
        if not any(self.folder.glob("cells/*/cell.csv")):
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self.exists and reason:
            self._description.setdefault("fleet", {})["ended"] = {"reason": reason, "utc": utc_now()}
            Run(self.folder, self._description).save()


def _verified(piece: Piece) -> tuple[str, bytes]:
    """Name and content. Raises Corrupt."""
    name, data = str(piece["path"]), bytes(piece["data"])
    if hashlib.sha256(data).hexdigest() != piece["sha256"]:
        raise Corrupt(f"{name} arrived with another hash than it was sent with")
    parts = name.split("/")
    if not all(parts) or any(part in (".", "..") for part in parts) or (parts[0] == "cells" and len(parts) != 3):
        raise Corrupt(f"{name} is no file of a run")
    return name, data


def _waiting(key: str) -> str:
    """Folder of a cell's pieces until the last has come; another than that of cell_folder.staged, which empties its own."""
    return f"{UNFINISHED}/{key}.arriving"


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}")


def repair(folder: Path) -> None:
    """After the collector itself was killed: what it left half-written goes, a torn last line of a growing file too."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    for path in folder.glob("*.csv"):
        with suppress(OSError), path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            back = min(size, 2**20)
            file.seek(size - back)
            tail = file.read(back)
            if not tail.endswith(b"\n"):
                file.truncate(size - back + tail.rfind(b"\n") + 1)
