"""Why a framework takes the time that it takes, as sentences: rules with numbers, the most costly first.

Each rule speaks only above its threshold, and says the figures that it spoke for. cost is the share of the time that the
sentence is about, by which they are ordered. The time is that of a recorded inference without what recording costs, which is
taken off the gaps (Explained.time_of); a sentence on a share of the time says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from analysis import style
from analysis.results.explained import LAUNCH_GAP, WAIT_GAP, Explained, short_name
from analysis.results.metrics import rounded
from common.text import counted

#: Thresholds, as shares of the time of an inference unless said otherwise.
LAUNCH_BOUND = 0.30
WAITING = 0.20
LAYOUT = 0.10
ELEMENTWISE = 0.25
COPIES = 0.15
SLOW_LINK = 0.5  # of the link's speed
ONE_KERNEL = 0.25
FULL = 0.90
TENSOR_CORES = 0.30  # of kernel time in matrix products and convolutions, below which half precision leaves them unused
MANY_PIECES = 100
GAPS_ON_CPU = 0.25
_HALF = ("fp16", "bf16", "int8", "tf32")
_COPIES = ("copy H2D", "copy D2H")
#: Variants that no compiler is left for.
_COMPILED = ("tfxla", "kerasxla", "torchcompile", "jax", "tensorrt", "tensorrt-rtx", "onnxrt-trt", "tftrt")


@dataclass(frozen=True)
class Sentence:
    """of_time: whether its shares are of the time of an inference, and not of the device's work alone."""

    rule: str
    cost: float
    text: str
    of_time: bool = True


#: None where the rule has nothing to say. link: bytes/s of the copies' link, None where it is unknown.
Rule = Callable[[Explained, float | None], Sentence | None]


def sentences(cell: Explained, link: float | None = None) -> list[Sentence]:
    """What the rules say of a recorded cell, most costly first."""
    found = [_whole(cell, sentence) for rule in RULES if (sentence := rule(cell, link)) is not None]
    return sorted(found, key=lambda sentence: -sentence.cost)


def _whole(cell: Explained, sentence: Sentence) -> Sentence:
    if not sentence.of_time or not cell.taken_off_ns:
        return sentence
    return replace(sentence, text=f"after the recorder's {ms(cell.taken_off_ns)} is taken off, {sentence.text}")


def name_of(cell: Explained) -> str:
    f = cell.facts
    return f"{style.look(f['variant']).title} {style.kind(f)}, batch {f['batch_size']}"


def ms(ns: float) -> str:
    """A time in ms (us below 0.1 ms) with three significant digits."""
    value, unit = (ns / 1e6, "ms") if abs(ns) >= 1e5 else (ns / 1e3, "us")
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


def _device(cell: Explained) -> str:
    return "GPU" if cell.on_gpu else "CPU"


def _launches(cell: Explained, link: float | None) -> Sentence | None:
    gap = cell.share(LAUNCH_GAP)
    if not cell.on_gpu or gap < LAUNCH_BOUND:
        return None
    launches, graphs = cell.facts["launches"], cell.facts["graph_launches"]
    if launches is None:
        why = "; CUPTI reported no calls of the host, so not what it does meanwhile"
    elif graphs and (not launches or (launches < MANY_PIECES and 2 * launches < cell.pieces)):
        # there is nothing to launch any faster
        noun = "graphs" if round(graphs) > 1 else "graph"
        most = f"all but {launches:,.0f} of its {cell.pieces:,.0f} kernels" if launches else "its kernels"
        why = f", though {most} start as {graphs:,.0f} CUDA {noun}: the work of an inference is small"
    else:
        compiled = cell.facts["variant"] in _COMPILED
        graph = "a CUDA graph removes this" if compiled else "a CUDA graph or a compiled variant removes this"
        small = "the work of an inference is small"
        why = f", which launches {counted(launches, 'kernel', 'kernels one by one')}: {graph if launches >= MANY_PIECES else small}"
    return Sentence(
        "launch gaps", gap,
        f"the GPU works {percent(cell.busy_share)} of the time; {ms(cell.time_of(LAUNCH_GAP))} of "
        f"{ms(cell.time_ns)} it stands idle while the host works{why}",
    )  # fmt: skip


def _waits(cell: Explained, link: float | None) -> Sentence | None:
    gap = cell.share(WAIT_GAP)
    if not cell.on_gpu or gap < WAITING:
        return None
    return Sentence(
        "gaps on the GPU", gap,
        f"{percent(gap)} of the time ({ms(cell.time_of(WAIT_GAP))}) the GPU stands idle although the host has "
        f"handed over everything: {counted(cell.pieces, 'short kernel runs', 'short kernels follow each other')} with pauses; "
        "fusing them or a larger batch removes this",
    )  # fmt: skip


def _outside_operators(cell: Explained, link: float | None) -> Sentence | None:
    gap = cell.share(LAUNCH_GAP)
    if cell.on_gpu or gap < GAPS_ON_CPU:
        return None
    return Sentence(
        "outside operators", gap,
        f"{percent(gap)} of the time ({ms(cell.time_of(LAUNCH_GAP))}) no operator computes: the framework's own work "
        f"{'around' if round(cell.pieces) == 1 else 'between'} {counted(cell.pieces, 'operator')}; a compiled graph or a "
        "larger batch lessens it",
    )  # fmt: skip


def _layout(cell: Explained, link: float | None) -> Sentence | None:
    share = cell.share("layout change")
    if share < LAYOUT:
        return None
    return Sentence(
        "layout changes", share,
        f"{percent(cell.share_of_work('layout change'))} of {_device(cell)} time ({ms(cell.classes['layout change'])}) goes to layout "
        "changes, casts and copies between operators: a layout that the kernels want from the start removes this",
        of_time=False,
    )  # fmt: skip


def _elementwise(cell: Explained, link: float | None) -> Sentence | None:
    share = cell.share("elementwise")
    if share < ELEMENTWISE:
        return None
    passes = sum(kernel["calls"] for kernel in cell.kernels if kernel["class"] == "elementwise")
    return Sentence(
        "elementwise passes", share,
        f"{percent(cell.share_of_work('elementwise'))} of {_device(cell)} time ({ms(cell.classes['elementwise'])}) is "
        f"{counted(passes, 'elementwise pass', 'elementwise passes')} that a compiler would fuse into the operators beside them",
        of_time=False,
    )  # fmt: skip


def _copies(cell: Explained, link: float | None) -> Sentence | None:
    share = sum(cell.share(name) for name in _COPIES)
    if share < COPIES:
        return None
    speed = cell.facts["h2d_bytes_per_s"]
    rate = f" at {rounded(speed / 1e9, 3)} GB/s" if speed else ""
    cure = "input of fewer bytes (uint8) or copies that overlap the work remove this"
    if speed and link and speed < SLOW_LINK * link:
        rate += f", {percent(speed / link)} of the link's {rounded(link / 1e9, 3)} GB/s"
        cure = "pinned host memory is what the copies lack"
    return Sentence(
        "copies", share,
        f"{percent(share)} of the time ({ms(sum(cell.classes.get(name, 0) for name in _COPIES))}) goes to copies between host and "
        f"GPU{rate}: {cure}",
    )  # fmt: skip


def _one_kernel(cell: Explained, link: float | None) -> Sentence | None:
    # copies have a rule of their own
    longest = next((kernel for kernel in cell.kernels if kernel["class"] not in _COPIES), None)
    if longest is None:
        return None
    share = longest["ns"] / cell.time_ns
    if share < ONE_KERNEL:
        return None
    return Sentence(
        "one kernel", share,
        f"{percent(share)} of the time ({ms(longest['ns'])}) is spent in {short_name(longest['name'])} ({longest['class']}, "
        f"{counted(longest['calls'], 'call')})",
    )  # fmt: skip


def _tensor_cores(cell: Explained, link: float | None) -> Sentence | None:
    if not cell.on_gpu or cell.facts["precision"] not in _HALF:
        return None
    products = [kernel for kernel in cell.kernels if kernel["class"] in ("convolution", "matrix product", "attention")]
    total = sum(kernel["ns"] for kernel in products)
    used = sum(kernel["ns"] for kernel in products if kernel["tensor_cores"])
    without = (total - used) / cell.time_ns
    if not total or used / total >= TENSOR_CORES or without < 0.05:
        return None
    return Sentence(
        "tensor cores", without,
        f"{percent(1 - used / total)} of the time in convolutions and products ({ms(total - used)}) is in kernels whose names do "
        f"not tell tensor cores, though {cell.facts['precision']} could use them",
        of_time=False,
    )  # fmt: skip


def _full(cell: Explained, link: float | None) -> Sentence | None:
    busy = cell.busy_share
    if busy < FULL or not cell.classes:
        return None
    work = {name: ns for name, ns in cell.classes.items() if name not in (LAUNCH_GAP, WAIT_GAP, *_COPIES)}
    copies = sum(cell.share(name) for name in _COPIES)
    if not work or copies >= COPIES:
        return None  # that copies cost most is told by a rule of its own
    first = max(work, key=lambda name: work[name])
    pieces = f"fewer or faster {'kernels' if cell.on_gpu else 'operators'}{' and copies' if copies else ''}"
    idle = 1 - busy
    cure = (
        f"without any gaps it would take {percent(idle)} less, and more than that takes {pieces}"
        if idle >= 0.005
        else f"to be faster it takes {pieces}"
    )
    return Sentence(
        "busy", 0.0,
        f"the {_device(cell)} works {percent(busy)} of the time, its largest part "
        f"({percent(cell.share_of_work(first))}) in {first}: {cure}",
    )  # fmt: skip


RULES: Sequence[Rule] = (
    _launches, _waits, _outside_operators, _layout, _elementwise, _copies, _one_kernel, _tensor_cores, _full,
)  # fmt: skip
