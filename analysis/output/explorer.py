"""The chart on the first screen of the report: throughput against latency and against energy, every cell with its intervals.

It is drawn here, whole; the page's script only moves limits, dims what misses them and rings what wins. Without the script, and
in print, it shows the answer without limits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from analysis import style
from analysis.comparisons import decision_table
from analysis.comparisons.answer_words import front, in_brief
from analysis.comparisons.candidates import APART, Group, candidate, device_of, group_rows, heading, left_out
from analysis.comparisons.decision import Candidate, Figure, Quantity, apart, decide
from analysis.comparisons.question import JOULES, POWER, THROUGHPUT, Question, latency
from analysis.comparisons.recommend import answer
from analysis.database.connection import Row
from analysis.plots.axes import engineering
from analysis.results import tables
from analysis.results.metrics import item_of, worded
from analysis.results.sample_intervals import Intervals
from common.text import shell_line, visible

WIDTH, HEIGHT = 520, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 14, 44
#: Groups and cells beyond these have tables, but no chart: the page stays small.
MOST_GROUPS = 16
MOST_CELLS = 400
MOST_BYTES = 1_900_000
#: At most so many of the cells that a panel does not draw are named below it.
MOST_NAMED = 8
#: An interval that reaches farther than this factor is drawn to there.
FARTHEST = 3.0

#: Matplotlib's markers as SVG paths of about unit radius.
_SHAPES = {
    "o": "M1,0A1,1 0 1 1 -1,0A1,1 0 1 1 1,0Z",
    "s": "M-.85,-.85H.85V.85H-.85Z",
    "^": "M0,-1.05L1,.8H-1Z",
    "v": "M0,1.05L1,-.8H-1Z",
    "<": "M-1.05,0L.8,-1V1Z",
    ">": "M1.05,0L-.8,-1V1Z",
    "D": "M0,-1.15L1.15,0L0,1.15L-1.15,0Z",
    "d": "M0,-1.2L.75,0L0,1.2L-.75,0Z",
    "P": "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "X": "M-.5,-1.05L0,-.55L.5,-1.05L1.05,-.5L.55,0L1.05,.5L.5,1.05L0,.55L-.5,1.05L-1.05,.5L-.55,0L-1.05,-.5Z",
    "p": "M0,-1.1L1.05,-.34L.65,.89H-.65L-1.05,-.34Z",
    "*": "M0,-1.3L.32,-.44L1.24,-.4L.52,.17L.76,1.05L0,.55L-.76,1.05L-.52,.17L-1.24,-.4L-.32,-.44Z",
}
#: Level of tuning -> width of a marker's edge; others have the usual one.
_EDGES = {"stock": 0.7, "rewritten": 2.6}
_OTHER_SHAPE = "M.55,-.95L1.1,0L.55,.95H-.55L-1.1,0L-.55,-.95Z"
#: Which half of a marker a fill style leaves open: (x1, y1, x2, y2) of a gradient from the filled half to the open one.
_HALVES = {"left": (0, 0, 1, 0), "right": (1, 0, 0, 0), "top": (0, 0, 0, 1), "bottom": (0, 1, 0, 0)}


@dataclass(frozen=True)
class Scale:
    """Logarithmic: figures from low to high onto `length` units from `start`; from above where `falls`."""

    low: float
    high: float
    start: float
    length: float
    falls: bool = False

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + self.length * (1 - share if self.falls else share)

    @property
    def ticks(self) -> list[float]:
        decades = math.log10(self.high / self.low)
        within = (1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.2 else (1,)
        if decades < 0.7:
            within = (1, 1.5, 2, 3, 4, 5, 6, 7, 8)  # type: ignore[assignment]
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        every = [one * 10.0**decade for decade in range(first, last + 1) for one in within]
        return [value for value in every if self.low <= value <= self.high]


@dataclass(frozen=True)
class Explored:
    """groups: those that have a chart. uncharted: (heading, why) of the other ones of two cells or more."""

    groups: Sequence[Mapping[str, Any]] = ()
    uncharted: Sequence[tuple[str, str]] = ()


def explore(
    rows: Sequence[Row], intervals: Intervals, meanings: Mapping[str, str], runs: Sequence[str] = (), where: str = ""
) -> Explored:
    """One group for each device, model, io and scenario with two cells or more, the largest of each device first.

    Of a group: heading, device, about (what sets it apart from the others that have rows; "" where it is the only one), lines (as
    `invoke recommend` says them without limits; the page's script replaces them), left_out (sentences that hold whatever the limits
    are), panels (SVG), legend (SVG, name), data (JSON), command (that asks the same).
    runs, where: the words that chose these rows on a command line; without runs all are meant.
    """
    question = Question()
    found: list[dict[str, Any]] = []
    uncharted: list[tuple[str, str]] = []
    room = MOST_BYTES
    ok = [row for row in rows if row["status"] == "ok"]
    every = group_rows(ok)
    differing = {name for place, name in enumerate(APART, 1) if len({key[place] for key in every}) > 1}
    for key, members in ((key, members) for key, members in _in_order(every) if len(members) > 1):
        if len(members) > MOST_CELLS:
            uncharted.append((heading(key), f"{len(members):,} cells, and a chart shows at most {MOST_CELLS:,}"))
            continue
        if len(found) == MOST_GROUPS:
            uncharted.append((heading(key), f"this page has {MOST_GROUPS} charts already"))
            continue
        decision, lines = answer(members, question, intervals, meanings)
        if decision.winner is None:
            uncharted.append((heading(key), "none of its cells has a throughput"))
            continue
        candidates = [candidate(row, question, intervals) for row in members]
        table = decision_table.build(members, intervals, meanings)
        panels = _panels(candidates, question, decision.winner, f"x{len(found)}")
        # a page must not be left by what stands in a name
        data = json.dumps(table, separators=(",", ":")).replace("<", "\\u003c")
        size = len(data) + sum(len(panel["svg"]) for panel in panels)
        if size > room:
            uncharted.append((heading(key), "no room left on this page"))
            continue
        room -= size
        found.append(
            {
                "heading": heading(key),
                "device": key[0],
                "about": tables.heading(
                    {name: value for name, value in zip(APART, key[1:], strict=True) if name in differing}
                ),
                "candidates": candidates,
                "command": _command(members[0], runs, where),
                "lines": lines,
                "left_out": left_out([row for row in ok if device_of(row) == key[0]]),
                "panels": panels,
                "legend": list(_legend(candidates, f"x{len(found)}")),
                "data": data,
                "steps": table["steps"],
                "objectives": [name for name in decision_table.OBJECTIVES if name in table["order"]],
            }
        )
    return Explored(found, uncharted)


def _in_order(found: Mapping[Group, list[Row]]) -> list[tuple[Group, list[Row]]]:
    """What most ask for first: copies included, one inference at a time, most cells; devices in the order of the rows."""
    devices = list(dict.fromkeys(key[0] for key in found))

    def place(item: tuple[Group, list[Row]]) -> tuple[Any, ...]:
        key, rows = item
        return rows[0]["scenario"] != "single-stream", rows[0]["io"] != "host", devices.index(key[0]), -len(rows)

    return sorted(found.items(), key=place)


def _command(row: Row, runs: Sequence[str], chosen: str) -> str:
    """`invoke recommend` for the group of this row."""
    gpu = str(row["device_name"] or row["device"]) if row["device"] != "cpu" else "cpu"
    where = ",".join(
        [*(f"{name}={row[name]}" for name in APART if row[name] is not None), *([chosen] if chosen else [])]
    )
    return shell_line(["invoke", "recommend", *runs, "--gpu", gpu, "--where", where])


def _panels(
    candidates: Sequence[Candidate], question: Question, winner: Candidate, prefix: str
) -> list[dict[str, str]]:
    """One panel for each of latency and energy that is known, with throughput upwards."""
    quantities, leading = front(candidates, question)
    known = [c for c in candidates if c.figures.get("throughput", Figure(0)).value > 0]
    up = _scale([c.figures["throughput"] for c in known], TOP, HEIGHT - TOP - BOTTOM, falls=True)
    found = []
    for quantity in quantities:
        shown = [c for c in known if quantity.name in c.figures and c.figures[quantity.name].value > 0]
        if quantity.name == "throughput" or not shown:
            continue
        across = _scale([c.figures[quantity.name] for c in shown], LEFT, WIDTH - LEFT - RIGHT)
        title = worded(f"{THROUGHPUT.title} against {quantity.title}")
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label={quoteattr(visible(title))} data-x="{quantity.name}" '
            f'data-across="{across.low:.6g} {across.high:.6g} {across.start} {across.length}" '
            f'data-up="{up.low:.6g} {up.high:.6g} {up.start} {up.length}">',
            *_gradients(candidates, prefix + quantity.name),
            *_axes(across, up, quantity),
            '<path class="bound" d=""/>',
        ]
        order = sorted(shown, key=lambda c: (c is winner, c in leading))
        parts += [
            _point(one, quantity, across, up, prefix + quantity.name, candidates.index(one), one in leading)
            for one in order
        ]
        x, y = (
            across(winner.figures[quantity.name].value) if winner in shown else -99,
            up(winner.figures["throughput"].value),
        )
        parts.append(f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="11"/>')
        lacking = [c for c in candidates if c not in shown]
        found.append({"svg": "".join([*parts, "</svg>"]), "title": title, "undrawn": _undrawn(lacking, quantity)})
    return found


def _undrawn(lacking: Sequence[Candidate], quantity: Quantity) -> str:
    """Which cells a panel does not draw, and why; "" where it draws all. Its axes are logarithmic: 0 has no place there."""
    names = "; ".join(one.name for one in lacking[:MOST_NAMED])
    more = f" and {len(lacking) - MOST_NAMED} more" if len(lacking) > MOST_NAMED else ""
    why = f"Without a known {THROUGHPUT.title} and {quantity.title} above 0, and so not drawn"
    return worded(f"{why}: {names}{more}.") if lacking else ""


def _scale(figures: Sequence[Figure], start: float, length: float, falls: bool = False) -> Scale:
    low, high = min(figure.value for figure in figures), max(figure.value for figure in figures)
    room = max((high / low) ** 0.06, 1.12)
    return Scale(low / room, high * room, start, length, falls)


def _axes(across: Scale, up: Scale, quantity: Quantity) -> Iterator[str]:
    foot, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in up.ticks:
        y = up(value)
        yield f'<path class="grid" d="M{LEFT},{y:.1f}H{right}"/>{_text(LEFT - 6, y + 4, engineering(value), "end")}'
    for value in across.ticks:
        x = across(value)
        yield f'<path class="grid" d="M{x:.1f},{TOP}V{foot}"/>{_text(x, foot + 17, engineering(value))}'
    yield f'<path class="axis" d="M{LEFT},{TOP}V{foot}H{right}"/>'
    yield _text((LEFT + right) / 2, HEIGHT - 6, worded(f"{quantity.title} ({quantity.unit})"))
    rate = worded(f"{THROUGHPUT.title} ({THROUGHPUT.unit})")
    yield f'<g transform="rotate(-90)">{_text(-(TOP + foot) / 2, 13, rate)}</g>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(visible(text))}</text>'


def _gradients(candidates: Sequence[Candidate], prefix: str) -> Iterator[str]:
    """Of the colours whose markers are half filled."""
    seen = set()
    for one in candidates:
        fill, color = style.fill(one.configuration[1]), style.look(one.variant).color
        if fill in _HALVES and (color, fill) not in seen:
            seen.add((color, fill))
            x1, y1, x2, y2 = _HALVES[fill]
            yield (
                f'<linearGradient id="{_id(prefix, color, fill)}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}">'
                f'<stop offset=".5" stop-color="{color}"/><stop offset=".5" stop-color="#fff"/></linearGradient>'
            )


def _id(prefix: str, color: str, fill: str) -> str:
    return f"{prefix}-{color.lstrip('#')}{fill}"


def _mark(one: Candidate, prefix: str, x: float, y: float, size: float) -> str:
    look, fill = style.look(one.variant), style.fill(one.configuration[1])
    edge = next((width for level, width in _EDGES.items() if level in one.configuration[1].split(" ")), 1.4)
    filled = {"full": look.color, "none": "#fff"}.get(fill, f"url(#{_id(prefix, look.color, fill)})")
    return (
        f'<path class="mark" d="{_SHAPES.get(look.marker, _OTHER_SHAPE)}" transform="translate({x:.1f},{y:.1f}) scale({size})" '
        f'fill="{filled}" stroke="{look.color}" stroke-width="{edge / size:.2f}"/>'
    )


def _point(
    one: Candidate, quantity: Quantity, across: Scale, up: Scale, prefix: str, place: int, on_front: bool
) -> str:
    """A cell with both its intervals; what it says on pointing at it is in its title."""
    figure, rate = one.figures[quantity.name], one.figures["throughput"]
    x, y = across(figure.value), up(rate.value)
    color = style.look(one.variant).color
    bars = ""
    if figure.low is not None and figure.high is not None:
        low, high = (across(_within(end, figure.value, across)) for end in (figure.low, figure.high))
        bars += f"M{low:.1f},{y:.1f}H{high:.1f}"
    if rate.low is not None and rate.high is not None:
        low, high = (up(_within(end, rate.value, up)) for end in (rate.low, rate.high))
        bars += f"M{x:.1f},{low:.1f}V{high:.1f}"
    spread = f'<path class="bar" d="{bars}" stroke="{color}"/>' if bars else ""
    return (
        f'<g class="at cell{" front" if on_front else ""}" data-i="{place}"><title>{escape(visible(_described(one)))}</title>{spread}'
        f'{_mark(one, prefix, x, y, 5.4 if on_front else 4.4)}<circle class="aim" cx="{x:.1f}" cy="{y:.1f}" r="9"/></g>'
    )


def _within(end: float, value: float, scale: Scale) -> float:
    """An end that is drawn: not beyond the panel, nor so far that it would only be a line."""
    return min(max(end, value / FARTHEST, scale.low), value * FARTHEST, scale.high)


def _described(one: Candidate) -> str:
    response = "latency" in one.figures and f"latency {one.figures['latency'].text('ms')}"
    lines = [
        one.name,
        f"{THROUGHPUT.title} {one.figures['throughput'].text(THROUGHPUT.unit)}",
        response,
        "joules" in one.figures and f"{JOULES.title} {one.figures['joules'].text(JOULES.unit)}",
        "power" in one.figures and f"{POWER.title} {one.figures['power'].text(POWER.unit)}",
        f"cell {one.row['cell_keys'][0]}",
    ]
    return worded("\n".join(line for line in lines[:-1] if line)) + f"\n{lines[-1]}"


def _legend(candidates: Sequence[Candidate], prefix: str) -> Iterator[tuple[str, str]]:
    """(marker, name) of each framework and precision, by the order of the names."""
    first = {one.configuration: one for one in candidates}
    for configuration in sorted(
        first, key=lambda configuration: (style.look(configuration[0]).title, configuration[1])
    ):
        ids = f"{prefix}l{len(configuration[1])}{configuration[0]}".replace(" ", "")
        marks = "".join([*_gradients([first[configuration]], ids), _mark(first[configuration], ids, 8, 8, 5)])
        yield (
            f'<svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">{marks}</svg>',
            f"{style.look(configuration[0]).title} {configuration[1]}",
        )


def device_sentences(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """found: of `groups`. What is best on each device, in one sentence that names what it is about where there is more and against
    whom it is UNCLEAR; and of every device but the first how it stands to that one."""
    sentences: list[str] = []
    leaders: list[tuple[str, Candidate, list[Candidate]]] = []
    for group in found:
        device = group["device"]
        if device in [name for name, _, _ in leaders]:
            continue
        candidates = group["candidates"]
        decision = decide(candidates, THROUGHPUT, ())
        fastest = decision.winner
        if fastest is None:
            continue
        about = f", {group['about']}:" if group["about"] else ","
        text = f"On the {device}{about} {fastest.name} has the highest throughput, {_figure(fastest, THROUGHPUT)}"
        text += in_brief(decision, THROUGHPUT)
        for quantity, words, unit in (
            (JOULES, "the least energy per image", "mJ"),
            (latency(50, [c.row for c in candidates]), "the shortest latency", "ms"),
        ):
            decision = decide(candidates, quantity, ())
            one = decision.winner
            if one is not None:
                who = "also" if one is fastest else f"{one.name} has"
                text += f"; {who} {words}, {one.figures[quantity.name].text(unit)}{in_brief(decision, quantity)}"
        text += "".join(f"; {_against(fastest, candidates, *leader)}" for leader in leaders[:1])
        # printed outside of any `spoken_of` too, and of several models each group has its own item
        sentences.append(worded(f"{text}.", item_of(one.row for one in candidates)))
        leaders.append((device, fastest, candidates))
    return sentences


def _figure(one: Candidate, quantity: Quantity) -> str:
    return one.figures[quantity.name].text(quantity.unit)


def _against(
    own: Candidate, mine: Sequence[Candidate], device: str, other: Candidate, theirs: Sequence[Candidate]
) -> str:
    """How the devices stand: by the first one's fastest cell where both ran it, else by the fastest of each."""
    same = next((one for one in mine if one.name == other.name), None)
    one, what = (own, "its fastest cell is") if same is None else (same, f"{other.name} is")
    a, b = one.figures["throughput"], other.figures["throughput"]
    return f"{what} {a.value / b.value:.2f} times as fast as on the {device}{'' if apart(a, b) else ' (UNCLEAR)'}"
