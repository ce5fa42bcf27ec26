"""Throughput of every framework over that of a baseline at the same batch size, with intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from analysis import style
from analysis.database.connection import Row
from analysis.plots import bars as bar_plot
from analysis.plots.axes import Series, batch_axis, by_series, log_axis, namer
from analysis.plots.bars import Bar
from analysis.results.cards import card_of, two_cards
from analysis.results.metrics import is_wrong
from analysis.results.sample_intervals import Intervals
from analysis.results.several_runs import counting, standing_of_pair

#: The level of tuning that others are held against where it was measured.
STOCK = "stock"
#: sign of a framework with a ratio over its stock level of another GPU, or of another run of the same one -> what it says
_ELSEWHERE = {"†": "† over stock on another GPU", "‡": "‡ over stock of another run"}


def draw(rows: Sequence[Row], heading: str, intervals: Intervals, baseline: str | None = None) -> Figure | None:
    """baseline: a variant. Default: each framework's own stock level where that was measured, else the median framework.

    rows: also those whose figures do not count (several_runs). A framework and its stock level are paired as the results page does it
    (several_runs.standing_of_pair): on one GPU where there is such a pair, and else a name has a sign. With one baseline for all,
    each figure that counts has the baseline's that suits it best.
    The interval of a ratio is that of two independent figures whose errors are multiplied: their relative half widths add
    as squares. A ratio between two GPUs has none, as no interval over workers knows how cards differ. None where the baseline
    or anything to compare with it is missing.
    """
    known = [row for row in rows if row["images_per_s"]]
    series, every = by_series(counting(known)), by_series(known)
    bases, base_name = _bases(series, baseline)
    uppers = series if base_name is None else every
    pairs = {one: _pairs(uppers[one], every[base]) for one, base in bases.items() if one != base}
    pairs = {one: found for one, found in pairs.items() if found}
    if not pairs:
        return None
    signs = {one: _signs(found) if base_name else "" for one, found in pairs.items()}
    names = {one: f"{name} {signs.get(one, '')}".strip() for one, name in namer(list(series)).items()}
    notes = [text for sign, text in _ELSEWHERE.items() if any(sign in found for found in signs.values())]
    common = set(bases.values()) if base_name is None else set()
    name = base_name or names[next(iter(common))]
    label = f"throughput over that of {name}"
    sizes = sorted({row["batch_size"] for found in pairs.values() for row, _ in found})
    if len(sizes) == 1:
        bars = [
            Bar(one, names[one], _ratio(pair), _ends(pair, intervals))
            for one, found in pairs.items()
            for pair in found[-1:]
        ]
        return bar_plot.one_panel(bars, heading, sizes[0], label, {f"{name} (baseline)": 1.0}, notes)
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    drawn: list[float] = [1.0]
    for one in sorted(pairs, key=lambda one: -_ratio(pairs[one][-1])):
        color = style.look(one[0]).color
        ratios = [_ratio(pair) for pair in pairs[one]]
        drawn += ratios
        axes.plot([row["batch_size"] for row, _ in pairs[one]], ratios, **style.curve(*one), label=names[one])
        for pair in pairs[one]:
            ends = _ends(pair, intervals)
            if ends is not None:
                axes.plot([pair[0]["batch_size"]] * 2, ends, color=color, marker="_", markersize=7, linewidth=1.2)
    axes.axhline(1, color="#444444", linewidth=1.6, label=f"{name} (baseline)")
    batch_axis(axes, sizes)
    axes.set_yscale("log")
    log_axis(axes.yaxis, min(drawn) / 1.5, max(drawn) * 1.5)
    axes.set_ylim(min(drawn) / 1.5, max(drawn) * 1.5)
    axes.set_ylabel(label)
    axes.set_title(heading, wrap=True)
    title = "\n".join(notes) or None
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, title=title, title_fontsize=8)
    return figure


def _pairs(members: Sequence[Row], base: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Of each batch size the pair of a row and the baseline's that counts (_fitness)."""
    found: dict[int, list[tuple[Row, Row]]] = {}
    for row, under in itertools.product(members, base):
        if row["batch_size"] == under["batch_size"]:
            found.setdefault(row["batch_size"], []).append((row, under))
    return [max(found[size], key=_fitness) for size in sorted(found)]


def _fitness(pair: tuple[Row, Row]) -> tuple[Any, ...]:
    """Of several pairs the largest counts: right figures, one GPU, one version, then as the results page has it."""
    row, under = pair
    return (
        not is_wrong(row) and not is_wrong(under),
        _nearness(*pair)[1],
        row["framework_version"] == under["framework_version"],
        *standing_of_pair(*pair),
    )


def _nearness(row: Row, other: Row) -> tuple[bool, bool]:
    """(of one run, on one GPU)"""
    return row["run"] == other["run"], not two_cards(card_of(row), card_of(other))


def _signs(pairs: Sequence[tuple[Row, Row]]) -> str:
    """Of _ELSEWHERE."""
    near = [_nearness(*pair) for pair in pairs]
    other_gpu, other_run = any(not gpu for _, gpu in near), any(gpu and not run for run, gpu in near)
    return f"{'†' if other_gpu else ''}{'‡' if other_run else ''}"


def _ratio(pair: tuple[Row, Row]) -> float:
    return float(pair[0]["images_per_s"] / pair[1]["images_per_s"])


def _ends(pair: tuple[Row, Row], intervals: Intervals) -> tuple[float, float] | None:
    error = _error(*pair, intervals) if _nearness(*pair)[1] else None
    return None if error is None else (_ratio(pair) / math.exp(error), _ratio(pair) * math.exp(error))


def _bases(series: Mapping[Series, Sequence[Row]], name: str | None) -> tuple[dict[Series, Series], str | None]:
    """Series -> what it is held against, and the name of that where it is not one and the same for all."""
    if name is None:
        stock = {one: base for one in series if (base := _stock(one)) in series and base != one}
        if stock:
            return stock, "the framework's stock level"
    common = _common(series, name)
    return (dict.fromkeys(series, common) if common is not None else {}), None


def _stock(one: Series) -> Series:
    return one[0], f"{one[1].split(' ')[0]} {STOCK}"


def _common(series: Mapping[Series, Sequence[Row]], name: str | None) -> Series | None:
    """Of those with the most batch sizes the median one, the slower of two, by the median over these of its share of the fastest."""
    fitting = [one for one in series if (one[0] == name if name else not any(map(is_wrong, series[one])))]
    most = max((len(series[one]) for one in fitting), default=0)
    best: dict[int, float] = {}
    for rows in series.values():
        for row in rows:
            if is_wrong(row):
                continue
            best[row["batch_size"]] = max(best.get(row["batch_size"], 0.0), row["images_per_s"])
    ranked = sorted(
        (one for one in fitting if len(series[one]) == most),
        key=lambda one: (
            median(row["images_per_s"] / best.get(row["batch_size"], row["images_per_s"]) for row in series[one]),
            one,
        ),
    )
    return ranked[(len(ranked) - 1) // 2] if ranked else None


def _error(row: Row, under: Row, intervals: Intervals) -> float | None:
    """Relative half width of the ratio's interval; None where one of the two has no interval."""
    squares = 0.0
    for one in (row, under):
        found = intervals.get((tuple(one["cell_keys"]), one["run"], "throughput"))
        if found is None or found.low <= 0:
            return None
        squares += (math.log(found.high / found.low) / 2) ** 2
    return math.sqrt(squares)
