"""A part of a sweep that was planned elsewhere (common/host/fleet): which cells, and in which run folder they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from common.errors import UserError
from common.host.plan.jobs import PlannedJob


def work_key(cell_key: str) -> str:
    """A cell's key without its device: names the same work on whichever GPU it is done."""
    rest, _device, replicate = cell_key.rsplit("_", 2)
    return f"{rest}_{replicate}"


@dataclass(frozen=True)
class Subset:
    """What of a plan is run here, and what run.json says of the whole."""

    #: name of the run folder; it must not exist
    run: str
    #: work keys of the cells to run
    cells: frozenset[str]
    #: the command line that a person typed
    command: str
    #: goes to run.json as `fleet`
    facts: Mapping[str, Any]
    #: hash that the model must have, "" where nobody knows it yet
    model_hash: str = ""

    def of(self, plan: Sequence[PlannedJob]) -> list[PlannedJob]:
        """The jobs with the cells of this part alone, in the plan's order. Raises UserError when the plan lacks one."""
        jobs = [
            replace(job, cells=tuple(cell for cell in job.cells if work_key(cell.key) in self.cells)) for job in plan
        ]
        lacking = self.cells - {work_key(cell.key) for job in jobs for cell in job.cells}
        if lacking:
            raise UserError(
                f"{len(lacking)} of {len(self.cells)} cells are not in this host's plan, such as {min(lacking)}: "
                "its GPU or its images/ differ from what the sweep was planned for"
            )
        return [job for job in jobs if job.cells]
