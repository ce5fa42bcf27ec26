"""A sweep while it runs: hosts are given targets, cells are collected, until all are there or nobody is left who could do it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from common.errors import UserError
from common.host import signals
from common.host.fleet.head.collect import Corrupt, Receiving
from common.host.fleet.head.progress import FleetProgress
from common.host.fleet.head.schedule import Assignment, Schedule
from common.host.fleet.head.targets import Target
from common.host.fleet.transport.cluster import Node
from common.host.fleet.transport.connection import Arrived, Changed, News, Over, TransportLost
from common.host.plan.model_terms import ModelTerms
from common.host.plan.options import Options
from common.host.plan.subset import work_key

#: after Ctrl-C hosts may take so long to end their workers and send what is finished, in s
GRACE_SECONDS = 90.0
#: attempts whose files are written at a time; on two cores more only wait for each other
WRITERS = 8
_NOT_YET = Exception("not stored yet")


class Transport(Protocol):
    """What the sweep needs of a Transport."""

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
    #: this machine's variables of frameworks' adapters
    environment: Mapping[str, str] = field(default_factory=dict)


class Loop:
    """News in, decisions out. One thread decides, a few write files; Ray is behind the transport."""

    def __init__(
        self, order: Order, schedule: Schedule, transport: Transport, results: Path, progress: FleetProgress
    ) -> None:
        self._order, self._schedule, self._transport = order, schedule, transport
        self._results, self._progress = results, progress
        self._model_hash = order.model_hash
        self._receiving: dict[str, Receiving] = {}
        self._requested: dict[str, frozenset[str]] = {}
        self._accepted: set[str] = set()
        self._writers = ThreadPoolExecutor(WRITERS)
        self._used: dict[str, Target] = {}
        self._stopped = False
        self.runs: list[Path] = []
        self.errors: list[str] = []

    def run(self, nodes: tuple[Node, ...]) -> bool:
        """Until nothing more can be done; returns whether it was interrupted. Raises TransportLost."""
        self._schedule.update_nodes(nodes)
        try:
            while not self._schedule.done:
                self._step(1.0)
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
        self._progress.show(f"Stopping: workers end, finished cells are collected ({why})")
        with suppress(KeyboardInterrupt, TransportLost):
            for attempt in self._schedule.withdraw():
                self._give_up(attempt)
            by_node: dict[str, list[str]] = {}
            for attempt, node in self._schedule.running.items():
                by_node.setdefault(node, []).append(self._full(attempt))
            self._transport.stop(by_node)
            deadline = time.monotonic() + GRACE_SECONDS
            while self._schedule.running and time.monotonic() < deadline:
                self._step(0.5)
        for attempt in list(self._schedule.running):
            with suppress(TransportLost):
                self._fail(attempt, "it did not end when it was asked to")

    def _step(self, seconds: float) -> None:
        for attempt in self._schedule.withdraw():
            self._give_up(attempt)
        for assignment in self._schedule.next():
            self._start(assignment)
        if not self._schedule.done:
            news = self._transport.poll(seconds)
            with signals.deferred():
                self._take(news)

    def _full(self, attempt: str) -> str:
        """What an attempt is called on hosts: unlike any of another sweep."""
        return f"{self._order.sweep}/{attempt}"

    # -- out -----------------------------------------------------------------------------------------------------------

    def _start(self, assignment: Assignment) -> None:
        order, target = self._order, assignment.target
        self._requested[assignment.attempt] = frozenset(assignment.cells)
        self._progress.waits(assignment.attempt, target.name, len(assignment.cells))
        run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}_{_safe(target.name)}-{assignment.attempt.rpartition('/')[2]}"
        facts = {
            "sweep": order.sweep, "request": order.request, "seed": order.seed, "accelerator": target.accelerator,
            "target": target.name, "attempt": int(assignment.attempt.rpartition("/")[2]),
        }  # fmt: skip
        spec: dict[str, Any] = {
            "attempt": self._full(assignment.attempt), "device": order.device, "code": order.code,
            "checkout": order.checkout, "options": asdict(order.options), "run": self._unused(run),
            "environment": dict(order.environment), "cells": list(assignment.cells), "command": order.command, "facts": facts,
            "model_hash": self._model_hash, "seed": target.seed(order.seed),
        }  # fmt: skip
        self._receiving[assignment.attempt] = Receiving(self._results / spec["run"])
        self._transport.start(assignment.attempt, target.accelerator, assignment.avoid, spec)

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
            if work_key(key) not in self._requested[attempt]:
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
        if not self._model_hash:
            self._fit(ModelTerms(**message["model_terms"]))
        lacking = self._requested[attempt] - set(message["plan"])
        if lacking:
            self._fail(attempt, f"it plans other cells than asked for; {min(lacking)} is not among them")
            return
        self._model_hash = self._model_hash or message["model_hash"]
        if message["model_hash"] != self._model_hash:
            self._fail(attempt, f"its model is {message['model_hash']}, that of the sweep {self._model_hash}")
            return
        self._accepted.add(attempt)
        uuid, target = message["device"].get("uuid"), self._schedule.target_of(attempt)
        if uuid and self._used.setdefault(uuid, target) != target:
            node = self._schedule.node_of(attempt) or ""
            self._progress.show(
                f"{target.name} is measured on the same GPU as {self._used[uuid].name} ({self._schedule.name_of(node)})"
            )

    def _fit(self, terms: ModelTerms) -> None:
        """Cells as the first host that has the model at all plans them: nobody could know its terms before."""

        def fit(key: str) -> str:
            return terms.fit_key(key, self._order.options)

        self._progress.total -= self._schedule.rename(fit)
        for attempt in self._schedule.running:
            self._progress.owes(attempt, self._schedule.left_of(attempt))
        self._requested = {attempt: frozenset(map(fit, keys)) for attempt, keys in self._requested.items()}

    def _over(self, attempt: str, reason: str) -> None:
        node = self._schedule.node_of(attempt)
        if node is None:
            return
        left = self._schedule.left_of(attempt)
        if left and not self._stopped:
            reason = reason or f"it ended with {left} cells missing"
            where = self._schedule.name_of(node) if node else "Ray"
            self._progress.show(
                f"{where}: {self._schedule.target_of(attempt).name}: {reason}; {left} cells go elsewhere", "red"
            )
        self._schedule.ended(attempt, reason)
        self._close(attempt, reason)

    def _fail(self, attempt: str, reason: str) -> None:
        """The task is of no more use, though Ray may still run it."""
        self._transport.cancel(attempt)
        self._over(attempt, reason)

    def _close(self, attempt: str, reason: str) -> None:
        self._progress.ends(attempt)
        self._requested.pop(attempt, None)
        self._accepted.discard(attempt)
        receiving = self._receiving.pop(attempt, None)
        if receiving is not None:
            with suppress(UserError):
                receiving.end(reason)


def _safe(name: str) -> str:
    """A target's name as a part of a folder's."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name)
