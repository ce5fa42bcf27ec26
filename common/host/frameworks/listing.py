"""`invoke frameworks` and `invoke export --list`: what exists, where it can run, and why not."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.errors import UserError
from common.host.devices import usable_gpus
from common.host.frameworks import environments
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, DataFolder
from common.models import MODELS


def print_frameworks(console: Console) -> None:
    """One row for each variant of images/: precisions by device, the local environment, and the reason where it cannot run."""
    try:
        gpus, no_gpu = usable_gpus(), ""
    except UserError as error:
        gpus, no_gpu = [], str(error).split(";")[0]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("framework", "image", "CPU", "GPU", "local environment", "here"):
        table.add_column(title, overflow="fold")
    for image in load_images(IMAGES):
        ready = [flavour for flavour in ("cpu", "gpu") if environments.is_ready(image.name, flavour)]
        for variant in image.variants:
            if gpus:
                reason = variant.refusal("gpu", gpus[0].compute_capability)
                here = f"{gpus[0].name}: yes" if reason is None else f"{gpus[0].name}: no, {reason}"
            else:
                here = "cpu: yes" if variant.precisions_cpu else "no: needs a GPU"
            table.add_row(
                variant.name,
                image.name,
                " ".join(variant.precisions_cpu) or "-",
                " ".join(variant.precisions_gpu) or "-",
                " ".join(ready) or "made on first use",
                escape(here),
            )
    console.print(table)
    if no_gpu:
        console.print(escape(no_gpu), style="dim", highlight=False, soft_wrap=True)


def print_models(console: Console, data: DataFolder) -> None:
    """The registry, and which of it is exported already."""
    exported = sorted(path.parent.name for path in data.models.glob("*/model.json"))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("model", "input", "what it is", "exported"):
        table.add_column(title)
    for model in MODELS.values():
        folders = [folder for folder in exported if folder.rsplit("-", 1)[0] == model.name]
        sides = f"{model.size} x {model.size} x 3" if model.size else "-"  # no images: its title names them
        table.add_row(model.name, sides, model.title, " ".join(folders) or "-")
    console.print(table)
