"""What `invoke explain` measures: short cells, each with a traced window after the measured one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from common.errors import UserError
from common.host.paths import DataFolder
from common.host.plan.options import Options
from common.host.runs.find import Named, how_many, run_or_cell
from common.text import shell_line

#: Inferences that are recorded, and as many without recording before and after.
TRACE_RUNS = 20
BATCH_SIZES = "1,32"


def traced(options: Options) -> Options:
    """The options of a run that also records; what they do not say is short, since a cell is there to be explained."""
    settings = {"trace_runs": TRACE_RUNS, "min_images": 1, **options.settings}
    if not options.min_seconds and not options.max_seconds:
        # on a GPU long enough for its energy counter
        settings = {"min_seconds": 3.0, "max_seconds": 6.0, "warmup_max_seconds": 5.0, **settings}
    return replace(
        options,
        batch_sizes=options.batch_sizes or BATCH_SIZES,
        replicates=options.replicates or 1,  # to be explained, not judged
        scenario="single-stream",
        settings=settings,
    )


def runs_to_explain(words: Sequence[str], data: DataFolder) -> list[Named]:
    """The run or cell that is meant, or the two to compare. Raises UserError for more, before any of them is unpacked."""
    count = sum(how_many(word, data) for word in words)
    if count > 2:
        advice = "name one of them, or two"
        if count > len(words):
            advice += f"; invoke report {shell_line(words)} shows what was recorded of all"
        raise UserError(
            f"explain takes one run, or two runs or cells (RUN/CELL) to compare, and {' and '.join(words)} "
            f"{'hold' if len(words) > 1 else 'holds'} {count}: {advice}"
        )
    return [one for word in words for one in run_or_cell(word, data)]
