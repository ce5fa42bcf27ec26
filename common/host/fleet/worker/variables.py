"""The variables of frameworks' adapters on a host of a fleet: those of whoever sent the sweep, or hosts would measure differently."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path

from common.host.frameworks.registry import all_variants, load_images, variables_set
from common.host.paths import IMAGES


def declared_of(environment: Mapping[str, str], images_folder: Path = IMAGES) -> dict[str, str]:
    """Those of an environment that an image of this checkout declares (registry.py), whichever frameworks are measured."""
    return variables_set(all_variants(load_images(images_folder)).values(), environment)


def replace_own(
    environment: MutableMapping[str, str], sent: Mapping[str, str], folder: Path = IMAGES
) -> dict[str, str]:
    """Puts what was sent in the place of this host's own; returns its own that differ and do not count. Nothing else is taken."""
    own, asked = declared_of(environment, folder), declared_of(sent, folder)
    for name in own:
        del environment[name]
    environment.update(asked)
    return {name: value for name, value in own.items() if asked.get(name) != value}
