"""Which code a checkout has, as far as it measures: the digest that must be the same on all hosts of a sweep."""

from __future__ import annotations

import hashlib
from pathlib import Path

from common.host.paths import IMAGES, ROOT

#: what is started on a host or copied into its images
MEASURES = (ROOT / "common", IMAGES)


def code_digest(folders: tuple[Path, ...] = MEASURES) -> str:
    """SHA-256 over names and contents, 12 hex digits. Unlike a revision it also tells changes that nobody committed."""
    digest = hashlib.sha256()
    for folder in folders:
        files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        for path in sorted(files, key=lambda path: path.relative_to(folder).parts):
            digest.update(f"{folder.name}/{path.relative_to(folder)}".encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
