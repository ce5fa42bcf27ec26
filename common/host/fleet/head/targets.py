"""What a sweep consists of: for each accelerator so many GPUs, on each of which all cells are measured.

A *target* is "the n-th GPU of that accelerator", whichever it turns out to be. Its cells are those that `invoke bench` would
plan for such a GPU, in an order of the target's own.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

from common.errors import UserError, unknown
from common.host.cli import parsing as opt
from common.host.devices import Device
from common.host.fleet.transport.cluster import Node
from common.host.frameworks.registry import Image
from common.host.plan.jobs import make_plan, planned_keys
from common.host.plan.model_terms import ModelTerms
from common.host.plan.options import Options
from common.host.plan.request import request_of
from common.host.plan.subset import work_key


@dataclass(frozen=True, order=True)
class Target:
    """number: from 1."""

    accelerator: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.accelerator}-{self.number}"

    def seed(self, of_sweep: int) -> int:
        """Each target has an order of its own: drift must not meet the same cells on every GPU."""
        return int.from_bytes(hashlib.sha256(f"{of_sweep} {self.name}".encode()).digest()[:4], "big") % 2**31


@dataclass(frozen=True)
class Wanted:
    """As typed. accelerators: comma list, "" for all that there are; per_accelerator: a number, or "all"."""

    accelerators: str = ""
    per_accelerator: str = "1"
    checkout: str = ""


def choose_accelerators(wanted: Wanted, nodes: Sequence[Node]) -> list[str]:
    """Raises UserError for one that no host has, naming those that there are."""
    existing = sorted({node.accelerator for node in nodes if node.alive and node.accelerator})
    if not existing:
        silent = [node for node in nodes if node.alive and node.gpus and not node.accelerators]
        hint = (
            f"host {silent[0].name} has GPUs whose type Ray does not know: start it with "
            "--resources='{\"accelerator_type:NAME\": 1}'"
            if silent
            else "ray start on a host with a GPU says how many it found; --num-gpus=N declares them"
        )
        raise UserError(f"no host of this cluster offers a GPU of one known type; {hint}")
    if not wanted.accelerators:
        return existing
    names = {name.lower(): name for name in existing}
    chosen: list[str] = []
    for word in opt.split_list(wanted.accelerators):
        if word.lower() not in names:
            raise unknown("accelerator", word, existing)
        if names[word.lower()] not in chosen:
            chosen.append(names[word.lower()])
    if not chosen:
        raise UserError(f"no accelerator given; there is {', '.join(existing)}")
    return chosen


def make_targets(wanted: Wanted, accelerators: Sequence[str], nodes: Sequence[Node]) -> list[Target]:
    """nodes: the hosts that may take cells. Raises UserError where an accelerator has fewer GPUs than wanted."""
    targets = []
    for accelerator in accelerators:
        there = sum(node.gpus for node in nodes if node.alive and node.accelerator == accelerator)
        given = wanted.per_accelerator
        count = there if given == "all" else opt.whole("--per-accelerator", given)
        if count > there:
            raise UserError(
                f"--per-accelerator {count}, but there {'is' if there == 1 else 'are'} {there} {accelerator}; "
                "give a smaller number or 'all'"
            )
        targets += [Target(accelerator, number) for number in range(1, count + 1)]
    return targets


@dataclass(frozen=True)
class Work:
    """The targets of a sweep and the work keys of the cells of each, in the order in which they run there."""

    cells: Mapping[Target, tuple[str, ...]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(map(len, self.cells.values()))


def plan_work(
    options: Options,
    images: Sequence[Image],
    targets: Sequence[Target],
    devices: Mapping[str, Device],
    seed: int,
    console: Console,
    terms: ModelTerms | None = None,
) -> Work:
    """devices: accelerator -> a device of that kind. terms: the model's, where somebody knows it.

    Raises UserError for options that no such device can meet.
    """
    requests = {}
    for name, device in devices.items():
        captured = Console(file=io.StringIO(), width=1000)
        asked = request_of(options, images, [device], captured)
        requests[name] = asked if terms is None else terms.fit(asked, options)
        for line in captured.file.getvalue().splitlines():  # type: ignore[attr-defined]
            console.print(escape(f"{name}: {line.rstrip()}"), style="yellow", highlight=False, soft_wrap=True)
    return Work({
        target: tuple(map(work_key, planned_keys(make_plan(requests[target.accelerator], target.seed(seed)))))
        for target in targets
    })  # fmt: skip
