"""Where tasks print."""

from __future__ import annotations

import os
import sys

from rich.console import Console


def default_console() -> Console:
    """The terminal; plain text of 120 columns when the output is piped into a file, unless COLUMNS says otherwise."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
