"""What Ray's worker processes lose of their priority and signals, and how the agent takes it back."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def undo_ray(raylet: int) -> None:
    """Gives this process back what Ray's worker lost: Ctrl-C, the raylet's priority, its place before the OOM killer.

    Ray runs its workers at niceness 15, blocks their SIGINT, and offers them to the kernel first when memory ends; all three
    are inherited. Priority can be raised by root alone: facts.py tells, and `run` refuses.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(Path(f"/proc/{raylet}/oom_score_adj").read_text())
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, raylet))


def lost_priority(raylet: int) -> int:
    """By how much this process is nicer than the raylet that started it; 0 where that is gone."""
    with suppress(OSError):
        return max(0, os.getpriority(os.PRIO_PROCESS, 0) - os.getpriority(os.PRIO_PROCESS, raylet))
    return 0
