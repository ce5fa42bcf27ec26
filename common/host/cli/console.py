"""Where tasks print."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from common.host.cli.terminal import Terminal


def default_console(stderr: bool = False) -> Console:
    """The terminal; plain text of 120 columns when the output is piped into a file, unless COLUMNS says otherwise.

    stderr: to standard error, where standard output is for another program.
    """
    there = sys.stderr if stderr else sys.stdout
    return Terminal(stderr=stderr, width=None if there.isatty() or "COLUMNS" in os.environ else 120)
