"""What a check of `invoke doctor` is, and how one is made; the checks themselves are in engine.py, gpu.py and machine.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from common.errors import UserError
from common.host.devices import Device
from common.host.paths import DataFolder

State = Literal["ok", "note", "fail"]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What is looked at: the device that a run would use, and where its results would go."""

    device: Device
    data: DataFolder


@dataclass(frozen=True)
class Judgement:
    """What a check's figures mean, for people."""

    state: State
    shown: str
    advice: str = ""


@dataclass(frozen=True)
class Check:
    """One question to the machine."""

    name: str
    #: measures; may raise UserError (its text is shown) and, by accident, anything else
    read: Callable[[Subject], Figures]
    judge: Callable[[Figures], Judgement]
    #: takes milliseconds and disturbs nobody: `invoke bench` asks it too
    cheap: bool = False
    gpu_only: bool = False


@dataclass(frozen=True)
class Finding:
    """A check that was made: figures as measured, their meaning, seconds that it took."""

    check: str
    state: State
    shown: str
    advice: str
    seconds: float
    figures: Figures = field(default_factory=dict)


def examine(check: Check, subject: Subject) -> Finding:
    """Makes one check; never raises but for Ctrl-C."""
    begin = time.monotonic()
    figures: Figures = {}
    try:
        figures = check.read(subject)
        verdict = check.judge(figures)
    except UserError as error:
        what, _, advice = str(error).partition("; ")
        verdict = Judgement("fail", what, advice)
    except Exception as error:
        verdict = Judgement("fail", f"cannot be checked: {type(error).__name__}: {error}", "report this line")
    taken = round(time.monotonic() - begin, 3)
    return Finding(check.name, verdict.state, verdict.shown, verdict.advice, taken, figures)


def describe(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings for run.json and for `--json`."""
    return [asdict(finding) for finding in findings]
