"""What a runner tells while it works, and how a line of a supervisor or a sidecar becomes an event.

Whoever prints the lines may be an image that means harm: a line counts when its event is known (common/job.EVENTS), its
fields have their types, and its cell is one of the job's. Texts are made one line of bounded length.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from common import schema
from common.harness.rows import one_line
from common.typed_json import parse_object

#: an event of the supervisor (common/job.EVENTS), as a dict
OnEvent = Callable[[Mapping[str, Any]], None]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return one_line(value)


#: beyond it is nothing that anybody counts or waits for, and whole numbers of JSON may have thousands of digits
_LARGEST = 10**18


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:
        raise ValueError  # NaN is in no range
    return value


def _share(value: Any) -> float:
    return min(1.0, max(0.0, _number(value)))


def _degrees(value: Any) -> float | None:
    return None if value is None else _number(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _one_of(names: Collection[str]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return check


#: event -> field -> what makes it fit or raises ValueError; beside `event`, and but for the last two `cell_key`
_FIELDS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "cell_start": {"worker": _text},
    "phase": {"name": _one_of(schema.PHASE_NAMES)},
    "progress": {"fraction": _share, "samples": _number, "images_per_s": _number},
    "cell_finish": {"status": _one_of(schema.STATUSES), "message": _text},
    "cooling": {"seconds": _number, "temperature_c": _degrees, "target_c": _number, "done": _flag},
    "job_finish": {},
    "error": {"message": _text},
}
#: what a sidecar says of itself
_SIDECAR_NUMBERS = ("rows", "cpu_seconds", "wall_seconds", "cpu_percent", "missed_rounds")


def job_event(line: str, keys: Collection[str]) -> dict[str, Any] | None:
    """The event of a supervisor on a line; None for anything else. keys: of the job's cells."""
    values = parse_object(line)
    kind = values.get("event")
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        return None
    event: dict[str, Any] = {"event": kind}
    try:
        if kind not in ("job_finish", "error"):
            event["cell_key"] = _one_of(keys)(values.get("cell_key"))
        event.update((name, check(values.get(name))) for name, check in fields.items())
    except (ValueError, TypeError):
        return None
    return event


def sidecar_event(line: str) -> dict[str, Any]:
    """The `ready` or `done` of a sidecar on a line, its known fields alone; {} for anything else."""
    values = parse_object(line)
    event: dict[str, Any] = {}
    try:
        if values.get("event") == "ready":
            unavailable = values.get("rapl_unavailable")
            event = {"event": "ready", "rapl_unavailable": None if unavailable is None else _text(unavailable)}
        elif values.get("event") == "done":
            event = {"event": "done", "ended_by": _text(values.get("ended_by"))}
            event.update((name, _number(values[name])) for name in _SIDECAR_NUMBERS if name in values)
            event["energy_read"] = _energy_read(values.get("energy_read"))
    except (ValueError, TypeError):
        return {}
    return event


def _energy_read(costs: Any) -> dict[str, float] | None:
    """What reading the counter cost: name -> number; None where there was nothing to read."""
    if costs is None:
        return None
    if not isinstance(costs, dict) or len(costs) > 64:
        raise ValueError
    return {_text(name): _number(value) for name, value in costs.items()}
