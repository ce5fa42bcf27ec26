"""A run folder in pieces that fit into messages. Travels to hosts with on_host.py; standard library alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Message = dict[str, Any]

#: a piece of a file is at most this long: what a host and the head hold of a result at once, however large it is
PIECE_BYTES = 4 * 2**20


class Shipper:
    """Reads a run folder in pieces: {path, offset, data, sha256 of data}, path relative to it.

    Files of a cell are read once, when it is whole. Files that grow (attempts.csv, power.csv) are read from where the last
    reading ended, whole lines only, with each cell. The rest (run.json anew, jobs, logs) comes at the end.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._sent: dict[str, int] = {}

    def described(self) -> list[Message]:
        """run.json, in one piece whatever its size."""
        data = (self._run / "run.json").read_bytes()
        return [{"path": "run.json", "offset": 0, "data": data, "sha256": hashlib.sha256(data).hexdigest()}]

    def growing(self) -> Iterator[Message]:
        for path in sorted(self._run.glob("*.csv")):
            yield from self._pieces(path.name, self._sent.get(path.name, 0), whole_lines=True)

    def cell(self, finished: Message) -> Iterator[Message]:
        """`files` messages for what is large, then the cell's own message with what is small."""
        folder = self._run / "cells" / str(finished["cell_key"])
        small: list[Message] = []
        whole: dict[str, list[Any]] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            name = f"cells/{folder.name}/{path.name}"
            digest = hashlib.sha256()
            size = 0
            for piece in self._pieces(name, 0):
                digest.update(piece["data"])
                size += len(piece["data"])
                yield from self._collect(small, piece)
            whole[name] = [size, digest.hexdigest()]
        for piece in self.growing():
            yield from self._collect(small, piece)
        yield {**finished, "files": small, "whole": whole}

    def everything_else(self) -> Iterator[Message]:
        small: list[Message] = []
        for path in sorted(self._run.rglob("*")):
            name = str(path.relative_to(self._run))
            top = name.partition("/")[0]
            if path.is_file() and top not in ("cells", "unfinished", ".lock") and name != "run.json":
                for piece in self._pieces(name, self._sent.get(name, 0)):
                    yield from self._collect(small, piece)
        if small:
            yield {"kind": "files", "files": small}
        yield {"kind": "files", "files": self.described()}

    def _collect(self, small: list[Message], piece: Message) -> Iterator[Message]:
        """Keeps pieces until they are one message's worth."""
        small.append(piece)
        if sum(len(one["data"]) for one in small) >= PIECE_BYTES:
            yield {"kind": "files", "files": list(small)}
            small.clear()

    def _pieces(self, name: str, offset: int, whole_lines: bool = False) -> Iterator[Message]:
        """From the offset to the end; an empty file is one empty piece."""
        try:
            file = (self._run / name).open("rb")
        except OSError:
            return
        with file:
            file.seek(offset)
            first = True
            while True:
                data = file.read(PIECE_BYTES)
                if whole_lines:
                    data = data[: data.rfind(b"\n") + 1]
                    file.seek(offset + len(data))
                if not data and not (first and offset == 0 and not whole_lines):
                    return
                yield {"path": name, "offset": offset, "data": data, "sha256": hashlib.sha256(data).hexdigest()}
                offset += len(data)
                self._sent[name] = offset
                first = False
                if len(data) < PIECE_BYTES and not whole_lines:
                    return
