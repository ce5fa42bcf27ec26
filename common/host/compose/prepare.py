"""First service of a sweep: makes the folders, gives them to the services' user, looks whether the model exists.

Runs as root with the right to change owners and nothing else: a folder that the engine makes, or that another user
checked out, is not writable by the user that the frameworks run as.
"""

from __future__ import annotations

import os
from pathlib import Path

from common.errors import UserError
from common.host import models
from common.host.compose.rendezvous import Meeting, options_from, service
from common.host.frameworks.registry import all_variants, forms_of, load_images
from common.host.paths import IMAGES, DataFolder
from common.schema import PRECISIONS


def prepare(flavour: str, meeting: Meeting) -> int:
    data = DataFolder.default()
    options = options_from(os.environ)
    wanted = models.source(options.model)
    if wanted.onnx is not None:
        raise UserError("FRAMEWATT_MODEL names a file; compose runs registered models, invoke bench takes files")
    folders = (data.results, data.models, data.cache, data.locks, data.report, meeting.turns)
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        # What an earlier sweep left here means nothing to this one.
        for file in (
            meeting.end, meeting.model_exists, meeting.power_expected, meeting.idle, meeting.run, *meeting.turns.iterdir()
        ):  # fmt: skip
            file.unlink(missing_ok=True)
        found = models.existing_model(wanted, data.models, options.weights)
        if found is not None and not models.forms_by_image(found, forms_for(flavour)):
            meeting.model_exists.touch()
        give(data.root, int(os.environ.get("FRAMEWATT_UID", "1000")), int(os.environ.get("FRAMEWATT_GID", "1000")))
    except OSError as error:
        raise UserError(f"the data folder cannot be written: {error.strerror}: {error.filename}") from error
    print(f"{wanted.name} is there" if found else f"{wanted.name} will be exported", flush=True)
    return 0


def forms_for(flavour: str) -> list[str]:
    """What the export service makes beside the forms that every model has: all that a framework of the sweep may read."""
    variants = [one for one in all_variants(load_images(IMAGES)).values() if one.precisions(flavour)]
    return forms_of(variants, PRECISIONS)


def give(root: Path, uid: int, gid: int) -> None:
    """Makes everything that framewatt made under the data folder belong to that user; committed results are left alone."""
    for name in ("results", "models", "cache", "locks", "report", "compose"):
        top = root / name
        for path in (top, *top.rglob("*")) if top.exists() else ():
            try:
                facts = path.lstat()
                if (facts.st_uid, facts.st_gid) != (uid, gid):
                    os.chown(path, uid, gid, follow_symlinks=False)
            except FileNotFoundError:
                continue


if __name__ == "__main__":
    service(prepare)
