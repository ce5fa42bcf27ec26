"""What a killed run leaves on the engine: containers whose host process is gone. Found by label, never by name."""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from common.host.paths import ROOT
from common.host.runners.containers.engine import LABEL, explained

OWNER = f"{LABEL}.owner"


def owner_labels() -> dict[str, str]:
    """Labels of a container that this process makes and that must not outlive it."""
    return {LABEL: "1", OWNER: _owner(os.getpid()), f"{LABEL}.host": platform.node(), f"{LABEL}.checkout": str(ROOT)}


def remove_container(container: Any) -> None:
    """Removes it, running or not, with its anonymous volumes; it may be gone already, or the engine may be."""
    with suppress(APIError, NotFound, requests.exceptions.RequestException):
        container.remove(force=True, v=True)


def name_of(run: Path, what: str) -> str:
    """Name of a container of the run in that folder: two runs of one second, in two data folders, have containers of their own."""
    where = f"{platform.node()}:{run.resolve()}"  # machines that share an engine may have data folders of the same path
    return f"framewatt-{run.name}-{hashlib.blake2b(os.fsencode(where), digest_size=3).hexdigest()}-{what}"


def remove_named(client: docker.DockerClient, name: str) -> None:
    """Removes framewatt's container of that name, where there is one: an engine that died with its removal has kept it.

    One of another process that lives stays, and so does one of another machine that shares this engine: whether its process
    lives cannot be known here.
    """
    with suppress(NotFound):
        container = client.containers.get(name)
        labels = container.labels
        if LABEL in labels and (labels.get(OWNER) == _owner(os.getpid()) or _is_orphan(labels)):
            remove_container(container)


def remove_orphans(client: docker.DockerClient) -> list[str]:
    """Removes containers whose host process no longer lives (killed with -9); returns their names."""
    removed = []
    with explained("the containers of killed runs cannot be looked for"):
        for container in client.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True):
            if not _is_orphan(container.labels):
                continue
            removed.append(str(container.name))
            remove_container(container)
    return removed


def _is_orphan(labels: dict[str, str]) -> bool:
    """Neither of another machine that shares this engine, nor of another run that goes on."""
    return labels.get(f"{LABEL}.host") == platform.node() and not owner_lives(labels)


def owner_lives(labels: dict[str, str]) -> bool:
    """Whether the process that made a container still runs."""
    owner = labels.get(OWNER, "")
    pid = owner.partition("-")[0]
    return pid.isdigit() and _owner(int(pid)) == owner


def _owner(pid: int) -> str:
    """`pid-start`, start in clock ticks since boot: process ids are used again. Empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name in parentheses may itself hold blanks; after it the start time is the 20th field.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else f"{pid}-{fields[19]}"


@dataclass(frozen=True)
class ListedImage:
    """id: sha256:...; tags: none of an image that a newer build has replaced; size: in bytes, with the layers that it shares."""

    id: str
    tags: tuple[str, ...]
    size: int


def listed_images(client: docker.DockerClient, *, name: str | None = None, label: str = "") -> list[ListedImage]:
    """The engine's images, of that name or with that label if given.

    The SDK's `images.list` asks for each again and fails when somebody has removed one meanwhile.
    """
    return [
        ListedImage(one["Id"], tuple(tag for tag in one["RepoTags"] or () if tag != "<none>:<none>"), one["Size"])
        for one in client.api.images(name=name, filters={"label": label} if label else None)
    ]


def remove_all(client: docker.DockerClient, *, images: bool, versions: bool = False) -> tuple[list[str], list[str]]:
    """Removes framewatt's stopped and orphaned containers, its volumes and, if asked, its images, or those of --version alone.

    Returns what was removed and what was left because it is in use, each in words.
    """
    removed, left = [f"container {name}" for name in remove_orphans(client)], []
    with explained("framewatt's containers cannot be removed"):
        for container in client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True):
            if container.status in ("running", "paused") or owner_lives(container.labels):
                left.append(f"container {container.name} is {container.status} (docker compose down, or end its run)")
                continue
            remove_container(container)
            removed.append(f"container {container.name}")
        for volume in client.volumes.list(filters={"label": LABEL}):
            try:
                volume.remove()
                removed.append(f"volume {volume.name}")
            except DockerException:
                left.append(f"volume {volume.name} is in use")
        label = LABEL if images else f"{LABEL}.pin"
        for image in listed_images(client, label=label) if images or versions else []:
            for name in image.tags or [image.id]:
                try:
                    # Not forced: an image that a container still uses stays.
                    client.images.remove(name)
                    removed.append(f"image {name}")
                except NotFound:
                    continue  # it went with the image that was built on it
                except DockerException:
                    left.append(f"image {name} is in use")
    return removed, left
