"""Every plot that the data allow, in the order of the report; for the others, why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from analysis.comparisons.notebook_vs_script import TITLE, FrontEnds
from analysis.database.connection import Database, Row
from analysis.plots import (
    across_gpus,
    against_batch_size,
    cold_start,
    efficiency,
    files,
    latency_distribution,
    pareto_front,
    power_over_time,
    power_throughput,
    roofline,
    speedup,
)
from analysis.plots import notebook_vs_script as front_ends
from analysis.plots.axes import note_known_wrong, with_kind
from analysis.results import several_runs, tables
from analysis.results.metrics import METRICS
from analysis.results.sample_intervals import Intervals
from analysis.results.selection import Pivot, parse_pivot

#: Metrics that are drawn against batch size; the first are drawn for every run, all of them where they are known.
AGAINST_BATCH_SIZE = (
    "throughput", "latency", "p99", "seconds_per_image", "power", "joules_per_image", "images_per_joule",
    "time_efficiency", "images_per_joule_second",
)  # fmt: skip
ACROSS_GPUS = ("throughput", "latency", "power", "joules_per_image")
#: Plots that need readings of power: without any, one sentence says so.
ENERGY = "power and energy"
OF_ENERGY = (
    "power, gross", "energy per image", "images per joule", "images per joule-second", "power against throughput", "best efficiency",
    "power over time",
)  # fmt: skip
#: It is of times before the measured window, which no known fault concerns.
COLD_START = "cold start"
#: Groups and runs beyond these are not drawn: a thousand runs have tables, not ten thousand pictures.
MOST_GROUPS = 12
MOST_RUNS = 6


@dataclass(frozen=True)
class Plot:
    """name: of the file, without its ending. description: for screen readers and captions. group: whose plot it is, in words."""

    name: str
    description: str
    figure: Figure
    group: str = ""


@dataclass
class Gallery:
    """Draws on iteration, one figure at a time; `undrawn` is complete when the iteration ends."""

    database: Database
    rows: Sequence[Row]
    intervals: Intervals
    baseline: str | None = None
    known: roofline.Limits = field(default_factory=roofline.Limits)
    compared: FrontEnds | None = None
    _drawn: set[str] = field(default_factory=set)
    #: what was not drawn of some group or run -> why
    _undrawn: dict[str, str] = field(default_factory=dict)

    @property
    def undrawn(self) -> list[str]:
        """One sentence for each thing that a reader could have expected and that is drawn of nothing here."""
        return [f"{what}: {why}" for what, why in self._undrawn.items() if what not in self._drawn]

    def _lacking(self, what: str, why: str) -> None:
        if what in OF_ENERGY:
            what, why = ENERGY, "no power was read"
        self._undrawn.setdefault(what, why)

    def __iter__(self) -> Iterator[Plot]:
        # what many take part in first: a page that has no room for all leaves out the last
        groups = sorted(
            tables.groups(self.rows, parse_pivot(None)),
            key=lambda one: (-len({row["variant"] for row in one[1]}), -len(one[1])),
        )
        if len(groups) > MOST_GROUPS:
            self._lacking(f"plots of {len(groups) - MOST_GROUPS} more groups", "choose fewer with --where")
        for group, members in groups[:MOST_GROUPS]:
            yield from self._of_group(tables.heading(group), list(group.values()), members)
        yield from self._front_ends()
        yield from self._across()
        runs = list(dict.fromkeys(row["run"] for row in self.rows))
        for run in runs[:MOST_RUNS]:
            figure = power_over_time.draw(self.database, run)
            yield from self._plot(
                figure, "power over time", [run], f"of run {run}", "no power readings", "power over time"
            )
        if len(runs) > MOST_RUNS:
            self._lacking(f"power over time of {len(runs) - MOST_RUNS} more runs", "analyze fewer at once")

    def _plot(
        self, figure: Figure | None, what: str, parts: Sequence[object], where: str, lacks: str, group: str = "",
        drawn: Sequence[Row] = (),
    ) -> Iterator[Plot]:  # fmt: skip
        """The plot, or why there is none. lacks: why, "" where nobody misses it. drawn: rows of which a known fault is noted."""
        note_known_wrong(figure, drawn)
        if figure is None:
            if lacks:
                self._lacking(what, lacks)
        else:
            self._drawn.update([what, ENERGY] if what in OF_ENERGY else [what])
            yield Plot(files.file_name(what, *parts), f"{what} {where}", figure, group)

    def _of_group(self, heading: str, parts: Sequence[object], every: Sequence[Row]) -> Iterator[Plot]:
        # two curves of one name cannot be told apart: the tables have the other figures
        rows = several_runs.counting(every)
        if len(rows) < len(every):
            others, of_other_gpus = several_runs.passed_over(every)
            if others:
                self._lacking(
                    f"other figures of {len(others)} cells ({heading})",
                    f"of each of these one is drawn: {several_runs.RULE}; of speed-up the pair of one run first",
                )
            if of_other_gpus:
                self._lacking(
                    f"figures of other GPUs of {len(of_other_gpus)} cells ({heading})",
                    several_runs.gpus_of_one_run(of_other_gpus, every),
                )
        shown = with_kind(heading, rows)
        where = f"({shown})"
        if len(rows) > 1:
            yield from self._that_compare(heading, parts, every, rows, shown)
        else:
            self._lacking("plots that compare cells", "a group of one cell has none")
        yield from self._plot(
            latency_distribution.draw(self.database, rows, shown), "latency distribution", parts, where,
            "no cell has 11 samples", heading, rows,
        )  # fmt: skip
        yield from self._plot(
            cold_start.draw(self.database, rows, shown), COLD_START, parts, where, "no phases are known", heading
        )
        known, missing = roofline.limits(
            self.database.documents.get(rows[0]["run"], {}), rows[0]["device"], rows[0]["io"], self.known
        )
        lacks = "; ".join(missing) if self.known != roofline.Limits() else ""
        yield from self._plot(
            roofline.draw(rows, shown, known, missing), "roofline", parts, where, lacks, heading, rows
        )

    def _that_compare(
        self, heading: str, parts: Sequence[object], every: Sequence[Row], rows: Sequence[Row], shown: str
    ) -> Iterator[Plot]:
        """Those that say of one cell no more than its table. rows: of `every`, those that are drawn. shown: heading of a figure."""
        where = f"({shown})"
        for name in AGAINST_BATCH_SIZE:
            figure = against_batch_size.draw(rows, METRICS[name], shown, self.intervals)
            note_known_wrong(figure, rows)
            what = f"{METRICS[name].label} against batch size"
            if figure is None:
                self._lacking(METRICS[name].title, "no cell has it")
            else:
                self._drawn.update([METRICS[name].title, *([ENERGY] if METRICS[name].title in OF_ENERGY else [])])
                yield Plot(files.file_name(name.replace("_", " "), *parts), f"{what} {where}", figure, heading)
        for figure, what, lacks in (
            (
                speedup.draw(every, shown, self.intervals, self.baseline),
                "speed-up",
                "",  # of one framework nobody expects it
            ),
            (pareto_front.draw(rows, shown), "Pareto front", "no throughput with energy or latency"),
            (power_throughput.draw(rows, shown), "power against throughput", "no power is known"),
            (efficiency.draw(rows, shown), "best efficiency", "no energy is known"),
        ):
            yield from self._plot(figure, what, parts, where, lacks, heading, rows)

    def _front_ends(self) -> Iterator[Plot]:
        for heading, pairs in list((self.compared.groups() if self.compared else {}).items())[:MOST_GROUPS]:
            figure = front_ends.draw(pairs, heading)
            yield from self._plot(figure, TITLE.lower(), [heading], f"({heading})", "no pair has a ratio")

    def _across(self) -> Iterator[Plot]:
        if len({row["device_name"] or row["device"] for row in self.rows}) < 2:
            return
        pivot = Pivot(rows=("device_name", "variant", "precision", "tuning", "version"))
        for group, every in tables.groups(self.rows, pivot)[:MOST_GROUPS]:
            members = several_runs.counting(every)
            heading = with_kind(tables.heading(group), members)
            for name in ACROSS_GPUS:
                figure = across_gpus.draw(members, METRICS[name], heading)
                note_known_wrong(figure, members)
                what = f"{METRICS[name].title} across GPUs"
                yield from self._plot(
                    figure, what, list(group.values()), f"({heading})", "no framework has it on two devices"
                )
