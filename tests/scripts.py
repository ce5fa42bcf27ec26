"""Programs of Python that tests put in place of others."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def put(path: Path, body: str) -> Path:
    """An executable that runs `body` in this interpreter, wherever it lies: the kernel takes no interpreter whose path has a space."""
    # sh runs the second line; to Python the two are one string
    path.write_text(f"#!/bin/sh\n'''exec' {shlex.quote(sys.executable)} \"$0\" \"$@\"\n' '''\n{body}")
    path.chmod(0o755)
    return path
