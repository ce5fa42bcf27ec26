"""What `invoke explain` shows, as tables and sentences: for the terminal, Markdown, Excel and the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from analysis import style
from analysis.comparisons.explained import Difference
from analysis.output.workbook import workbook
from analysis.plots import files
from analysis.plots.explained import look
from analysis.results import explained
from analysis.results.explain_sentences import ms, name_of, percent, sentences
from analysis.results.explained import (
    LAUNCH_GAP,
    MOST_KERNELS,
    MOST_UNCLASSIFIED,
    MUCH_RECORDING,
    WAIT_GAP,
    Explained,
    short_name,
)
from analysis.results.metrics import rounded

TITLE = "Where the time of an inference goes"
UNKNOWN = "-"
SUMMARY_NOTE = (
    "latency: median of the inferences without recording; recorded: median while recording. Shares and other times are of the mean "
    "while recording, to which the classes add up; joules and watts are of the measured window, in which nothing is recorded."
)
#: under tables of kernels some of which ran at the same time as others
SHARED_NOTE = "Kernels that overlap share the time evenly, so a call may have lasted longer than time / calls."
#: What the pictures show, which the names of their files begin with (analysis.explain.drawings).
PICTURES = ("time by class", "timeline of one inference")


@dataclass(frozen=True)
class Grid:
    """One table. rows: texts; numbers: of the same shape, None where a place is text or unknown. units: of the numbers, by heading.

    stacked: whether its columns, but for the sum, are parts of a whole, so that they can be drawn as a bar for each row.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[Sequence[float | None]]
    footers: Sequence[str] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    stacked: bool = False


@dataclass(frozen=True)
class Section:
    """Cells that stand side by side: their sentences and tables."""

    heading: str
    cells: Sequence[Explained]
    sentences: Sequence[str]
    grids: Sequence[Grid] = field(default_factory=list)


def sections(cells: Sequence[Explained], links: Mapping[str, float | None]) -> list[Section]:
    """links: run -> bytes/s of the copies' link, where it is known."""
    found = []
    for heading, some in explained.groups(cells).items():
        lines = []
        for cell in some:
            texts = [sentence.text for sentence in sentences(cell, links.get(cell.run))]
            texts = texts or ["no rule finds a single cause: the table by class says where the time goes"]
            lines += [f"{name_of(cell)}: {text}." for text in texts]
        found.append(Section(heading, some, lines, [summary(some), by_class(some), *map(longest_kernels, some)]))
    return found


def conclusion(cells: Sequence[Explained], links: Mapping[str, float | None]) -> str:
    """The answer in a sentence: of all cells the cause that costs the largest share of an inference."""
    recorded = [cell for cell in cells if cell.recorded]
    if not recorded:
        return "Nothing was recorded, so nothing can be explained."
    causes = [(one.cost, cell, one.text) for cell in recorded for one in sentences(cell, links.get(cell.run))]
    if not causes:
        return "No rule finds a single cause: the table by class says where the time goes."
    _, cell, text = max(causes, key=lambda one: one[0])
    return f"{'' if len(recorded) == 1 else 'Most: '}{name_of(cell)}: {text}."


def lacks(cells: Sequence[Explained]) -> list[str]:
    """One line for each cell that was not recorded, or not wholly, or at a high cost: never silently short."""
    lines = []
    several = len({cell.run for cell in cells}) > 1
    for cell in cells:
        name = _whole_name(cell) if several else name_of(cell)
        if cell.recorded:
            lines += [f"{name}: {text}" for text in (*_lost(cell), *_recording(cell))]
        else:
            lines.append(f"{name}: not recorded: {cell.why_not}")
    return lines


def _lost(cell: Explained) -> Iterator[str]:
    """What the records of a cell lack."""
    f = cell.facts
    if f["message"]:
        yield f["message"]
    if f["dropped"]:
        yield f"{f['dropped']:,} records were dropped by {f['source']}: times and counts are too small"
    elif f["dropped"] is None and cell.on_gpu:
        yield f"{f['source']} does not tell whether records were dropped"
    if f["records_backwards"]:
        yield f"{f['records_backwards']:,} records end before they begin and are left out: times and counts are too small"
    if f["inferences_read"] > f["inferences"]:
        yield (
            f"traced.csv has {f['inferences']:,} of the {f['inferences_read']:,} inferences of which there are records: the "
            "others are left out"
        )
    if f["records_outside"]:
        yield f"{f['records_outside']:,} records on the GPU began between two inferences and are left out"
    if cell.on_gpu and f["io"] == "host" and not cell.classes.get("copy H2D"):
        yield (
            f"{f['source']} told no copy of the input to the GPU (H2D): either none took place, and the cell's time "
            "lacks it, or its time stands among the gaps"
        )
    if (f["unclassified_share"] or 0) > MOST_UNCLASSIFIED:
        yield (
            f"{percent(f['unclassified_share'])} of the busy time has no class (target: at most "
            f"{percent(MOST_UNCLASSIFIED)}): analysis/kernel_classes.csv lacks a rule"
        )


def _recording(cell: Explained) -> Iterator[str]:
    """What recording cost, where that is much."""
    without, cost = cell.facts["median_untraced_ns"], cell.recording_ns
    if not without or abs(cost) <= MUCH_RECORDING * without:
        return
    if cost > 0:
        if 2 * cell.taken_off_ns >= cost:
            taken = "the tables' gaps hold most of this, the sentences take it off"
        elif cell.taken_off_ns:
            taken = f"the gaps hold only {ms(cell.taken_off_ns)} of it, the rest is in the times of the work"
        else:
            taken = "it is in the times of the work"
        yield (
            f"recording costs {ms(cost)} an inference, {percent(cost / without)} of the {ms(without)} that it takes unrecorded "
            f"(medians): {taken}"
        )
    else:
        yield (
            f"an inference took {percent(-cost / without)} less while recorded ({ms(without + cost)} instead of {ms(without)}, "
            "medians): it varies by more than recording costs"
        )


# --- tables -----------------------------------------------------------------------------------------------------------


def summary(cells: Sequence[Explained]) -> Grid:
    work = "kernels" if any(cell.on_gpu for cell in cells) else "operators"
    columns: dict[str, list[tuple[str, float | None]]] = {"framework": [(_title(cell), None) for cell in cells]}
    units = {}

    def add(heading: str, values: Sequence[Any], text: Any, unit: str = "", scale: float = 1.0) -> None:
        if any(value is not None for value in values):
            units[heading] = unit
            columns[heading] = [(UNKNOWN, None) if value is None else (text(value), value * scale) for value in values]

    def add_ms(heading: str, values: Sequence[Any]) -> None:
        add(heading, values, ms, "ms", 1e-6)

    def add_share(heading: str, values: Sequence[Any]) -> None:
        add(heading, values, percent, "%", 100)

    facts = [cell.facts for cell in cells]
    add_ms("latency", [f["median_untraced_ns"] for f in facts])
    add_ms("recorded", [f["median_traced_ns"] for f in facts])
    add_share("busy", [f["busy_share"] for f in facts])
    add(work, [cell.pieces for cell in cells], "{:,.0f}".format)
    add("launches", [f["launches"] for f in facts], "{:,.0f}".format)
    add("graphs", [f["graph_launches"] for f in facts], "{:,.0f}".format)
    add_share("idle, host at work", [cell.classes.get(LAUNCH_GAP, 0.0) / cell.wall_ns for cell in cells])
    if any(cell.taken_off_ns for cell in cells):
        add_share("the same without recorder", [cell.share(LAUNCH_GAP) for cell in cells])
    if any(cell.on_gpu for cell in cells):
        add_share("idle, host waits", [cell.classes.get(WAIT_GAP, 0.0) / cell.wall_ns for cell in cells])
        add_share("copies", [f["copy_share"] for f in facts])
        for name in ("H2D", "D2H"):
            speeds = [f[f"{name.lower()}_bytes_per_s"] for f in facts]
            add(name, speeds, lambda value: f"{rounded(value / 1e9, 3)} GB/s", "GB/s", 1e-9)
        add_share("tensor cores", [f["tensor_core_share"] for f in facts])
        add_ms("host launches", [f["host_launch_ns"] for f in facts])
        add_ms("host waits", [f["host_wait_ns"] for f in facts])
    add_share("no class", [f["unclassified_share"] for f in facts])
    add(f"recording costs per {work[:-1]}", [f["trace_cost_ns_per_record"] for f in facts], _cost, "us", 1e-3)
    add("J/image", [f["joules_per_image"] for f in facts], lambda value: rounded(value, 3))
    add("W", [f["power_gross_w"] for f in facts], lambda value: rounded(value, 3))
    add("W idle, context open", [f["idle_w"] for f in facts], lambda value: rounded(value, 3))
    return _grid("Summary", columns, [SUMMARY_NOTE], units)


def _cost(ns: float) -> str:
    """Of recording. Inferences that took no longer while recorded tell that it is below what they vary by."""
    return ms(ns) if ns > 0 else "none seen"


def by_class(cells: Sequence[Explained]) -> Grid:
    """Framework x class: time of an inference, and its share."""
    columns: dict[str, list[tuple[str, float | None]]] = {"framework": [(_title(cell), None) for cell in cells]}
    names = [name for name in explained.CLASSES if any(name in cell.classes for cell in cells)]
    names += sorted({name for cell in cells for name in cell.classes} - set(explained.CLASSES))
    for name in names:
        times = [cell.classes.get(name) for cell in cells]
        columns[name] = [
            (UNKNOWN, None) if time is None else (f"{ms(time)} ({percent(time / cell.wall_ns)})", time / 1e6)
            for cell, time in zip(cells, times, strict=True)
        ]
    columns["sum"] = [(ms(sum(cell.classes.values())), sum(cell.classes.values()) / 1e6) for cell in cells]
    return replace(
        _grid("Time by class (ms of an inference)", columns, [], dict.fromkeys([*names, "sum"], "ms")), stacked=True
    )


def longest_kernels(cell: Explained) -> Grid:
    work = "kernel" if cell.on_gpu else "operator"
    rows = cell.kernels[:MOST_KERNELS]
    columns: dict[str, list[tuple[str, float | None]]] = {
        work: [(name, None) for name in _told_apart([row["name"] for row in rows])],
        "class": [(row["class"] + (", tensor cores" if row["tensor_cores"] else ""), None) for row in rows],
        "calls": [(f"{row['calls']:,.3g}", row["calls"]) for row in rows],
        "time": [(ms(row["ns"]), row["ns"] / 1e6) for row in rows],
        "time / calls": [(ms(row["ns_per_call"]), row["ns_per_call"] / 1e6) for row in rows],
        "share of busy time": [_percent_of(row["share_of_busy"]) for row in rows],
    }
    left = len(cell.kernels) - len(rows)
    footers = [f"and {left} more"] if left > 0 else []
    if any(row["length_ns"] > 1.01 * row["ns_per_call"] for row in rows):
        footers.append(SHARED_NOTE.replace("Kernels", f"{work.capitalize()}s"))
    units = {"time": "ms", "time / calls": "ms", "share of busy time": "%"}
    return _grid(f"Longest {work}s: {_title(cell)}", columns, footers, units)


def _percent_of(share: float | None) -> tuple[str, float | None]:
    return percent(share or 0), None if share is None else 100 * share


def _told_apart(names: Sequence[str]) -> list[str]:
    """Short names; kernels that are called alike, though they are several, are numbered."""
    short = [short_name(name) for name in names]
    return [
        f"{name} ({short[: place + 1].count(name)})" if short.count(name) > 1 else name
        for place, name in enumerate(short)
    ]


def differences(found: Difference) -> list[Grid]:
    heading = f"{_whole_name(found.before)} -> {_whole_name(found.after)}"
    grids = []
    for title, changes in (("By class", found.classes), ("By kernel", found.kernels)):
        shown = changes[: 3 * MOST_KERNELS]
        columns: dict[str, list[tuple[str, float | None]]] = {
            "name": [(name, None) for name in _told_apart([change.name for change in shown])],
            "change": [(change.word, None) for change in shown],
            "before": [(ms(change.before_ns), change.before_ns / 1e6) for change in shown],
            "after": [(ms(change.after_ns), change.after_ns / 1e6) for change in shown],
            "difference": [_signed(change.after_ns - change.before_ns) for change in shown],
        }
        if title == "By kernel":
            columns["calls"] = [(f"{change.before_calls:,.3g} -> {change.after_calls:,.3g}", None) for change in shown]
        more = found.small + len(changes) - len(shown) if title == "By kernel" else 0
        footers = [f"{more} more changed by little"] if more else []
        grids.append(
            _grid(f"{title}: {heading}", columns, footers, dict.fromkeys(("before", "after", "difference"), "ms"))
        )
    return grids


def difference_sentence(found: Difference) -> str:
    before, after = found.before.wall_ns, found.after.wall_ns
    kinds = [cell.facts.get("device_name") or cell.facts.get("device") for cell in (found.before, found.after)]
    where = "" if kinds[0] == kinds[1] else f" on {kinds[1]} instead of {kinds[0]}"
    if before == after and not found.kernels and all(one.before_ns == one.after_ns for one in found.classes):
        return f"Nothing differs{where}: a recorded inference takes {ms(after)} in both, and so does each kernel."
    words = {"new": 0, "gone": 0, "slower": 0, "faster": 0}
    for change in found.kernels:
        words[change.word] = words.get(change.word, 0) + 1
    counted = ", ".join(f"{count} {word}" for word, count in words.items() if count) or "none that matters"
    most = max(found.classes, key=lambda change: abs(change.after_ns - change.before_ns), default=None)
    part = f", most of it in {most.name} ({_signed(most.after_ns - most.before_ns)[0]})" if most else ""
    ratio = f"{rounded(after / before, 3)} times as long"
    return f"A recorded inference takes {ms(after)} instead of {ms(before)}{where} ({ratio}){part}; kernels: {counted}."


def _signed(ns: float) -> tuple[str, float | None]:
    return ("+" if ns > 0 else "-" if ns < 0 else "") + ms(abs(ns)), ns / 1e6


def _title(cell: Explained) -> str:
    return style.full_title(cell.facts)


def _whole_name(cell: Explained) -> str:
    return f"{cell.run} {name_of(cell)}"


def _grid(
    title: str,
    columns: Mapping[str, Sequence[tuple[str, float | None]]],
    footers: Sequence[str],
    units: Mapping[str, str] | None = None,
) -> Grid:
    lines = list(zip(*columns.values(), strict=True))
    return Grid(
        title, list(columns), [[text for text, _ in line] for line in lines], [[number for _, number in line] for line in lines],
        footers, units or {},
    )  # fmt: skip


# --- where it is shown ------------------------------------------------------------------------------------------------


def show(found: Sequence[Section], console: Console) -> None:
    for section in found:
        console.print()
        console.print(Text(section.heading, style="bold underline"), soft_wrap=True)
        for sentence in section.sentences:
            console.print(Text(sentence), soft_wrap=True)
        show_bars(section.cells, console)
        for grid in section.grids[:2]:
            show_turned(grid, console)
        for grid in section.grids[2:]:
            show_grid(grid, console)


#: class -> the character that stands for it in a bar of text
LETTERS: Mapping[str, str] = {
    "convolution": "c", "depthwise": "d", "matrix product": "m", "attention": "a", "elementwise": "e", "normalization": "n",
    "reduction and pooling": "r", "layout change": "l", "other": "o", "unclassified": "?", "copy H2D": ">", "copy D2H": "<",
    "copy D2D": "=", LAUNCH_GAP: ".", WAIT_GAP: ":",
}  # fmt: skip
#: of classes that have none of their own
OTHER_LETTER = "*"
BAR_WIDTH = 50


def bars(cells: Sequence[Explained], width: int = BAR_WIDTH) -> list[tuple[str, str]]:
    """(framework, bar of characters): the longest recorded inference is `width` long, and each class has its share of a bar."""
    longest = max(cell.wall_ns for cell in cells)
    found = []
    for cell in cells:
        ends, at, bar = [], 0.0, ""
        for name, ns in cell.classes.items():
            at += ns
            ends.append((round(at / longest * width), LETTERS.get(name, OTHER_LETTER)))
        for end, letter in ends:
            bar += letter * (end - len(bar))
        found.append((_title(cell), bar))
    return found


def legend(cells: Sequence[Explained]) -> str:
    used = dict.fromkeys(name for name in explained.CLASSES if any(name in cell.classes for cell in cells))
    return "  ".join(f"{LETTERS.get(name, OTHER_LETTER)} {name}" for name in used)


def show_bars(cells: Sequence[Explained], console: Console) -> None:
    console.print()
    console.print(
        Text(
            f"An inference while recorded (a character is {ms(max(c.wall_ns for c in cells) / BAR_WIDTH)})",
            style="bold",
        )
    )
    lines = bars(cells)
    room = max(len(name) for name, _ in lines)
    for (name, bar), cell in zip(lines, cells, strict=True):
        console.print(Text(f"{name:{room}} |{bar}| {ms(cell.wall_ns)}"), soft_wrap=True)
    console.print(Text(legend(cells), style="dim"), soft_wrap=True)


def show_turned(grid: Grid, console: Console) -> None:
    """Frameworks as columns: at 80 columns there is room for them, not for all figures."""
    heads = [row[0] for row in grid.rows]
    places = range(1, len(grid.headings))
    rows = [[grid.headings[place], *(row[place] for row in grid.rows)] for place in places]
    show_grid(Grid(grid.title, ["", *heads], rows, [], grid.footers), console)


def show_grid(grid: Grid, console: Console) -> None:
    console.print()
    console.print(Text(grid.title, style="bold"), soft_wrap=True)
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for place, heading in enumerate(grid.headings):
        text = place == 0 or heading in ("class", "change")
        table.add_column(Text(heading), justify="left" if text else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(text) for text in row))
    console.print(table)
    for line in grid.footers:
        console.print(Text(line, style="dim"), soft_wrap=True)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("*", "\\*").replace("<", "&lt;")


def markdown(
    found: Sequence[Section], missing: Sequence[str], more: Sequence[Grid] = (), intro: Sequence[str] = ()
) -> str:
    lines = [f"# {TITLE}", "", *(f"{_escape(line)}\n" for line in intro)]
    for grid in more:
        lines += _markdown_grid(grid, "##")
    for section in found:
        lines += [f"## {_escape(section.heading)}", "", *(f"- {_escape(text)}" for text in section.sentences), ""]
        lines += [f"![{_escape(text)}]({path})\n" for text, path in _pictures(section)]
        for grid in section.grids:
            lines += _markdown_grid(grid, "###")
    if missing:
        lines += ["## What the records lack", "", *(f"- {_escape(line)}" for line in missing), ""]
    return "\n".join(lines)


def _pictures(section: Section) -> list[tuple[str, str]]:
    """(description, path beside the page) of the pictures that analysis.explain draws of a section."""
    drawn = PICTURES if any(cell.kernels for cell in section.cells) else PICTURES[:1]
    return [(f"{what} ({section.heading})", f"plots/{files.file_name(what, section.heading)}.png") for what in drawn]


def _markdown_grid(grid: Grid, level: str) -> Iterator[str]:
    yield f"{level} {_escape(grid.title)}\n"
    yield "| " + " | ".join(map(_escape, grid.headings)) + " |"
    yield "|---|" + "---:|" * (len(grid.headings) - 1)
    for row in grid.rows:
        yield "| " + " | ".join(map(_escape, row)) + " |"
    yield ""
    for line in grid.footers:
        yield f"{_escape(line)}  "
    yield ""


def write_excel(path: Path, found: Sequence[Section], missing: Sequence[str], more: Sequence[Grid] = ()) -> None:
    """A sheet of sentences, then a sheet for each table. Text from the data is written as text, never as a formula."""
    with workbook(path) as book:
        bold = book.add_format({"bold": True})
        sheet = book.add_worksheet("sentences")
        line = 0
        for section in found:
            for text in (section.heading, *section.sentences, ""):
                sheet.write_string(line, 0, text)
                line += 1
        for text in missing:
            sheet.write_string(line, 0, text)
            line += 1
        sheet.set_column(0, 0, 140)
        grids = [
            *((grid, "") for grid in more),
            *((grid, section.heading) for section in found for grid in section.grids),
        ]
        for number, (grid, heading) in enumerate(grids, 1):
            sheet = book.add_worksheet(f"table {number}")
            _sheet(sheet, grid, heading, bold)
            if grid.stacked:
                sheet.insert_chart(len(grid.rows) + 6, 0, _chart(book, sheet.get_name(), grid, heading))


#: of a table's rows in its sheet
FIRST_LINE = 4


def _sheet(sheet: Any, grid: Grid, heading: str, bold: Any) -> None:
    sheet.write_string(0, 0, grid.title, bold)
    sheet.write_string(1, 0, heading)
    for place, name in enumerate(grid.headings):
        unit = grid.units.get(name)
        sheet.write_string(3, place, f"{name} ({unit})" if unit else name, bold)
    for line, (texts, numbers) in enumerate(zip(grid.rows, grid.numbers, strict=True), FIRST_LINE):
        for place, (text, number) in enumerate(zip(texts, numbers, strict=True)):
            if number is None:
                sheet.write_string(line, place, text)
            else:
                sheet.write_number(line, place, number)
    sheet.freeze_panes(FIRST_LINE, 1)
    sheet.set_column(0, 0, 44)
    sheet.set_column(1, max(1, len(grid.headings) - 1), 14)


def _chart(book: Any, sheet: str, grid: Grid, heading: str) -> Any:
    """A bar for each row, made of the columns but for the sum: Excel's own chart, which follows the cells."""
    chart = book.add_chart({"type": "bar", "subtype": "stacked"})
    last = FIRST_LINE + len(grid.rows) - 1
    for place, name in enumerate(grid.headings):
        if place == 0 or name == "sum":
            continue
        chart.add_series(
            {
                "name": name,
                "categories": [sheet, FIRST_LINE, 0, last, 0],
                "values": [sheet, FIRST_LINE, place, last, place],
                "fill": {"color": look(name)[0]},
                "gap": 40,
            }
        )
    chart.set_title({"name": heading, "overlay": False, "name_font": {"size": 11}})
    chart.set_x_axis({"name": "time of one inference while recorded (ms)"})
    chart.set_y_axis({"reverse": True})
    chart.set_legend({"position": "bottom"})
    chart.set_size({"width": 1000, "height": 200 + 40 * len(grid.rows)})
    return chart


def section_for_report(
    found: Sequence[Section], missing: Sequence[str], drawings: Sequence[tuple[str, str]], more: Sequence[Grid] = ()
) -> Mapping[str, Any]:
    """For the report's template. drawings: (svg, description)."""
    return {"title": TITLE, "sections": found, "missing": missing, "drawings": drawings, "more": more}
