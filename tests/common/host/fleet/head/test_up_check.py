"""What is refused before any host is asked, and how hosts are shown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from common.errors import UserError
from common.host.fleet.head import up_check
from common.host.fleet.head.host_checks import Finding
from common.host.fleet.head.sweep import refuse
from common.host.fleet.head.targets import Wanted
from common.host.fleet.head.up_check import Hosts, _Answers, _record, check_options, print_hosts, read_inputs
from common.host.fleet.transport.cluster import Node
from common.host.fleet.transport.connection import Arrived
from common.host.fleet.worker.facts import Facts
from common.host.paths import DataFolder
from common.host.plan.options import Options

EAST, WEST = (Node(name[0], name, gpus=2, accelerators=("A2",)) for name in ("east", "west"))
OTHERS = (
    Node("h", "head"),
    Node("u", "unknown", gpus=1),
    Node("t", "two", gpus=1, accelerators=("A2", "V100")),
    Node("v", "north", gpus=1, accelerators=("V100",)),
)


def hosts(*findings: Finding) -> Hosts:
    facts = {"east": Facts(code="c0de", model_hash="abc", disk_free_bytes=2**34), "west": Facts(code="c0de")}
    return Hosts((EAST, WEST), OTHERS, facts, {}, "local", findings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"framework": "onxrt"}, "unknown framework 'onxrt'"),
        ({"device": "tpu"}, "unknown device 'tpu'; there is gpu (default) and cpu"),
        ({"gpu": "0"}, "Ray chooses the GPU of each task; --accelerators and --per-accelerator"),
        ({"model": "MobilNet"}, "unknown model 'MobilNet'"),
        ({"device": "cpu", "precision": "fp16"}, "precision fp16 is not offered on a CPU"),
    ],
)
def test_a_bad_option_is_said_before_any_host_is_asked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        check_options(Options(**options))
    assert words in str(caught.value)


def test_files_of_this_machine_travel_and_addresses_do_not(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"meow")
    (tmp_path / "my.onnx").write_bytes(b"graph")
    options = Options(image=str(tmp_path / "cat.png"), model=str(tmp_path / "my.onnx"))
    assert read_inputs(options) == {"image": ("cat.png", b"meow"), "model": ("my.onnx", b"graph")}
    assert read_inputs(Options(image="https://example.org/cat.png")) == {}
    with pytest.raises(UserError, match=r"--image .*/dog\.png cannot be read: No such file"):
        read_inputs(Options(image=str(tmp_path / "dog.png")))


def test_hosts_and_findings_as_people_see_them() -> None:
    console = Console(file=io.StringIO(), width=160)
    found = hosts(Finding("west", "fail", "no disk"), Finding("east", "note", "its clock is 60 s ahead"))
    print_hosts(found, "Ray 2.60.0 at h:1", console)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "fail  west" in output
    assert "ok    east" in output
    assert "west: no disk" in output
    assert "head: takes no cells (Ray found no GPU there)" in output
    assert "unknown: takes no cells (Ray does not know the type of its GPUs: ray start --resources=" in output
    assert "two: takes no cells (it declares several accelerators: A2, V100)" in output
    assert "north: takes no cells (its accelerator is not asked for)" in output
    assert "4 A2; runner local; 1 of 2 hosts fail" in output
    assert found.unfit() == {"w": "no disk"}


def test_a_sweep_refuses_hosts_that_differ_and_goes_on_without_those_that_are_not_fit() -> None:
    refuse(hosts())
    refuse(hosts(Finding("west", "fail", "no disk")))
    with pytest.raises(UserError, match=r"^west: other code$"):
        refuse(hosts(Finding("west", "fail", "other code", odd=True)))
    with pytest.raises(UserError, match=r"^east: other code \(and 1 more: invoke fleet up-check shows them\)$"):
        refuse(hosts(*(Finding(name, "fail", "other code", odd=True) for name in ("east", "west"))))
    with pytest.raises(UserError, match="no host is fit: east: no disk"):
        refuse(hosts(*(Finding(name, "fail", "no disk") for name in ("east", "west"))))


def test_of_several_looks_at_a_clock_the_one_that_travelled_fastest_counts() -> None:
    answers = _Answers()
    for sent, received in ((100.0, 100.9), (101.0, 101.02), (102.0, 102.4)):
        _record(answers, EAST, Arrived("check", {"kind": "clock", "wall_s": sent}, received))
    assert answers.clocks["e"] == pytest.approx(-0.02)


def test_facts_of_an_older_checkout_are_taken_as_far_as_they_are_known() -> None:
    answers = _Answers()
    _record(answers, EAST, Arrived("check", {"kind": "facts", "facts": {"code": "x", "unheard_of": 1}}))
    assert answers.facts["e"] == Facts(code="x")


@pytest.mark.parametrize(("state", "code"), [("fail", 1), ("note", 0)])
def test_up_check_ends_with_1_when_a_host_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Any, code: int
) -> None:
    @contextmanager
    def connected(address: str, data: DataFolder) -> Iterator[tuple[Any, tuple[Node, ...]]]:
        yield SimpleNamespace(ray_version="2.60.0", address=address), (EAST, WEST)

    monkeypatch.setattr(up_check, "connected", connected)
    monkeypatch.setattr(up_check, "look_at", lambda *_: hosts(Finding("west", state, "other code", odd=True)))
    console = Console(file=io.StringIO(), width=160)
    assert up_check.up_check("h:1", Options(), Wanted(), console, DataFolder(tmp_path)) == code
    assert "Ray 2.60.0 at h:1" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "west: other code" in console.file.getvalue()  # type: ignore[attr-defined]
