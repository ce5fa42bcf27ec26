"""What a level of tuning buys over the one below it, and which rows are slower than that: sentences under tables of throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.database.connection import Database, Row
from analysis.results.several_runs import OF_RUN

#: (run, first cell of the upper level) -> row of the view `level_steps`
Steps = Mapping[tuple[str, str], Row]


def steps(database: Database) -> Steps:
    found = database.query("SELECT * FROM level_steps ORDER BY variant, precision, batch_size, cell_key")
    return {(row["run"], row["cell_key"]): row for row in found}


#: columns of a tuned row -> what they are; as in the view `worth`, empty where either level has one worker
WORTH = {
    "worth": "throughput tuned / stock (means over workers), where both levels have several workers",
    "worth_low": "lower end of its 95 % interval over workers (Welch's t on the logarithms)",
    "worth_high": "upper end of its 95 % interval over workers (Welch's t on the logarithms)",
}


def with_worth(rows: Sequence[Row], known: Steps) -> list[Row]:
    """Rows of the view `comparison` with the columns of WORTH, None where the view `worth` has no row."""
    found: list[Row] = []
    for row in rows:
        step = known.get((row["run"], row["cell_keys"][0])) if row["cell_keys"] else None
        has_interval = step is not None and step["level"] == "tuned" and step["ratio_low"] is not None
        ratios = [step[name] if step and has_interval else None for name in ("ratio", "ratio_low", "ratio_high")]
        found.append({**row, **dict(zip(WORTH, ratios, strict=True))})
    return found


def is_slower(row: Row) -> bool:
    """Whether a level is slower than the one below it for sure: its whole interval."""
    return row["ratio_high"] is not None and row["ratio_high"] < 1


def sentences(members: Sequence[Row], known: Steps) -> list[str]:
    """Of the rows of a table (view `comparison`): worth of tuning, with its interval where several workers tell one; then what is
    slower than the level below it, those of one worker apart, which tell nothing of the next one. A level below that is of another run
    is said with that run's name, and once that no interval knows how runs differ; a row that a table tells apart by its run
    is named by that here too."""
    runs = {(row["run"], row["cell_keys"][0]): row.get(OF_RUN) or "" for row in members if row["cell_keys"]}
    own = [{**known[key], OF_RUN: of_run} for key, of_run in runs.items() if key in known]
    tuned = [row for row in own if row["level"] == "tuned"]
    sure = [row for row in tuned if row["ratio_low"] is not None]
    alone = [row for row in tuned if row["ratio_low"] is None]
    lines = []
    if sure:
        lines.append(f"Worth of tuning (tuned over stock, 95 % interval): {_listed(sure)}.")
    if alone:
        lines.append(
            f"Worth of tuning (tuned over stock, one worker at a level, so without an interval): {_listed(alone)}."
        )
    slower = [row for row in own if is_slower(row)]
    if slower:
        lines.append(f"Slower than the level below: {_listed(slower, levels=True)}.")
    doubtful = [row for row in own if row["ratio_high"] is None and row["ratio"] < 1]
    if doubtful:
        lines.append(
            f"Slower than the level below in one worker each, which decides nothing: {_listed(doubtful, levels=True)}."
        )
    if any(row["below_run"] != row["run"] and row["ratio_low"] is not None for row in own):
        lines.append("An interval of levels of two runs is over workers and lacks what differs from run to run.")
    return lines


def _listed(rows: Sequence[Row], levels: bool = False) -> str:
    """`torch fp16 batch 32 1.91 [1.88, 1.94], batch 512 1.02; onnxrt ...`."""
    found: dict[str, list[str]] = {}
    for row in rows:
        level = f" {row['level']} over {row['below']}" if levels else ""
        ends = "" if row["ratio_low"] is None else f" [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]"
        of_run = f" of {row[OF_RUN]}" if row[OF_RUN] else ""
        name = f"{row['variant']} {row['precision']}{level}{of_run}"
        other = f" ({row['below']} of run {row['below_run']})" if row["below_run"] != row["run"] else ""
        found.setdefault(name, []).append(f"batch {row['batch_size']} {row['ratio']:.3f}{ends}{other}")
    return "; ".join(f"{name} {', '.join(figures)}" for name, figures in found.items())
