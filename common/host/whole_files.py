"""Files for people are written whole or not at all: beside their place under another name, then renamed.

A full disk, a kill or an error in the middle leaves what was there before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The path to write to in the block, with the same suffix; at its end that file takes the place of `path`.

    When the block raises nothing of it is left. A link stays one and its target is replaced; what is no file, such as
    /dev/stdout, is written to as it is. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        yield path
        return
    part = target.with_name(f".{target.stem[:150]}.{os.getpid()}.part{target.suffix}")
    try:
        yield part
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """As Path.write_text in UTF-8, whole. Raises OSError."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
