"""Whether an image holds this checkout's code, for images without the label that says so: `docker compose build` made them.

compose.yaml cannot hold a digest that changes with every edit. So the files themselves are compared, taken out of the image
without running anything of it. (What pip installed is not looked at: requirements are a matter of the build.)
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from typing import Any

import docker

from common.host.paths import ROOT
from common.host.runners.containers import images
from common.host.runners.containers.engine import LABEL, explained
from common.host.runners.containers.leftovers import owner_labels, remove_container

INSIDE = "/opt/framewatt"
#: what no container runs
_HOST_SIDE = ("common/host/", "common/stats/")
#: framewatt's code in an image is less than a tenth of it
_MOST_BYTES = 64 * 2**20


def is_current(client: docker.DockerClient, built: Any, image: str) -> bool:
    """built: the image as the engine describes it. image: its folder under images/."""
    label = built.labels.get(f"{LABEL}.source")
    if label is not None:
        return bool(label == images.source_digest(image))
    with explained(f"the code of image {built.tags[0] if built.tags else built.id} cannot be looked at"):
        container = client.containers.create(built.id, ["true"], labels=owner_labels(), network_mode="none")
        try:
            stream, _ = container.get_archive(INSIDE)
            inside = _files(stream)
        finally:
            remove_container(container)
    return inside == _expected(image, inside)


def _expected(image: str, inside: dict[str, bytes]) -> dict[str, bytes]:
    """The checkout's files that the image's Dockerfile copies: all Python of common/, of images/<image>/ what it took."""
    folders = ("common/sidecar",) if image == "sidecar" else ("common",)
    wanted = {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py")} | set(inside)
    paths = {name: ROOT / name for name in wanted if not name.startswith(_HOST_SIDE)}
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in paths.items()}


def _files(stream: Iterable[bytes]) -> dict[str, bytes]:
    """Path below INSIDE -> content of each regular Python file of an archive; none of one that is too large for code."""
    archive = b""
    for chunk in stream:
        archive += chunk
        if len(archive) > _MOST_BYTES:
            return {}
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            name = member.name.partition("/")[2]
            content = members.extractfile(member) if member.isreg() and name.endswith(".py") else None
            if content is not None and not name.startswith(_HOST_SIDE) and ".." not in name.split("/"):
                found[name] = content.read()
    return found
