"""What the timing loop adds to an inference on this machine: for `invoke doctor` and `invoke selfbench`."""

from __future__ import annotations

import json
import subprocess
import sys

from common.host.paths import ROOT


def harness_overhead() -> dict[str, float]:
    """Nanoseconds an iteration of the timing loop with a no-op adapter, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "common.harness.overhead"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    values: dict[str, float] = json.loads(done.stdout)
    return values
