"""RAPL and counters without a process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from common.sidecar.counter import Unwrapper
from common.sidecar.health import out_of
from common.sidecar.rapl import Rapl
from tests.common.sidecar.conftest import Powercap


def test_no_tree(tmp_path: Path) -> None:
    rapl = Rapl(tmp_path / "absent", print)
    assert rapl.domains == [] and rapl.unavailable == f"no RAPL domain in {tmp_path / 'absent'}"


def test_refused_by_the_kernel(powercap: Powercap, monkeypatch: pytest.MonkeyPatch) -> None:
    powercap.add("intel-rapl:0", "package-0", 1)
    real = os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("energy_uj"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    messages: list[str] = []
    rapl = Rapl(powercap.root, messages.append)
    assert rapl.unavailable == "energy_uj may be read by root only"
    assert messages == ["RAPL intel-rapl:0: energy_uj may be read by root only"]


def test_a_domain_that_fails_later_is_named_once(powercap: Powercap) -> None:
    powercap.add("intel-rapl:0", "package-0", 7)
    powercap.add("intel-rapl:1", "package-1", 8000)
    messages: list[str] = []
    rapl = Rapl(powercap.root, messages.append)
    (powercap.root / "intel-rapl:0" / "energy_uj").write_text("")
    assert [(row["domain"], row["energy_mj"]) for row in rapl.read()] == [("package-1", 8.0)]
    assert [row["domain"] for row in rapl.read()] == ["package-1"]
    assert len(messages) == 1 and "package-0 is gone" in messages[0]


def test_multi_die_packages_and_their_memory(powercap: Powercap) -> None:
    powercap.add("intel-rapl:0", "package-0-die-1", 1)
    powercap.add("intel-rapl:0:0", "dram", 1)
    powercap.add("intel-rapl:1", "psys", 1)
    assert [domain.name for domain in Rapl(powercap.root, print).domains] == ["package-0-die-1", "dram-0-die-1"]


def test_a_certain_span_wraps_at_any_fall() -> None:
    unwrap = Unwrapper(100, certain=True)
    assert [unwrap(value) for value in (90, 95, 40, 99, 1)] == [90, 95, 140, 199, 201]
    assert unwrap.restarts == 0


def test_an_uncertain_span_wraps_only_from_its_end_to_its_begin() -> None:
    unwrap = Unwrapper(1000, certain=False)
    assert [unwrap(value) for value in (995, 3, 500)] == [995, 1003, 1500]
    assert unwrap.restarts == 0
    # from the middle: the driver was reloaded, and what the counter missed is unknown
    assert [unwrap(value) for value in (2, 7)] == [2, 7]
    assert unwrap.restarts == 1


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python3", "-m", "common.sidecar", "--out", "/results/power.csv"], "/results/power.csv"),
        (["docker-init", "--", "python3", "-m", "common.sidecar", "--out=/r/p.csv", "--once", ""], "/r/p.csv"),
        (["sleep", "1"], None),
        (["x", "--out"], None),
    ],
)
def test_the_health_check_finds_the_file(command: list[str], expected: str | None) -> None:
    found = out_of(command)
    assert (str(found) if found else None) == expected
