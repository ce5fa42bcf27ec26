"""`invoke new --framework X`: a working adapter folder, copied from images/_template."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from common.errors import UserError
from common.host.frameworks.registry import all_variants, load_images

#: the word that stands for the new framework's name in every file of the template
TOKEN = "template"


def new_image(name: str, images: Path) -> Path:
    """Copies the template to images/<name>; returns the folder. Raises UserError for a name that is taken or no name."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
        raise UserError(
            f"'{name}' cannot be a framework's name: use lower-case letters, digits and '-', beginning with a letter"
        )
    folder = images / name
    if folder.exists() or name in all_variants(load_images(images)):
        raise UserError(f"images/{name} or a variant {name} exists already; choose another name, or edit that one")
    template = images / "_template"
    shutil.copytree(template, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_text(re.sub(rf"\b_?{TOKEN}\b", name, path.read_text()))
    return folder
