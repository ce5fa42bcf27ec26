"""`python -m common.harness.frontends.interleaved_side JOB.json`: as common/harness/interleaved_side.py, inside a Jupyter kernel."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import List

from common.harness.frontends import notebook

CELL = """\
from common.harness.frontends import in_kernel

in_kernel.interleave({job!r}, {commands}, {answers}, CHANNEL)"""


def main(arguments: List[str]) -> int:
    commands, answers = os.dup(0), os.dup(1)
    # Only the kernel's cell speaks and listens there.
    os.dup2(2, 1)
    cell = CELL.format(job=arguments[0], commands=commands, answers=answers)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with tempfile.TemporaryDirectory(prefix="framewatt-kernel-") as folder:
        return notebook.run(cell, [commands, answers], Path(folder))


if __name__ == "__main__":
    notebook.leave(main(sys.argv[1:]))
