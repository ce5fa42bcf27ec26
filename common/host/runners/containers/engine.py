"""The Docker engine: found, asked what it offers, and every failure said in one line with what mends it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException
from docker.types import DeviceRequest

from common.errors import UserError

#: every container, volume and image of framewatt carries this label, and nothing else does
LABEL = "framewatt"


def connect() -> docker.DockerClient:
    """A client whose engine answers. Raises UserError saying why there is none."""
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except (DockerException, requests.exceptions.RequestException) as error:  # the latter where it dies between the two
        raise UserError(_no_engine(str(error))) from error
    return client


def answers() -> bool:
    """Whether an engine answers this user."""
    try:
        connect().close()
    except UserError:
        return False
    return True


def _no_engine(text: str) -> str:
    where = os.environ.get("DOCKER_HOST", "its default socket")
    if "PermissionError" in text or "Permission denied" in text:
        return (
            f"the Docker engine at {where} does not let this user in: "
            "sudo usermod -aG docker $USER, then log in again; or --runner local"
        )
    return f"no Docker engine answers at {where}: start it (sudo systemctl start docker), or use --runner local"


@contextmanager
def explained(what: str, but: tuple[type[Exception], ...] | type[Exception] = ()) -> Iterator[None]:
    """Turns the engine's errors within the block into one line about `what`; `but` those that the caller knows better."""
    try:
        yield
    except but:
        raise
    except APIError as error:
        raise UserError(f"{what}: {explain(error.explanation or str(error))}") from error
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise UserError(
            f"{what}: the Docker engine stopped answering; look at its log, then run the same command again"
        ) from error


def explain(text: str) -> str:
    """The engine's words, with the command that mends it where that is known."""
    words = " ".join(str(text).split())
    hints = (
        (r"could not select device driver", "no GPU runtime: install NVIDIA's container toolkit, or switch on CDI"),
        (r"(unresolvable CDI devices|CDI device injection failed)", "the CDI specification lacks this GPU: nvidia-ctk cdi generate"),
        (r"no space left on device", "the disk is full: docker system df shows by what; invoke clean --images removes framewatt's"),
        (r"port is already allocated|address already in use", "a port is taken by another program: stop that one"),
        (r"is already in use by container", "another container has the name: invoke clean removes framewatt's, docker rm any other"),
        (r"(pull access denied|manifest unknown|no such host|i/o timeout|connection refused|TLS|x509|dial tcp)",
         "the base image cannot be fetched: log in to its registry (docker login), or name one that is here with --base"),
        (r"docker-init.*(not found|no such file)", "the engine has no docker-init: install tini, or set FRAMEWATT_CONTAINER_INIT=0"),
    )  # fmt: skip
    for pattern, hint in hints:
        if re.search(pattern, words, re.IGNORECASE):
            return f"{hint} [engine: {words[:160]}]"
    return words[:400]


GPU_DRIVERS = ("nvidia", "cdi")


def gpu_driver(client: docker.DockerClient, forced: str = "") -> str:
    """How this engine hands over a GPU: "nvidia" (NVIDIA's runtime) or "cdi". Raises UserError when it offers neither."""
    if forced:
        if forced not in GPU_DRIVERS:
            from common.errors import unknown

            raise unknown("GPU driver", forced, GPU_DRIVERS)
        return forced
    info = client.info()
    if "nvidia" in (info.get("Runtimes") or {}):
        return "nvidia"
    if _cdi_devices(info):
        return "cdi"
    raise UserError(
        "this Docker engine has neither NVIDIA's runtime nor a CDI device for a GPU: install NVIDIA's container toolkit "
        "(nvidia-ctk runtime configure --runtime=docker), or write a CDI specification (docs/docker.md)"
    )


def _cdi_devices(info: dict[str, Any]) -> list[str]:
    """Names of the CDI devices that the engine has discovered; older engines only tell where they would look."""
    found = [str(d.get("ID", "")) for d in info.get("DiscoveredDevices") or [] if d.get("Source") == "cdi"]
    if found:
        return [name for name in found if name.startswith("nvidia.com/gpu")]
    from pathlib import Path

    folders = [Path(folder) for folder in info.get("CDISpecDirs") or []]
    return [str(file) for folder in folders for file in folder.glob("*nvidia*") if file.suffix in (".json", ".yaml")]


def gpu_request(driver: str, index: int, uuid: str) -> DeviceRequest:
    """Asks for one GPU, which is then the only one that the container sees.

    NVIDIA's runtime takes the UUID, which no re-ordering changes; CDI specifications name devices by index.
    """
    if driver == "cdi":
        return DeviceRequest(driver="cdi", device_ids=[f"nvidia.com/gpu={index}"])
    return DeviceRequest(driver="nvidia", device_ids=[uuid], capabilities=[["gpu", "compute", "utility"]])
