"""`invoke analyze` and `invoke report`: from run folders to tables, plots and the report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich.console import Console
from rich.text import Text

from analysis import explain, style
from analysis.comparisons import notebook_vs_script as front_ends
from analysis.comparisons import recipes, side_by_side, summary
from analysis.comparisons.notebook_vs_script import FrontEnds
from analysis.comparisons.side_by_side import Comparison
from analysis.database.connection import Database, Row
from analysis.database.open_runs import open_runs
from analysis.output import explorer, report, table_files, terminal, tooltips
from analysis.output import notebook_vs_script as render_front_ends
from analysis.output import pdf as browser
from analysis.plots import files
from analysis.plots.catalogue import Gallery
from analysis.plots.roofline import Limits
from analysis.results import level_steps, tables
from analysis.results.all_intervals import all_intervals
from analysis.results.metrics import METRICS, ON_SCREEN, item_of, metric, spoken_of
from analysis.results.sample_intervals import Intervals
from analysis.results.selection import parse_pivot, parse_sort
from analysis.results.tables import Table
from common.errors import UserError, unknown
from common.host.whole_files import check_targets, write_text
from common.text import shell_line, shell_word

FORMATS = ("md", "csv", "xlsx")
#: Problems printed one by one; the report lists all.
MOST_PROBLEMS = 20
#: Groups whose answer is printed.
MOST_SENTENCES = 6


@dataclass(frozen=True)
class AnalyzeResult:
    """exit_code: 1 where input was lost, else 0. paths: every file written. report: the HTML page among them."""

    exit_code: int
    paths: tuple[Path, ...]
    report: Path


def analyze(
    runs: Sequence[Path],
    out: Path,
    console: Console,
    *,
    where: str | Sequence[str] | None = None,
    pivot: str | None = None,
    sort: str | None = None,
    formats: Sequence[str] = FORMATS,
    baseline: str | None = None,
    limits: Limits | None = None,
    cache: Path | None = None,
    shown: str | None = None,
    recipe: str | None = None,
    here: bool = False,
    words: Sequence[str] = (),
    named: Callable[[Path], str] = str,
) -> AnalyzeResult:
    """Prints the answer and writes `comparison.{md,csv,xlsx}`, `plots/*` and `report.html` into `out`.

    Runs that were measured in both front ends also get `frontends.csv`, a section in each of these, and a plot.

    where, pivot, sort: see analysis.results.selection. baseline: variant of the speed-up plot; default: see analysis.plots.speedup.
    limits: what the user knows of device and model, for the roofline plot. cache: see analysis.database.cache.
    shown: metrics whose tables are printed, comma list, or "all"; default: throughput and energy, as far as they fit one screen.
    recipe: task that prints the recipe of a cell, which the report then offers to copy; None where there is none.
    here: whether the runs are of this machine. words: that name the runs on a command line; default: their names.
    named: how the user names one run's folder.
    Raises UserError for a name that does not exist, a selection that nothing meets and an output folder that cannot be written.
    """
    if strange := [name for name in formats if name not in FORMATS]:
        raise unknown("format", strange[0], FORMATS)
    pivoted, sorting = parse_pivot(pivot), parse_sort(sort)
    check_targets(out, ("report.html", "comparison.md", "comparison.csv", "comparison.xlsx"))
    words = words or [run.name for run in runs]
    with open_runs(runs, cache) as database:
        rows = tables.selected(database, where)
        _check_baseline(baseline, rows)
        with spoken_of(item_of(rows)):
            every = tables.build(database, rows, list(METRICS), pivoted, sorting)
            compared = front_ends.build(database, rows)
            printed = _to_print(every, shown)
            _show(printed, compared, console)
            _print_problems(database, rows, console)
            intervals = all_intervals(database, rows)
            options = [*_where(where), *_chosen(pivot=pivot, sort=sort, baseline=baseline), *_limits(limits)]
            with _writing_into(out):
                paths = _write_tables(database, every, rows, out, formats, compared)
                gallery = Gallery(database, rows, intervals, baseline, limits or Limits(), compared)
                drawings, plot_paths = _write_plots(gallery, out / "plots", console)
                page = out / "report.html"
                text = report.render(
                    database, rows, every, drawings, intervals, command=_again("analyze", words, *options),
                    compared=compared, explained=explain.of_runs(database, out / "plots"), undrawn=gallery.undrawn,
                    recipe=recipe, explored=report.explore(database, rows, intervals, words, ",".join(_terms(where))), words=words,
                )  # fmt: skip
                write_text(page, text)
            _offer_recipe(database, rows, recipe, () if here else words, named, console)
            _conclude(every, printed, intervals, page, console, here)
        return AnalyzeResult(database.exit_code, (*paths, *plot_paths, page), page)


def _check_baseline(baseline: str | None, rows: Sequence[Mapping[str, Any]]) -> None:
    variants = sorted({row["variant"] for row in rows})
    if baseline is not None and baseline not in variants:
        raise unknown("framework", baseline, variants)


@contextmanager
def _writing_into(out: Path) -> Iterator[None]:
    """Makes the folder. Raises UserError for what cannot be written within the block."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from error


def _to_print(every: Sequence[Table], shown: str | None) -> list[Table]:
    """The tables for the terminal. Raises UserError for a metric that does not exist."""
    if shown is None:
        return terminal.one_screen([table for table in every if table.metric.name in ON_SCREEN])
    names = list(METRICS) if shown == "all" else [metric(word.strip()).name for word in shown.split(",")]
    return [table for table in every if table.metric.name in names]


def _show(printed: Sequence[Table], compared: FrontEnds | None, console: Console) -> None:
    terminal.show(printed, console)
    if compared is not None:
        render_front_ends.show(compared, console)


def _offer_recipe(
    database: Database,
    rows: Sequence[Row],
    recipe: str | None,
    words: Sequence[str],
    named: Callable[[Path], str],
    console: Console,
) -> None:
    line = recipes.of_the_fastest(database, rows, f"./{recipe}", words, named) if recipe is not None else None
    if line is not None:
        console.print(Text(f"recipe of the fastest: {line}", style="dim"), soft_wrap=True)


def _conclude(
    every: Sequence[Table], printed: Sequence[Table], intervals: Intervals, page: Path, console: Console, here: bool
) -> None:
    """Last lines of an analysis: the answer of each group in a sentence, and where the rest is."""
    fastest = [table for table in every if table.metric.name == "throughput"]
    found = [
        (table, sentence)
        for table in sorted(fastest, key=_breadth)
        if (sentence := summary.conclusion(table, intervals, here and len(fastest) == 1)) is not None
    ]
    sentences = [
        f"{table.subtitle}: {sentence}" if len(fastest) > 1 else sentence[:1].upper() + sentence[1:]
        for table, sentence in found
    ]
    _print_sentences(sentences, "groups", console)
    more = len(every) - len(printed)
    rest = f" ({more} more tables; --tables all prints them)" if more > 0 else ""
    console.print(Text(f"Report: {page}{rest}"), soft_wrap=True)


def _breadth(table: Table) -> tuple[int, int]:
    """For sorting: tables of many frameworks first, then those of many cells."""
    names = table.row_names
    variants = {row[names.index("variant")] for row in table.rows} if "variant" in names else set(table.rows)
    return -len(variants), -len(table.entries)


def _print_sentences(sentences: Sequence[str], what: str, console: Console) -> None:
    """As many as a screen has room for, and how many more there are."""
    for sentence in sentences[:MOST_SENTENCES]:
        console.print(Text(sentence, style="bold"), soft_wrap=True)
    if (more := len(sentences) - MOST_SENTENCES) > 0:
        console.print(Text(f"and {more} more {what if more > 1 else what[:-1]}: see the report"), soft_wrap=True)


def write_report(
    runs: Sequence[Path],
    out: Path,
    console: Console,
    *,
    where: str | Sequence[str] | None = None,
    compare: bool = False,
    pdf: bool = False,
    cache: Path | None = None,
    recipe: str | None = None,
    words: Sequence[str] = (),
) -> AnalyzeResult:
    """Writes `report.html` (and `report.pdf`) into `out`, with its plots beside it, and prints its first sentences.

    compare: put the runs' devices, or the runs of one device, side by side. pdf: by the print of a headless browser.
    recipe, words: as for `analyze`.
    Raises UserError as `analyze` does, where there is nothing to compare, and where there is no browser for a PDF.
    """
    if pdf and browser.find() is None:
        browser.print_to_pdf(out / "report.html", out / "report.pdf")  # says what is missing before any work is done
    check_targets(out, ("report.html", "report.pdf"))
    words = words or [run.name for run in runs]
    with open_runs(runs, cache) as database:
        rows = tables.selected(database, where)
        with spoken_of(item_of(rows)):
            intervals = all_intervals(database, rows)
            comparison = side_by_side.build(database, rows, intervals) if compare else None
            compared = front_ends.build(database, rows)
            explored = report.explore(database, rows, intervals, words, ",".join(_terms(where)))
            with _writing_into(out):
                gallery = Gallery(database, rows, intervals, compared=compared)
                drawings, paths = _write_plots(gallery, out / "plots", console)
                page = out / "report.html"
                every = tables.build(database, rows, list(METRICS))
                options = [*(["--compare"] if compare else []), *_where(where)]
                text = report.render(
                    database, rows, every, drawings, intervals, comparison, _again("report", words, *options), compared,
                    explain.of_runs(database, out / "plots"), gallery.undrawn, recipe, explored, words,
                )  # fmt: skip
                write_text(page, text)
        paths.append(page)
        if pdf:
            with console.status("Printing the report: up to some minutes where the machine is busy"):
                browser.print_to_pdf(page, out / "report.pdf")
            paths.append(out / "report.pdf")
        _print_problems(database, rows, console)
        conclusions = _conclusions(comparison) if comparison else []
        _print_sentences(conclusions or explorer.device_sentences(explored.groups), "sentences", console)
        console.print(Text(f"Report: {paths[-1]}"), soft_wrap=True)
        return AnalyzeResult(database.exit_code, tuple(paths), page)


def _conclusions(comparison: Comparison) -> list[str]:
    """Of each group its sentence of the largest batch size, which names the group where there are several; then what holds of all."""
    several = len(comparison.sentences) > 1
    found = [f"{heading}: {own[-1]}" if several else own[-1] for heading, own in comparison.sentences]
    return [*found, *(f"{note}." for note in comparison.notes)] if found else []


def _where(where: str | Sequence[str] | None) -> list[str]:
    """The option, once for each of several conditions."""
    return [f"--where {shell_word(term)}" for term in _terms(where)]


def _terms(where: str | Sequence[str] | None) -> list[str]:
    return [term for term in ([where] if isinstance(where, str) else where or ()) if term]


def _chosen(**options: str | None) -> list[str]:
    return [f"--{name} {shell_word(value)}" for name, value in options.items() if value]


def _limits(limits: Limits | None) -> list[str]:
    known = limits or Limits()
    given = (
        ("copy-gb-s", known.copy_bytes_per_s, 1e9),
        ("peak-tflops", known.peak_flops, 1e12),
        ("gflop-per-image", known.flops_per_image, 1e9),
    )
    return [f"--{name} {value / unit:g}" for name, value, unit in given if value]


def _again(task: str, words: Sequence[str], *options: str) -> str:
    return " ".join([shell_line(["invoke", task, *words]), *options])


def _print_problems(database: Database, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    if not rows:
        console.print("Nothing was measured in these runs.")
    for problem in database.problems[:MOST_PROBLEMS]:
        console.print(Text(str(problem), style="red" if problem.loses else "yellow"), soft_wrap=True)
    if len(database.problems) > MOST_PROBLEMS:
        console.print(f"and {len(database.problems) - MOST_PROBLEMS} more: see the report")
    lost = [problem for problem in database.problems if problem.loses]
    if lost:
        known = sum(problem.rows for problem in lost)
        count = len({problem.path for problem in lost})
        console.print(
            f"{count} {'file has' if count == 1 else 'files have'} lines that could not be used ({known} rows); the rest was analyzed."
        )


def _write_tables(
    database: Database,
    every: Sequence[Table],
    rows: Sequence[Mapping[str, Any]],
    out: Path,
    formats: Sequence[str],
    compared: FrontEnds | None,
) -> list[Path]:
    paths = []
    if len({row["tuning"] for row in rows}) > 1:
        rows = level_steps.with_worth(rows, level_steps.steps(database))
    if "md" in formats:
        paths.append(out / "comparison.md")
        problems = [str(problem) for problem in database.problems]
        write_text(paths[-1], table_files.markdown(every, problems, compared))
    if "csv" in formats:
        paths.append(out / "comparison.csv")
        table_files.write_csv(paths[-1], rows)
        if compared is not None:
            paths.append(out / "frontends.csv")
            render_front_ends.write_csv(paths[-1], compared)
    if "xlsx" in formats:
        paths.append(out / "comparison.xlsx")
        table_files.write_excel(paths[-1], every, rows, database.query("FROM marks ORDER BY ALL"), compared)
    return paths


def _write_plots(gallery: Gallery, folder: Path, console: Console) -> tuple[list[report.Drawing], list[Path]]:
    """(for the report, files): everything that the data allow."""
    drawings: list[report.Drawing] = []
    paths: list[Path] = []
    with mpl.rc_context(style.RC), warnings.catch_warnings(), console.status("Drawing") as status:
        # figures that cannot be, such as none above 0 on a logarithmic axis, are what the tables show
        warnings.simplefilter("ignore", UserWarning)
        for plot in gallery:
            status.update(f"Drawing plot {len(drawings) + 1}")
            saved = files.save(plot.figure, folder, plot.name)
            svg = tooltips.with_targets(files.inline_svg(saved[0], plot.description), plot.figure, f"p{len(drawings)}")
            drawings.append(report.Drawing(svg, plot.description, plot.group))
            paths += saved
    return drawings, paths
