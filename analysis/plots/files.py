"""Figures to files and to text."""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text

from common.host.whole_files import whole
from common.text import visible

_METADATA = {"Date": None, "Creator": None}


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """`name.svg` and `name.png` in the folder."""
    for text in figure.findobj(Text):
        text.set_text(visible(text.get_text()))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    with whole(paths[0]) as part:
        figure.savefig(part, metadata=_METADATA)
    figure.set_layout_engine("none")  # the first drawing has laid it out; a second time would only cost time
    with whole(paths[1]) as part:
        figure.savefig(part)
    return paths


def inline_svg(path: Path, description: str) -> str:
    """A saved plot as an <svg> element that fills the width of its page; description is read out by screen readers."""
    svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    label = visible(description).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    opening = svg[: svg.index(">")]
    sized = re.sub(r' (width|height)="[^"]*"', "", opening)
    return f'{sized} role="img" aria-label="{label}"{svg[len(opening) :]}'


def file_name(*parts: object) -> str:
    """A file name from words of the data: lower case letters, digits and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(str(part) for part in parts if part is not None).lower()).strip("-")
