"""What a container prints, line by line, and how it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from docker.errors import DockerException
from docker.models.containers import Container


def lines(container: Container) -> Iterator[str]:
    """The container's output until it ends."""
    rest = b""
    for chunk in container.logs(stream=True, follow=True):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def stop(container: Container, seconds: int) -> None:
    """Asks it to end, and kills it after so many seconds; it may be gone already."""
    with suppress(DockerException):
        container.unpause()  # a paused container takes no signal
    with suppress(DockerException):
        container.stop(timeout=seconds)
