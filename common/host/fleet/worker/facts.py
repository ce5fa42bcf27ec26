"""What a host is and has, as far as it matters to a sweep; checks.py compares hosts."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.host import models
from common.host.cli.parsing import split_list
from common.host.devices import Device, list_gpus, the_cpu
from common.host.frameworks import environments
from common.host.frameworks.registry import Image, Variant, all_variants, load_images
from common.host.host_info import source_revision
from common.host.paths import IMAGES, ROOT, DataFolder
from common.host.plan.model_terms import ModelTerms
from common.host.plan.options import Options
from common.model_files import ModelFiles
from common.typed_json import last_object

#: prints name -> version of everything that is installed, for any Python from 3.8 on
_LIST_PACKAGES = (
    "import json, platform; from importlib.metadata import distributions; "
    "found = {d.metadata['Name'].lower().replace('_', '-'): d.version for d in distributions() if d.metadata['Name']}; "
    "print(json.dumps({'python': platform.python_version(), 'packages': found}))"
)


@dataclass(frozen=True)
class Facts:
    """Of one host; a `*_why` says in one line why something is not there, "" where it is."""

    hostname: str = ""
    checkout: str = ""
    revision: str = ""
    #: digest of the code that measures (code.py)
    code: str = ""
    cpu_model: str = ""
    #: entries of devices.Device.describe(), in NVML's order
    gpus: list[dict[str, Any]] = field(default_factory=list)
    gpus_why: str = ""
    engine_version: str = ""
    engine_why: str = ""
    #: how the engine hands over GPUs: nvidia or cdi
    gpu_driver: str = ""
    gpu_driver_why: str = ""
    #: image -> {id, source, base, base_id, current} or {why}
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: image -> {python, packages} or {why}: the environment of a local run
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    model_hash: str = ""
    model_why: str = ""
    #: of it, as fields of ModelTerms; empty where it is not exported yet
    model_terms: dict[str, Any] = field(default_factory=dict)
    disk_free_bytes: int = 0
    data: str = ""
    #: by how much Ray's tasks are nicer than Ray itself, and cannot be made less so
    lost_priority: int = 0
    load_average: float = 0.0
    #: variables of frameworks' adapters in its own environment that the sender's are not, and that do not count
    own_variables: dict[str, str] = field(default_factory=dict)
    #: why nothing at all is known
    why: str = ""


def collect(spec: Mapping[str, Any]) -> Facts:
    """See agent.py for the spec. Never raises for what a host lacks."""
    from common.host.fleet.worker.code_digest import code_digest
    from common.host.fleet.worker.priority import lost_priority

    options = Options(**spec["options"])
    data = DataFolder.default()
    gpus, gpus_why = _gpus()
    needed = needed_images(options, spec["device"], gpus)
    model, model_why = _model(options, data)
    flavour = "cpu" if spec["device"] == "cpu" else "gpu"
    notebook = "notebook" in split_list(options.frontend)
    return Facts(
        hostname=platform.node(),
        checkout=str(ROOT),
        revision=source_revision() or "",
        code=code_digest(),
        cpu_model=the_cpu().product,
        gpus=[gpu.describe() for gpu in gpus],
        gpus_why=gpus_why,
        **_engine(options, [image.name for image in needed], flavour, notebook),
        environments={image.name: environment(image, flavour, options.python, notebook) for image in needed},
        model_hash=model.hash if model is not None else "",
        model_why=model_why,
        model_terms=asdict(ModelTerms.of(model)) if model is not None else {},
        disk_free_bytes=_free(data.root),
        data=str(data.root),
        lost_priority=lost_priority(spec["raylet"]),
        load_average=os.getloadavg()[0],
    )


def needed_images(options: Options, kind: str, gpus: Sequence[Device], folder: Path = IMAGES) -> list[Image]:
    """Images of the variants that the options name, or of all that run on such a device."""
    images = load_images(folder)
    capability = gpus[0].compute_capability if gpus else None
    named = split_list(options.framework)

    def wanted(variant: Variant) -> bool:
        return variant.name in named if named else variant.refusal(kind, capability) is None

    chosen = {variant.image for variant in all_variants(images).values() if wanted(variant)}
    return [image for image in images if image.name in chosen]


def _gpus() -> tuple[list[Device], str]:
    try:
        return list_gpus(), ""
    except UserError as error:
        return [], str(error).partition(";")[0]


def _model(options: Options, data: DataFolder) -> tuple[ModelFiles | None, str]:
    try:
        found = models.existing_model(models.source(options.model), data.models, models.export_options_of(options))
    except UserError as error:
        return None, str(error)
    return found, "" if found is not None else "not exported yet"


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _engine(options: Options, names: Sequence[str], flavour: str, notebook: bool) -> dict[str, Any]:
    """The fields of Facts that the Docker engine can tell."""
    from common.host.runners.containers import engine, images
    from common.host.runners.containers.sidecar import IMAGE as SIDECAR

    try:
        client = engine.connect()
    except UserError as error:
        return {"engine_why": str(error)}
    found: dict[str, Any] = {"engine_version": str(client.version().get("Version", "unknown"))}
    try:
        if flavour == "gpu":
            try:
                found["gpu_driver"] = engine.gpu_driver(client, options.gpu_driver)
            except UserError as error:
                found["gpu_driver_why"] = str(error)
        found["images"] = {}
        for name in (*names, SIDECAR):
            try:
                image = images.inspect(client, name, flavour, notebook)
            except UserError as error:
                found["images"][name] = {"why": str(error)}
                continue
            source = image.labels.get(f"{engine.LABEL}.source", "")
            base = image.labels.get(f"{engine.LABEL}.base", "")
            found["images"][name] = {
                "id": str(image.id),
                "source": source,
                "current": source == images.source_digest(name),
                "base": base,
                "base_id": _id_of(client, base),
            }
        return found
    finally:
        client.close()


def _id_of(client: Any, name: str) -> str:
    """ID of the base image, "" where it is not kept."""
    from docker.errors import DockerException

    try:
        return str(client.images.get(name).id) if name else ""
    except DockerException:
        return ""


def environment(image: Image, flavour: str, python: str, notebook: bool = False) -> dict[str, Any]:
    """What a local run of this image would find: {python, packages}, or {why}; `will_be_made` where the run makes it."""
    if python:
        path = Path(python).expanduser()
        if not (path.is_file() and os.access(path, os.X_OK)):
            return {"why": f"--python {python} is not an executable file there"}
        return packages_of(path)
    try:
        environments.requirement_files(image.name, flavour)
    except UserError as error:
        return {"why": str(error)}
    if not environments.is_ready(image.name, flavour, notebook):
        return {"why": f"the environment of {image.name} is not there yet", "will_be_made": True}
    return packages_of(environments.interpreter(image.name, flavour))


def packages_of(python: Path) -> dict[str, Any]:
    """{python: version, packages: {name: version}} of an interpreter, or {why}."""
    try:
        done = subprocess.run([python, "-c", _LIST_PACKAGES], capture_output=True, text=True, timeout=60)
        found = last_object(done.stdout)
        if done.returncode == 0 and found:
            return found
        silent = f"exit code {done.returncode}" if done.returncode else "it prints no list of its packages"
        reason = (done.stderr.strip().splitlines() or [silent])[-1]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        reason = str(error)
    return {"why": f"{python} does not work: {reason}"}
