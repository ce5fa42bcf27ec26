"""What cells lose when all GPUs of a host are busy: throughput of each with all of them at work over that of its GPU alone.

    python -m analysis.comparisons.gpus_together data/results/<alone>... --together data/results/<all>

The runs alone were made one after the other (`invoke bench --gpu 0`, then `--gpu 1`, ...), the other with `--gpu all`, all by
one plan; docs/many-gpus.md has the commands. A GPU is known by its UUID. The interval of a ratio is over workers; that of a
configuration is of the mean of its GPUs' ratios (as logarithms; degrees of freedom after Welch and Satterthwaite).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.comparisons.run_tables import full_name
from analysis.comparisons.runs import IDENTITY
from analysis.database.connection import Database, Row
from analysis.database.open_runs import open_runs
from analysis.results.cards import card_of
from analysis.results.metrics import is_wrong
from analysis.results.sample_intervals import group_of, parts_of
from common.errors import UserError
from common.host.paths import DataFolder
from common.host.runs.find import run_folders
from common.stats.intervals import Ratio, over_workers, ratio
from common.stats.student_t import two_sided_quantile
from common.stats.workers import pools_of

#: what is to be left of a cell that copies nothing (io=device)
TARGET = (0.98, 1.02)
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Shared:
    """One configuration: its ratio over all GPUs with the 95 % interval, and each GPU's own.

    low, high: NaN where a side has one worker and nothing tells its spread. gpus: device -> ratio, in the order of devices.
    """

    row: Row
    estimate: float
    low: float
    high: float
    gpus: Mapping[str, float]

    @property
    def verdict(self) -> str:
        if math.isnan(self.low):
            return "unknown: one worker a side"
        if TARGET[0] <= self.low and self.high <= TARGET[1]:
            return "within"
        return "outside" if self.high < TARGET[0] or self.low > TARGET[1] else "unclear"


@dataclass(frozen=True)
class Together:
    """configurations: in the order of the table. unpaired: GPUs without a run alone.

    wall_s: of the run with all GPUs; alone_s: of the runs alone together, whatever GPUs have one; None is unknown.
    """

    configurations: Sequence[Shared]
    unpaired: Sequence[str]
    wall_s: float | None
    alone_s: float | None

    @property
    def paired(self) -> list[str]:
        return sorted({device for one in self.configurations for device in one.gpus})


def measure(alone: Sequence[Path], together: Path) -> Together:
    """Raises UserError where a folder does not exist, or no cell of `together` has one alone."""
    with open_runs([*alone, together]) as database:
        name = list(database.runs)[-1]
        rows = [
            row
            for row in database.query("FROM comparison ORDER BY ALL")
            if row["status"] == "ok" and row["samples"] and not is_wrong(row)
        ]
        busy = {_key(row): row for row in rows if row["run"] == name}
        free = {_key(row): row for row in rows if row["run"] != name}
        paired = [key for key in busy if key in free]
        ratios = _ratios(database, busy, free, paired)
        if not ratios:
            raise UserError(
                f"no cell of {name} was measured with its GPU alone; give the runs of its GPUs, by the same plan"
            )
        devices = {row["device"] for row in busy.values()} - {busy[key]["device"] for key in ratios}
        walls = {row["run"]: _seconds(row) for row in database.query("SELECT run, created_utc, finished_utc FROM run")}
        others = [walls[run] for run in {free[key]["run"] for key in ratios}]
        known = [wall for wall in others if wall is not None]
        return Together(
            _by_configuration(busy, ratios),
            sorted(devices),
            walls[name],
            sum(known) if len(known) == len(others) else None,
        )


def _key(row: Row) -> Key:
    return (*(row[part] for part in IDENTITY), card_of(row))


def _ratios(
    database: Database, busy: Mapping[Key, Row], free: Mapping[Key, Row], paired: Sequence[Key]
) -> dict[Key, Ratio]:
    """Throughput busy over throughput alone, of pairs of which both have two samples or more."""
    parts = {
        (side, key): parts_of(database, rows[key]).get("throughput", [])
        for side, rows in enumerate((free, busy))
        for key in paired
    }
    groups = {(side, key): (side, *group_of(busy[key])) for side, key in parts}
    pools = pools_of((groups[place], [part.estimate for part in one]) for place, one in parts.items())
    found = {}
    for key in paired:
        a, b = (over_workers(parts[side, key], pools.get(groups[side, key])) for side in (0, 1))
        if a is not None and b is not None:
            found[key] = ratio(b, a)
    return found


def _by_configuration(busy: Mapping[Key, Row], ratios: Mapping[Key, Ratio]) -> list[Shared]:
    members: dict[Key, list[Key]] = {}
    for key in ratios:
        members.setdefault(key[:-1], []).append(key)
    return [
        Shared(
            busy[keys[0]],
            *_mean([ratios[key] for key in keys]),
            {busy[key]["device"]: ratios[key].estimate for key in keys},
        )
        for keys in members.values()
    ]


def _mean(ratios: Sequence[Ratio]) -> tuple[float, float, float]:
    """Geometric mean with its 95 % interval."""
    estimate = math.exp(sum(math.log(one.estimate) for one in ratios) / len(ratios))
    if not all(one.over_workers for one in ratios):
        return estimate, math.nan, math.nan
    variances = [(one.spread / one.estimate) ** 2 for one in ratios]
    rest = sum(variance**2 / one.freedom for variance, one in zip(variances, ratios, strict=True))
    freedom = sum(variances) ** 2 / rest if rest > 0 else min(one.freedom for one in ratios)
    factor = math.exp(min(700.0, two_sided_quantile(0.95, freedom) * math.sqrt(sum(variances)) / len(ratios)))
    return estimate, estimate / factor, estimate * factor


def _seconds(row: Row) -> float | None:
    """Wall time of a run, made ready and measured."""
    try:
        begin, end = (
            datetime.fromisoformat(str(row[name]).replace("Z", "+00:00")) for name in ("created_utc", "finished_utc")
        )
        return (end - begin).total_seconds()
    except (ValueError, TypeError):
        return None


def lines(found: Together) -> list[str]:
    """A Markdown table and what is to be said of it."""
    lines = [
        "| cell | all GPUs busy / alone, throughput | 95 % interval | lowest GPU | highest GPU | 0.98 to 1.02 |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for one in found.configurations:
        ordered = sorted(one.gpus.items(), key=lambda item: item[1])
        (worst, least), (best, most) = ordered[0], ordered[-1]
        interval = "–" if math.isnan(one.low) else f"{one.low:.3f} to {one.high:.3f}"
        lines.append(
            f"| {full_name(one.row)} | {one.estimate:.3f} | {interval} | {worst} {least:.3f} | {best} {most:.3f} | {one.verdict} |"
        )
    if found.unpaired:
        lines.append(f"No run alone of {', '.join(found.unpaired)}: left out.")
    return [*lines, *_wall_time(found)]


def _wall_time(found: Together) -> list[str]:
    """One after the other against all at once: a quotient only where every GPU has a run alone."""
    if not found.wall_s or not found.alone_s:
        return []
    if found.unpaired:
        return [
            f"Wall time: {found.wall_s:.0f} s with all at once; {found.alone_s:.0f} s for {', '.join(found.paired)} alone. How long "
            f"the GPUs take one after the other is not known without {', '.join(found.unpaired)}."
        ]
    return [
        f"Wall time: {found.wall_s:.0f} s with all at once, {found.alone_s:.0f} s one after the other: "
        f"{found.alone_s / found.wall_s:.2f} times as long."
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.comparisons.gpus_together", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "alone", nargs="+", metavar="RUN", help="runs of one GPU each, the others idle; sealed ones too"
    )
    parser.add_argument("--together", required=True, metavar="RUN", help="the run of all of them at once")
    given = parser.parse_args(arguments)
    data = DataFolder.default()
    try:
        (together,) = run_folders([given.together], data)
        print("\n".join(lines(measure(run_folders(given.alone, data), together))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
