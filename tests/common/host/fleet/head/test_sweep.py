"""The loop between schedule, transport and collector, with a transport that says what the test wants."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.host.fleet.head.collect import Receiving
from common.host.fleet.head.loop import Order
from common.host.fleet.head.outcome import finish
from common.host.fleet.head.progress import FleetProgress
from common.host.fleet.head.sweep import Result, run_sweep
from common.host.fleet.head.targets import Target, Work
from common.host.fleet.transport.cluster import Node
from common.host.fleet.transport.connection import Arrived, Changed, News, Over, TransportLost
from common.host.plan.model_terms import ModelTerms
from common.host.plan.options import Options

EAST, WEST = (Node(name[0], name, gpus=1, accelerators=("A2",)) for name in ("east", "west"))
TARGET = Target("A2", 1)
ROW = b"row\n"
Reply = Callable[["FakeTransport", str, Mapping[str, Any]], None]


@dataclass
class FakeTransport:
    """replies: what happens at each start, in turn; the last one for all that follow."""

    replies: list[Reply]
    started: list[tuple[str, tuple[str, ...], list[str]]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    stopped: list[Mapping[str, list[str]]] = field(default_factory=list)
    coming: deque[News | BaseException] = field(default_factory=deque)
    #: news that a poll returns at the most
    at_once: int = 1

    def start(self, attempt: str, accelerator: str, avoid: tuple[str, ...], spec: Mapping[str, Any]) -> None:
        json.dumps(spec)  # it goes to another machine
        self.started.append((attempt, avoid, spec["cells"]))
        self.replies[min(len(self.started), len(self.replies)) - 1](self, attempt, spec)

    def stop(self, by_node: Mapping[str, list[str]]) -> None:
        self.stopped.append(by_node)
        for attempts in by_node.values():
            for attempt in attempts:
                name = attempt.partition("/")[2]
                self.send(name, kind="end", interrupted=True, errors=[], refused="")
                self.coming.append(Over(name))

    def cancel(self, attempt: str) -> None:
        self.cancelled.append(attempt)

    def poll(self, seconds: float) -> list[News]:
        assert self.coming, "the sweep waits for ever"
        found: list[News] = []
        while self.coming and len(found) < self.at_once:
            if isinstance(self.coming[0], BaseException):
                if found:
                    break
                raise self.coming.popleft()  # type: ignore[misc]
            found.append(self.coming.popleft())  # type: ignore[arg-type]
        return found

    def send(self, attempt: str, **message: Any) -> None:
        self.coming.append(Arrived(attempt, message))


def piece(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "offset": 0, "data": data, "sha256": hashlib.sha256(data).hexdigest()}


def cell(transport: FakeTransport, attempt: str, key: str, gpu: str = "gpu0") -> None:
    rest, replicate = key.rsplit("_", 1)
    name = f"{rest}_{gpu}_{replicate}"
    path = f"cells/{name}/cell.csv"
    transport.send(
        attempt, kind="cell", cell_key=name, status="ok", message="", images_per_s=5.0, files=[piece(path, ROW)],
        whole={path: [len(ROW), hashlib.sha256(ROW).hexdigest()]},
    )  # fmt: skip


def begin(transport: FakeTransport, attempt: str, spec: Mapping[str, Any], node: str, **changes: Any) -> None:
    transport.send(attempt, kind="host", node=node)
    description = json.dumps({"fleet": spec["facts"], "finished_utc": None}).encode()
    run = {
        "plan": spec["cells"],
        "device": {"uuid": f"GPU-{node}"},
        "model_hash": "abc",
        "model_terms": {"takes_bytes": False, "fixed_batch": None},
        "files": [piece("run.json", description)],
    }
    transport.send(attempt, kind="run", **{**run, **changes})


def works(node: str, upto: int = 99, ends: bool = True) -> Reply:
    """The host measures so many cells, and ends if it does."""

    def reply(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        begin(transport, attempt, spec, node)
        for key in spec["cells"][:upto]:
            cell(transport, attempt, key)
        if ends:
            transport.send(attempt, kind="end", interrupted=False, errors=[], refused="")
            transport.coming.append(Over(attempt))

    return reply


@pytest.fixture(params=[1, 3, 99], ids=lambda count: f"{count}-at-once")
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Result]:
    def go(
        transport: FakeTransport,
        nodes: tuple[Node, ...] = (EAST, WEST),
        targets: tuple[Target, ...] = (TARGET,),
        **order: Any,
    ) -> Result:
        work = Work({target: tuple(f"M_v_fp32_b000{i}_host_s_script_r0" for i in range(1, 5)) for target in targets})
        transport.at_once = request.param
        console = Console(file=io.StringIO(), width=200)
        requested = Order("s1", "r", 3, Options(), "gpu", "code", **order)
        result = run_sweep(requested, work, None, transport, nodes, {}, console, tmp_path)
        result.output = console.file.getvalue()  # type: ignore[attr-defined]
        return result

    return go


def keys(tmp_path: Path) -> list[str]:
    return sorted(path.parent.name for path in tmp_path.glob("*/cells/*/cell.csv"))


def test_all_is_well(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run(FakeTransport([works("e")]))
    assert (result.missing, result.interrupted, result.errors, result.statuses) == ({}, False, [], {"ok": 4})
    assert len(keys(tmp_path)) == 4
    assert finish(result, Console(file=io.StringIO())) == 0


def test_every_task_is_told_the_variables_of_this_machine(run: Callable[..., Result]) -> None:
    told: list[Any] = []

    def notes(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        told.append(spec["environment"])
        works("e")(transport, attempt, spec)

    run(FakeTransport([notes]), environment={"FRAMEWATT_TRT_PROFILES": "each"})
    assert told and all(environment == {"FRAMEWATT_TRT_PROFILES": "each"} for environment in told)


def test_the_host_is_lost_when_ray_says_so_of_the_task_or_of_the_host(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    def dies(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        works("e", 2, ends=False)(transport, attempt, spec)
        transport.coming.append(Changed((WEST,)))  # the host is gone, of the task nothing is heard
        cell(transport, attempt, spec["cells"][2])  # what was on its way comes late

    transport = FakeTransport([dies, works("w")])
    result = run(transport)
    assert result.missing == {}
    # The late cell counts where it came together with the news, and not where it came after.
    again = 2 if transport.at_once == 1 else 1
    assert [(name, len(cells)) for name, _, cells in transport.started] == [("A2-1/0", 4), ("A2-1/1", again)]
    assert transport.cancelled == ["A2-1/0"]
    assert len(keys(tmp_path)) == len(set(keys(tmp_path))) == 4
    assert result.statuses == {"ok": 4}
    assert result.moved == again
    assert f"east: A2-1: the host was lost; {again} cells go elsewhere" in result.output  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plan": ["M_other"]}, "it plans other cells than asked for"),
        ({"model_hash": "other"}, "its model is other, that of the sweep abc"),
    ],
)
def test_a_host_that_would_measure_something_else_is_left_out(
    run: Callable[..., Result], changes: dict[str, Any], words: str
) -> None:
    def other(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        begin(transport, attempt, spec, "e", **changes)
        cell(transport, attempt, spec["cells"][0])

    transport = FakeTransport([other, works("w")])
    result = run(transport, model_hash="abc")
    assert result.missing == {}
    assert result.statuses == {"ok": 4}
    assert transport.started[1][1:] == (("e",), transport.started[0][2])
    assert words in result.output  # type: ignore[attr-defined]


def test_the_first_host_decides_on_the_model_where_nobody_had_one(run: Callable[..., Result]) -> None:
    seen: list[str] = []

    def notes(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        seen.append(spec["model_hash"])
        works("e" if len(seen) == 1 else "w", upto=2 if len(seen) == 1 else 9)(transport, attempt, spec)

    assert run(FakeTransport([notes])).missing == {}
    assert seen == ["", "abc"]


def test_the_first_host_decides_on_what_is_fed_where_nobody_had_the_model(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    """Its cells were planned, and so named, as float32 of a model that takes bytes."""
    seen: list[list[str]] = []

    def takes_bytes(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        seen.append(spec["cells"])
        terms = ModelTerms(takes_bytes=True)
        plan = [terms.fit_key(key, Options()) for key in spec["cells"]]
        begin(transport, attempt, spec, "e" if len(seen) == 1 else "w", plan=plan, model_terms=asdict(terms))
        for key in plan[: 1 if len(seen) == 1 else 9]:
            cell(transport, attempt, key)
        transport.send(attempt, kind="end", interrupted=False, errors=[], refused="")
        transport.coming.append(Over(attempt))

    result = run(FakeTransport([takes_bytes]))
    assert (result.missing, result.statuses) == ({}, {"ok": 4})
    assert all("_host-uint8_" in key for key in keys(tmp_path))
    assert [len(cells) for cells in seen] == [4, 3]
    assert all("_host_" in key for key in seen[0]) and all("_host-uint8_" in key for key in seen[1])


def test_cells_that_are_one_for_the_model_are_counted_once(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the host's own row too."""
    rows: list[tuple[int, int]] = []
    cell_of = FleetProgress.cell

    def watched(self: FleetProgress, attempt: str, *facts: Any) -> None:
        cell_of(self, attempt, *facts)
        rows.append((self._rows[attempt].done, self._rows[attempt].total))

    monkeypatch.setattr(FleetProgress, "cell", watched)

    def takes_four(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        begin(
            transport, attempt, spec, "e", plan=["M_v_fp32_b0004_host_s_script_r0"],
            model_terms={"takes_bytes": False, "fixed_batch": 4},
        )  # fmt: skip
        cell(transport, attempt, "M_v_fp32_b0004_host_s_script_r0")
        transport.send(attempt, kind="end", interrupted=False, errors=[], refused="")
        transport.coming.append(Over(attempt))

    result = run(FakeTransport([takes_four]))
    assert (result.missing, result.statuses) == ({}, {"ok": 1})
    assert "[1/1]" in result.output  # type: ignore[attr-defined]
    assert rows == [(1, 1)]


def test_bytes_that_changed_on_their_way_do_not_become_a_cell(run: Callable[..., Result], tmp_path: Path) -> None:
    def corrupts(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        begin(transport, attempt, spec, "e")
        transport.send(attempt, kind="files", files=[piece("power.csv", b"x") | {"data": b"y"}])
        cell(transport, attempt, spec["cells"][0])

    transport = FakeTransport([corrupts, works("w")])
    result = run(transport)
    assert "power.csv arrived with another hash" in result.output  # type: ignore[attr-defined]
    assert result.statuses == {"ok": 4}
    assert transport.cancelled == ["A2-1/0"]


def test_a_cell_that_nobody_asked_for_is_not_kept(run: Callable[..., Result], tmp_path: Path) -> None:
    def invents(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        begin(transport, attempt, spec, "e")
        cell(transport, attempt, "M_v_fp32_b0099_host_s_script_r0")

    run(FakeTransport([invents, works("w")]))
    assert not [key for key in keys(tmp_path) if "b0099" in key]


def test_a_host_whose_disk_is_full_hands_on_what_it_could_not_do(run: Callable[..., Result]) -> None:
    def full(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        works("e", 1, ends=False)(transport, attempt, spec)
        transport.send(attempt, kind="end", interrupted=False, errors=["cannot write cell: no space left"], refused="")
        transport.coming.append(Over(attempt))

    result = run(FakeTransport([full, works("w")]))
    assert result.statuses == {"ok": 4}
    assert "cannot write cell: no space left; 3 cells go elsewhere" in result.output  # type: ignore[attr-defined]


def test_our_own_full_disk_stops_the_sweep_and_says_so(run: Callable[..., Result], tmp_path: Path) -> None:
    def fills(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        begin(transport, attempt, spec, "e")
        cell(transport, attempt, spec["cells"][0])
        (tmp_path / spec["run"] / "power.csv").mkdir(parents=True)
        transport.send(attempt, kind="files", files=[piece("power.csv", b"x")])

    transport = FakeTransport([fills])
    result = run(transport)
    assert result.errors == [f"{next(tmp_path.glob('*/power.csv'))} cannot be written: is a directory"]
    assert transport.stopped == [{"e": ["s1/A2-1/0"]}]
    assert len(keys(tmp_path)) == 1
    assert finish(result, Console(file=io.StringIO())) == 2


def test_ctrl_c_stops_hosts_and_withdraws_what_waits(run: Callable[..., Result], tmp_path: Path) -> None:
    def interrupted(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        begin(transport, attempt, spec, "e")
        transport.coming.append(KeyboardInterrupt())
        cell(transport, attempt, spec["cells"][0])

    def waits(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        pass

    transport = FakeTransport([interrupted, waits])
    result = run(transport, nodes=(EAST,), targets=(TARGET, Target("A2", 2)))
    assert result.interrupted
    assert transport.stopped == [{"e": ["s1/A2-1/0"]}]
    assert transport.cancelled == ["A2-2/0"]
    assert len(keys(tmp_path)) == 1, "a cell that was finished is kept"
    assert finish(result, Console(file=io.StringIO())) == 130


def test_ctrl_c_while_files_are_written_waits_for_them(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a cell could be on disk and not be counted, and a later piece of the same run be written at the same time."""
    store = Receiving.cell

    def interrupted(self: Receiving, *arguments: Any) -> None:
        if not keys(tmp_path):
            os.kill(os.getpid(), signal.SIGINT)
        store(self, *arguments)

    monkeypatch.setattr(Receiving, "cell", interrupted)
    transport = FakeTransport([works("e", ends=False)])
    result = run(transport)
    assert result.interrupted
    assert transport.stopped == [{"e": ["s1/A2-1/0"]}]
    assert result.statuses == {"ok": len(keys(tmp_path))}
    assert len(keys(tmp_path)) >= 1
    assert sum(len(cells) for cells, _ in result.missing.values()) == 4 - len(keys(tmp_path))


def test_without_the_head_what_is_here_stays_and_one_line_says_so(run: Callable[..., Result], tmp_path: Path) -> None:
    def ends(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
        works("e", 1, ends=False)(transport, attempt, spec)
        transport.coming.append(TransportLost("the connection to Ray at h:1 is lost"))

    result = run(FakeTransport([ends]))
    assert result.errors == ["the connection to Ray at h:1 is lost"]
    assert len(keys(tmp_path)) == 1
    (description,) = [json.loads(path.read_text()) for path in tmp_path.glob("*/run.json")]
    assert description["fleet"]["ended"]["reason"] == "the sweep ended before it did"


def test_two_targets_on_one_gpu_are_reported(run: Callable[..., Result]) -> None:
    """More targets than free GPUs: Ray lets the second wait for the first one's."""
    result = run(FakeTransport([works("e")]), targets=(TARGET, Target("A2", 2)))
    assert result.missing == {}
    assert "A2-2 is measured on the same GPU as A2-1 (east)" in result.output  # type: ignore[attr-defined]


def test_nobody_left(run: Callable[..., Result], capsys: pytest.CaptureFixture[str]) -> None:
    def refuses(node: str) -> Reply:
        def reply(transport: FakeTransport, attempt: str, spec: Mapping[str, Any]) -> None:
            transport.send(attempt, kind="host", node=node)
            transport.send(attempt, kind="end", interrupted=False, errors=[], refused=f"no disk on {node}")

        return reply

    result = run(FakeTransport([refuses("e"), refuses("w")]))
    ((cells, reasons),) = result.missing.values()
    assert len(cells) == 4
    assert reasons == ("east: no disk on e", "west: no disk on w")
    console = Console(file=io.StringIO(), width=200)
    assert finish(result, console) == 1
    assert "A2-1: 4 cells are missing: east: no disk on e; west: no disk on w" in console.file.getvalue()  # type: ignore[attr-defined]
