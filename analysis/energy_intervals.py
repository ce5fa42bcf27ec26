"""How far energy per image wanders within a window, and between workers: a bootstrap over stretches of the window.

A window is cut into stretches of equal length. Each has its energy, from the power readings (or, of a meter that only
counts, from its counter), and its images, from the samples. Joules per image is the sum of one over the sum of the other.
This says how repeatable the figure is. How well the meter can be read is another matter (`energy.uncertainty_j`); the
larger of the two is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.database import Database
from analysis.intervals import Draws, Interval, quotient_draws

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

#: NVML's power changes once every 100 ms: stretches below this length would share readings. Fewer stretches than
#: FEWEST tell no spread.
SHORTEST_S = 0.5
FEWEST = 6
MOST = 256
_SOURCES = ("instant", "average", "usage")

_READINGS = """
SELECT domain, coalesce(uuid, '') AS uuid, coalesce(device::VARCHAR, '') AS device,
  regexp_extract(domain, '^[a-z]+') AS class, coalesce(power_source, '') AS power_source, t_ns, power_mw, energy_mj
FROM power WHERE run = $1 ORDER BY t_ns
"""


@dataclass(frozen=True)
class Meter:
    """Energy in J since the first reading of one GPU, CPU package or DRAM, at instants in ns."""

    kind: str
    uuid: str | None
    device: int | None
    t_ns: Times
    joules: Floats

    def between(self, edges: Floats) -> Floats | None:
        """(len(edges) - 1,) joules of the stretches; None where an edge is more than a second from any reading."""
        if not len(self.t_ns) or edges[0] < self.t_ns[0] - 1e9 or edges[-1] > self.t_ns[-1] + 1e9:
            return None
        return np.diff(np.interp(edges, self.t_ns.astype(np.float64), self.joules))


def meters(database: Database, run: str) -> list[Meter]:
    """The meters of a run: the trapezoid over their power, or their counter where they tell no power."""
    columns = database.execute(_READINGS, [run]).fetchnumpy()
    found: list[Meter] = []
    keys = zip(*(columns[name] for name in ("domain", "uuid", "device", "power_source")), strict=True)
    places: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for place, (domain, uuid, device, source) in enumerate(keys):
        places.setdefault((domain, uuid, device), {}).setdefault(source, []).append(place)
    power = np.ma.filled(columns["power_mw"].astype(np.float64), np.nan)
    counter = np.ma.filled(columns["energy_mj"].astype(np.float64), np.nan)
    for (_domain, uuid, device), by_source in places.items():
        order = [*(source for source in _SOURCES if source in by_source), *sorted(set(by_source) - set(_SOURCES))]
        series = None
        for source in order:
            at = np.array(by_source[source])
            at = at[np.isfinite(power[at])]
            if len(at) >= 2:
                t_ns = np.asarray(columns["t_ns"])[at].astype(np.int64)
                steps = np.diff(t_ns) / 1e9 * (power[at][1:] + power[at][:-1]) / 2e3
                series = t_ns, np.concatenate([[0.0], np.cumsum(steps)])
                break
        if series is None:
            at = np.array(sorted(place for part in by_source.values() for place in part))
            at = at[np.isfinite(counter[at])]
            if len(at) < 2:
                continue
            series = np.asarray(columns["t_ns"])[at].astype(np.int64), counter[at] / 1e3
        kind = str(columns["class"][next(iter(by_source.values()))[0]])
        number = int(device) if device else None
        found.append(Meter(kind, uuid or None, number, *series))
    return found


def of_rows(
    database: Database, rows: Sequence[Mapping[str, Any]], error: Mapping[tuple[tuple[str, ...], str, str], Interval]
) -> dict[tuple[tuple[str, ...], str, str], Interval]:
    """(cell keys, run, "joules_per_image") -> the wider of the bootstrap's interval and the meter's error.

    error: intervals that already are known, of the meter's error (analysis.published_intervals). Rows whose windows are
    too short for FEWEST stretches keep what they have.
    """
    found: dict[tuple[tuple[str, ...], str, str], Interval] = {}
    known: dict[str, list[Meter]] = {}
    for row in rows:
        value = row["joules_per_image"]
        if value is None or row["status"] != "ok" or row["energy_basis"] not in ("counter", "integral"):
            continue
        run = row["run"]
        if run not in known:
            known[run] = meters(database, run)
        drawn = _draws(database, row, known[run])
        if drawn is None or not math.isfinite(drawn.estimate) or drawn.estimate <= 0:
            continue
        interval = drawn.interval()
        place = (tuple(row["cell_keys"]), run, "joules_per_image")
        # the shape of the bootstrap around the figure of the table, which the energy counter may have given
        low, high = value * interval.low / drawn.estimate, value * interval.high / drawn.estimate
        before = error.get(place)
        if before is None or high - low > before.high - before.low:
            found[place] = Interval(value, max(0.0, low), high, 0.95, interval.samples, interval.replicates)
    return found


def _draws(database: Database, row: Mapping[str, Any], known: Sequence[Meter]) -> Draws | None:
    mine = [meter for meter in known if _belongs(meter, row)]
    if not mine:
        return None
    joules: list[Floats] = []
    images: list[Floats] = []
    each = 1 if row["scenario"] == "server" else int(row["batch_size"])
    for key in row["cell_keys"]:
        start, end, _ = database.samples(row["run"], key)
        if len(end) < 2:
            return None
        first, last = float(start.min()), float(end.max())
        count = min(MOST, int((last - first) / 1e9 / SHORTEST_S), len(end) // 2)
        if count < FEWEST:
            return None
        edges = np.linspace(first, last, count + 1)
        parts = [meter.between(edges) for meter in mine]
        if any(part is None for part in parts):
            return None
        joules.append(np.sum([part for part in parts if part is not None], axis=0))
        # images done by an edge, the one under way in part: whole ones alone would add noise of their own
        done = np.interp(edges, np.concatenate([[first], np.sort(end)]), np.arange(len(end) + 1) * float(each))
        images.append(np.diff(done))
    return quotient_draws(joules, images)


def _belongs(meter: Meter, row: Mapping[str, Any]) -> bool:
    if row["device"] == "cpu":
        return meter.kind == "package"
    if meter.kind != "gpu":
        return False
    if meter.uuid and row["device_uuid"]:
        return bool(meter.uuid == row["device_uuid"])
    return bool(f"gpu{meter.device}" == row["device"])
