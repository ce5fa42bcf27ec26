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
from pathlib import Path, PurePosixPath
from typing import Any

from common.errors import UserError
from common.harness.cell_folder import UNFINISHED, CannotWrite, staged
from common.host.runs import DESCRIPTION, Run, utc_now


class Corrupt(Exception):
    """What arrived is not what was sent, or not what a run consists of; one line."""


class Receiving:
    """The run folder of one attempt. Raises UserError when it cannot be written, Corrupt for what must not be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hashes: dict[str, Any] = {}
        self._description: dict[str, Any] = {}
        #: what only we know of the attempt, for `fleet` in run.json
        self.facts: dict[str, Any] = {}

    @property
    def exists(self) -> bool:
        """Whether the run has begun here: its run.json is written."""
        return bool(self._description)

    def take(self, pieces: Iterable[Mapping[str, Any]]) -> None:
        """Pieces as on_host.Shipper makes them."""
        for piece in pieces:
            self._take(piece)

    def _take(self, piece: Mapping[str, Any]) -> None:
        name, data, offset = str(piece["path"]), bytes(piece["data"]), int(piece["offset"])
        if hashlib.sha256(data).hexdigest() != piece["sha256"]:
            raise Corrupt(f"{name} arrived with another hash than it was sent with")
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or (parts[0] == "cells" and len(parts) != 3):
            raise Corrupt(f"{name} is no file of a run")
        if name == DESCRIPTION:
            self._describe(data)
            return
        target = self.folder.joinpath(*(self._staging(parts[1]), parts[2]) if parts[0] == "cells" else parts)
        if offset == 0:
            self._hashes[name] = hashlib.sha256()
        elif name not in self._hashes:
            raise Corrupt(f"{name} arrived without its beginning")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb" if offset == 0 else "ab") as file:
                if file.tell() != offset:
                    raise Corrupt(f"{name} has {file.tell()} bytes, the next piece begins at {offset}")
                file.write(data)
        except OSError as error:
            raise _cannot_write(target, error) from error
        self._hashes[name].update(data)

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

    def cell(self, key: str, whole: Mapping[str, Any]) -> None:
        """All pieces of a cell are here: it appears. whole: path -> [bytes, sha256] as the host read them."""
        if "/" in key or key in ("", ".", ".."):
            raise Corrupt(f"{key!r} is no cell")
        staging = self.folder / self._staging(key)
        try:
            for name, (size, digest) in whole.items():
                place = staging / PurePosixPath(name).name
                if (
                    name not in self._hashes
                    or not place.is_file()
                    or place.stat().st_size != size
                    or self._hashes.pop(name).hexdigest() != digest
                ):
                    raise Corrupt(f"{name} is not what the host has")
            if f"cells/{key}/cell.csv" not in whole:
                raise Corrupt(f"cell {key} came without its row")
            with staged(self.folder, key) as folder:
                for path in staging.iterdir():
                    path.rename(folder / path.name)
        except CannotWrite as error:
            raise UserError(f"{self.folder}: {error}") from error
        except OSError as error:
            raise _cannot_write(staging, error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @staticmethod
    def _staging(key: str) -> str:
        # Another name than that of cell_folder.staged, which empties its own.
        return f"{UNFINISHED}/{key}.arriving"

    def end(self, reason: str = "") -> None:
        """No more will come. reason: why the attempt ended early, "" where it did not."""
        shutil.rmtree(self.folder / UNFINISHED, ignore_errors=True)
        if self.exists and reason:
            self._description.setdefault("fleet", {})["ended"] = {"reason": reason, "utc": utc_now()}
            Run(self.folder, self._description).save()


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
