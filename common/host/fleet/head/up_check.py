"""`invoke fleet up-check`: what is there, is it fit, is it alike. The sweep asks the same before it begins."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.errors import UserError
from common.host import models
from common.host.devices import Device, the_cpu
from common.host.fleet.head.host_checks import Finding, Here, choose_runner, judge
from common.host.fleet.head.targets import Wanted, choose_accelerators
from common.host.fleet.transport.cluster import Node
from common.host.fleet.transport.connection import Arrived, Changed, Over, Transport, need_ray
from common.host.fleet.worker.code_digest import code_digest
from common.host.fleet.worker.facts import Facts
from common.host.fleet.worker.variables import declared_of
from common.host.frameworks.registry import load_images
from common.host.host_info import source_revision
from common.host.paths import IMAGES, DataFolder
from common.host.plan.options import Options
from common.host.plan.request import request_of

#: a host answers within this, its Ray worker started and its environments listed
ANSWER_SECONDS = 180.0


@dataclass(frozen=True)
class Hosts:
    """What was found. nodes: hosts that may take cells, by the accelerators that are wanted; others: the rest, alive."""

    nodes: tuple[Node, ...]
    others: tuple[Node, ...]
    facts: Mapping[str, Facts]
    #: node id -> how far its wall clock is ahead of ours, in s
    clocks: Mapping[str, float]
    runner: str
    findings: tuple[Finding, ...]

    def of(self, node: Node) -> list[Finding]:
        return [finding for finding in self.findings if finding.host == node.name]

    @property
    def refusals(self) -> list[Finding]:
        """Hosts that differ from the others: no sweep begins with them."""
        return [finding for finding in self.findings if finding.state == "fail" and finding.odd]

    def unfit(self) -> dict[str, str]:
        """Node id -> why it cannot take cells."""
        return {
            node.id: next(finding.text for finding in self.of(node) if finding.state == "fail")
            for node in self.nodes
            if any(finding.state == "fail" for finding in self.of(node))
        }


def check_options(options: Options) -> Options:
    """The options that may go to hosts. Raises UserError for what cannot be asked of a fleet, before any host is asked."""
    if options.device not in ("", "gpu", "cpu"):
        raise UserError(f"unknown device '{options.device}'; there is gpu (default) and cpu")
    if options.gpu:
        raise UserError(
            "Ray chooses the GPU of each task; --accelerators and --per-accelerator say which kind and how many"
        )
    device = the_cpu() if options.device == "cpu" else Device("gpu0", "gpu", "the fleet's GPUs")
    request_of(options, load_images(IMAGES), [device], Console(quiet=True))
    return options


def read_inputs(options: Options) -> dict[str, tuple[str, bytes]]:
    """Option -> (file name, content) of the files of this machine that hosts need. Raises UserError for one that is not there."""
    found = {}
    if models.source(options.model).module:
        raise UserError(
            f"a fleet measures registered models and ONNX files, not {options.model}; invoke bench takes it"
        )
    for option in ("image", "model", "inputs"):
        value = str(getattr(options, option))
        path = Path(value).expanduser()
        if not value or "://" in value or (option == "model" and models.source(value).onnx is None):
            continue
        try:
            found[option] = (path.name, path.read_bytes())
        except OSError as error:
            raise UserError(f"--{option} {value} cannot be read: {error.strerror}") from error
    return found


@contextmanager
def connected(address: str, data: DataFolder) -> Iterator[tuple[Transport, tuple[Node, ...]]]:
    """The cluster and its hosts that are alive. Raises UserError."""
    need_ray()
    with Transport(address, data) as transport:
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            for news in transport.poll(1.0):
                if isinstance(news, Changed):
                    yield transport, tuple(node for node in news.nodes if node.alive)
                    return
        raise UserError(f"Ray at {transport.address} does not say which hosts it has")


def look_at(transport: Transport, nodes: Sequence[Node], options: Options, wanted: Wanted, console: Console) -> Hosts:
    """Asks all hosts of the wanted accelerators at once, and judges. Raises UserError where there are none."""
    accelerators = choose_accelerators(wanted, nodes)
    chosen = tuple(node for node in nodes if node.accelerator in accelerators)
    others = tuple(node for node in nodes if node not in chosen)
    transport.share(read_inputs(options))
    device = "cpu" if options.device == "cpu" else "gpu"
    spec = {
        "device": device, "code": code_digest(), "options": asdict(options), "environment": declared_of(os.environ),
    }  # fmt: skip
    answers = _ask(transport, chosen, spec, wanted, console)
    facts = {node.name: answers.facts.get(node.id, Facts(why="it did not answer")) for node in chosen}
    answering = {name: one for name, one in facts.items() if not one.why}
    runner, findings = choose_runner(options.runner, options.python, answering)
    clocks = {node.name: answers.clocks[node.id] for node in chosen if node.id in answers.clocks}
    here = Here(code_digest(), source_revision() or "")
    findings += judge(facts, here, device=device, runner=runner, clocks=clocks)
    return Hosts(chosen, others, facts, clocks, runner, tuple(findings))


@dataclass
class _Answers:
    facts: dict[str, Facts] = field(default_factory=dict)
    clocks: dict[str, float] = field(default_factory=dict)


def _ask(
    transport: Transport, nodes: Sequence[Node], spec: Mapping[str, Any], wanted: Wanted, console: Console
) -> _Answers:
    waiting = {f"check {node.id}": node for node in nodes}
    for attempt, node in waiting.items():
        transport.check(attempt, node.id, {**spec, "attempt": attempt, "checkout": wanted.checkout})
    answers = _Answers()
    deadline = time.monotonic() + ANSWER_SECONDS
    with console.status("") as status:
        while waiting and time.monotonic() < deadline:
            status.update(f"asking {len(waiting)} of {len(nodes)} hosts")
            for news in transport.poll(1.0):
                if isinstance(news, Arrived) and news.attempt in waiting:
                    _record(answers, waiting[news.attempt], news)
                elif isinstance(news, Over) and news.attempt in waiting:
                    node = waiting.pop(news.attempt)
                    answers.facts.setdefault(node.id, Facts(why=news.reason or "its agent said nothing"))
    for attempt, node in waiting.items():
        transport.cancel(attempt)
        answers.facts.setdefault(node.id, Facts(why=f"it did not answer within {ANSWER_SECONDS:.0f} s"))
    return answers


def _record(answers: _Answers, node: Node, news: Arrived) -> None:
    message = news.message
    if message["kind"] == "facts":
        known = {one.name for one in fields(Facts)}
        answers.facts[node.id] = Facts(**{name: value for name, value in message["facts"].items() if name in known})
    elif message["kind"] == "end" and message["refused"]:
        answers.facts[node.id] = Facts(why=message["refused"])
    elif message["kind"] == "clock":
        # On its way a message can only be delayed: the largest difference is the least wrong one.
        ahead = message["wall_s"] - news.received_s
        answers.clocks[node.id] = max(ahead, answers.clocks.get(node.id, ahead))


def up_check(address: str, options: Options, wanted: Wanted, console: Console, data: DataFolder) -> int:
    """Prints hosts and findings; returns the exit code: 1 when a host is not fit or not like the others."""
    check_options(options)
    with connected(address, data) as (transport, nodes):
        hosts = look_at(transport, nodes, options, wanted, console)
        print_hosts(hosts, f"Ray {transport.ray_version} at {transport.address}", console)
    return int(any(finding.state == "fail" for finding in hosts.findings))


def print_hosts(hosts: Hosts, title: str, console: Console) -> None:
    console.print(escape(title), highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "host", "accelerator", "GPUs", "code", "model", "disk free", "load"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("GPUs", "disk free", "load") else "left")
    for node in hosts.nodes:
        facts = hosts.facts[node.name]
        fails = any(finding.state == "fail" for finding in hosts.of(node))
        known = (
            facts.code,
            facts.model_hash or "-",
            f"{facts.disk_free_bytes / 2**30:,.0f} GiB",
            f"{facts.load_average:.1f}",
        )
        cells = ("",) * 4 if facts.why else known
        state = "[red]fail[/]" if fails else "[green]ok[/]"
        table.add_row(state, escape(node.name), escape(node.accelerator), str(node.gpus), *cells)
    for node in hosts.others:
        table.add_row("-", escape(node.name), escape(", ".join(node.accelerators)), str(node.gpus), *("",) * 4)
    console.print(table)
    for node in hosts.others:
        console.print(escape(f"{node.name}: takes no cells ({why_not(node)})"), highlight=False, soft_wrap=True)
    for finding in hosts.findings:
        style = "red" if finding.state == "fail" else "yellow"
        console.print(escape(str(finding)), style=style, highlight=False, soft_wrap=True)
    failed = len(hosts.unfit())
    by_accelerator = {node.accelerator: 0 for node in hosts.nodes}
    for node in hosts.nodes:
        by_accelerator[node.accelerator] += node.gpus
    counts = ", ".join(f"{count} {name}" for name, count in sorted(by_accelerator.items()))
    ending = f"{failed} of {len(hosts.nodes)} hosts fail" if failed else f"{len(hosts.nodes)} hosts are fit and alike"
    console.print(escape(f"{counts}; runner {hosts.runner}; {ending}"), style="bold", highlight=False)


def why_not(node: Node) -> str:
    if not node.gpus:
        return "Ray found no GPU there"
    if not node.accelerators:
        return "Ray does not know the type of its GPUs: ray start --resources='{\"accelerator_type:NAME\": 1}'"
    if len(node.accelerators) > 1:
        return f"it declares several accelerators: {', '.join(node.accelerators)}"
    return "its accelerator is not asked for"
