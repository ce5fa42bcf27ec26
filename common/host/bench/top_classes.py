"""`--image`: what each framework sees in the user's picture, so that a person sees that all agree."""

from __future__ import annotations

import csv
import json

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.host.runs.run import Run


def top_classes(run: Run) -> list[tuple[str, str, list[tuple[str, float]]]]:
    """(variant, precision, [(class, probability), ...]) of one cell for each variant and precision that has them."""
    found: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for path in sorted((run.folder / "cells").glob("[!.]*/cell.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row.get("top3"):
                    found.setdefault(
                        (row["variant"], row["precision"]), [(str(c), float(p)) for c, p in json.loads(row["top3"])]
                    )
    return [(variant, precision, classes) for (variant, precision), classes in sorted(found.items())]


def print_top_classes(run: Run, console: Console) -> None:
    rows = top_classes(run)
    if not rows:
        return
    table = Table(
        box=None, header_style="bold", pad_edge=False, title="Top 3 classes of the picture", title_justify="left"
    )
    for title in ("framework", "precision", "first", "second", "third"):
        table.add_column(title)
    for variant, precision, classes in rows:
        table.add_row(variant, precision, *(escape(f"{name} {share:.1%}") for name, share in classes))
    console.print(table)
    agreed = len({classes[0][0] for _, _, classes in rows}) == 1
    console.print(
        "All agree on the first class." if agreed else "They do not agree on the first class.", highlight=False
    )
