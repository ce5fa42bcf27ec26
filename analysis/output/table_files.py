"""Tables as Markdown, every figure as CSV, and both as one Excel workbook."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.comparisons.notebook_vs_script import TITLE, FrontEnds
from analysis.database.connection import Row
from analysis.output import notebook_vs_script as render_front_ends
from analysis.output.colour_scale import BEST, MIDDLE, WORST
from analysis.output.workbook import workbook
from analysis.results.level_steps import WORTH
from analysis.results.metrics import HEADLINES, METRICS
from analysis.results.selection import DIMENSIONS
from analysis.results.tables import Table, describe
from common.host.whole_files import whole
from common.text import markdown as _escape
from common.text import spreadsheet, visible

#: Columns of comparison.csv beside the metrics.
FACTS = (
    *DIMENSIONS, "status", "message", "marks", "replicates", "samples", "energy_basis", "energy_method", "framework_version",
    "model_hash", "weights", "device_uuid", "compute_capability", "origin", "created_utc", "cell_keys",
)  # fmt: skip


def markdown(tables: Sequence[Table], problems: Sequence[str], compared: FrontEnds | None = None) -> str:
    """All tables under headings, best in bold, footers below each; then the front ends where there are two."""
    lines = ["# Comparison", ""]
    previous = None
    for table in tables:
        if table.subtitle != previous:
            lines += [f"## {_escape(table.subtitle)}", ""]
            previous = table.subtitle
        lines += [f"### {_escape(table.title)}", "", *markdown_grid(table)]
        lines += ["", *(f"{_escape(line)}  " for line in table.footers), ""]
    if compared is not None:
        lines += render_front_ends.markdown(compared, _escape)
    if problems:
        lines += ["## Input that could not be used", "", *(f"- {_escape(problem)}" for problem in problems), ""]
    return "\n".join(lines)


def markdown_grid(table: Table) -> list[str]:
    """The table alone, best in bold."""
    heading = [*(name.replace("_", " ") for name in table.row_names)]
    heading += [describe(table.column_name, column) for column in table.columns]
    lines = ["| " + " | ".join(map(_escape, heading)) + " |"]
    lines.append("|" + "---|" * len(table.row_names) + "---:|" * len(table.columns))
    for row in table.rows:
        places = [_escape(label) for label in row]
        for column in table.columns:
            entry = table.entry(row, column)
            text = _escape(entry.marked)
            places.append(f"**{text}**" if entry.best else text)
        lines.append("| " + " | ".join(places) + " |")
    return lines


def _columns(rows: Sequence[Row]) -> list[str]:
    """Of the list of every figure; what tuning is worth stands in it where the rows were given that."""
    return [
        *FACTS,
        *(metric.column for metric in METRICS.values()),
        *(name for name in WORTH if rows and name in rows[0]),
    ]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One row per configuration with every figure in full; units stand in the names, empty means unknown."""
    columns = _columns(rows)
    with whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_csv_value(row[name]) for name in columns])


def _csv_value(value: object) -> object:
    return spreadsheet(" ".join(map(str, value)) if isinstance(value, list) else value)


# --- Excel ------------------------------------------------------------------------------------------------------------


#: More tables than this have no sheet of their own, the less important metrics first: their figures are in the sheet of all.
MOST_SHEETS = 200


def _sheet_name(text: str, taken: set[str]) -> str:
    """At most 31 characters, none that Excel refuses, unique whatever the case."""
    base = re.sub(r"[\[\]:*?/\\']", " ", visible(text, keep="")).strip()[:31] or "table"
    name, number = base, 1
    while name.lower() in taken:
        number += 1
        name = f"{base[: 31 - len(str(number)) - 1]} {number}"
    taken.add(name.lower())
    return name


def _with_sheets(tables: Sequence[Table]) -> list[Table]:
    """The tables that get a sheet, in their order; headlines come first where there are too many."""
    ranked = sorted(range(len(tables)), key=lambda place: tables[place].metric.name not in HEADLINES)
    return [tables[place] for place in sorted(ranked[:MOST_SHEETS])]


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02X}" for part in colour)


def _number_format(values: Sequence[float]) -> str:
    """About four significant digits for figures of this size."""
    middle = sorted(abs(value) for value in values)[len(values) // 2] if values else 0.0
    for least, text in ((1000, "#,##0"), (100, "0.0"), (10, "0.00"), (1, "0.000"), (0.1, "0.0000"), (0.01, "0.00000")):
        if middle >= least:
            return text
    return "0.00E+00"


def write_excel(
    path: Path, tables: Sequence[Table], rows: Sequence[Row], marks: Sequence[Row], compared: FrontEnds | None = None
) -> None:
    """A sheet per table with live colour scales, then every figure, the marks with their reasons, the definitions.

    marks: rows of the view `marks`. Text from the data is always written as text, never as a formula or link.
    """
    with workbook(path) as book:
        _fill(book, tables, rows, marks, compared)


def _fill(
    book: Any, tables: Sequence[Table], rows: Sequence[Row], marks: Sequence[Row], compared: FrontEnds | None
) -> None:
    bold = book.add_format({"bold": True})
    heading = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
    grey = book.add_format({"font_color": "#666666"})
    taken: set[str] = set()
    several = len({table.subtitle for table in tables}) > 1
    for table in _with_sheets(tables):
        name = f"{table.metric.name} {table.subtitle}" if several else table.metric.name
        _table_sheet(book, book.add_worksheet(_sheet_name(name, taken)), table, bold, heading, grey)
    if compared is not None:
        name = _sheet_name(TITLE.lower(), taken)
        pairs = [render_front_ends.values(pair) for pair in compared.pairs]
        _list_sheet(book.add_worksheet(name), render_front_ends.COLUMNS, pairs, heading)
    _list_sheet(book.add_worksheet(_sheet_name("every figure", taken)), _columns(rows), rows, heading, freeze=6)
    _list_sheet(book.add_worksheet(_sheet_name("marks", taken)), ["run", "cell_key", "mark", "why"], marks, heading)
    definitions = [
        {"name": m.name, "column": m.column, "title": m.title, "unit": m.unit, "definition": m.definition}
        for m in METRICS.values()
    ]
    definitions += [
        {"name": name, "column": name, "title": "worth of tuning", "unit": "", "definition": definition}
        for name, definition in WORTH.items()
        if name in _columns(rows)
    ]
    if len(tables) > MOST_SHEETS:
        left_out = f"{len(tables) - MOST_SHEETS} tables have no sheet of their own: their figures are in the sheet 'every figure'"
        definitions.append({"name": "tables", "column": "", "title": "left out", "unit": "", "definition": left_out})
    columns = ["name", "column", "title", "unit", "definition"]
    _list_sheet(book.add_worksheet(_sheet_name("definitions", taken)), columns, definitions, heading)


def _table_sheet(book: Any, sheet: Any, table: Table, bold: Any, heading: Any, grey: Any) -> None:
    labels = len(table.row_names)
    sheet.write_string(0, 0, table.title, bold)
    sheet.write_string(1, 0, table.subtitle, grey)
    for place, name in enumerate(table.row_names):
        sheet.write_string(3, place, name.replace("_", " "), heading)
    for place, column in enumerate(table.columns, labels):
        sheet.write_string(3, place, describe(table.column_name, column), heading)
    values = [entry.value for entry in table.entries.values() if entry.value is not None]
    number = {"num_format": _number_format(values), "align": "right"}
    plain, best = book.add_format(number), book.add_format({**number, "bold": True})
    text = book.add_format({"align": "right", "font_color": "#666666"})
    for line, row in enumerate(table.rows, 4):
        for place, label in enumerate(row):
            if isinstance(label, (int, float)):
                sheet.write_number(line, place, label)
            else:
                sheet.write_string(line, place, "" if label is None else str(label))
        for place, column in enumerate(table.columns, labels):
            entry = table.entry(row, column)
            if entry.value is not None:
                sheet.write_number(line, place, entry.value, best if entry.best else plain)
                if entry.signs:
                    sheet.write_comment(line, place, "marks: " + entry.signs)
            else:
                sheet.write_string(line, place, entry.marked, text)
    last = 3 + len(table.rows)
    if table.metric.better:
        low, high = (WORST, BEST) if table.metric.better > 0 else (BEST, WORST)
        scale = {
            "type": "3_color_scale", "min_color": _hex(low), "mid_color": _hex(MIDDLE), "max_color": _hex(high),
            "mid_type": "percentile",
        }  # fmt: skip
        if "batch_size" not in table.row_names:
            for place in range(labels, labels + len(table.columns)):
                sheet.conditional_format(4, place, last, place, scale)
    for place, line_text in enumerate(table.footers, last + 2):
        sheet.write_string(place, 0, line_text, grey)
    sheet.freeze_panes(4, labels)
    sheet.set_column(0, labels - 1, 14)
    sheet.set_column(labels, labels + len(table.columns), 13)


def _list_sheet(sheet: Any, columns: Sequence[str], rows: Sequence[Row], heading: Any, freeze: int = 0) -> None:
    for place, name in enumerate(columns):
        sheet.write_string(0, place, name, heading)
    for line, row in enumerate(rows, 1):
        for place, name in enumerate(columns):
            value = row[name]
            if isinstance(value, (int, float)):
                sheet.write_number(line, place, value)
            elif value is not None:
                sheet.write_string(line, place, value if isinstance(value, str) else json.dumps(value))
    sheet.freeze_panes(1, freeze)
    sheet.autofilter(0, 0, max(len(rows), 1), len(columns) - 1)
    sheet.set_column(0, len(columns) - 1, 16)
