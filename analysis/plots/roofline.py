"""How far a cell is from what its device could do: images/s against the limits of copies and of arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from analysis import style
from analysis.database.connection import Row
from analysis.plots import bars as bar_plot
from analysis.plots.axes import batch_axis, by_series, log_axis, namer
from analysis.plots.bars import Bar
from analysis.results.metrics import rounded, worded

#: A limit further off than this many times the fastest is drawn on a logarithmic axis: bars would all look alike.
MOST_BARS = 5
#: Bytes per second and lane of PCI Express by generation, in one direction, after line coding.
_LANE = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}


@dataclass(frozen=True)
class Limits:
    """What the user knows of a device and a model; None: unknown.

    copy_bytes_per_s: of a pinned copy, one direction. peak_flops: per second at the precision of the cells.
    flops_per_image: floating point operations of one inference, a multiplication and an addition counted as two.
    """

    copy_bytes_per_s: float | None = None
    peak_flops: float | None = None
    flops_per_image: float | None = None


@dataclass(frozen=True)
class Limit:
    images_per_s: float
    name: str


def limits(document: Mapping[str, Any], device: str, io: str, known: Limits) -> tuple[list[Limit], list[str]]:
    """(limits in images/s, what is unknown and why) for one device of a run. document: its run.json.

    A copy limit belongs to cells that copy: io=host on a GPU.
    """
    found: list[Limit] = []
    missing: list[str] = []
    image_bytes = _image_bytes(document)
    if device != "cpu" and io == "host":
        speed, source = _copy_speed(document, device, known)
        if speed is None or image_bytes is None:
            what = "the copy bandwidth" if speed is None else "the size of an input image"
            missing.append(f"copy limit: {what} is unknown")
        else:
            found.append(Limit(speed / image_bytes, f"copies, {source}"))
    if known.peak_flops and known.flops_per_image:
        found.append(
            Limit(known.peak_flops / known.flops_per_image, f"arithmetic at {known.peak_flops / 1e12:g} TFLOP/s")
        )
    else:
        what = "the peak of the device" if not known.peak_flops else "the number of operations of one image"
        missing.append(f"compute limit: {what} is unknown")
    return found, missing


def copy_speed(document: Mapping[str, Any], device: str) -> float | None:
    """Bytes per second of copies between host and device in one direction, by run.json; None where it does not say."""
    return _copy_speed(document, device, Limits())[0]


def _copy_speed(document: Mapping[str, Any], device: str, known: Limits) -> tuple[float | None, str]:
    if known.copy_bytes_per_s:
        return known.copy_bytes_per_s, f"{known.copy_bytes_per_s / 1e9:g} GB/s as given"
    devices = document.get("devices")
    for one in devices if isinstance(devices, list) else []:
        if not isinstance(one, dict) or one.get("device") != device:
            continue
        measured = one.get("copy_bytes_per_s")
        if isinstance(measured, (int, float)) and measured > 0:
            return float(measured), f"{rounded(measured / 1e9, 3)} GB/s as measured"
        generation, width = one.get("pcie_generation"), one.get("pcie_width")
        if generation in _LANE and isinstance(width, int) and width > 0:
            speed = _LANE[generation] * width
            return speed, f"{rounded(speed / 1e9, 3)} GB/s by PCIe {generation} x{width} (not measured)"
    return None, ""


def _image_bytes(document: Mapping[str, Any]) -> float | None:
    """Bytes of one float32 input image."""
    model = document.get("model")
    shape = model.get("input_shape") if isinstance(model, dict) else None
    if not isinstance(shape, list) or not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        return None
    size = 4.0
    for n in shape:
        size *= n
    return size


def draw(rows: Sequence[Row], heading: str, known: Sequence[Limit], missing: Sequence[str]) -> Figure | None:
    """None where no limit is known or no cell has a throughput."""
    series = by_series([row for row in rows if row["images_per_s"]])
    if not series or not known:
        return None
    names = namer(list(series))
    sizes = sorted({row["batch_size"] for row in rows if row["images_per_s"]})
    if len(sizes) == 1 and max(limit.images_per_s for limit in known) < MOST_BARS * max(
        members[-1]["images_per_s"] for members in series.values()
    ):
        bars = [Bar(one, names[one], members[-1]["images_per_s"]) for one, members in series.items()]
        lines = {f"limit of {limit.name}": limit.images_per_s for limit in known}
        return bar_plot.one_panel(bars, heading, sizes[0], worded("throughput (images/s)"), lines, missing)
    figure = Figure(figsize=(8.2, 4.8))
    axes = figure.subplots()
    for one in sorted(series, key=lambda one: -series[one][-1]["images_per_s"]):
        at = [row["batch_size"] for row in series[one]]
        axes.plot(at, [row["images_per_s"] for row in series[one]], **style.curve(*one), label=names[one])
    for limit, line in zip(known, ("-", "--"), strict=False):
        axes.axhline(limit.images_per_s, color="#222222", linewidth=1.8, linestyle=line)
        text = worded(f"{limit.images_per_s:,.0f} images/s: {limit.name}")
        place = (0.01, limit.images_per_s)
        axes.annotate(
            text, place, xycoords=("axes fraction", "data"), xytext=(0, 4), textcoords="offset points", fontsize=8
        )
    batch_axis(axes, sizes)
    axes.set_yscale("log")
    rates = [row["images_per_s"] for members in series.values() for row in members]
    highest = max(limit.images_per_s for limit in known) * 2
    log_axis(axes.yaxis, min(rates) / 2, highest)
    axes.set_ylim(min(rates) / 2, highest)  # room below for what is missing
    axes.set_ylabel(worded("throughput (images/s)"))
    axes.set_title(heading, wrap=True)
    if missing:
        axes.annotate(
            "; ".join(missing), (1.0, 0.01), xycoords="axes fraction", ha="right", fontsize=7.5, color="#555555"
        )
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    return figure
