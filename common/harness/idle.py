"""A spell in which no worker is on the device, for what it draws without a context."""

from __future__ import annotations

import time
from typing import Callable, Dict


def spell_without_context(seconds: float, sleep: Callable[[float], object] = time.sleep) -> Dict[str, int]:
    """Sleeps, and returns begin and end on CLOCK_MONOTONIC, as `idle_without_context` of run.json holds them.

    sleep: may return early, when it is told to stop.
    """
    start_ns = time.monotonic_ns()
    sleep(seconds)
    return {"start_ns": start_ns, "end_ns": time.monotonic_ns()}
