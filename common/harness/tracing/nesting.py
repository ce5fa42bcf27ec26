"""Operators that call operators: who is at work at each instant, so that no nanosecond counts twice."""

from __future__ import annotations

from typing import Iterable, List, NamedTuple, Sequence

from common.harness.tracing import Record


class Event(NamedTuple):
    """One call as a profiler tells it. ignored: a frame of the profiler itself, whose own time is nobody's."""

    name: str
    start_ns: int
    end_ns: int
    detail: str = ""
    ignored: bool = False


def innermost(events: Iterable[Event], thread: int, first: int = 0) -> List[Record]:
    """The nested calls of one thread as records that do not overlap, by start.

    A call that calls no other is an `operator`. One that does is `dispatch` for the time that is its own, in one record
    for each stretch between its callees; all records of a call have one correlation, counted from `first`.
    """
    ordered = sorted(events, key=lambda event: (event.start_ns, -event.end_ns))
    parents = _parents(ordered)
    calls = set(parents)
    records: List[Record] = []
    own = [event.start_ns for event in ordered]  # up to where the call's own time has been counted
    for number, event in enumerate(ordered):
        # the callers on the way up have worked until here
        parent = parents[number]
        if parent >= 0:
            _add(records, ordered[parent], "dispatch", own[parent], event.start_ns, thread, first + parent)
            own[parent] = max(own[parent], min(event.end_ns, ordered[parent].end_ns))
    for number, event in enumerate(ordered):
        kind = "dispatch" if number in calls else "operator"
        end_ns = event.end_ns if parents[number] < 0 else min(event.end_ns, ordered[parents[number]].end_ns)
        _add(records, event, kind, own[number], end_ns, thread, first + number)
    return sorted(records, key=lambda record: record.start_ns)


def _parents(ordered: Sequence[Event]) -> List[int]:
    """For each event the place of the innermost one that it lies in, -1 for none."""
    parents: List[int] = []
    open_calls: List[int] = []
    for number, event in enumerate(ordered):
        while open_calls and ordered[open_calls[-1]].end_ns <= event.start_ns:
            open_calls.pop()
        parents.append(open_calls[-1] if open_calls else -1)
        open_calls.append(number)
    return parents


def _add(
    records: List[Record], event: Event, kind: str, start_ns: int, end_ns: int, thread: int, correlation: int
) -> None:
    if end_ns > start_ns and not event.ignored:
        records.append(Record(kind, event.name, start_ns, end_ns, event.detail, stream=thread, correlation=correlation))
