"""Every figure that a table or plot can show: its column in the view `comparison`, unit, direction and definition.

Titles, axis labels, "best" and number formats all come from here; how a figure is computed stands in `analysis/sql`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from common.errors import unknown
from common.stats.percentiles import samples_needed


@dataclass(frozen=True)
class Metric:
    """name: what a user types. better: 1 where more is better, -1 where less is, 0 where neither.

    scale: factor from the column's unit to `unit`. needs: fewest inferences for which the figure is shown.
    """

    name: str
    column: str
    title: str
    unit: str
    better: int
    definition: str
    scale: float = 1.0
    needs: int = 1

    @property
    def label(self) -> str:
        """For axes and headings: "throughput (images/s)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS = {
    metric.name: metric
    for metric in (
        Metric("throughput", "images_per_s", "throughput", "images/s", 1,
               "images of the measured window by its length"),
        Metric("latency", "median_ms", "median latency", "ms", -1,
               "median wall time of one inference, copies as `io` says", needs=samples_needed(50)),
        Metric("p90", "p90_ms", "latency p90", "ms", -1, "90 % of the inferences took at most this", needs=samples_needed(90)),
        Metric("p95", "p95_ms", "latency p95", "ms", -1, "95 % of the inferences took at most this", needs=samples_needed(95)),
        Metric("p99", "p99_ms", "latency p99", "ms", -1, "99 % of the inferences took at most this", needs=samples_needed(99)),
        Metric("p999", "p999_ms", "latency p99.9", "ms", -1, "99.9 % of the inferences took at most this", needs=samples_needed(99.9)),
        Metric("mean_latency", "mean_ms", "mean latency", "ms", -1, "mean wall time of one inference"),
        Metric("seconds_per_image", "seconds_per_image", "time per image", "ms", -1,
               "length of the window by its images; the published study calls this latency", scale=1e3),
        Metric("power", "power_gross_w", "power, gross", "W", -1, "energy of the window by its length"),
        Metric("power_net", "power_net_w", "power, net of idle", "W", -1,
               "the same less idle power with the worker's context open"),
        Metric("idle_power", "idle_w", "idle power", "W", -1,
               "idle with the worker's context open, between before and after the window"),
        Metric("idle_power_without_context", "idle_without_context_w", "idle power without a context", "W", -1,
               "before the run's first worker"),
        Metric("joules_per_image", "joules_per_image", "energy per image", "mJ", -1,
               "energy of the window by its images, gross", scale=1e3),
        Metric("joules_per_image_net", "joules_per_image_net", "energy per image, net of idle", "mJ", -1,
               "the same less idle power over the window", scale=1e3),
        Metric("images_per_joule", "images_per_joule", "images per joule", "1/J", 1,
               "images of the window by its energy; throughput per watt is the same number"),
        Metric("images_per_s_per_watt", "images_per_s_per_watt", "throughput per watt", "images/s/W", 1,
               "throughput by gross power"),
        Metric("energy_delay", "energy_delay_js", "energy x time", "mJ s", -1,
               "energy per image times time per image, for one image", scale=1e3),
        Metric("images_per_joule_second", "images_per_joule_second", "images per joule-second", "1/(J s)", 1,
               "the inverse of energy x time of one image"),
        Metric("time_efficiency", "time_efficiency", "time efficiency", "images/s per s", 1,
               "throughput by the time that 512 images take, as in the published study"),
        Metric("package_joules_per_image", "package_joules_per_image", "CPU package energy per image", "mJ", -1,
               "RAPL energy of all CPU packages over the window by its images", scale=1e3),
        Metric("dram_joules_per_image", "dram_joules_per_image", "DRAM energy per image", "mJ", -1,
               "RAPL energy of DRAM over the window by its images", scale=1e3),
        Metric("device_memory", "device_memory_peak_bytes", "device memory, peak", "MiB", -1,
               "peak of the worker where the framework tells, else of the device", scale=2.0**-20),
        Metric("host_memory", "host_peak_bytes", "host memory, peak", "MiB", -1,
               "peak resident set of the worker", scale=2.0**-20),
        Metric("import_time", "import_s", "import", "s", -1, "time to import the framework"),
        Metric("convert", "convert_s", "convert", "s", -1, "time to translate the model for the framework, where it does so"),
        Metric("load", "load_s", "model load", "s", -1, "time to read the model"),
        Metric("compile", "compile_s", "compile", "s", -1, "time to compile or build for this batch size"),
        Metric("first", "first_s", "first inference", "s", -1, "time of the first inference"),
        Metric("cold_start", "cold_start_s", "cold start", "s", -1, "import, convert, load, compile and first inference together"),
        Metric("parity", "parity_rel_l2", "error against the reference", "", 0,
               "relative L2 error of the output against the reference output"),
    )
}  # fmt: skip

#: What comes first in reports.
HEADLINES = ("throughput", "latency", "p90", "p99", "joules_per_image")
#: What the terminal shows when nothing else is asked for, as far as it fits one screen.
ON_SCREEN = ("throughput", "joules_per_image")


#: metrics that a window's energy is in, and those of them that take idle power off
_NET = frozenset({"power_net", "joules_per_image_net"})
_ENERGY = frozenset(
    {
        "power",
        "joules_per_image",
        "images_per_joule",
        "images_per_s_per_watt",
        "energy_delay",
        "images_per_joule_second",
        *_NET,
    }
)
#: metrics that say nothing of the inferences of the window
_NOT_OF_THE_WINDOW = frozenset(
    {
        "idle_power",
        "idle_power_without_context",
        "device_memory",
        "host_memory",
        "import_time",
        "convert",
        "load",
        "compile",
        "first",
        "cold_start",
        "parity",
    }
)
#: the metrics as they are worded outside the blocks of `spoken_of`
_OF_IMAGES = dict(METRICS)
#: the mark of rows whose figures of the window are known to be wrong: the column `known_wrong` says why
KNOWN_WRONG = "input_kept"
#: marks that say nothing of a figure without energy
ENERGY_MARKS = frozenset({"energy_suspect", "energy_integral", "energy_coarse"})


def concerns(mark: str, one: Metric, row: Mapping[str, Any]) -> bool:
    """Whether a mark of a row of `comparison` says something of this figure: energy's only of energy, and that it is coarse
    only where the gross or the net figure, whichever this is, is uncertain by more than 2 %."""
    if mark == KNOWN_WRONG:
        return one.name not in _NOT_OF_THE_WINDOW
    if mark not in ENERGY_MARKS:
        return True
    if mark == "energy_coarse":
        return one.name in _ENERGY and bool(row["net_coarse" if one.name in _NET else "gross_coarse"])
    return one.name in _ENERGY


def is_wrong(row: Mapping[str, Any], one: Metric | None = None) -> bool:
    """Whether this figure of a row of `comparison`, or without a metric any, is known to be wrong: it is shown and best of nothing."""
    return bool(row.get("known_wrong")) and (one is None or one.name not in _NOT_OF_THE_WINDOW)


def item_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """What the rates of these rows count: image, or the one other item that all have, or item where they differ."""
    items = {str(row.get("item") or "image") for row in rows}
    return items.pop() if len(items) == 1 else "item" if items else "image"


@contextmanager
def spoken_of(item: str) -> Iterator[None]:
    """Within the block the metrics' titles, units and definitions say `item` where they say image; the innermost block counts."""
    before = dict(METRICS)
    METRICS.update({name: _worded(one, item) for name, one in _OF_IMAGES.items()} if item != "image" else _OF_IMAGES)
    _spoken.append(item)
    try:
        yield
    finally:
        _spoken.pop()
        METRICS.update(before)


#: items of the blocks of `spoken_of` that are open
_spoken = ["image"]


def worded(text: str, item: str | None = None) -> str:
    """A sentence about images as one about the item; without one that of the block of `spoken_of` it stands in."""
    # "a token" and "an image"
    named = (item or _spoken[-1]).replace("\\", "\\\\")
    if named == "image":
        return text
    article = "an" if named[:1].lower() in "aeiou" else "a"
    text = re.sub(r"\b[Aa]n image\b", f"{article} {named}", text)
    return re.sub(r"\bimage(s?)\b", rf"{named}\1", text)


def _worded(one: Metric, item: str) -> Metric:
    return replace(
        one, title=worded(one.title, item), unit=worded(one.unit, item), definition=worded(one.definition, item)
    )


def metric(name: str) -> Metric:
    """Raises UserError with the nearest name."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def rounded(value: float, digits: int) -> str:
    """At most so many significant digits, never with an exponent above 1: 1.7  110  3,350."""
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if "e+" in text else text


def shown(value: float) -> str:
    """Four significant digits, thousands set apart: 12,345  823.4  8.234  0.008234."""
    if value == 0:
        return "0"
    if abs(value) >= 999.95:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.2e}"
    text = f"{value:.4g}"
    digits = text.replace("-", "").replace(".", "").lstrip("0")
    if len(digits) < 4:  # 10.0 ms says more than 10 ms: how finely it was measured
        text += ("" if "." in text else ".") + "0" * (4 - len(digits))
    return text
