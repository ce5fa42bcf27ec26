"""`invoke doctor`: is this machine fit to be measured on, and what to do where it is not.

Each check is one object: `read` measures and returns plain figures, `judge` makes of them a state, a line to show and,
where something is wrong, the advice. States: `ok`; `note`, worth knowing, figures stay right; `fail`, a run would not
start or its figures would be wrong or marked. A check whose reading breaks is a `fail` that says so; the others go on.
`invoke bench` runs the cheap checks and stores what they found under `doctor` in run.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.host.devices import Device, choose_devices
from common.host.doctor import gpu as gpu_checks
from common.host.doctor import machine
from common.host.doctor.checks import Check, Finding, Subject, describe, examine
from common.host.paths import DataFolder


def all_checks() -> list[Check]:
    """Every check, in the order of the table."""
    from common.host.doctor import engine  # here: the cheap checks of a local run need no client of an engine

    return [*engine.CHECKS, *machine.CHECKS, *gpu_checks.CHECKS]


def cheap_findings(device: Device, data: DataFolder) -> list[Finding]:
    """What the cheap checks say of one device: a fraction of a second, and no client of an engine is needed."""

    checks = _of(device, [*machine.CHECKS, *gpu_checks.CHECKS])
    return [examine(check, Subject(device, data)) for check in checks if check.cheap]


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
            console.print(escape(f"{finding.check}: {finding.advice}"), highlight=False, soft_wrap=True)
    failed = sum(finding.state == "fail" for finding in findings)
    seconds = sum(finding.seconds for finding in findings)
    ending = f"{failed} of {len(findings)} checks fail" if failed else f"all {len(findings)} checks pass"
    console.print(f"{ending}; {seconds:.0f} s", style="bold", highlight=False)


def _of(device: Device, checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if device.kind == "gpu" or not check.gpu_only]
