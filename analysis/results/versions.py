"""Versions of a framework as people read and order them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

#: stands behind the version of cells that asked for none, where others of their framework did
LOCKED = " (locked)"


def version_key(version: Any) -> tuple[tuple[int, int | str], ...]:
    """Orders 1.9 before 1.10, and 2.0rc1 before 2.0."""
    parts = re.findall(r"[0-9]+|[a-zA-Z]+", str(version or "").removesuffix(LOCKED))
    return (*((1, int(part)) if part.isdigit() else (-1, part) for part in parts), (0, 0))


def label_versions(rows: Iterable[dict[str, Any]]) -> None:
    """Sets `version` of rows of `comparison` to what a table says: empty where no cell of a framework asked for one.

    A cell that asked for none beside others that did says which version the lock has.
    """
    rows = list(rows)
    requested = {row["variant"] for row in rows if row["version"]}
    for row in rows:
        if not row["version"]:
            known = row["framework_version"] or "unknown"
            row["version"] = f"{known}{LOCKED}" if row["variant"] in requested else ""
