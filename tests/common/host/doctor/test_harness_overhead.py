"""Figures of the timing loop, from a process of its own."""

from __future__ import annotations

import subprocess

import pytest

from common.errors import UserError
from common.host.doctor import harness_overhead


def printing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(
        harness_overhead.subprocess, "run", lambda command, **how: subprocess.CompletedProcess(command, 0, text, "")
    )


def test_figures_are_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    printing(monkeypatch, 'a library prints\n{"added_ns": 90.0}\n')
    assert harness_overhead.harness_overhead() == {"added_ns": 90.0}


@pytest.mark.parametrize("text", ["", "a library prints\n"])
def test_no_figures_are_reported(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    printing(monkeypatch, text)
    with pytest.raises(UserError, match=f"common.harness.overhead printed no figures but '{text.strip()}'"):
        harness_overhead.harness_overhead()
