"""Where an ONNX file's weights lie that it keeps in other files: beside it, and nowhere else.

Beside it is in its own folder and, where it is a link, also in the folder of what it leads to. A file there may be a link into either
folder, or what lies below them: caches of model hubs have `snapshots/.../model.onnx` and `model.onnx_data` as links into one `blobs/`.
ONNX Runtime takes the same. A link to anywhere else, `/etc/passwd` say, is not followed: the model may come from anywhere.
Runs on Python 3.9 with the standard library alone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import List


class NotBeside(Exception):
    """Why there is no such file beside the model, to follow ", which "."""


def folders_of(model: Path) -> List[Path]:
    """Where files beside the model may lie, the folder where it was named first."""
    return list(dict.fromkeys([model.absolute().parent, Path(os.path.realpath(model)).parent]))


def place_of(model: Path, location: str) -> Path:
    """The file that `location`, a text within the model, names. Raises NotBeside; nothing is opened."""
    parts = location.replace("\\", "/").split("/")
    if not location or "\0" in location or Path(location).is_absolute() or ".." in parts or ":" in parts[0]:
        raise NotBeside("is not beside the model; put both into one folder and name it by its name alone")
    folders = folders_of(model)
    place = next(
        (folder.joinpath(*parts) for folder in folders if os.path.lexists(folder.joinpath(*parts))),
        folders[0].joinpath(*parts),
    )
    try:
        mode = place.stat().st_mode
    except OSError as error:
        raise NotBeside(f"cannot be read: {error.strerror}") from error
    leads_to = Path(os.path.realpath(place))
    if not any(Path(os.path.realpath(folder)) in leads_to.parents for folder in folders):
        raise NotBeside("is a link to another folder; put the file itself beside the model")
    if not stat.S_ISREG(mode):
        raise NotBeside("is no file")
    return place
