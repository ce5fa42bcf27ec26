"""`invoke new --framework X`: a working adapter folder, copied from images/_template."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.host.frameworks.registry import all_variants, load_images

#: the word that stands for the new framework's name in every file of the template
TOKEN = "template"
#: the template's Dockerfile for a framework without a GPU flavour; takes the other one's place
CPU_ONLY = "Dockerfile.cpu-only"
PACKAGE = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?P<extras>\[[\w,.-]+\])?(?:==(?P<version>[\w.+!-]+))?"
)


@dataclass(frozen=True)
class Filling:
    """What is written into the copy. An empty text leaves the template's own: numpy, and the framework's name as title.

    package: PyPI's name, with ==VERSION or else the newest. module: what one imports, where it is not the package's name.
    """

    package: str = ""
    title: str = ""
    module: str = ""
    cpu_only: bool = False


def new_image(name: str, images: Path, filling: Filling | None = None) -> Path:
    """Copies the template to images/<name>; returns the folder.

    Raises UserError for a name that is taken or no name, and for a package that is none; nothing is made then.
    """
    filling = filling or Filling()
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
        raise UserError(
            f"'{name}' cannot be a framework's name: use lower-case letters, digits and '-', beginning with a letter"
        )
    folder = images / name
    if folder.exists() or name in all_variants(load_images(images)):
        raise UserError(f"images/{name} or a variant {name} exists already; choose another name, or edit that one")
    if '"' in filling.title or "\n" in filling.title or "\\" in filling.title or "$" in filling.title:
        raise UserError(f"the title {filling.title!r} cannot stand in a label: leave out quotes, backslashes and $")
    requirement = pinned(filling.package) if filling.package else ""
    module = filling.module or _module_of(requirement)
    if module and not all(part.isidentifier() for part in module.split(".")):
        raise UserError(f"'{module}' is no module that Python could import; --module names it")
    shutil.copytree(images / "_template", folder, ignore=shutil.ignore_patterns("__pycache__"))
    _choose_flavour(folder, filling.cpu_only)
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_text(re.sub(rf"\b_?{TOKEN}\b", name, path.read_text()))
    _fill(folder, name, filling.title, requirement, module)
    return folder


def pinned(package: str) -> str:
    """`NAME==VERSION` of a package; the newest version where none is named. Raises UserError where that cannot be found."""
    found = PACKAGE.fullmatch(package.strip())
    if found is None:
        raise UserError(f"'{package}' is no package of PyPI: give a name, or NAME==VERSION")
    if found["version"]:
        return package.strip()
    command = [sys.executable, "-m", "pip", "index", "versions", "--disable-pip-version-check", found["name"]]
    output = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    newest = re.match(rf"{re.escape(found['name'])} \((\S+)\)", output, re.IGNORECASE)
    if newest is None:
        raise UserError(
            f"no version of {found['name']} is found on the package index; look at its name, or give NAME==VERSION"
        )
    return f"{package.strip()}=={newest.group(1)}"


def _module_of(requirement: str) -> str:
    return re.split(r"[\[=]", requirement)[0].replace("-", "_")


def _choose_flavour(folder: Path, cpu_only: bool) -> None:
    if cpu_only:
        (folder / CPU_ONLY).replace(folder / "Dockerfile")
        (folder / "requirements.txt").unlink()
    else:
        (folder / CPU_ONLY).unlink()


def _fill(folder: Path, name: str, title: str, requirement: str, module: str) -> None:
    dockerfile = folder / "Dockerfile"
    text = dockerfile.read_text()
    if title:
        text = text.replace(f'variant.{name}.title="{name}"', f'variant.{name}.title="{title}"')
    if module:
        text = text.replace('framewatt.imports="numpy"', f'framewatt.imports="{module}"')
        text = re.sub(
            r"^RUN python3 -c 'import numpy, .*'$",
            f'RUN python3 -c \'import {module}, common.harness.worker; print(getattr({module}, "__version__", "{module}"))\'',
            text,
            flags=re.MULTILINE,
        )
    dockerfile.write_text(text)
    for path in folder.glob("requirements*.txt") if requirement else ():
        path.write_text(f"{path.read_text().rstrip()}\n{requirement}\n")
