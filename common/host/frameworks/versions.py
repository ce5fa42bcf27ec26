"""Versions of a framework beside the one that the lock holds: what `--version` names, and the package that it stands for.

`--version 1.30.0,1.31.1` means the framework that is measured, where there is one; `torch@2.11,onnxrt@1.31.1` says whose it is, by
the variant or by its package. `locked` is the version of the lock.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError, unknown
from common.host.frameworks.registry import Variant
from common.host.paths import IMAGES
from common.install_locked import normalised, requirements_of
from common.text import brief

#: the lock's version, as people type it; in a cell's key it is no word at all
LOCKED = "locked"
#: what becomes part of a key, a tag and a folder's name
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,40}")


class Pin(NamedTuple):
    """One package of an image in another version than the lock's."""

    image: str
    package: str
    version: str

    @property
    def requirement(self) -> str:
        """As common/install_locked.py and the Dockerfiles' build argument PIN take it."""
        return f"{self.package}=={self.version}"

    @property
    def label(self) -> str:
        """For names of folders and tags: a tag of an image takes no '+'."""
        return f"{self.package}-{self.version.replace('+', '_')}"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def names_in(text: str) -> list[str]:
    """The frameworks that `--version` names, each once."""
    return list(dict.fromkeys(word.partition("@")[0] for word in _words(text) if "@" in word))


def parse_versions(text: str, variants: Sequence[Variant], python: str = "") -> dict[str, tuple[str, ...]]:
    """Variant -> its versions, "" for the lock's; those without a version of their own are left out. Raises UserError."""
    if text and python:
        raise UserError(f"--version makes environments, and --python {python} is one; leave one of them out")
    chosen: dict[str, list[str]] = {}
    for word in _words(text):
        name, at, version = word.rpartition("@")
        if version != LOCKED and not _VERSION.fullmatch(version):
            raise UserError(
                f"'{brief(version)}' is no version; write for example --version 1.30.0,1.31.1 or torch@2.11"
            )
        for variant in _meant(name, variants) if at else _the_only(version, variants):
            chosen.setdefault(variant.name, []).append("" if version == LOCKED else version)
    return {name: tuple(dict.fromkeys(versions)) for name, versions in chosen.items()}


def _meant(name: str, variants: Sequence[Variant]) -> list[Variant]:
    found = [variant for variant in variants if name == variant.name or name in variant.packages]
    if not found:
        raise unknown("framework", name, [variant.name for variant in variants])
    return found


def _the_only(version: str, variants: Sequence[Variant]) -> Sequence[Variant]:
    """All variants, when they are of one package."""
    if len({variant.packages for variant in variants}) > 1:
        names = [variant.name for variant in variants]
        raise UserError(
            f"version {version} of which framework? write {names[0]}@{version}; there is {', '.join(names)}"
        )
    return variants


def pin_of(variant: Variant, version: str, flavour: str, images_folder: Path = IMAGES) -> Pin | None:
    """The pin that a variant's version stands for; None for the lock's. flavour: cpu or gpu.

    Raises UserError where the flavour's requirements do not ask for the package: the base image brings it.
    """
    if not version:
        return None
    file = images_folder / variant.image / ("requirements-cpu.txt" if flavour == "cpu" else "requirements.txt")
    requested = {name for name, _ in requirements_of(file)} if file.is_file() else set()
    package = next((name for name in map(normalised, variant.packages) if name in requested), None)
    if package is None:
        words = " or ".join(variant.packages) or "package"
        raise UserError(
            f"{variant.name} has no versions to choose from: {file.parent.name}/{file.name} asks for no {words}, "
            "which comes with the base image; invoke build --base names another"
        )
    return Pin(variant.image, package, version)


def pins_of(
    variants: Iterable[Variant], versions: Mapping[str, Sequence[str]], flavour: str, images_folder: Path = IMAGES
) -> list[Pin]:
    """All pins, each once. Raises UserError as pin_of does."""
    found = [
        pin_of(variant, version, flavour, images_folder)
        for variant in variants
        for version in versions.get(variant.name, ())
    ]
    return [pin for pin in dict.fromkeys(found) if pin is not None]


def cache_name(image: str, pin: Pin | None) -> str:
    """Name of the folder for what a framework compiles: a version's own, since few say of which version their files are."""
    return f"{image}@{pin.label}" if pin else image


def cost_in_words(what: str, missing: Sequence[Pin], sizes: Sequence[int], place: Path | None = None) -> str:
    """What these pins will take of the disk, by the sizes in bytes of those of the locks (0: unknown); "" when none is missing.

    what: they are made of, such as environment. place: where, to tell what is free there.
    """
    if not missing:
        return ""
    names = ", ".join(pin.requirement for pin in missing)
    known = sum(sizes)
    each = f"about {known / 1e6:,.0f} MB, as those of the locks take" if known and all(sizes) else "of unknown size"
    free = ""
    if place is not None:
        there = next(folder for folder in (place, *place.parents) if folder.is_dir())
        free = f"; {shutil.disk_usage(there).free / 1e9:,.0f} GB are free"
    many = f"{len(missing)} {what}{'s' if len(missing) > 1 else ''} to make"
    return f"{many}: {names}; {each}{free}. invoke clean --versions removes them"
