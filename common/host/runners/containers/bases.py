"""Digests of base images: `images/bases.lock` keeps them beside the tags that the Dockerfiles name.

A tag can be given to another image at any time, a digest cannot. A base without a digest in the file is taken by its tag.
"""

from __future__ import annotations

import re
from pathlib import Path

import docker
from docker.errors import DockerException
from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host.frameworks.registry import default_argument
from common.host.paths import IMAGES
from common.host.runners.containers import engine

FILE = IMAGES / "bases.lock"
UNKNOWN = "unknown"
#: of the CPU flavours, where no other is named
CPU_BASE = "python:3.11-slim"
_HEAD = """\
# Digests of base images, one `NAME:TAG DIGEST` a line; `invoke lock --bases` looks them up through the Docker engine.
# `unknown`: the registry has not been asked yet, and the tag alone is taken.
"""
_LINE = re.compile(r"(?P<name>\S+)\s+(?P<digest>sha256:[0-9a-f]{64}|unknown)")


def read(file: Path = FILE) -> dict[str, str]:
    """NAME:TAG -> digest, or "unknown". Raises UserError for a line that is neither."""
    found: dict[str, str] = {}
    lines = file.read_text().splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise UserError(f"{file} line {number}: '{line[:80]}' is not NAME:TAG sha256:... or NAME:TAG unknown")
            found[match["name"]] = match["digest"]
    return found


def pinned(base: str, file: Path = FILE) -> str:
    """The base with its digest beside the tag where that is known, else as it is."""
    digest = read(file).get(base, UNKNOWN)
    return base if digest == UNKNOWN else f"{base}@{digest}"


def default_bases(images: Path = IMAGES) -> list[str]:
    """Of the Dockerfiles and of the CPU flavours, sorted."""
    named = {default_argument(file, "BASE_IMAGE") for file in images.glob("[!_.]*/Dockerfile")}
    return sorted({CPU_BASE, *named} - {""})


def look_up(console: Console, file: Path = FILE, client: docker.DockerClient | None = None) -> None:
    """Asks the registries for today's digests and writes the file; a base that cannot be asked for keeps what it has.

    Raises UserError without an engine.
    """
    client = client or engine.connect()
    known = read(file)
    before = dict(known)
    for base in sorted({*default_bases(), *known}):
        try:
            known[base] = str(client.api.inspect_distribution(base)["Descriptor"]["digest"])
            outcome = known[base]
        except (DockerException, KeyError) as error:
            known.setdefault(base, UNKNOWN)
            outcome = f"stays {known[base]}: {engine.explain(str(error))}"
        console.print(escape(f"{base}: {outcome}"), highlight=False, soft_wrap=True)
    file.write_text(_HEAD + "".join(f"{base} {digest}\n" for base, digest in sorted(known.items())))
    if known != before:
        console.print(
            escape(f"written: {file}; invoke compose writes them into compose.yaml"), highlight=False, soft_wrap=True
        )
