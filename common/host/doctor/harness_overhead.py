"""What the timing loop adds to an inference on this machine: for `invoke doctor` and `invoke selfbench`."""

from __future__ import annotations

import subprocess
import sys

from common.errors import UserError
from common.host.children import dying_with_parent
from common.host.paths import ROOT
from common.typed_json import last_object


def harness_overhead() -> dict[str, float]:
    """Nanoseconds an iteration of the timing loop with a no-op adapter, in a fresh process.

    Raises CalledProcessError where it fails, UserError where it prints no figures.
    """
    command = dying_with_parent([sys.executable, "-m", "common.harness.overhead"])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    values: dict[str, float] = last_object(done.stdout)
    if not values:
        raise UserError(f"{' '.join(command[-3:])} printed no figures but '{done.stdout.strip()[-200:]}'")
    return values
