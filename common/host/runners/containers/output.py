"""What a container prints, line by line and never more than it may, and how it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from docker.errors import DockerException
from docker.models.containers import Container

#: a longer line is handed on in pieces; events are shorter
_MOST_LINE_BYTES = 2**16
_MOST_LOG_BYTES = 64 * 2**20


def lines(container: Container) -> Iterator[str]:
    """The container's output until it ends."""
    rest = b""
    for chunk in container.logs(stream=True, follow=True):
        *whole, rest = (rest + chunk).split(b"\n")
        while len(rest) > _MOST_LINE_BYTES:
            whole.append(rest[:_MOST_LINE_BYTES])
            rest = rest[_MOST_LINE_BYTES:]
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


class ContainerLog:
    """What a container printed beside its events, in a file of the host's. It ends where it would grow for ever."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = 0
        self._file: IO[str] | None = None

    def __enter__(self) -> ContainerLog:
        self._path.parent.mkdir(exist_ok=True)
        self._file = self._path.open("a")
        self._left = max(0, _MOST_LOG_BYTES - self._file.tell())
        return self

    def write(self, line: str) -> None:
        if self._file is None or self._left <= 0:
            return
        self._file.write(line + "\n")
        self._left -= len(line.encode(errors="replace")) + 1
        if self._left <= 0:
            self._file.write("(more than this is not kept)\n")

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()


def stop(container: Container, seconds: int) -> None:
    """Asks it to end, and kills it after so many seconds; it may be gone already."""
    with suppress(DockerException):
        container.unpause()  # a paused container takes no signal
    with suppress(DockerException):
        container.stop(timeout=seconds)
