"""Tables for a terminal: legible at 80 columns, and without colour when piped into a file."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from analysis.output.colour_scale import colour
from analysis.results.tables import Entry, Table, describe

#: More than this nobody reads in a terminal.
MOST_TABLES = 60
#: lines of a screen that tables which nobody asked for may take, and those of a table beside its rows
SCREEN_LINES = 44
_LINES_OF_A_TABLE = 5


def _place(entry: Entry, coloured: bool) -> Text:
    text = entry.marked
    if not coloured:
        return Text(f"*{text}" if entry.best else text)
    style = "" if entry.rank is None else f"black on {colour(entry.rank)}"
    return Text(text, style=f"bold {style}" if entry.best else style)


def one_screen(tables: Sequence[Table]) -> list[Table]:
    """The first tables that fit one screen, one at the least; those in which most places have no figure are left out."""
    chosen: list[Table] = []
    lines = 0
    for table in tables:
        known = sum(entry.value is not None for entry in table.entries.values())
        lines += len(table.rows) + _LINES_OF_A_TABLE
        if chosen and (lines > SCREEN_LINES or 2 * known < len(table.entries)):
            break
        chosen.append(table)
    return chosen


def show(tables: Sequence[Table], console: Console) -> None:
    """Prints the tables one after another, MOST_TABLES of them; footers that several share stand once, at the end."""
    left_out = max(0, len(tables) - MOST_TABLES)
    tables = tables[:MOST_TABLES]
    coloured = console.color_system is not None
    previous = None
    for table in tables:
        if table.subtitle != previous:
            console.print()
            console.print(Text(table.subtitle, style="bold underline"))
            previous = table.subtitle
        # Not as the table's own title, which would be wrapped to the width of a narrow table.
        console.print()
        console.print(Text(table.title, style="bold"))
        grid = RichTable(
            box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
            show_edge=False, pad_edge=False,
        )  # fmt: skip
        # one column for all labels: at 80 columns every blank counts
        grid.add_column(" ".join(name.replace("_", " ") for name in table.row_names), overflow="fold", min_width=13)
        for column in table.columns:
            heading = f"b{column}" if table.column_name == "batch_size" else describe(table.column_name, column)
            grid.add_column(Text(heading), justify="right", overflow="fold")
        for row in table.rows:
            grid.add_row(
                Text(" ".join(str(label) for label in row if label != "")),
                *(_place(table.entry(row, column), coloured) for column in table.columns),
            )
        console.print(grid)
    footers = dict.fromkeys(line for table in tables for line in table.footers[1:])
    if footers:
        console.print()
        if not coloured:
            console.print("*  best of its batch size")
        for line in footers:
            console.print(Text(line, style="dim"))
    if left_out:
        console.print(f"{left_out:,} more tables are in the files; choose with --where what to print.")
