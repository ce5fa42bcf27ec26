"""What goes where, what is given to another after a loss, what is reported: decisions without Ray."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from analysis.selfbench.fleet import decisions
from common.host.fleet.head.schedule import BLIND_FAILURES, Schedule
from common.host.fleet.head.targets import Target
from common.host.fleet.transport.cluster import Node

EAST, WEST, NORTH = (Node("e", "east", gpus=1, accelerators=("A2",)), Node("w", "west", gpus=1, accelerators=("A2",)),
                     Node("n", "north", gpus=1, accelerators=("V100",)))  # fmt: skip
A2, V100 = Target("A2", 1), Target("V100", 1)


def schedule(*nodes: Node, cells: dict[Target, list[str]] | None = None) -> Schedule:
    found = Schedule(cells or {A2: ["a", "b", "c"]})
    found.update_nodes(nodes)
    return found


def test_a_target_gets_one_task_with_all_its_cells_in_order() -> None:
    plan = schedule(EAST, NORTH, cells={A2: ["b", "a"], V100: ["c"]})
    first, second = plan.next()
    assert (first.target, first.cells, first.avoid) == (A2, ("b", "a"), ())
    assert second.target == V100
    assert plan.next() == []
    assert not plan.done


def test_cells_that_get_other_keys_count_under_these_and_those_that_become_one_once() -> None:
    plan = schedule(EAST, cells={A2: ["a1", "a2", "b1"], V100: ["a1"]})
    (first,) = [one for one in plan.next() if one.target == A2]
    assert plan.started(first.attempt, "e")
    assert plan.rename(lambda key: key[0]) == 1
    assert not plan.finished(first.attempt, "a1")
    assert plan.finished(first.attempt, "a")
    assert plan.left_of(first.attempt) == 1
    plan.ended(first.attempt)
    assert {target: keys for target, (keys, _) in plan.unfinished().items()} == {A2: ("b",), V100: ("a",)}


def test_what_is_done_already_is_not_asked_for() -> None:
    assert schedule(EAST, cells={A2: []}).next() == []
    assert schedule(EAST, cells={A2: []}).done


def test_a_lost_hosts_cells_go_to_another_host_of_the_same_accelerator() -> None:
    plan = schedule(EAST, WEST, NORTH)
    (first,) = plan.next()
    plan.started(first.attempt, "e")
    assert plan.finished(first.attempt, "a")
    assert plan.update_nodes([replace(EAST, alive=False), WEST, NORTH]) == [first.attempt]
    plan.ended(first.attempt, "the host was lost")
    (second,) = plan.next()
    assert second.cells == ("b", "c")
    assert second.avoid == ("e",)
    assert second.attempt != first.attempt
    plan.started(second.attempt, "w")
    assert all(plan.finished(second.attempt, key) for key in "bc")
    plan.ended(second.attempt)
    assert plan.done
    assert plan.unfinished() == {}


def test_without_another_host_of_the_accelerator_the_cells_are_reported() -> None:
    plan = schedule(EAST, NORTH)
    (first,) = plan.next()
    plan.started(first.attempt, "e")
    plan.finished(first.attempt, "a")
    plan.ended(first.attempt, "the host was lost")
    assert plan.next() == []
    assert plan.done
    assert plan.unfinished() == {A2: (("b", "c"), ("east: the host was lost",))}


def test_news_of_an_attempt_that_was_ended_no_longer_counts() -> None:
    plan = schedule(EAST, WEST)
    (first,) = plan.next()
    plan.started(first.attempt, "e")
    plan.ended(first.attempt, "the host was lost")
    (second,) = plan.next()
    assert not plan.finished(first.attempt, "a")
    assert not plan.started(first.attempt, "e")
    plan.ended(first.attempt, "again")
    assert plan.node_of(second.attempt) == ""
    plan.started(second.attempt, "w")
    assert plan.finished(second.attempt, "a")
    assert not plan.finished(second.attempt, "a"), "a cell counts once"
    assert not plan.finished(second.attempt, "z"), "nobody asked for it"


def test_a_host_that_refuses_gets_nothing_more_of_the_sweep() -> None:
    """It would otherwise end every waiting task in a moment."""
    plan = schedule(EAST, WEST, cells={A2: ["a"], Target("A2", 2): ["a"]})
    first, second = plan.next()
    plan.started(first.attempt, "e")
    plan.ended(first.attempt, "no Docker engine answers")
    assert plan.withdraw() == [second.attempt], "it waits in Ray, which might choose the host that refuses"
    again = plan.next()
    assert [one.target for one in again] == [A2, Target("A2", 2)]
    assert all(one.avoid == ("e",) for one in again)


def test_a_running_task_is_not_withdrawn() -> None:
    plan = schedule(EAST, WEST, cells={A2: ["a"], Target("A2", 2): ["a"]})
    first, second = plan.next()
    plan.started(first.attempt, "e")
    plan.started(second.attempt, "w")
    plan.ended(first.attempt, "it refuses")
    assert plan.withdraw() == []


def test_a_task_that_waits_for_a_host_that_is_gone_is_withdrawn_and_its_cells_reported() -> None:
    plan = schedule(EAST)
    (first,) = plan.next()
    plan.update_nodes([replace(EAST, alive=False)])
    assert plan.withdraw() == [first.attempt]
    assert plan.next() == []
    assert plan.done
    assert plan.unfinished()[A2][0] == ("a", "b", "c")


def test_a_host_that_joins_takes_what_was_given_up() -> None:
    plan = schedule(NORTH, cells={A2: ["a"], V100: ["b"]})
    (only,) = plan.next()
    assert only.target == V100
    plan.update_nodes([NORTH, EAST])
    (late,) = plan.next()
    assert late.target == A2


def test_tasks_that_fail_before_they_are_anywhere_are_not_started_for_ever() -> None:
    plan = schedule(EAST)
    for _ in range(BLIND_FAILURES):
        (one,) = plan.next()
        plan.ended(one.attempt, "Ray cannot start it")
    assert plan.next() == []
    assert plan.done
    assert plan.unfinished()[A2] == (("a", "b", "c"), ("Ray cannot start it",) * BLIND_FAILURES)


def test_an_attempt_that_ends_early_by_itself_is_a_failure_too() -> None:
    plan = schedule(EAST)
    (one,) = plan.next()
    plan.started(one.attempt, "e")
    plan.finished(one.attempt, "a")
    plan.ended(one.attempt)
    assert plan.unfinished()[A2][1] == ("east: it ended with 2 cells missing",)


def test_a_host_that_was_not_fit_from_the_start_is_avoided() -> None:
    plan = Schedule({A2: ["a"]}, {"e": "no disk"})
    plan.update_nodes([EAST])
    assert plan.next() == []
    plan.update_nodes([EAST, WEST])
    (one,) = plan.next()
    assert one.avoid == ("e",)


def test_after_a_stop_nothing_starts_but_what_arrives_counts() -> None:
    plan = schedule(EAST, WEST, cells={A2: ["a", "b"], Target("A2", 2): ["a"]})
    first, second = plan.next()
    plan.started(first.attempt, "e")
    plan.stop()
    assert plan.withdraw() == [second.attempt]
    assert plan.finished(first.attempt, "a")
    plan.ended(first.attempt)
    assert plan.next() == []
    assert plan.done
    assert plan.left_out == {}


class Chaos:
    """Random hosts die, refuse, join; messages of dead attempts come late."""

    KINDS = ("A2", "V100", "H100")

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.nodes = {f"n{i}": Node(f"n{i}", f"host{i}", gpus=2, accelerators=(self.KINDS[i % 3],)) for i in range(9)}
        self.cells = {
            Target(kind, number): [f"c{i}" for i in range(6)] for kind in self.KINDS for number in range(1, 5)
        }
        self.plan = Schedule(self.cells)
        self.plan.update_nodes(self.nodes.values())
        self.waiting: dict[str, tuple[Target, tuple[str, ...], tuple[str, ...]]] = {}
        self.running: dict[str, tuple[Target, str, list[str]]] = {}
        self.dead: list[tuple[str, Target, str]] = []
        self.counted: dict[Target, list[str]] = {target: [] for target in self.cells}

    def run(self, most_steps: int = 5000) -> None:
        for step in range(most_steps):
            for attempt in self.plan.withdraw():
                self.waiting.pop(attempt)
            for one in self.plan.next():
                self.waiting[one.attempt] = (one.target, one.cells, one.avoid)
            if self.plan.done:
                return
            self._step(step, self.chance.random())

    def _step(self, step: int, what: float) -> None:
        """what: 0..1, which of the things happens."""
        if self.waiting and what < 0.3:
            self._start()
        elif self.running and what < 0.9:
            self._finish_a_cell()
        elif self.running and what < 0.93:
            attempt = self.chance.choice(list(self.running))
            self._lose(attempt, "it refuses")
        elif what < 0.95 and sum(node.alive for node in self.nodes.values()) > 3:
            victim = self.chance.choice([node.id for node in self.nodes.values() if node.alive])
            self.nodes[victim] = replace(self.nodes[victim], alive=False)
            gone = self.plan.update_nodes(self.nodes.values())
            assert sorted(gone) == sorted(attempt for attempt, (_, at, _) in self.running.items() if at == victim)
            for attempt in gone:
                self._lose(attempt, "the host was lost")
        elif what < 0.96:
            name = f"late{step}"
            self.nodes[name] = Node(name, name, gpus=1, accelerators=(self.chance.choice(self.KINDS),))
            self.plan.update_nodes(self.nodes.values())
        elif self.dead:
            attempt, _, key = self.chance.choice(self.dead)
            assert not self.plan.finished(attempt, key)

    def _start(self) -> None:
        attempt = self.chance.choice(list(self.waiting))
        target, requested, avoid = self.waiting[attempt]
        free = [
            node.id
            for node in self.nodes.values()
            if node.alive
            and node.accelerator == target.accelerator
            and node.id not in avoid
            and sum(at == node.id for _, at, _ in self.running.values()) < node.gpus
        ]
        if free:
            del self.waiting[attempt]
            at = self.chance.choice(free)
            self.running[attempt] = (target, at, list(requested))
            assert self.plan.started(attempt, at)

    def _finish_a_cell(self) -> None:
        attempt = self.chance.choice(list(self.running))
        target, _, requested = self.running[attempt]
        if requested:
            key = requested.pop(0)
            assert self.plan.finished(attempt, key)
            self.counted[target].append(key)
        else:
            self.plan.ended(attempt)
            del self.running[attempt]

    def _lose(self, attempt: str, why: str) -> None:
        target, _, requested = self.running.pop(attempt)
        self.plan.ended(attempt, why)
        self.dead += [(attempt, target, key) for key in requested]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_each_cell_is_measured_once_or_reported(seed: int) -> None:
    """Every cell counts once, or is reported as missing."""
    chaos = Chaos(seed)
    chaos.run()
    assert chaos.plan.done
    missing = chaos.plan.unfinished()
    for target, keys in chaos.cells.items():
        counted = chaos.counted[target]
        assert sorted(counted + list(missing.get(target, ((), ()))[0])) == sorted(keys)
        assert len(set(counted)) == len(counted)


def test_the_decisions_of_selfbench_come_to_an_end() -> None:
    assert decisions(20, 10) > 0
    assert decisions(20, 10, lost=3) > 0
