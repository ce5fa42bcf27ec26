"""First service of a sweep: makes the folders, gives them to the services' user, looks whether the model exists.

Runs as root with the right to change owners and nothing else: a folder that the engine makes, or that another user
checked out, is not writable by the user that the frameworks run as.
"""

from __future__ import annotations

import os
from pathlib import Path

from common.errors import UserError
from common.harness.cell_folder import CannotWrite
from common.host import models
from common.host.cli import parsing
from common.host.compose.rendezvous import Rendezvous, options_from, service
from common.host.frameworks.registry import (
    Image,
    Variant,
    all_variants,
    check_variables,
    choose_variants,
    forms_of,
    load_images,
)
from common.host.paths import IMAGES, DataFolder
from common.host.runners.containers.images import prefix
from common.host.runners.containers.ownership import give
from common.host.runners.exported import DOWNLOADS, copy_model
from common.host.runners.power_intake import PowerIntake
from common.host.runners.staging import take_over
from common.host.runs.run import Run, read_run
from common.host.runs.untrusted import remove_folder
from common.job import Job
from common.model_files import ModelFiles
from common.schema import PRECISIONS


def prepare(flavour: str, rendezvous: Rendezvous) -> int:
    data = DataFolder.default()
    options = options_from(os.environ)
    wanted = models.source(options.model)
    if wanted.onnx is not None or wanted.module:
        raise UserError("compose runs registered models; invoke bench takes files, and models of timm, too")
    images = load_images(IMAGES)
    check_variables(
        images, chosen_of(options.framework, images, flavour), os.environ
    )  # before hours of export and turns
    try:
        for problem in take_over_earlier(rendezvous, data):
            print(problem, flush=True)
        make_folders(rendezvous, data)
        found = models.existing_model(wanted, data.models, models.export_options_of(options))
        if found is not None and not models.forms_by_image(found, forms_for(flavour)):
            rendezvous.model_exists.touch()
        elif found is not None:
            copy_model(found, rendezvous.models)  # it gets the forms that it lacks
        give_all(data.root, int(os.environ.get("FRAMEWATT_UID", "1000")), int(os.environ.get("FRAMEWATT_GID", "1000")))
    except OSError as error:
        raise UserError(f"the data folder cannot be written: {error.strerror}: {error.filename}") from error
    print(f"{wanted.name} is there" if found else f"{wanted.name} will be exported", flush=True)
    return 0


def chosen_of(framework: str, images: list[Image], flavour: str) -> list[Variant]:
    """The variants that are named, else all of the flavour. Raises UserError for an unknown name."""
    known = all_variants(images)
    if framework:
        return choose_variants(images, parsing.choose("framework", framework, known))
    return [variant for variant in known.values() if variant.precisions(flavour)]


def forms_for(flavour: str) -> list[str]:
    """What the export service makes beside the forms that every model has: all that a framework of the sweep may read."""
    variants = [one for one in all_variants(load_images(IMAGES)).values() if one.precisions(flavour)]
    return forms_of(variants, PRECISIONS)


def take_over_earlier(rendezvous: Rendezvous, data: DataFolder) -> list[str]:
    """Cells and readings that a sweep which was stopped left with its services, for its run; returns what was refused.

    Nothing else of that sweep means anything to this one.
    """
    if not rendezvous.run.exists():
        return []
    try:
        run = read_run(rendezvous.run.resolve())
        model = ModelFiles.read(data.models / str(run.description["model"]["folder"]))
        problems = take_services(run, rendezvous, model)
    except (UserError, CannotWrite, KeyError, ValueError) as error:
        return [f"what the earlier sweep measured last is not taken over: {error}"]
    intake = PowerIntake(rendezvous.sidecar, run.folder / "power.csv")
    intake.skip_known()
    intake.take()
    intake.close()
    return [*problems, *filter(None, [intake.refused])]


def take_services(run: Run, rendezvous: Rendezvous, model: ModelFiles) -> list[str]:
    problems: list[str] = []
    for path in sorted((run.folder / "jobs").glob("*.json")):
        job = Job.read(path)
        folder = rendezvous.services / job.cells[0].variant / path.stem
        if folder.is_dir():
            problems += take_over(run.folder, path.stem, job, model, folder)
    return problems


def make_folders(rendezvous: Rendezvous, data: DataFolder) -> None:
    """All that the services mount, empty but for data and caches. Raises OSError."""
    images = load_images(IMAGES)
    for folder in (data.results, data.models, data.locks, data.report):
        folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        data.framework_cache(image.name, prefix()).mkdir(parents=True, exist_ok=True)
    rendezvous.run.unlink(missing_ok=True)
    exported = [path for path in rendezvous.models.glob("*") if path.name != DOWNLOADS]
    for folder in (rendezvous.board, rendezvous.services, rendezvous.sidecar, *exported):
        give(folder, os.getuid(), os.getgid())  # a folder of somebody else's may let nobody else remove what is in it
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        remove_folder(folder)
    for folder in (rendezvous.jobs, rendezvous.turn_locks, rendezvous.sidecar, rendezvous.models):
        folder.mkdir(parents=True, exist_ok=True)
    for variant in all_variants(images):
        (rendezvous.services / variant).mkdir(parents=True, exist_ok=True)


def give_all(root: Path, uid: int, gid: int) -> None:
    """Makes everything that framewatt made under the data folder belong to that user; committed results are left alone."""
    for name in ("results", "models", "framework-cache", "locks", "report", "compose"):
        if (root / name).exists():
            give(root / name, uid, gid)


if __name__ == "__main__":
    service(prepare)
