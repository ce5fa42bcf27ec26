"""The README's table of what tuning is worth: MobileNetV3L and one transformer, a line for each framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis import style
from analysis.comparisons.findings import REWRITING, TUNING, Findings, in_order, is_transformer
from analysis.comparisons.ratios import Said
from analysis.database.connection import Row
from analysis.results.metrics import shown
from common.job import WORKERS
from common.models import DEFAULT_MODEL
from common.stats.comparison import Verdict

#: lines of the convolutional model, and of the transformer, that are not folded: the front page is one screen
MOST_ROWS, MOST_OF_TRANSFORMER = 3, 1
BATCH_SIZES = (1, 32, 512)
#: verdicts whose ratios are bold
_SURE = (Verdict.FASTER, Verdict.SLOWER)
Pairs = dict[int, tuple[Row, Row]]


def render(found: Findings, device: str, links: str) -> str:
    """Markdown: what the table shows and where it is from, and the table, of which the slower frameworks are folded.

    found: of the device; links: a sentence on its sources.
    """
    ranked = [(_lines(found, model), most) for model, most in _models(found)]
    lines = [line for of_model, most in ranked for line in of_model[:most]]
    folded = [line for of_model, most in ranked for line in of_model[most:]]
    if not lines:
        return f"On {device} no framework was measured both stock and tuned with copies included. {links}"
    pairs = _pairs(found)
    dates = sorted({str(row["created_utc"])[:10] for pair in pairs for row in pair})
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    known = [found.of(*pair) for pair in pairs]
    head = (
        f"What [tuning](docs/method.md#levels-of-tuning) is worth on {device}, copies included, {when}: items/s of the framework's "
        f"first tutorial, tuned, and how many times that is ({_intervals(known)}); *rewritten*: over tuned of its own run, at the "
        f"largest batch. {_of_runs(known)} Letters are [marks](docs/results-cells.md#marks){_of_workers(pairs)}"
        f"{'; ‡: of two runs' if any(one.other_run for one in known) else ''}. {_slower(known)}{links}"
    )
    heading = ["model", "framework", *(f"batch {size}" for size in BATCH_SIZES), "rewritten"]
    # a column that nothing stands in says nothing
    used = [place for place in range(len(heading)) if any(line[place] != "–" for line in (*lines, *folded))]
    page = [head, "", *_table(heading, lines, used)]
    if folded:
        page += ["", f"<details><summary>The other frameworks ({len(folded)} rows)</summary>", ""]
        page += [*_table(heading, folded, used), "", "</details>"]
    return "\n".join(page)


def _table(heading: Sequence[str], lines: Sequence[Sequence[str]], used: Sequence[int]) -> list[str]:
    rows = ["| " + " | ".join(line[place] for place in used) + " |" for line in (heading, *lines)]
    return [rows[0], "|" + "---|" * len(used), *rows[1:]]


def runs_of(found: Findings) -> set[str]:
    """Names of the runs that the table's figures are of."""
    return {row["run"] for pair in _pairs(found) for row in pair}


def _pairs(found: Findings) -> list[tuple[Row, Row]]:
    steps = [(step, model) for step in (TUNING, REWRITING) for model, _ in _models(found)]
    return [pair for step, model in steps for pair in found.pairs_of(step, model=model, io="host")]


def _intervals(known: Sequence[Said]) -> str:
    """Which of the ratios have one, in words."""
    have = [one.low is not None for one in known]
    if not any(have):
        return "one worker at a level: without an interval"
    where = "" if all(have) else " where these tell one"
    sure = [word.value for word in _SURE if any(one.known and one.verdict is word for one in known)]
    bold = f"bold: {' or '.join(sure)} in docs/results.md" if sure else "none is FASTER or SLOWER in docs/results.md"
    return f"with its 95 % interval over workers{where}; {bold}"


def _of_runs(known: Sequence[Said]) -> str:
    """What a reader who compares the figures with docs/results.md asks."""
    mostly = ", mostly" if any(one.other_run for one in known) else ""
    return (
        f"Both sides of a ratio are of one run{mostly}, so that a figure may be another than in docs/results.md, where a newer run "
        "of its cell may count."
    )


def _of_workers(pairs: Sequence[tuple[Row, Row]]) -> str:
    """What the signs of `_workers` mean."""
    counts = sorted({row["replicates"] for pair in pairs for row in pair})
    return "".join(
        f"; {count}w: of {count} worker{'s' * (count > 1)}, not {WORKERS}" for count in counts if count != WORKERS
    )


def _workers(row: Row) -> str:
    """` 2w`; nothing where they are as many as a reader expects."""
    return f" {row['replicates']}w" if row["replicates"] != WORKERS else ""


def _slower(known: Sequence[Said]) -> str:
    """A ratio whose whole interval is below 1 is no slip of the pen."""
    if any(one.high is not None and one.high < 1 for one in known):
        return "A ratio below 1: the level was slower than the one below it; the reference's conditions say how it was set. "
    return ""


def _models(found: Findings) -> list[tuple[str, int]]:
    """The study's model, or the first that there is, and the transformer of most pairs; how many lines of each are not folded."""
    measured = in_order([upper for upper, _ in found.pairs_of(TUNING, io="host")], "model")
    ordinary = sorted(
        (model for model in measured if not is_transformer(model)), key=lambda model: model != DEFAULT_MODEL
    )
    attention = sorted(
        (model for model in measured if is_transformer(model)),
        key=lambda model: -len(found.pairs_of(TUNING, model=model, io="host")),
    )
    return [*((model, MOST_ROWS) for model in ordinary[:1]), *((model, MOST_OF_TRANSFORMER) for model in attention[:1])]


def _lines(found: Findings, model: str) -> list[list[str]]:
    """Of each framework the precision that is fastest tuned; the fastest framework first."""
    best: dict[str, tuple[float, str]] = {}
    for upper, _ in found.pairs_of(TUNING, model=model, io="host"):
        best[upper["variant"]] = max(best.get(upper["variant"], (0.0, "")), (upper["images_per_s"], upper["precision"]))
    ranked = sorted(best, key=lambda variant: -best[variant][0])
    return [_line(found, model, variant, best[variant][1]) for variant in ranked]


def _line(found: Findings, model: str, variant: str, precision: str) -> list[str]:
    where: dict[str, Any] = {"model": model, "io": "host", "variant": variant, "precision": precision}
    pairs = {upper["batch_size"]: (upper, lower) for upper, lower in found.pairs_of(TUNING, **where)}
    words = [model, f"{style.look(variant).title} {precision}"]
    words += [_entry(found, pairs, size, largest=size == BATCH_SIZES[-1]) for size in BATCH_SIZES]
    above = {upper["batch_size"]: (upper, lower) for upper, lower in found.pairs_of(REWRITING, **where)}
    words.append(_ratio(found.of(*above[max(above)])) if above else "–")
    return words


def _entry(found: Findings, pairs: Pairs, size: int, largest: bool) -> str:
    """`7,322 to 17,389: 2.37 [2.31, 2.43]`; in the column of the largest batch that of a smaller one, where a model ends there."""
    at = ""
    if largest and size not in pairs and pairs and max(pairs) > max(BATCH_SIZES[:-1]):
        size = max(pairs)
        at = f"at {size}: "
    if size not in pairs:
        return "–"
    upper, lower = pairs[size]
    figures = [f"{shown(row['images_per_s'])}{found.signs_of(row)}{_workers(row)}" for row in (lower, upper)]
    return f"{at}{' to '.join(figures)}: {_ratio(found.of(upper, lower))}"


def _ratio(worth: Said) -> str:
    """Bold where the verdict is sure; ‡ where the two are of two runs."""
    sign = " ‡" if worth.other_run else ""
    if worth.low is None or worth.high is None:
        return f"{worth.times:.2f}{sign}"
    times = f"**{worth.times:.2f}**" if worth.verdict in _SURE else f"{worth.times:.2f}"
    return f"{times} [{worth.low:.2f}, {worth.high:.2f}]{sign}"


def most_intervals(found: Sequence[Findings]) -> int:
    """The place of the findings that have most pairs of levels with an interval; of equals the first."""
    counts = [sum(one.of(*pair).known for pair in one.pairs_of(TUNING)) for one in found]
    pairs = [len(one.pairs_of(TUNING)) for one in found]
    return max(range(len(found)), key=lambda place: (counts[place], pairs[place], -place))
