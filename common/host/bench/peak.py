"""`invoke peak`: the highest rate of random arrivals that each framework serves with its 99th percentile under a bound.

For each framework variant, precision, batch size and io: one single-stream cell tells what an inference takes; then
cells of the server scenario are tried by bisection (common/host/bench/peak_search.py), each in a fresh worker. A try that says
neither yes nor no is repeated as a further replicate, with other arrivals, and counted together with those before.
All of it are ordinary cells of an ordinary run: an interrupted search is continued by the same command.
"""

from __future__ import annotations

import csv
import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.cell import Cell
from common.errors import UserError
from common.host.bench.execution import measure_idle_without_context
from common.host.bench.opening import opened
from common.host.bench.peak_search import Search, judge, queries_needed
from common.host.cli import parsing as opt
from common.host.cli.progress import CellProgress
from common.host.paths import IMAGES, DataFolder
from common.host.plan.jobs import PlannedJob
from common.host.plan.options import Options
from common.host.plan.request import SERVER_BATCH_SIZES
from common.host.runners.base import Context, Runner
from common.host.runners.events import OnEvent
from common.host.runners.sidecar import looked_after
from common.host.whole_files import whole, write_text
from common.job import Settings
from common.text import markdown, spreadsheet

#: queries of one try: enough for two late ones among them
QUERIES = 1000
QUICK_QUERIES = queries_needed(late=1)
#: a try lasts at least this long, so that slow spells of the machine are in it
LEAST_SECONDS = 2.0
#: tries of one rate, each with other arrivals, before it counts as not shown
TRIES = 4
#: the search begins this far above what single-stream allows: a loaded moment must not hide capacity
HEADROOM = 1.1
RESOLUTION = 0.05


@dataclass(frozen=True)
class Peak:
    """One row of the result. Rates in queries (images) per second, times in ms; None where there is none.

    met: highest rate shown to meet the bound, not_met: lowest that was not. p99_ms: at `met`, from `queries` queries.
    """

    variant: str
    precision: str
    batch_size: int
    io: str
    single_stream_ms: float | None
    met: float | None
    not_met: float | None
    p99_ms: float | None
    queries: int
    why: str


@dataclass(frozen=True)
class Bound:
    """What is asked for. longest_s: a single try may take this long."""

    max_p99_ms: float
    queries: int
    longest_s: float
    resolution: float = RESOLUTION


class CellFailed(Exception):
    """A cell did not end ok; the message is its row's."""


Measure = Callable[[Cell, Settings], Mapping[str, str]]


class Target:
    """The search for one variant, precision, batch size and io.

    measure: has a cell on disk, by running it or because it is there, and returns its row. cells: the run's cells/ folder.
    """

    def __init__(self, base: Cell, bound: Bound, settings: Settings, measure: Measure, cells: Path) -> None:
        self._base, self._bound, self._settings = base, bound, settings
        self._measure, self._cells = measure, cells

    def find(self) -> Peak:
        single_ms: float | None = None
        try:
            single_ms = self._single_stream_ms()
            if single_ms > self._bound.max_p99_ms:
                return self._nothing(single_ms, f"one inference alone takes {single_ms:.4g} ms")
            return self._bisect(single_ms)
        except CellFailed as failure:
            return self._nothing(single_ms, str(failure))

    def _bisect(self, single_ms: float) -> Peak:
        bound = self._bound
        limit = HEADROOM * self._base.batch_size * 1e3 / single_ms
        search = Search(limit, bound.resolution, least=bound.queries / bound.longest_s)
        latencies_at: dict[float, np.ndarray] = {}
        unclear: set[float] = set()
        while (rate := search.next_rate()) is not None:
            outcome, latencies_at[rate] = self._try(rate)
            search.record(rate, outcome == "met")
            if outcome == "unclear":
                unclear.add(rate)
        if search.met == 0:
            return self._nothing(single_ms, f"not shown at {search.not_met:.4g}/s, the lowest rate tried")
        at_peak = latencies_at[search.met]
        why = "the next rate was neither shown to meet nor to miss it" if search.not_met in unclear else ""
        p99 = float(np.quantile(at_peak, 0.99)) / 1e6
        return Peak(*self._names(), single_ms, search.met, search.not_met, p99, len(at_peak), why)

    def _try(self, rate: float) -> tuple[str, np.ndarray]:
        """met, missed or unclear, and the latencies in ns of all queries of that rate."""
        tries: list[np.ndarray] = []
        for replicate in range(TRIES):
            # each try is as long as all before it together
            wanted = self._bound.queries * 2 ** max(0, replicate - 1)
            seconds = max(LEAST_SECONDS, (wanted + 3 * math.sqrt(wanted)) / rate)
            if replicate and seconds > self._bound.longest_s:
                break
            settings = replace(
                self._settings,
                min_seconds=seconds,
                max_seconds=seconds,
                cell_timeout_s=self._settings.cell_timeout_s + 2 * seconds,
            )
            cell = replace(self._base, scenario="server", target_rate_per_s=rate, replicate=replicate)
            row = self._measure(cell, settings)
            if row["status"] == "timeout" and row["stop_reason"]:
                return "missed", np.concatenate([*tries, self._latencies(cell)])  # it said that it cannot serve it
            if row["status"] != "ok":
                raise CellFailed(f"{row['status']}: {row['message']}")
            tries.append(self._latencies(cell))
            outcome = judge(tries, self._bound.max_p99_ms * 1e6)
            if outcome != "unclear":
                return outcome, np.concatenate(tries)
        return "unclear", np.concatenate(tries)

    def _single_stream_ms(self) -> float:
        row = self._measure(self._base, self._settings)
        if row["status"] != "ok":
            raise CellFailed(f"{row['status']}: {row['message']}")
        return float(np.median(self._latencies(self._base))) / 1e6

    def _latencies(self, cell: Cell) -> np.ndarray:
        """In ns, from when each query was due (single-stream: begun)."""
        with (self._cells / cell.key / "samples.csv").open(newline="") as file:
            rows = [(int(r["end_ns"]), int(r["scheduled_ns"] or r["start_ns"])) for r in csv.DictReader(file)]
        times = np.array(rows, dtype=np.int64).reshape(-1, 2)
        latencies: np.ndarray = times[:, 0] - times[:, 1]
        return latencies

    def _names(self) -> tuple[str, str, int, str]:
        return self._base.variant, self._base.precision, self._base.batch_size, self._base.io

    def _nothing(self, single_ms: float | None, why: str) -> Peak:
        return Peak(*self._names(), single_ms, None, None, None, 0, why)


def bound_of(max_p99_ms: float, longest_s: float, quick: bool) -> Bound:
    """From what was typed. Raises UserError."""
    if not max_p99_ms:
        raise UserError("which bound? give --max-p99-ms, the latency in ms that 99 % of queries must keep, such as 15")
    return Bound(
        opt.positive("--max-p99-ms", max_p99_ms),
        QUICK_QUERIES if quick else QUERIES,
        opt.positive("--longest-try", longest_s),
    )


def peak(
    options: Options, bound: Bound, console: Console, data: DataFolder, images_folder: Path = IMAGES
) -> list[Peak]:
    """Searches for every variant, precision, batch size and io of the options, on one device. Raises UserError."""
    if options.scenario or options.rate or options.streams:
        raise UserError("invoke peak chooses scenario and rates itself; leave --scenario, --rate and --streams out")
    if options.replicates not in (0, 1):
        raise UserError("invoke peak repeats by itself what is unclear; leave --replicates out")
    options = replace(options, batch_sizes=options.batch_sizes or SERVER_BATCH_SIZES, replicates=1)
    if options.batch_window_ms >= 0:
        window = {"batch_window_ms": options.batch_window_ms}
        options = replace(options, batch_window_ms=-1.0, settings={**options.settings, **window})
    what = f"peak with p99 of at most {bound.max_p99_ms:g} ms, {bound.queries} queries a try, resolution {bound.resolution:g}"
    found: list[Peak] = []
    with opened(options, console, data, images_folder, search=what) as (context, runner, plan):
        if len(context.devices) > 1:
            raise UserError("invoke peak measures on one device; name one with --gpu")
        (device,) = context.devices.values()
        run = context.run
        with (
            CellProgress(
                console, 0, 0, context.request.item or context.model.item, context.request.items_per_sample or 1
            ) as progress,
            runner.sidecar(context, device) as sidecar,
        ):
            run.description.setdefault("power", {})[device.name] = asdict(sidecar.state)
            if sidecar.state.recording:
                measure_idle_without_context(context, device, threading.Event())
            for job in plan:
                for base in job.cells:
                    measure = _measurer(
                        context, runner, job, progress, looked_after(sidecar, progress.on_event, progress.warn)
                    )
                    target = Target(base, bound, context.request.settings, measure, run.folder / "cells")
                    found.append(target.find())
                    console.print(escape(_sentence(found[-1], bound)), highlight=False, soft_wrap=True)
        run.finish()
        write_results(found, bound, data.report / run.name)
    return found


def _measurer(context: Context, runner: Runner, job: PlannedJob, progress: CellProgress, on_event: OnEvent) -> Measure:
    def measure(cell: Cell, settings: Settings) -> Mapping[str, str]:
        run = context.run
        path = run.folder / "cells" / cell.key / "cell.csv"
        if cell.key not in run.description["plan"]:
            run.description["plan"].append(cell.key)
            run.save()
        if not path.exists():
            progress.expect_one_more()
            planned = replace(job, replicate=cell.replicate, cells=(cell,))
            within = replace(context, request=replace(context.request, settings=settings))
            _run(runner, within, planned, on_event)
        if progress.errors or not path.exists():
            raise UserError("; ".join(progress.errors) or f"{cell.key} left no row")
        with path.open(newline="") as file:
            return next(csv.DictReader(file))

    return measure


def _run(runner: Runner, context: Context, planned: PlannedJob, on_event: OnEvent) -> None:
    """In a thread of its own, so that Ctrl-C ends the job in the runner's way and not in the middle of it."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            runner.run_job(context, planned, on_event)
        except BaseException as error:  # handed to the main thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        runner.interrupt()
        thread.join()
        raise
    if failures:
        raise failures[0]


def _sentence(row: Peak, bound: Bound) -> str:
    name = f"{row.variant} {row.precision} batch {row.batch_size} {row.io}"
    if row.met is None:
        return f"{name}: no rate with p99 of at most {bound.max_p99_ms:g} ms: {row.why}"
    note = f" ({row.why})" if row.why else ""
    return f"{name}: {row.met:g}/s meets it, {row.not_met:.4g}/s does not{note}"


def ranked(found: Iterable[Peak]) -> list[Peak]:
    """Highest rate first; those without one last."""
    return sorted(found, key=lambda row: (row.met is None, -(row.met or 0.0), row.variant))


def _texts(row: Peak) -> list[str]:
    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    return [
        row.variant, row.precision, str(row.batch_size), row.io, shown(row.met), shown(row.not_met), shown(row.p99_ms),
        str(row.queries) if row.queries else "–", shown(row.single_stream_ms), row.why,
    ]  # fmt: skip


HEADINGS = (
    "framework", "precision", "batch", "io", "peak (queries/s)", "not met at", "p99 (ms)", "queries", "alone (ms)", "note",
)  # fmt: skip


def footer(bound: Bound) -> str:
    return (
        f"Highest rate of random (Poisson) arrivals whose 99th percentile of latency is at most {bound.max_p99_ms:g} ms "
        "with 99 % confidence, late queries that come in clumps counted as what they are; "
        f"found by bisection to {bound.resolution:.0%}. A query is one image, and latency counts from when it was due."
    )


def print_results(found: Sequence[Peak], bound: Bound, console: Console) -> None:
    table = Table(*HEADINGS, title=f"peak rate with p99 of at most {bound.max_p99_ms:g} ms", title_justify="left")
    for row in ranked(found):
        table.add_row(*(escape(text) for text in _texts(row)))
    console.print(table)
    console.print(escape(footer(bound)), highlight=False)


def write_results(found: Sequence[Peak], bound: Bound, folder: Path) -> None:
    """`peak.csv`, `peak.md` and `peak.json` (the bound and unrounded figures)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ranked(found)
    with whole(folder / "peak.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Peak.__dataclass_fields__)
        writer.writerows(
            ["" if value is None else spreadsheet(value) for value in asdict(row).values()] for row in rows
        )
    shown = [[markdown(text) for text in _texts(row)] for row in rows]
    lines = [" | ".join(cells) for cells in (HEADINGS, ["---"] * len(HEADINGS), *shown)]
    write_text(folder / "peak.md", "\n".join(f"| {line} |" for line in lines) + f"\n\n{footer(bound)}\n")
    document: dict[str, Any] = {"bound": asdict(bound), "peaks": [asdict(row) for row in rows]}
    write_text(folder / "peak.json", json.dumps(document, indent=1) + "\n")
