"""Traced windows in Chrome's trace event format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

Format: "Trace Event Format", Google, 2016: complete events ("X") with times in microseconds; a process for each cell, a thread
for each stream of the GPU and each thread of the host. Events of one thread have to lie in each other or apart: records of a
stream that overlap, as those of a graph's branches do, stand in further threads of its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.database.connection import Database
from common.host.whole_files import write_text

_HOST = ("launch", "graph_launch", "copy_call", "sync")


def write(database: Database, keys: Sequence[tuple[str, str]], path: Path) -> int:
    """Writes the cells' records; returns how many. Raises OSError.

    Times count from the first inference of each cell, or from a record that begins before it. Numbers of processes and threads
    count from 1: viewers of system traces take 0 for the idle process.
    """
    events = [event for number, key in enumerate(keys, 1) for event in _events(database, number, key)]
    write_text(path, json.dumps({"displayTimeUnit": "ns", "traceEvents": events}) + "\n")
    return sum(event["ph"] == "X" for event in events)


def _events(database: Database, process: int, key: tuple[str, str]) -> Iterator[dict[str, Any]]:
    run, cell_key = key
    walls = database.query(
        "FROM traced_row WHERE run = $1 AND cell_key = $2 AND traced = 1 ORDER BY start_ns", [run, cell_key]
    )
    if not walls:
        return
    rows = database.query(
        "SELECT k.*, n.class FROM kernels AS k LEFT JOIN kernel_names AS n USING (kind, name) "
        "WHERE k.run = $1 AND k.cell_key = $2 ORDER BY k.start_ns, k.end_ns DESC",
        [run, cell_key],
    )
    begin = min(row["start_ns"] for row in (*walls[:1], *rows[:1]))
    yield _named("process_name", process, 1, f"{run} {cell_key}")
    yield _named("thread_name", process, 1, "inferences")
    for wall in walls:
        yield _complete(process, 1, f"inference {wall['i']}", "inference", wall, begin, {})
    threads: dict[tuple[str, int, int], int] = {}
    lanes: dict[tuple[str, int], list[list[int]]] = {}
    for row in rows:
        side = "host" if row["kind"] in _HOST else "CPU" if row["kind"] in ("operator", "dispatch") else "GPU"
        stream = row["stream"] or 0
        lane = _lane(lanes.setdefault((side, stream), []), row["start_ns"], row["end_ns"])
        place = (side, stream, lane)
        if place not in threads:
            threads[place] = len(threads) + 2
            kind = "stream" if side == "GPU" else "thread"
            overlapping = f" (overlapping {lane})" if lane else ""
            yield _named("thread_name", process, threads[place], f"{side} {kind} {stream}{overlapping}")
        about = ("detail", "inference", "bytes", "graph", "graph_node", "correlation", "kind")
        arguments = {name: row[name] for name in about if row[name] is not None}
        yield _complete(process, threads[place], row["name"], row["class"] or row["kind"], row, begin, arguments)


def _lane(lanes: list[list[int]], start_ns: int, end_ns: int) -> int:
    """The first lane where a record lies within what is under way, or after it; records come by their begin, the longer first.

    lanes: of each the ends of what is under way there, the innermost last; kept up to date.
    """
    for number, ends in enumerate(lanes):
        while ends and ends[-1] <= start_ns:
            ends.pop()
        if not ends or end_ns <= ends[-1]:
            ends.append(end_ns)
            return number
    lanes.append([end_ns])
    return len(lanes) - 1


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}


def _complete(
    process: int, thread: int, name: str, category: str, row: dict[str, Any], begin: int, arguments: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ph": "X", "name": name, "cat": category, "pid": process, "tid": thread, "ts": (row["start_ns"] - begin) / 1e3,
        "dur": (row["end_ns"] - row["start_ns"]) / 1e3, "args": arguments,
    }  # fmt: skip
