"""What a runner tells while it works, and how a line of a supervisor becomes an event."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

#: an event of the supervisor (common/job.EVENTS), as a dict
OnEvent = Callable[[Mapping[str, Any]], None]
#: (steps done, steps in all or None, what is being done)
OnStep = Callable[[int, int | None, str], None]


def parse_object(line: str) -> dict[str, Any]:
    """The JSON object on a line; {} for anything else that a library may print."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def parse_event(line: str) -> dict[str, Any] | None:
    """The event on a line (see common/job.EVENTS); None for anything else."""
    found = parse_object(line)
    return found if "event" in found else None
