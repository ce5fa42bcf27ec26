"""`invoke fleet sweep`: hosts are looked at, seats are filled, cells are collected, until all are there or nobody is left."""

from __future__ import annotations

import random
import re
import secrets
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host.bench import sigterm_as_interrupt
from common.host.bench_options import Options
from common.host.devices import Device, the_cpu
from common.host.fleet.code import code_digest
from common.host.fleet.collect import Corrupt, Receiving
from common.host.fleet.link import Arrived, Changed, LinkLost, News, Over
from common.host.fleet.progress import FleetProgress
from common.host.fleet.resume import Earlier, find_earlier, request_digest
from common.host.fleet.schedule import Assignment, Schedule
from common.host.fleet.seats import Node, Seat, Wanted, Work, make_seats, plan_work
from common.host.fleet.up_check import Hosts, check_options, connected, look_at, read_inputs
from common.host.image_registry import load_images
from common.host.part import work_key
from common.host.paths import IMAGES, DataFolder
from common.host.runs import check_writable, locked

#: after Ctrl-C hosts may take so long to end their workers and send what is finished, in s
GRACE_SECONDS = 90.0
#: attempts whose files are written at a time; on two cores more only wait for each other
WRITERS = 8
_NOT_YET = Exception("not stored yet")


class Transport(Protocol):
    """What the sweep needs of a Link."""

    def start(self, attempt: str, accelerator: str, avoid: tuple[str, ...], spec: Mapping[str, Any]) -> None: ...
    def stop(self, by_node: Mapping[str, list[str]]) -> None: ...
    def cancel(self, attempt: str) -> None: ...
    def poll(self, seconds: float) -> list[News]: ...


@dataclass(frozen=True)
class Order:
    """What every task of a sweep is told beside its cells."""

    sweep: str
    request: str
    seed: int
    options: Options
    device: str
    code: str
    model_hash: str = ""
    checkout: str = ""
    command: str = ""


@dataclass
class Result:
    """What became of a sweep. runs: folders, with those of earlier calls; missing: seat -> (cells that are not measured, why)."""

    runs: list[Path]
    statuses: dict[str, int]
    missing: dict[Seat, tuple[tuple[str, ...], tuple[str, ...]]]
    interrupted: bool = False
    errors: list[str] = field(default_factory=list)
    moved: int = 0

    @property
    def measured(self) -> list[Path]:
        """Folders that hold a cell."""
        return [folder for folder in self.runs if any(folder.glob("cells/*/cell.csv"))]


class Sweep:
    """The loop: news in, decisions out. One thread, no Ray."""

    def __init__(
        self, order: Order, schedule: Schedule, transport: Transport, results: Path, progress: FleetProgress
    ) -> None:
        self._order, self._schedule, self._transport = order, schedule, transport
        self._results, self._progress = results, progress
        self._model_hash = order.model_hash
        self._receiving: dict[str, Receiving] = {}
        self._asked: dict[str, frozenset[str]] = {}
        self._accepted: set[str] = set()
        self._writers = ThreadPoolExecutor(WRITERS)
        self._used: dict[str, Seat] = {}
        self._stopped = False
        self.runs: list[Path] = []
        self.errors: list[str] = []

    def run(self, nodes: tuple[Node, ...]) -> bool:
        """Until nothing more can be done; returns whether it was interrupted. Raises LinkLost."""
        self._schedule.update_nodes(nodes)
        try:
            while not self._schedule.done:
                self._turn(1.0)
                if self.errors:
                    self.stop("this machine cannot store what comes")
        except KeyboardInterrupt:
            self.stop("Ctrl-C again: at once")
            return True
        finally:
            for attempt in list(self._receiving):
                self._close(attempt, "the sweep ended before it did")
            self._writers.shutdown()
        return False

    def stop(self, why: str) -> None:
        """Asks all hosts to end and takes what they have finished; Ctrl-C then does not wait for them."""
        self._stopped = True
        self._schedule.stop()
        self._progress.say(f"Stopping: workers end, finished cells are collected ({why})")
        with suppress(KeyboardInterrupt, LinkLost):
            for attempt in self._schedule.withdraw():
                self._give_up(attempt)
            by_node: dict[str, list[str]] = {}
            for attempt, node in self._schedule.running.items():
                by_node.setdefault(node, []).append(self._full(attempt))
            self._transport.stop(by_node)
            deadline = time.monotonic() + GRACE_SECONDS
            while self._schedule.running and time.monotonic() < deadline:
                self._turn(0.5)
        for attempt in list(self._schedule.running):
            with suppress(LinkLost):
                self._fail(attempt, "it did not end when it was asked to")

    def _turn(self, seconds: float) -> None:
        for attempt in self._schedule.withdraw():
            self._give_up(attempt)
        for assignment in self._schedule.next():
            self._start(assignment)
        if not self._schedule.done:
            self._take(self._transport.poll(seconds))

    def _full(self, attempt: str) -> str:
        """What an attempt is called on hosts: unlike any of another sweep."""
        return f"{self._order.sweep}/{attempt}"

    # -- out -----------------------------------------------------------------------------------------------------------

    def _start(self, assignment: Assignment) -> None:
        order, seat = self._order, assignment.seat
        self._asked[assignment.attempt] = frozenset(assignment.cells)
        self._progress.waits(assignment.attempt, seat.name, len(assignment.cells))
        run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}_{_safe(seat.name)}-{assignment.attempt.rpartition('/')[2]}"
        facts = {
            "sweep": order.sweep, "request": order.request, "seed": order.seed, "accelerator": seat.accelerator,
            "seat": seat.name, "attempt": int(assignment.attempt.rpartition("/")[2]),
        }  # fmt: skip
        spec: dict[str, Any] = {
            "attempt": self._full(assignment.attempt), "device": order.device, "code": order.code,
            "checkout": order.checkout, "options": asdict(order.options), "run": self._unused(run),
            "cells": list(assignment.cells), "command": order.command, "facts": facts,
            "model_hash": self._model_hash, "seed": seat.seed(order.seed),
        }  # fmt: skip
        self._receiving[assignment.attempt] = Receiving(self._results / spec["run"])
        self._transport.start(assignment.attempt, seat.accelerator, assignment.avoid, spec)

    def _unused(self, name: str) -> str:
        taken = {receiving.folder.name for receiving in self._receiving.values()}
        number, free = 1, name
        while free in taken or (self._results / free).exists():
            number += 1
            free = f"{name}-{number}"
        return free

    def _give_up(self, attempt: str) -> None:
        self._transport.cancel(attempt)
        self._close(attempt, "")

    # -- in ------------------------------------------------------------------------------------------------------------

    def _take(self, news: list[News]) -> None:
        """All that came at once. A cell that came from a host counts, even if the same news say that the host is lost."""
        stored = self._store([one for one in news if isinstance(one, Arrived)])
        for one in news:
            if isinstance(one, Arrived) and one.attempt in self._receiving:
                try:
                    failure = stored.get(id(one), _NOT_YET)
                    if failure is _NOT_YET:
                        self._keep(one.attempt, one.message)
                    elif failure is not None:
                        raise failure
                    self._message(one.attempt, one.message)
                except Corrupt as error:
                    self._fail(one.attempt, str(error))
                except UserError as error:  # this machine's disk: nothing that comes can be kept
                    if not self._stopped:
                        self.errors.append(str(error))
            elif isinstance(one, Over):
                self._over(one.attempt, one.reason)
        for one in news:
            if isinstance(one, Changed):
                for attempt in self._schedule.update_nodes(one.nodes):
                    self._fail(attempt, "the host was lost")

    def _store(self, news: list[Arrived]) -> dict[int, Exception | None]:
        """Writes the files of running attempts, several at a time: a disk's sync takes longer than all else here.

        Returns by id(news) what was wrong with each that was tried; after a failure the rest of that attempt is left.
        An attempt whose run is not accepted yet is not among them.
        """
        groups: dict[str, list[Arrived]] = {}
        for one in news:
            if (
                one.attempt in self._accepted
                and one.attempt in self._receiving
                and one.message["kind"] in ("files", "cell")
            ):
                groups.setdefault(one.attempt, []).append(one)

        def store(group: list[Arrived]) -> dict[int, Exception | None]:
            done: dict[int, Exception | None] = {}
            for one in group:
                try:
                    self._keep(one.attempt, one.message)
                    done[id(one)] = None
                except (Corrupt, UserError) as error:
                    done[id(one)] = error
                    break
            return done

        found: dict[int, Exception | None] = {}
        for done in self._writers.map(store, groups.values()):
            found |= done
        return found

    def _keep(self, attempt: str, message: Mapping[str, Any]) -> None:
        """What of a message belongs on the disk. Raises Corrupt, UserError."""
        receiving, kind = self._receiving[attempt], message["kind"]
        if kind in ("run", "files"):
            receiving.take(message["files"])
        elif kind == "cell":
            key = str(message["cell_key"])
            if work_key(key) not in self._asked[attempt]:
                raise Corrupt(f"{key} was not asked for")
            receiving.cell(key, message["whole"], message["files"])

    def _message(self, attempt: str, message: Mapping[str, Any]) -> None:
        kind = message["kind"]
        if kind == "host":
            if self._schedule.started(attempt, message["node"]):
                name = self._schedule.name_of(message["node"])
                self._receiving[attempt].facts["host"] = name
                self._progress.starts(attempt, name)
        elif kind == "state":
            self._progress.state(attempt, message)
        elif kind == "run":
            self.runs.append(self._receiving[attempt].folder)
            self._begun(attempt, message)
        elif kind == "cell":
            key = str(message["cell_key"])
            if self._schedule.finished(attempt, work_key(key)):
                self._progress.cell(attempt, key, message["status"], message["message"], message["images_per_s"])
        elif kind == "end":
            for reason in (*([message["refused"]] if message["refused"] else []), *message["errors"]):
                self._fail(attempt, reason)

    def _begun(self, attempt: str, message: Mapping[str, Any]) -> None:
        """What is known once a host has its model and its GPU."""
        lacking = self._asked[attempt] - set(message["plan"])
        if lacking:
            self._fail(attempt, f"it plans other cells than asked for; {min(lacking)} is not among them")
            return
        self._model_hash = self._model_hash or message["model_hash"]
        if message["model_hash"] != self._model_hash:
            self._fail(attempt, f"its model is {message['model_hash']}, that of the sweep {self._model_hash}")
            return
        self._accepted.add(attempt)
        uuid, seat = message["device"].get("uuid"), self._schedule.seat_of(attempt)
        if uuid and self._used.setdefault(uuid, seat) != seat:
            node = self._schedule.node_of(attempt) or ""
            self._progress.say(
                f"{seat.name} is measured on the same GPU as {self._used[uuid].name} ({self._schedule.name_of(node)})"
            )

    def _over(self, attempt: str, reason: str) -> None:
        node = self._schedule.node_of(attempt)
        if node is None:
            return
        left = self._schedule.left_of(attempt)
        if left and not self._stopped:
            reason = reason or f"it ended with {left} cells missing"
            where = self._schedule.name_of(node) if node else "Ray"
            self._progress.say(
                f"{where}: {self._schedule.seat_of(attempt).name}: {reason}; {left} cells go elsewhere", "red"
            )
        self._schedule.ended(attempt, reason)
        self._close(attempt, reason)

    def _fail(self, attempt: str, reason: str) -> None:
        """The task is of no more use, though Ray may still run it."""
        self._transport.cancel(attempt)
        self._over(attempt, reason)

    def _close(self, attempt: str, reason: str) -> None:
        self._progress.ends(attempt)
        self._asked.pop(attempt, None)
        self._accepted.discard(attempt)
        receiving = self._receiving.pop(attempt, None)
        if receiving is not None:
            with suppress(UserError):
                receiving.end(reason)


def _safe(name: str) -> str:
    """A seat's name as a part of a folder's."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name)


# -- from the command line ---------------------------------------------------------------------------------------------


def sweep(address: str, options: Options, wanted: Wanted, console: Console, data: DataFolder) -> Result:
    """Everything, from the options to run folders under data/results. Raises UserError before anything is made."""
    check_options(options)
    check_writable(data.results)
    with connected(address, data) as (link, nodes):
        hosts = look_at(link, nodes, options, wanted, console)
        refuse(hosts)
        options = replace(options, runner=hosts.runner)
        left_out = hosts.unfit()
        for node in hosts.nodes:
            if node.id in left_out:
                console.print(
                    escape(f"{node.name} takes no cells: {left_out[node.id]}"),
                    style="yellow",
                    highlight=False,
                    soft_wrap=True,
                )
        fit = [node for node in hosts.nodes if node.id not in left_out]
        accelerators = sorted({node.accelerator for node in hosts.nodes})
        seats = make_seats(wanted, accelerators, fit)
        request = request_digest(options, code_digest(), seats, read_inputs(options))
        with locked(data.locks / f"fleet-{request}.lock", "this sweep"):
            earlier = find_earlier(data.results, request)
            seed, work, earlier = _plan(options, seats, hosts, earlier, console)
            order = Order(
                sweep=earlier.sweep if earlier else f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
                request=request, seed=seed, options=replace(options, seed=-1), device="cpu" if options.device == "cpu" else "gpu",
                code=code_digest(), model_hash=_model_hash(hosts, earlier), checkout=wanted.checkout,
                command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            )  # fmt: skip
            return run_sweep(order, work, earlier, link, hosts.nodes, left_out, console, data.results)


def refuse(hosts: Hosts) -> None:
    """Raises UserError when hosts are not alike, or none is fit."""
    odd = hosts.refusals
    if odd:
        more = f" (and {len(odd) - 1} more: invoke fleet up-check shows them)" if len(odd) > 1 else ""
        raise UserError(f"{odd[0]}{more}")
    unfit = hosts.unfit()
    if len(unfit) == len(hosts.nodes):
        first = hosts.nodes[0]
        raise UserError(f"no host is fit: {first.name}: {unfit[first.id]}")


def _model_hash(hosts: Hosts, earlier: Earlier | None) -> str:
    """The model that all must have, "" where none has it yet. Raises UserError when an earlier call measured another."""
    there = next((facts.model_hash for facts in hosts.facts.values() if facts.model_hash), "")
    if earlier and earlier.model_hash and there and earlier.model_hash != there:
        raise UserError(
            f"this sweep was begun with model {earlier.model_hash}, hosts now have {there}; "
            "give --weights, or another --seed for a new sweep"
        )
    return there or (earlier.model_hash if earlier else "")


def _plan(
    options: Options, seats: list[Seat], hosts: Hosts, earlier: Earlier | None, console: Console
) -> tuple[int, Work, Earlier | None]:
    """Seed, work, and the earlier call if there is something left of it."""
    images = load_images(IMAGES)
    devices = {seat.accelerator: _device_of(seat.accelerator, hosts, options) for seat in seats}
    if earlier is not None and options.seed in (-1, earlier.seed):
        work = plan_work(options, images, seats, devices, earlier.seed, console)
        if any(set(keys) - earlier.done.get(seat.name, frozenset()) for seat, keys in work.cells.items()):
            return earlier.seed, work, earlier
    seed = options.seed if options.seed >= 0 else random.SystemRandom().randrange(2**31)
    return seed, plan_work(options, images, seats, devices, seed, Console(quiet=earlier is not None)), None


def _device_of(accelerator: str, hosts: Hosts, options: Options) -> Device:
    """A device of that kind, as a host described it: what is planned depends on its compute capability."""
    if options.device == "cpu":
        return the_cpu()
    for node in hosts.nodes:
        if node.accelerator == accelerator and hosts.facts[node.name].gpus:
            facts = hosts.facts[node.name].gpus[0]
            return Device("gpu0", "gpu", str(facts["name"]), str(facts["uuid"]), dict(facts))
    raise UserError(f"no host tells what its {accelerator} is")


def run_sweep(
    order: Order,
    work: Work,
    earlier: Earlier | None,
    transport: Transport,
    nodes: tuple[Node, ...],
    left_out: Mapping[str, str],
    console: Console,
    results: Path,
) -> Result:
    """Measures what is left of the work."""
    done = earlier.done if earlier else {}
    left = {seat: [key for key in keys if key not in done.get(seat.name, ())] for seat, keys in work.cells.items()}
    already = work.total - sum(map(len, left.values()))
    if earlier:
        console.print(f"Continuing sweep {order.sweep}: {already} of {work.total} cells are there", highlight=False)
    schedule = Schedule(left, left_out)
    errors: list[str] = []
    interrupted = False
    with FleetProgress(console, work.total, already) as progress, sigterm_as_interrupt():
        loop = Sweep(order, schedule, transport, results, progress)
        try:
            interrupted = loop.run(nodes)
        except LinkLost as error:
            errors.append(str(error))
    runs = [*(earlier.runs if earlier else ()), *loop.runs]
    return Result(
        runs, progress.statuses, schedule.unfinished(), interrupted, [*loop.errors, *errors], schedule.moved
    )  # fmt: skip
