"""What the sidecar does to the work beside it, measured: a numpy loop with the sidecar going and with it stopped.

One sidecar runs throughout; SIGSTOP and SIGCONT switch it, so that no start-up falls into a segment. Segments alternate
as off on on off, so that a drift of the machine meets both alike, and each pair gives one ratio. A busy neighbour
widens the interval; it does not shift it.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.host.children import dying_with_parent
from common.host.paths import ROOT
from common.stats.pairs import alternate
from common.stats.student_t import two_sided_quantile
from common.typed_json import parse_object

PAIRS = 24
SEGMENT_S = 0.15


def slowdown_of(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """(seconds an iteration without, with) of each pair -> slowdown, low, high as shares: 95 % interval of the mean log ratio."""
    logs = [math.log(on / off) for off, on in pairs]
    middle = statistics.fmean(logs)
    margin = two_sided_quantile(0.95, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    low, mean, high = (math.expm1(value) for value in (middle - margin, middle, middle + margin))
    return {"slowdown": mean, "low": low, "high": high}


def measure_perturbation(gpus: str, pairs: int = PAIRS, segment_s: float = SEGMENT_S) -> dict[str, Any]:
    """{slowdown, low, high, cpu_percent, pairs, unavailable}; gpus: UUID or "none", as the sidecar takes it.

    slowdown: relative time of the loop with the sidecar going; cpu_percent: of one core while it goes, from its own CPU
    time, start-up left out. unavailable: why no sidecar runs here, then the figures are None.
    """
    with tempfile.TemporaryDirectory(prefix="framewatt-doctor-") as folder:
        command = [sys.executable, "-m", "common.sidecar", "--out", str(Path(folder) / "power.csv"), "--gpus", gpus]
        command += ["--parent-pid", str(os.getpid())]
        process = subprocess.Popen(
            dying_with_parent(command), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            first = parse_object(line)
            if first.get("event") != "ready":
                reason = first.get("rapl") if gpus == "none" else first.get("gpus")
                return {"unavailable": str(reason or line.strip() or "it ended without a word")}
            work = _work()
            before, going = _cpu_seconds(process.pid), 0.0

            def segment(on: bool) -> float:
                nonlocal going
                os.kill(process.pid, signal.SIGCONT if on else signal.SIGSTOP)
                since = time.monotonic()
                seconds = _per_iteration(work, segment_s)
                going += (time.monotonic() - since) if on else 0.0
                return seconds

            measured = alternate(partial(segment, False), partial(segment, True), pairs)
            used = _cpu_seconds(process.pid) - before
            return {**slowdown_of(measured), "cpu_percent": 100 * used / going, "pairs": pairs, "unavailable": None}
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                process.terminate()
            process.communicate()


def _work() -> Callable[[], object]:
    """About 50 us of one core in float32, from the cache: what a small inference does on the host."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=65536).astype(np.float32)
    return lambda: np.tanh(values).sum()


def _per_iteration(work: Callable[[], object], seconds: float) -> float:
    """Mean wall time of an iteration in s: the mean, since what the sidecar takes comes in few and long pieces."""
    work()
    begin = now = time.perf_counter()
    count = 0
    while now < begin + seconds:
        work()
        count += 1
        now = time.perf_counter()
    return (now - begin) / count


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; a tick is 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
