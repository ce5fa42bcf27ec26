"""How far energy per image wanders between workers, and within a window: a bootstrap over stretches of the window.

A window is cut into stretches of equal length. Each has its energy, read off the view `meter_joules` at its edges, and its
images, from the samples. Joules per image is the sum of one over the sum of the other.
This says how repeatable the figure is. How well the meter can be read is another matter (`energy.uncertainty_j`); the
larger of the two is shown.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.database.connection import Database
from analysis.results.sample_intervals import group_of
from common.stats.intervals import Interval, Uncertain, of_figures, quotient_draws
from common.stats.workers import pools_of

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

#: NVML's power changes once every 100 ms: stretches below this length would share readings. Fewer stretches than
#: MIN_STRETCHES tell no spread.
SHORTEST_S = 0.5
MIN_STRETCHES = 6
MOST = 256


@dataclass(frozen=True)
class Meter:
    """Energy in J since the first reading of one GPU, CPU package or DRAM, at instants in ns."""

    kind: str
    uuid: str | None
    device: int | None
    t_ns: Times
    joules: Floats
    #: of the machine, where it was rebooted in the middle of the run; None is the last
    boot: int | None = None

    def between(self, edges: Floats) -> Floats | None:
        """(len(edges) - 1,) joules of the stretches; None where an edge is more than a second from any reading."""
        if not len(self.t_ns) or edges[0] < self.t_ns[0] - 1e9 or edges[-1] > self.t_ns[-1] + 1e9:
            return None
        return np.diff(np.interp(edges, self.t_ns.astype(np.float64), self.joules))


def meters(database: Database, run: str) -> list[Meter]:
    """The meters of a run that have two readings or more, as the view `meter_joules` adds them up."""
    columns = database.execute(
        "SELECT stream, boot, class, uuid, device, t_ns, joules FROM meter_joules WHERE run = $1 ORDER BY stream, t_ns",
        [run],
    ).fetchnumpy()
    streams = np.asarray(columns["stream"]).astype(str)
    starts = [0, *(np.flatnonzero(streams[1:] != streams[:-1]) + 1).tolist(), len(streams)]
    found: list[Meter] = []
    for begin, end in itertools.pairwise(starts):
        if end - begin < 2:
            continue
        boot, kind, uuid, device = (columns[name][begin] for name in ("boot", "class", "uuid", "device"))
        found.append(
            Meter(
                str(kind),
                None if uuid is np.ma.masked or uuid is None else str(uuid),
                None if device is np.ma.masked else int(device),
                np.ma.getdata(columns["t_ns"])[begin:end].astype(np.int64),
                np.ma.getdata(columns["joules"])[begin:end].astype(np.float64),
                None if boot is np.ma.masked else int(boot),
            )
        )
    return found


def of_rows(
    database: Database,
    rows: Sequence[Mapping[str, Any]],
    error: Mapping[tuple[tuple[str, ...], str, str], Interval],
    only: Sequence[Mapping[str, Any]] | None = None,
) -> dict[tuple[tuple[str, ...], str, str], Interval]:
    """(cell keys, run, "joules_per_image" or "power") -> the wider of what the figure does and of the meter's error.

    With several workers the former is the spread between them; of one worker it is that of joules per image between stretches
    of its window. error: intervals that already are known, of the meter's error (analysis.results.published_intervals). Rows of one
    worker whose windows are too short for MIN_STRETCHES stretches keep what they have. only: the rows
    of one worker that are looked at; default: all.
    """
    found = _between_workers(database, rows)
    known: dict[str, list[Meter]] = {}
    for row in rows if only is None else only:
        value, place = row["joules_per_image"], (tuple(row["cell_keys"]), row["run"], "joules_per_image")
        if place in found or value is None or not _has_own_energy(row):
            continue
        run = row["run"]
        if run not in known:
            known[run] = meters(database, run)
        drawn = _draws(database, row, known[run])
        if drawn is None or not math.isfinite(drawn.estimate) or drawn.estimate <= 0:
            continue
        interval = drawn.interval()
        # the shape of the bootstrap around the figure of the table, which the energy counter may have given
        low, high = value * interval.low / drawn.estimate, value * interval.high / drawn.estimate
        found[place] = replace(interval, estimate=value, low=max(0.0, low), high=high)
    return {place: _wider(interval, error.get(place)) for place, interval in found.items()}


def _wider(spread: Interval, meter: Interval | None) -> Interval:
    if meter is None or spread.high - spread.low >= meter.high - meter.low:
        return spread
    return replace(meter, over_workers=spread.over_workers)


def _has_own_energy(row: Mapping[str, Any]) -> bool:
    return row["status"] == "ok" and row["energy_basis"] in ("counter", "integral")


def _between_workers(
    database: Database, rows: Sequence[Mapping[str, Any]]
) -> dict[tuple[tuple[str, ...], str, str], Interval]:
    """Student's t over the workers' figures, for rows with several; a single worker takes the spread of its group's others."""
    measured = [row for row in rows if _has_own_energy(row)]
    if not any(len(row["cell_keys"]) > 1 for row in measured):
        return {}
    cells = {
        (cell["run"], cell["cell_key"]): cell
        for cell in database.query(
            "SELECT run, cell_key, joules_per_image, power_gross_w FROM results WHERE status = 'ok'"
        )
    }
    figures: dict[tuple[tuple[str, ...], str, str], list[float]] = {}
    groups: dict[tuple[tuple[str, ...], str, str], tuple[str, ...]] = {}
    for row in measured:
        for name, column in (("joules_per_image", "joules_per_image"), ("power", "power_gross_w")):
            values = [cells[row["run"], key][column] for key in row["cell_keys"] if (row["run"], key) in cells]
            if values and all(value is not None and value > 0 for value in values):
                place = tuple(row["cell_keys"]), row["run"], name
                figures[place], groups[place] = values, (*group_of(row), name)
    wrong = {(tuple(row["cell_keys"]), row["run"]) for row in measured if row.get("known_wrong")}
    pools = pools_of((groups[place], values) for place, values in figures.items() if place[:2] not in wrong)
    drawn = {place: of_figures(values, pools.get(groups[place])) for place, values in figures.items()}
    return {place: one.interval() for place, one in drawn.items() if one is not None}


def _draws(database: Database, row: Mapping[str, Any], known: Sequence[Meter]) -> Uncertain | None:
    boots = {
        found["cell_key"]: found["boot"]
        for found in database.query("SELECT cell_key, boot FROM cell_boot WHERE run = $1", [row["run"]])
    }
    joules: list[Floats] = []
    images: list[Floats] = []
    each = 1 if row["scenario"] == "server" else int(row["batch_size"])
    for key in row["cell_keys"]:
        start, end, _ = database.samples(row["run"], key)
        if len(end) < 2:
            return None
        first, last = float(start.min()), float(end.max())
        count = min(MOST, int((last - first) / 1e9 / SHORTEST_S), len(end) // 2)
        if count < MIN_STRETCHES:
            return None
        edges = np.linspace(first, last, count + 1)
        mine = [meter for meter in known if meter.boot == boots.get(key) and _belongs(meter, row)]
        parts = [meter.between(edges) for meter in mine]
        if not parts or any(part is None for part in parts):
            return None
        joules.append(np.sum([part for part in parts if part is not None], axis=0))
        images.append(np.diff(images_done(edges, first, end, each)))
    return quotient_draws(joules, images)


def images_done(edges: Floats, first: float, end: Times, each: int) -> Floats:
    """(len(edges),) images done by each instant, in ns; what is under way counts in part, as whole ones would add noise.

    end: (n,) ends of inferences of `each` images, the first of which began at `first`. Inferences that end together, as the
    offline scenario sees them, were worked at since the end before: the device did them one after the other.
    """
    times, counts = np.unique(end, return_counts=True)
    return np.interp(edges, np.concatenate([[first], times]), np.concatenate([[0], np.cumsum(counts)]) * float(each))


def _belongs(meter: Meter, row: Mapping[str, Any]) -> bool:
    if row["device"] == "cpu":
        return meter.kind == "package"
    if meter.kind != "gpu":
        return False
    if meter.uuid and row["device_uuid"]:
        return bool(meter.uuid == row["device_uuid"])
    return bool(f"gpu{meter.device}" == row["device"])
