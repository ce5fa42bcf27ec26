"""What the exporter says on its standard output, one JSON object a line.

`{"step": n, "steps": m, "name": ...}` when a step begins, `{"folder": ...}` at the end: the model's folder within --out.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO


class Progress:
    def __init__(self, out: TextIO, steps: int) -> None:
        self._out = out
        self._steps = steps
        self._step = 0

    def step(self, name: str) -> None:
        """A step begins; name: what it does, for people."""
        self._step += 1
        self._emit({"step": self._step, "steps": self._steps, "name": name})

    def finish(self, folder: str) -> None:
        self._emit({"folder": folder})

    def _emit(self, values: dict[str, object]) -> None:
        self._out.write(json.dumps(values) + "\n")
        self._out.flush()


def claim_stdout() -> TextIO:
    """The standard output for progress alone: whatever libraries print there, natively too, goes to standard error."""
    sys.stdout.flush()
    ours = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return ours
