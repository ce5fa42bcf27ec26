"""Images of the frameworks: built from images/<name>/Dockerfile with the classic builder, told apart by flavour."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import ImageNotFound

from common.errors import UserError
from common.harness.causes import reported_before
from common.host.frameworks.registry import default_argument
from common.host.frameworks.versions import Pin
from common.host.host_info import source_revision
from common.host.paths import IMAGES, ROOT
from common.host.runners.containers import bases
from common.host.runners.containers.engine import LABEL, explain, explained
from common.install_locked import REASON

#: pip settings of the caller that a build honours: package mirrors and folders of wheels
PIP_ARGUMENTS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST")

#: label of an image: the file of its folder that was installed
REQUIREMENTS = f"{LABEL}.requirements"


@dataclass(frozen=True)
class Built:
    """What a build made."""

    tag: str
    digest: str
    size_bytes: int
    seconds: float


#: the image of compose's plan and analysis: packages of the lock alone, the same for both flavours
ANALYZE = "analyze"


#: images that run no framework, hence no notebook
SUPPORT = ("sidecar", ANALYZE)


def prefix() -> str:
    """What the names of the images begin with: FRAMEWATT_IMAGES, as in compose.yaml."""
    return os.environ.get("FRAMEWATT_IMAGES") or "framewatt"


def tag_of(image: str, flavour: str, notebook: bool = False, pin: Pin | None = None) -> str:
    """framewatt/<image>:<flavour>, flavour cpu or gpu, under the prefix of all images.

    notebook: the image that can also run a Jupyter kernel, <flavour>-notebook. pin: <flavour>-<package>-<version>.
    """
    suffix = "-notebook" if notebook and image not in SUPPORT else ""
    suffix += f"-{pin.label}" if pin else ""
    return f"{prefix()}/{image}:{'local' if image == ANALYZE else flavour + suffix}"


def build_command(image: str, flavour: str, notebook: bool = False) -> str:
    """What a user types to have the image."""
    options = (" --cpu" if flavour == "cpu" else "") + (" --notebook" if notebook and image not in SUPPORT else "")
    return f"invoke build --framework {image}{options}"


def requirements_of(image: str, flavour: str) -> str:
    """File of an image's folder that its build installs; FRAMEWATT_REQUIREMENTS_<IMAGE> names another for the GPU flavour."""
    if flavour == "cpu":
        return "requirements-cpu.txt"
    return os.environ.get(f"FRAMEWATT_REQUIREMENTS_{image.upper().replace('-', '_')}") or "requirements.txt"


def inspect(client: docker.DockerClient, image: str, flavour: str, notebook: bool = False) -> Any:
    """The built image. Raises UserError with the command that builds it when it is not there."""
    try:
        with explained(f"image {tag_of(image, flavour, notebook)} cannot be looked at", but=ImageNotFound):
            return client.images.get(tag_of(image, flavour, notebook))
    except ImageNotFound:
        raise UserError(
            f"image {tag_of(image, flavour, notebook)} is not built: {build_command(image, flavour, notebook)}; "
            "or use --runner local"
        ) from None


def build_version(
    client: docker.DockerClient, pin: Pin, flavour: str, notebook: bool, on_line: Callable[[str], None]
) -> str:
    """Builds the image of a version on the base of the locked one, unless it is there; returns its digest. Raises UserError."""
    locked = inspect(client, pin.image, flavour, notebook)
    current = find_version(client, pin, flavour, notebook)
    if current is not None:
        return str(current.id)
    base, network = (locked.labels.get(f"{LABEL}.{name}", "") for name in ("base", "network"))
    return build(
        client, pin.image, flavour, base=base, network=network, notebook=notebook, pin=pin, on_line=on_line
    ).digest  # fmt: skip


def find_version(client: docker.DockerClient, pin: Pin, flavour: str, notebook: bool) -> Any:
    """The image of a version that holds this checkout's code, or None."""
    tag = tag_of(pin.image, flavour, notebook, pin)
    try:
        with explained(f"image {tag} cannot be looked at", but=ImageNotFound):
            found = client.images.get(tag)
    except ImageNotFound:
        return None
    return found if found.labels.get(f"{LABEL}.source") == source_digest(pin.image) else None


def is_built(client: docker.DockerClient, image: str, flavour: str, notebook: bool = False) -> bool:
    """Whether the engine has the image, of whatever state of the code."""
    tag = tag_of(image, flavour, notebook)
    try:
        with explained(f"image {tag} cannot be looked at", but=ImageNotFound):
            client.images.get(tag)
    except ImageNotFound:
        return False
    return True


def source_digest(image: str) -> str:
    """Digest of the files that go into an image, so that a stale image can be told from a current one."""
    digest = hashlib.sha256()
    folders = [IMAGES / image, *_shared_with(image)]
    if image == "sidecar":
        # Of framewatt's code its Dockerfile copies no more than this.
        modules = ("schema.py", "text.py", "window_edges.py")  # what its Dockerfile copies
        folders += [ROOT / "common" / "sidecar", *(ROOT / "common" / name for name in modules)]
    elif image == ANALYZE:
        folders += [ROOT / "requirements.lock"]
    else:
        folders += [ROOT / "common", IMAGES / "__init__.py"]
    files = [path for folder in folders for path in ([folder] if folder.is_file() else folder.rglob("*"))]
    for path in sorted(path for path in files if path.is_file()):
        relative = path.relative_to(ROOT)
        if "__pycache__" in relative.parts or not {"host", "stats"}.isdisjoint(relative.parts[:2]):
            continue
        digest.update(str(relative).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _shared_with(image: str) -> list[Path]:
    """Folders and files of other images that this one's Dockerfile copies: code that two images share lies once."""
    file = IMAGES / image / "Dockerfile"
    text = file.read_text() if file.is_file() else ""  # an image of somebody else's making
    sources = [word for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    others = [word for word in sources if word.startswith("images/") and not word.startswith(f"images/{image}/")]
    return [path for word in others for path in sorted(ROOT.glob(word))]


def build(
    client: docker.DockerClient,
    image: str,
    flavour: str,
    *,
    base: str = "",
    network: str = "",
    notebook: bool = False,
    pin: Pin | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> Built:
    """Builds one image; the context is the checkout as .dockerignore leaves it. Raises UserError with the failing step's words.

    base: replaces the Dockerfile's default BASE_IMAGE. network: "host" lets a build reach servers on this machine's loopback.
    notebook: adds what --frontend notebook needs, and tags the image so. pin: another version of the framework, likewise.
    """
    folder = IMAGES / image
    dockerfile = folder / "Dockerfile"
    if not dockerfile.is_file():
        raise UserError(f"images/{image} has no Dockerfile")
    requirements = requirements_of(image, flavour)
    if image != ANALYZE and requirements != "none" and not (folder / requirements).is_file():
        raise UserError(f"images/{image} has no {requirements}: it has no {flavour.upper()} flavour")
    arguments = {name: os.environ[name] for name in PIP_ARGUMENTS if os.environ.get(name)}
    if image != ANALYZE:
        arguments["REQUIREMENTS"] = requirements
    if notebook:
        arguments["NOTEBOOK"] = "1"
    if pin:
        arguments["PIN"] = pin.requirement
    arguments["REVISION"] = source_revision() or "unknown"
    wanted = bases.pinned(base or default_argument(dockerfile, "BASE_IMAGE"))
    if wanted:
        arguments["BASE_IMAGE"] = wanted
    tag = tag_of(image, flavour, notebook, pin)
    started = time.monotonic()
    labels = {LABEL: "1", f"{LABEL}.source": source_digest(image), f"{LABEL}.flavour": flavour, f"{LABEL}.base": wanted}
    labels |= {REQUIREMENTS: requirements, f"{LABEL}.network": network} | (
        {f"{LABEL}.pin": pin.requirement} if pin else {}
    )
    words: list[str] = []
    with explained(f"image {tag} cannot be built"):
        stream = client.api.build(
            path=str(ROOT), dockerfile=f"images/{image}/Dockerfile", tag=tag, buildargs=arguments,
            labels=labels, rm=True, forcerm=True, decode=True, network_mode=network or None,
        )  # fmt: skip
        for message in stream:
            if "error" in message:
                raise UserError(f"image {tag} cannot be built: {_build_error(str(message['error']), words, wanted)}")
            # What a command writes to standard error arrives in colour.
            text = re.sub(r"\x1b\[[0-9;]*m", "", str(message.get("stream") or message.get("status") or "")).strip()
            if text:
                words = [*words[-40:], *text.splitlines()]
                on_line(text.splitlines()[-1])
        built = client.images.get(tag)
    return Built(tag, str(built.id), int(built.attrs["Size"]), time.monotonic() - started)


def _build_error(error: str, words: list[str], base: str) -> str:
    """The line that tells: pip's error before the engine's 'returned a non-zero code'."""
    explained_error = explain(error)
    if "base image cannot be fetched" in explained_error:
        return f"{base}: {explained_error}"
    if re.search("no space left on device", " ".join(words), re.IGNORECASE):  # pip's words, of the engine's disk
        return explain("no space left on device")
    reasons = [line.strip().removeprefix(REASON) for line in words if line.strip().startswith(REASON)]
    if reasons:
        return reasons[-1]
    found = [line for line in words if re.search(r"(ERROR|Error|\berror)\b", line)]
    if not found or "non-zero code" not in error:
        return explained_error
    before = reported_before(words, found[-1])
    return f"{found[-1].strip()[:300]} ({before or error[:120]})"
