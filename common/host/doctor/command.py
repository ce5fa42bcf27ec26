"""`invoke doctor`: is this machine fit to be measured on, and what to do where it is not.

Each check is one object: `read` measures and returns plain figures, `judge` makes of them a state, a line to show and,
where something is wrong, the advice. States: `ok`; `note`, worth knowing, figures stay right; `fail`, a run would not
start or its figures would be wrong or marked. A check whose reading breaks is a `fail` that says so; the others go on.
`invoke bench` runs the cheap checks and stores what they found under `doctor` in run.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.errors import UserError
from common.host.devices import Device, choose_devices
from common.host.paths import DataFolder

State = Literal["ok", "note", "fail"]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What is looked at: the device that a run would use, and where its results would go."""

    device: Device
    data: DataFolder


@dataclass(frozen=True)
class Verdict:
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
    judge: Callable[[Figures], Verdict]
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


def all_checks() -> list[Check]:
    """Every check, in the order of the table."""
    from common.host.doctor import engine as doctor_engine
    from common.host.doctor import gpu as doctor_gpu
    from common.host.doctor import machine as doctor_machine

    return [*doctor_engine.CHECKS, *doctor_machine.CHECKS, *doctor_gpu.CHECKS]


def examine(check: Check, subject: Subject) -> Finding:
    """Makes one check; never raises but for Ctrl-C."""
    begin = time.monotonic()
    figures: Figures = {}
    try:
        figures = check.read(subject)
        verdict = check.judge(figures)
    except UserError as error:
        what, _, advice = str(error).partition("; ")
        verdict = Verdict("fail", what, advice)
    except Exception as error:
        verdict = Verdict("fail", f"cannot be checked: {type(error).__name__}: {error}", "report this line")
    taken = round(time.monotonic() - begin, 3)
    return Finding(check.name, verdict.state, verdict.shown, verdict.advice, taken, figures)


def cheap_findings(device: Device, data: DataFolder) -> list[Finding]:
    """What the cheap checks say of one device: a fraction of a second, and no client of an engine is needed."""
    from common.host.doctor import gpu as doctor_gpu
    from common.host.doctor import machine as doctor_machine

    checks = _of(device, [*doctor_machine.CHECKS, *doctor_gpu.CHECKS])
    return [examine(check, Subject(device, data)) for check in checks if check.cheap]


def describe(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings for run.json and for `--json`."""
    return [asdict(finding) for finding in findings]


def doctor(gpu: str, as_json: bool, console: Console, data: DataFolder) -> int:
    """Makes all checks, prints them, and returns the exit code: 1 when one of them fails.

    gpu: as `--gpu`; empty takes GPU 0 where there is one, else the CPU. Raises UserError for a GPU that does not exist.
    """
    device = choose_devices(None, gpu or None)[0]
    subject = Subject(device, data)
    findings: list[Finding] = []
    checks = _of(device, all_checks())
    if as_json:
        findings = [examine(check, subject) for check in checks]
        print(json.dumps({"device": device.describe(), "findings": describe(findings)}, indent=1))
    else:
        with console.status("") as status:
            for check in checks:
                status.update(f"looking at: {check.name}")
                findings.append(examine(check, subject))
        print_findings(device, findings, console)
    return int(any(finding.state == "fail" for finding in findings))


def print_findings(device: Device, findings: Sequence[Finding], console: Console) -> None:
    """The table, then what to do, one line for each finding that has an advice."""
    console.print(escape(f"{device.name}: {device.product}"), highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("found", overflow="fold")
    colours = {"ok": "green", "note": "yellow", "fail": "red"}
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        table.add_row(state, escape(finding.check), escape(finding.shown))
    console.print(table)
    for finding in findings:
        if finding.advice:
            console.print(escape(f"{finding.check}: {finding.advice}"), highlight=False)
    failed = sum(finding.state == "fail" for finding in findings)
    seconds = sum(finding.seconds for finding in findings)
    ending = f"{failed} of {len(findings)} checks fail" if failed else f"all {len(findings)} checks pass"
    console.print(f"{ending}; {seconds:.0f} s", style="bold", highlight=False)


def _of(device: Device, checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if device.kind == "gpu" or not check.gpu_only]
