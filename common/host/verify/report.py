"""The result of `invoke verify` for people: a table on the terminal and the same in Markdown."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.host.verify.command import TARGET, LoopComparison, Result
from common.host.whole_files import write_text

HEADINGS = (
    "framework",
    "level",
    "precision",
    "batch",
    "io",
    "harness ms",
    "recipe ms",
    "ratio",
    "95 % interval",
    "differ by",
    "verdict",
)
EXPLANATION = (
    f"ratio: harness/recipe of the median latency, target {TARGET[0]:g} to {TARGET[1]:g}; OK: the whole interval is within it, OFF: "
    "none of it, UNCLEAR: it reaches over an end, or is outside while other work wanted the CPUs (l). differ by: relative L2 "
    "distance of the two outputs."
)
_STYLES = {"OK": "green", "OFF": "bold red", "UNCLEAR": "yellow"}


def cells_of(row: LoopComparison) -> tuple[str, ...]:
    """One row as text, empty where there is no figure; the last is the verdict, or why there is none."""

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return (
        row.variant,
        row.tuning,
        row.precision,
        str(row.batch_size),
        row.io if row.input == "float32" else f"{row.io}, {row.input}",
        number(row.harness_ns and row.harness_ns / 1e6, ".4g"),
        number(row.recipe_ns and row.recipe_ns / 1e6, ".4g"),
        "" if row.ratio is None else f"{row.ratio.estimate:.4f}",
        "" if row.ratio is None else f"{row.ratio.low:.4f} to {row.ratio.high:.4f}",
        number(row.difference, ".1e"),
        _verdict(row),
    )


def _verdict(row: LoopComparison) -> str:
    if row.ratio is None:
        return row.reason
    words = f"{row.word}: {row.reason}" if row.reason else row.word
    return f"{words} (l: {row.load})" if row.load else words


def line(row: LoopComparison) -> str:
    """A row in a line, as it is printed when it is there."""
    variant, tuning, precision, batch_size, io, *_, ratio, interval, _, verdict = cells_of(row)
    figures = f"{ratio} ({interval}), " if ratio else ""
    return f"{variant} {tuning} {precision} batch {batch_size} {io}: {figures}{verdict}"


def print_result(result: Result, console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in result.verdicts:
        *others, last = (escape(text) for text in cells_of(row))
        style = _STYLES.get(row.word, "dim")
        table.add_row(*others, f"[{style}]{last}[/]")
    console.print(table)
    console.print(escape(EXPLANATION), style="dim", highlight=False)
    for fact in result.facts:
        console.print(escape(fact), style="dim", highlight=False)


def sentence(result: Result) -> str:
    """The answer: in how many cells the harness measures what the recipe measures."""
    known = [row for row in result.verdicts if row.ratio is not None]
    if not known:
        return "No cell could be compared with its recipe."
    words = [row.word for row in known]
    ratios = [row.ratio.estimate for row in known if row.ratio is not None]
    spread = f"{min(ratios):.3f}" if len(known) == 1 else f"{min(ratios):.3f} to {max(ratios):.3f}"
    others = "".join(f"; {words.count(word)} {word}" for word in ("UNCLEAR", "OFF") if word in words)
    lacking = len(result.verdicts) - len(known)
    return (
        f"The harness measures what the recipe measures in {words.count('OK')} of {len(known)} cells (ratio {spread}){others}"
        f"{f'; {lacking} could not be compared' if lacking else ''}."
    )


def markdown(result: Result) -> str:
    """The table with what it was measured under, in Markdown."""
    lines = [EXPLANATION, "", *(f"- {fact}" for fact in result.facts), ""]
    lines += ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(text.replace("|", "\\|") for text in cells_of(row)) + " |" for row in result.verdicts]
    return "\n".join(lines) + "\n"


def write_markdown(result: Result, folder: Path) -> Path:
    """A file of its own for each call; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = folder / f"verify-{result.device.name}-{stamp}.md"
    write_text(path, markdown(result))
    return path
