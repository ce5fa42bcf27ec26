"""A signal ends an export, or any other task, as tidily as Ctrl-C does, and the exit code says which one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.host import signals
from tests.common.export.conftest import ROOT

#: A task that has an exporter make a folder and then work for ever.
TASK = '''
import os, sys
from pathlib import Path
from common.held_folders import nothing_left
from common.host import models, signals
from common.host.cli.command_line import for_people

EXPORTER = """
import json, os, tempfile, time
tempfile.mkdtemp(prefix=".tmp-" + os.environ["FRAMEWATT_FOLDERS_OF"], dir=os.environ["FOLDER"])
print(json.dumps({"step": 1, "steps": 2, "name": "work"}), flush=True)
time.sleep(600)
"""

@for_people
def task():
    with nothing_left(Path(os.environ["FOLDER"])) as owner:
        environment = {**os.environ, "FRAMEWATT_FOLDERS_OF": owner}
        models._run([sys.executable, "-c", EXPORTER], environment, "m", lambda *step: print(step, flush=True))

signals.install()
task()
'''


@pytest.fixture(autouse=True)
def hears_sighup() -> Iterator[None]:
    """Also where the tests were started by nohup, whose children would all ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def started(folder: Path, before: Callable[[], object] | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for variable, name in (("TMPDIR", "logs"), ("FOLDER", "models")):
        (folder / name).mkdir()
        environment[variable] = str(folder / name)
    process = subprocess.Popen(
        [sys.executable, "-c", TASK], env=environment, cwd=ROOT, text=True, preexec_fn=before,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "(1, 2, 'work')\n"
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["INT", "TERM", "HUP"]
)
def test_an_export_leaves_nothing_behind(number: signal.Signals, code: int, tmp_path: Path) -> None:
    process = started(tmp_path)
    assert list((tmp_path / "models").iterdir())
    assert list((tmp_path / "logs").iterdir())
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, "interrupted\n")
    assert [*(tmp_path / "models").iterdir(), *(tmp_path / "logs").iterdir()] == []


def test_what_ignores_a_hang_up_goes_on(tmp_path: Path) -> None:
    """As nohup has it."""
    process = started(tmp_path, lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_signals_wait_for_the_end_of_a_block() -> None:
    reached = False
    with signals.as_interrupts():
        with pytest.raises(KeyboardInterrupt), signals.deferred():
            signal.raise_signal(signal.SIGHUP)
            reached = True
        assert (reached, signals.exit_code()) == (True, 129)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert signals.exit_code() == 143
    with pytest.raises(KeyboardInterrupt), signals.deferred():
        signal.raise_signal(signal.SIGINT)
    assert signals.exit_code() == 130
