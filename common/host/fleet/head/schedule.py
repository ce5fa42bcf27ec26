"""Which target is measured where, and what happens when a host is lost: decisions alone, no Ray, no clock, no files.

Ray chooses the GPU. Decided here: which targets need a task of which accelerator, for which cells, and which hosts it must
keep away from; what of a task's news still counts; and when nobody is left who could do it.

An *attempt* is one task for one target. A host on which an attempt ended without all its cells - it was lost, refused, or
its task died - gets no more cells of this sweep: a broken host ends fast, and would otherwise draw every waiting task.
So each target is tried at most once on each host, and a sweep always comes to an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.host.fleet.head.targets import Target
from common.host.fleet.transport.cluster import Node
from common.text import counted

#: attempts that fail before it is known where: something is wrong with the cluster, not with a host
BLIND_FAILURES = 3


@dataclass(frozen=True)
class Assignment:
    """A task to start. avoid: ids of hosts that it must not run on. cells: what is left, in order."""

    attempt: str
    target: Target
    cells: tuple[str, ...]
    avoid: tuple[str, ...] = ()


@dataclass
class _TargetState:
    left: dict[str, None]
    attempts: int = 0
    #: the attempt that counts, "" for none
    running: str = ""
    #: node id of it, "" while Ray looks for one
    node: str = ""
    avoid: tuple[str, ...] = ()
    blind: int = 0
    reasons: list[str] = field(default_factory=list)
    given_up: bool = False


class Schedule:
    """cells: target -> work keys that are to be measured, in order; those that exist already are left out by the caller.

    left_out: node id -> why it gets no cells, from the start.
    """

    def __init__(self, cells: Mapping[Target, Sequence[str]], left_out: Mapping[str, str] | None = None) -> None:
        self._targets = {target: _TargetState(dict.fromkeys(keys)) for target, keys in cells.items()}
        self._by_attempt: dict[str, Target] = {}
        self._nodes: dict[str, Node] = {}
        #: also of hosts that are gone
        self._names: dict[str, str] = {}
        self.left_out: dict[str, str] = dict(left_out or {})
        self._stopped = False
        #: cells that were taken from an attempt that ended and given to another
        self.moved = 0

    # -- decisions -----------------------------------------------------------------------------------------------------

    def update_nodes(self, nodes: Iterable[Node]) -> list[str]:
        """Takes the cluster as it is now; returns the running attempts whose host is gone, for `ended` to be told."""
        self._nodes = {node.id: node for node in nodes}
        self._names |= {node.id: node.name for node in self._nodes.values()}
        alive = {node.id for node in self._nodes.values() if node.alive}
        return [state.running for state in self._targets.values() if state.node and state.node not in alive]

    def next(self) -> list[Assignment]:
        """Tasks to start now. A target for which no host is left is given up, until one joins (see `unfinished`)."""
        if self._stopped:
            return []
        able = self._able()
        found = []
        for target, state in self._targets.items():
            if not state.left or state.running:
                continue
            state.given_up = target.accelerator not in able or state.blind >= BLIND_FAILURES
            if not state.given_up:
                attempt = f"{target.name}/{state.attempts}"
                state.attempts += 1
                state.running, state.node, state.avoid = attempt, "", self._avoided(target.accelerator)
                self._by_attempt[attempt] = target
                found.append(Assignment(attempt, target, tuple(state.left), state.avoid))
        return found

    def withdraw(self) -> list[str]:
        """Attempts that still wait in Ray, but in vain or for hosts that have failed meanwhile: to be cancelled.

        They count no more; `next` starts others in their place, or gives up.
        """
        able = self._able()
        found = []
        for target, state in self._targets.items():
            waits = bool(state.running) and not state.node
            if waits and (
                self._stopped
                or target.accelerator not in able
                or not set(self._avoided(target.accelerator)) <= set(state.avoid)
            ):
                found.append(state.running)
                state.running = ""
        return found

    def stop(self) -> None:
        """No more tasks; what runs may still bring cells."""
        self._stopped = True

    def _able(self) -> set[str]:
        """Accelerators of which some host may take cells."""
        return {node.accelerator for node in self._nodes.values() if node.alive and node.id not in self.left_out}

    def _avoided(self, accelerator: str) -> tuple[str, ...]:
        """Hosts of the accelerator that get no more cells, though Ray may still see them."""
        return tuple(
            sorted(
                node_id
                for node_id in self.left_out
                if node_id not in self._nodes or self._nodes[node_id].accelerator == accelerator
            )
        )

    # -- news ----------------------------------------------------------------------------------------------------------

    def started(self, attempt: str, node_id: str) -> bool:
        """Ray found a host. False for an attempt that no longer counts."""
        state = self._running(attempt)
        if state is None:
            return False
        state.node = node_id
        return True

    def finished(self, attempt: str, key: str) -> bool:
        """A cell is whole. False where it does not count: of an attempt that was ended, not asked for, or there already."""
        state = self._running(attempt)
        if state is None or key not in state.left:
            return False
        del state.left[key]
        return True

    def ended(self, attempt: str, reason: str = "") -> None:
        """The attempt is over. reason: why, where it did not come to its end by itself."""
        state = self._running(attempt)
        if state is None:
            return
        if state.left and not self._stopped:
            reason = reason or f"it ended with {counted(len(state.left), 'cell')} missing"
            if state.node:
                self.left_out.setdefault(state.node, reason)
            else:
                state.blind += 1
            state.reasons.append(f"{self.name_of(state.node)}: {reason}" if state.node else reason)
            self.moved += len(state.left)
        state.running, state.node = "", ""

    def _running(self, attempt: str) -> _TargetState | None:
        target = self._by_attempt.get(attempt)
        state = self._targets[target] if target is not None else None
        return state if state is not None and state.running == attempt else None

    def rename(self, new_key: Callable[[str], str]) -> int:
        """Cells that are left get other keys; those that get the same become one. Returns by how many they are fewer."""
        before = sum(len(state.left) for state in self._targets.values())
        for state in self._targets.values():
            state.left = dict.fromkeys(map(new_key, state.left))
        return before - sum(len(state.left) for state in self._targets.values())

    # -- what is known -------------------------------------------------------------------------------------------------

    def name_of(self, node_id: str) -> str:
        return self._names.get(node_id, node_id[:8])

    def target_of(self, attempt: str) -> Target:
        return self._by_attempt[attempt]

    def node_of(self, attempt: str) -> str | None:
        """Id of its host, "" while it waits, None where it counts no more."""
        state = self._running(attempt)
        return state.node if state is not None else None

    def left_of(self, attempt: str) -> int:
        """Cells that the attempt still owes."""
        state = self._running(attempt)
        return len(state.left) if state is not None else 0

    @property
    def running(self) -> dict[str, str]:
        """Attempt -> node id, "" while it waits."""
        return {state.running: state.node for state in self._targets.values() if state.running}

    @property
    def done(self) -> bool:
        """Nothing runs, and nothing more will."""
        return not self.running and all(
            not state.left or state.given_up or self._stopped for state in self._targets.values()
        )

    def unfinished(self) -> dict[Target, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Target -> (cells that are missing, why each attempt ended)."""
        return {
            target: (tuple(state.left), tuple(state.reasons)) for target, state in self._targets.items() if state.left
        }
