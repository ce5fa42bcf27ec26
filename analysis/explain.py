"""`invoke explain`: from traced runs to sentences, tables, pictures and a page."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
from rich.console import Console
from rich.text import Text

from analysis import style
from analysis.comparisons import explained as comparing
from analysis.database.connection import Database
from analysis.database.open_runs import open_runs
from analysis.output import chrome_trace, report
from analysis.output import explained as shown
from analysis.plots import explained as plots
from analysis.plots import files
from analysis.plots.roofline import copy_speed
from analysis.readers import run_json
from analysis.results import explained
from analysis.results.explained import Explained
from common.errors import UserError
from common.host.cli.parsing import choose, split_list
from common.host.whole_files import check_targets, write_text
from common.text import shell_word


@dataclass(frozen=True)
class Side:
    """Cells to explain: those of a run, or the one of its cells that is named. words: name it on a command line."""

    run: Path
    cell_key: str = ""
    words: str = ""


#: option -> column: what chooses among the cells of recorded runs
SELECTORS = {
    "framework": "variant", "batch_sizes": "batch_size", "precision": "precision", "tuning": "tuning", "io": "io",
}  # fmt: skip
#: bytes of a report folder's name; file systems take 255
MOST_BYTES = 200


def is_traced(run: Path) -> bool:
    """Whether its cells have something to be explained by."""
    return next(run.glob("cells/*/trace.csv"), None) is not None


def was_to_be_traced(run: Path) -> bool:
    """Whether recording was asked for: where no cell came so far, the run says why, and is no run without recording."""
    return is_traced(run) or explained.records(run_json.read(run)[0])


def check_options(typed: Iterable[str]) -> None:
    """Raises UserError for an option that means nothing beside runs that are recorded."""
    idle = [f"--{name.replace('_', '-')}" for name in sorted(typed) if name not in SELECTORS]
    if idle:
        chooses = ", ".join(f"--{name.replace('_', '-')}" for name in SELECTORS)
        raise UserError(
            f"{', '.join(idle)} would be for measuring, and what is named is recorded: leave it out; {chooses} choose among the cells"
        )


def folder_name(sides: Sequence[Side], only: Mapping[str, str]) -> str:
    """Of the report of such a request: another one for other cells."""
    words = [f"{side.run.name}-{side.cell_key}" if side.cell_key else side.run.name for side in sides]
    words += [f"{name}={','.join(split_list(value))}" for name, value in sorted(only.items())]
    name = f"explain-{'-'.join(dict.fromkeys(words))}".replace("/", "-")
    whole = name.encode(errors="surrogateescape")
    if len(whole) <= MOST_BYTES:
        return name
    return f"{whole[: MOST_BYTES - 13].decode(errors='ignore')}-{hashlib.sha256(whole).hexdigest()[:12]}"


def explain(
    sides: Sequence[Side],
    out: Path,
    console: Console,
    *,
    trace: Path | None = None,
    cache: Path | None = None,
    only: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Prints and writes `explain.{md,xlsx,html}` and `plots/*`; with two sides, what changed between them.

    trace: also a file in Chrome's trace format. only: option of SELECTORS -> comma list of the values that cells may have.
    Returns the exit code: 1 where input was lost or nothing was recorded. Raises
    UserError for a cell that does not exist, for runs without a trace and for a folder that cannot be written.
    """
    check_targets(out, ("explain.html", "explain.md", "explain.xlsx"))
    untraced = next((side for side in sides if not was_to_be_traced(side.run)), None)
    if untraced is not None:
        words = shell_word(untraced.words or untraced.run.name)
        raise UserError(
            f"run {untraced.run.name} was measured without recording; `invoke explain {words}` measures its cells again"
        )
    with open_runs(list(dict.fromkeys(side.run for side in sides)), cache) as database:
        each = _chosen(sides, [_cells(database, side) for side in sides], only)
        cells = list({(cell.run, cell.cell_key): cell for some in each for cell in some}.values())
        missing = shown.lacks(cells)
        sections = shown.sections(cells, _links(database, cells))
        grids, intro = _differences(each)
        for grid in grids:
            shown.show_grid(grid, console)
        if not grids:
            shown.show(sections, console)
        for line in missing:
            console.print(Text(line, style="yellow"), soft_wrap=True)
        try:
            _write(database, out, sections, missing, grids, intro)
            if trace is not None:
                count = chrome_trace.write(
                    database, [(cell.run, cell.cell_key) for cell in cells if cell.recorded], trace
                )
                console.print(Text(f"{count:,} records in {trace}: open it at ui.perfetto.dev"), soft_wrap=True)
        except OSError as error:
            raise UserError(f"cannot write to {error.filename or out}: {error.strerror or error}") from error
        for problem in database.problems:
            console.print(Text(str(problem), style="red" if problem.loses else "yellow"), soft_wrap=True)
        for line in intro or [shown.conclusion(cells, _links(database, cells))]:
            console.print(Text(line, style="bold"), soft_wrap=True)
        console.print(Text(f"Report: {out / 'explain.html'}"), soft_wrap=True)
        whole = any(cell.recorded for cell in cells) and not any(cell.lost for cell in cells)
        return database.exit_code or int(not whole)


def _cells(database: Database, side: Side) -> list[Explained]:
    run = next(name for name, folder in database.runs.items() if folder == side.run.resolve())
    cells = [cell for cell in explained.load(database) if cell.run == run and side.cell_key in ("", cell.cell_key)]
    if not cells:
        keys = [cell.cell_key for cell in explained.load(database) if cell.run == run]
        if not keys:
            raise UserError(
                f"run {run} ended before its first cell did, so none can be explained; what began it, typed again, continues it"
            )
        raise UserError(f"run {run} has no traced cell {side.cell_key}; there is {', '.join(keys)}")
    return cells


def _chosen(sides: Sequence[Side], each: list[list[Explained]], only: Mapping[str, str]) -> list[list[Explained]]:
    """The cells with these values. Raises UserError for values that no cell has, and where none is left of a side."""
    wanted: dict[str, list[str]] = {}
    for option, text in only.items():
        existing = list(dict.fromkeys(str(cell.facts[SELECTORS[option]]) for cells in each for cell in cells))
        everything = text == "all" and option in ("precision", "tuning")
        wanted[option] = existing if everything else choose(option.removesuffix("s").replace("_", " "), text, existing)
    chosen = [
        [cell for cell in cells if all(str(cell.facts[SELECTORS[name]]) in values for name, values in wanted.items())]
        for cells in each
    ]
    for side, cells in zip(sides, chosen, strict=True):
        if not cells:
            words = " ".join(f"--{name.replace('_', '-')} {text}" for name, text in only.items())
            raise UserError(f"run {side.run.name} has no recorded cell of {words}")
    return chosen


def _links(database: Database, cells: Sequence[Explained]) -> dict[str, float | None]:
    return {cell.run: copy_speed(database.documents.get(cell.run, {}), cell.facts["device"]) for cell in cells}


def _differences(each: Sequence[Sequence[Explained]]) -> tuple[list[shown.Grid], list[str]]:
    """Tables and sentences of what changed; none for one side. Raises UserError where two sides have nothing in common."""
    if len(each) < 2:
        return [], []
    if len(each) > 2:
        raise UserError(f"two runs or cells can be compared, not {len(each)}")
    found = [comparing.difference(*pair) for pair in comparing.pairs(*each)]
    for cells in each:
        if not any(cell.recorded for cell in cells):
            more = f" (and {len(cells) - 1} more)" if len(cells) > 1 else ""
            raise UserError(
                f"no cell of run {cells[0].run} was recorded, so nothing can be compared: {cells[0].cell_key}: "
                f"{cells[0].why_not}{more}; invoke explain {shell_word(cells[0].run)} lists all"
            )
    if not found:
        raise UserError(
            "the two have no recorded cell in common; name one cell of each: invoke explain RUN/CELL RUN/CELL (the cells are the "
            "folders in RUN/cells)"
        )
    grids = [grid for one in found for grid in shown.differences(one)]
    return grids, [f"{one.after.cell_key}: {shown.difference_sentence(one)}" for one in found]


def drawings(database: Database, sections: Sequence[shown.Section], folder: Path) -> Iterator[tuple[str, str]]:
    """(svg, description) of each picture, which is also in the folder as SVG and PNG."""
    with mpl.rc_context(style.RC):
        for section in sections:
            for what, figure in (
                ("time by class", plots.bars(section.cells, section.heading)),
                ("timeline of one inference", plots.timeline(database, section.cells, section.heading)),
            ):
                if figure is not None:
                    description = f"{what} ({section.heading})"
                    saved = files.save(figure, folder, files.file_name(what, section.heading))
                    yield files.inline_svg(saved[0], description), description


def of_runs(database: Database, folder: Path) -> Mapping[str, Any] | None:
    """The section of a report, None where nothing was traced."""
    cells = explained.load(database) if database.query("FROM trace_row LIMIT 1") else []
    if not cells:
        return None
    sections = shown.sections(cells, _links(database, cells))
    return shown.section_for_report(sections, shown.lacks(cells), list(drawings(database, sections, folder)))


def _write(
    database: Database,
    out: Path,
    sections: Sequence[shown.Section],
    missing: Sequence[str],
    grids: Sequence[shown.Grid],
    intro: Sequence[str],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "explain.md", shown.markdown(sections, missing, grids, intro))
    shown.write_excel(out / "explain.xlsx", sections, missing, grids)
    for old in (out / "plots").glob("*"):
        if old.suffix in (".svg", ".png"):
            old.unlink()  # of cells that this folder had before
    pictures = list(drawings(database, sections, out / "plots"))
    section = shown.section_for_report(sections, missing, pictures, grids)
    write_text(out / "explain.html", report.render_explained(section, intro))
