"""What `invoke explain` shows, as tables and sentences: for the terminal, Markdown, Excel and the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from analysis import style
from analysis.comparisons.explained import Difference
from analysis.output.workbook import workbook
from analysis.results import explained
from analysis.results.explain_sentences import ms, name_of, percent, sentences
from analysis.results.explained import LAUNCH_GAP, MOST_KERNELS, MOST_UNCLASSIFIED, WAIT_GAP, Explained, short_name
from analysis.results.metrics import rounded

TITLE = "Where the time of an inference goes"
UNKNOWN = "-"


@dataclass(frozen=True)
class Grid:
    """One table. rows: texts; numbers: of the same shape, None where a place is text or unknown."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[Sequence[float | None]]
    footers: Sequence[str] = ()


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
    """One line for each cell that was not recorded, or not wholly: never silently short."""
    lines = []
    for cell in cells:
        f, name = cell.facts, name_of(cell)
        if not cell.recorded:
            lines.append(f"{name}: not recorded: {f['message'] or 'no reason given'}")
            continue
        if f["message"]:
            lines.append(f"{name}: {f['message']}")
        if f["dropped"]:
            lines.append(
                f"{name}: {f['dropped']:,} records were dropped by {f['source']}: times and counts are too small"
            )
        elif f["dropped"] is None and cell.on_gpu:
            lines.append(f"{name}: {f['source']} does not tell whether records were dropped")
        if f["records_outside"]:
            lines.append(
                f"{name}: {f['records_outside']:,} records on the GPU began between two inferences and are left out"
            )
        if cell.on_gpu and f["io"] == "host" and not cell.classes.get("copy H2D"):
            lines.append(
                f"{name}: {f['source']} told no copy of the input to the GPU (H2D): either none took place, and the cell's time "
                "lacks it, or its time stands among the gaps"
            )
        if (f["unclassified_share"] or 0) > MOST_UNCLASSIFIED:
            lines.append(
                f"{name}: {percent(f['unclassified_share'])} of the busy time has no class (target: at most "
                f"{percent(MOST_UNCLASSIFIED)}): analysis/kernel_classes.csv lacks a rule"
            )
    return lines


# --- tables -----------------------------------------------------------------------------------------------------------


def summary(cells: Sequence[Explained]) -> Grid:
    work = "kernels" if any(cell.on_gpu for cell in cells) else "operators"
    columns: dict[str, list[tuple[str, float | None]]] = {"framework": [(_title(cell), None) for cell in cells]}

    def add(heading: str, values: Sequence[Any], text: Any) -> None:
        if any(value is not None for value in values):
            columns[heading] = [(UNKNOWN, None) if value is None else (text(value), float(value)) for value in values]

    facts = [cell.facts for cell in cells]
    add("latency", [f["median_untraced_ns"] for f in facts], ms)
    add("recorded", [f["wall_ns"] for f in facts], ms)
    add("busy", [f["busy_share"] for f in facts], percent)
    add(work, [cell.pieces for cell in cells], "{:,.0f}".format)
    add("launches", [f["launches"] for f in facts], "{:,.0f}".format)
    add("graphs", [f["graph_launches"] for f in facts], "{:,.0f}".format)
    add("idle, host at work", [cell.share(LAUNCH_GAP) for cell in cells], percent)
    if any(cell.on_gpu for cell in cells):
        add("idle, host waits", [cell.share(WAIT_GAP) for cell in cells], percent)
        add("copies", [f["copy_share"] for f in facts], percent)
        add("H2D", [f["h2d_bytes_per_s"] for f in facts], lambda value: f"{rounded(value / 1e9, 3)} GB/s")
        add("D2H", [f["d2h_bytes_per_s"] for f in facts], lambda value: f"{rounded(value / 1e9, 3)} GB/s")
        add("tensor cores", [f["tensor_core_share"] for f in facts], percent)
        add("host launches", [f["host_launch_ns"] for f in facts], ms)
        add("host waits", [f["host_wait_ns"] for f in facts], ms)
    add("no class", [f["unclassified_share"] for f in facts], percent)
    add(f"recording costs per {work[:-1]}", [f["trace_cost_ns_per_record"] for f in facts], _cost)
    add("J/image", [f["joules_per_image"] for f in facts], lambda value: rounded(value, 3))
    add("W", [f["power_gross_w"] for f in facts], lambda value: rounded(value, 3))
    add("W idle, context open", [f["idle_w"] for f in facts], lambda value: rounded(value, 3))
    footers = [
        "latency: median without recording; recorded: mean while recording, of which the classes add up to the whole; "
        "joules and watts are of the measured window, in which nothing is recorded."
    ]
    return _grid("Summary", columns, footers)


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
    return _grid("Time by class (ms of an inference)", columns, [])


def longest_kernels(cell: Explained) -> Grid:
    work = "kernel" if cell.on_gpu else "operator"
    rows = cell.kernels[:MOST_KERNELS]
    columns = {
        work: [(short_name(row["name"]), None) for row in rows],
        "class": [(row["class"] + (", tensor cores" if row["tensor_cores"] else ""), None) for row in rows],
        "calls": [(f"{row['calls']:,.3g}", row["calls"]) for row in rows],
        "time": [(ms(row["ns"]), row["ns"] / 1e6) for row in rows],
        "per call": [(ms(row["ns_per_call"]), row["ns_per_call"] / 1e6) for row in rows],
        "share of busy time": [(percent(row["share_of_busy"] or 0), row["share_of_busy"]) for row in rows],
    }
    left = len(cell.kernels) - len(rows)
    return _grid(f"Longest {work}s: {_title(cell)}", columns, [f"and {left} more"] if left > 0 else [])


def differences(found: Difference) -> list[Grid]:
    heading = f"{_whole_name(found.before)} -> {_whole_name(found.after)}"
    grids = []
    for title, changes in (("By class", found.classes), ("By kernel", found.kernels)):
        shown = changes[: 3 * MOST_KERNELS]
        columns: dict[str, list[tuple[str, float | None]]] = {
            "name": [(short_name(change.name), None) for change in shown],
            "change": [(change.word, None) for change in shown],
            "before": [(ms(change.before_ns), change.before_ns / 1e6) for change in shown],
            "after": [(ms(change.after_ns), change.after_ns / 1e6) for change in shown],
            "difference": [_signed(change.after_ns - change.before_ns) for change in shown],
        }
        if title == "By kernel":
            columns["calls"] = [(f"{change.before_calls:,.3g} -> {change.after_calls:,.3g}", None) for change in shown]
        more = found.small + len(changes) - len(shown) if title == "By kernel" else 0
        grids.append(_grid(f"{title}: {heading}", columns, [f"{more} more changed by little"] if more else []))
    return grids


def difference_sentence(found: Difference) -> str:
    before, after = found.before.wall_ns, found.after.wall_ns
    words = {"new": 0, "gone": 0, "slower": 0, "faster": 0}
    for change in found.kernels:
        words[change.word] = words.get(change.word, 0) + 1
    counted = ", ".join(f"{count} {word}" for word, count in words.items() if count) or "none that matters"
    most = max(found.classes, key=lambda change: abs(change.after_ns - change.before_ns), default=None)
    where = f", most of it in {most.name} ({_signed(most.after_ns - most.before_ns)[0]})" if most else ""
    ratio = f"{rounded(after / before, 3)} times as long"
    return f"A recorded inference takes {ms(after)} instead of {ms(before)} ({ratio}){where}; kernels: {counted}."


def _signed(ns: float) -> tuple[str, float | None]:
    return ("+" if ns > 0 else "-" if ns < 0 else "") + ms(abs(ns)), ns / 1e6


def _title(cell: Explained) -> str:
    return style.full_title(cell.facts)


def _whole_name(cell: Explained) -> str:
    return f"{cell.run} {name_of(cell)}"


def _grid(title: str, columns: Mapping[str, Sequence[tuple[str, float | None]]], footers: Sequence[str]) -> Grid:
    lines = list(zip(*columns.values(), strict=True))
    return Grid(
        title, list(columns), [[text for text, _ in line] for line in lines], [[number for _, number in line] for line in lines],
        footers,
    )  # fmt: skip


# --- where it is shown ------------------------------------------------------------------------------------------------


def show(found: Sequence[Section], console: Console) -> None:
    for section in found:
        console.print()
        console.print(Text(section.heading, style="bold underline"), soft_wrap=True)
        for sentence in section.sentences:
            console.print(Text(sentence), soft_wrap=True)
        for grid in section.grids[:2]:
            show_turned(grid, console)
        for grid in section.grids[2:]:
            show_grid(grid, console)


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
        for grid in section.grids:
            lines += _markdown_grid(grid, "###")
    if missing:
        lines += ["## What is missing", "", *(f"- {_escape(line)}" for line in missing), ""]
    return "\n".join(lines)


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
            _sheet(book.add_worksheet(f"table {number}"), grid, heading, bold)


def _sheet(sheet: Any, grid: Grid, heading: str, bold: Any) -> None:
    sheet.write_string(0, 0, grid.title, bold)
    sheet.write_string(1, 0, heading)
    for place, name in enumerate(grid.headings):
        sheet.write_string(3, place, name, bold)
    for line, (texts, numbers) in enumerate(zip(grid.rows, grid.numbers, strict=True), 4):
        for place, (text, number) in enumerate(zip(texts, numbers, strict=True)):
            if number is None:
                sheet.write_string(line, place, text)
            else:
                sheet.write_number(line, place, number)
    sheet.freeze_panes(4, 1)
    sheet.set_column(0, 0, 44)
    sheet.set_column(1, max(1, len(grid.headings) - 1), 14)


def section_for_report(
    found: Sequence[Section], missing: Sequence[str], drawings: Sequence[tuple[str, str]], more: Sequence[Grid] = ()
) -> Mapping[str, Any]:
    """For the report's template. drawings: (svg, description)."""
    return {"title": TITLE, "sections": found, "missing": missing, "drawings": drawings, "more": more}
