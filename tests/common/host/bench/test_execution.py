"""A run whose terminal is gone: a window that was closed, a connection that was lost."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from common.host.paths import ROOT, DataFolder
from tests.common.host.bench.test_command import OPTIONS, QUICK, data, images

__all__ = ["data", "images"]

#: `invoke bench` of a toy: arguments are the options, the data folder and the folder of frameworks
TASK = """
import json, sys
from pathlib import Path
import tasks
from common.host import signals
from common.host.bench.command import bench
from common.host.cli.command_line import for_people
from common.host.cli.console import default_console
from common.host.paths import DataFolder
from common.host.plan.options import Options

@for_people
def task(options, folder, images):
    console, data = default_console(), DataFolder(Path(folder))
    tasks._finish(bench(Options(**json.loads(options)), console, data, Path(images)), console, data)

signals.install()
task(*sys.argv[1:])
sys.stdout.flush()
"""


def ended_without_terminal(images: Path, data: DataFolder, before: Callable[[], object], errors: Path) -> int:
    """The exit code of such a bench on a terminal of its own, which goes away after the first of its four cells."""
    options = replace(OPTIONS, batch_sizes="1,2,3,4", settings={**QUICK, "min_seconds": 0.4, "max_seconds": 0.6})
    words = [json.dumps(asdict(options)), str(data.root), str(images)]
    master, slave = pty.openpty()

    def on_its_own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        before()

    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", TASK, *words], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
            stdin=slave, stdout=slave, stderr=stderr, start_new_session=True, preexec_fn=on_its_own_terminal,
        )  # fmt: skip
    os.close(slave)
    shown = b""
    with suppress(OSError):  # it has ended
        while b"[1/4]" not in shown:
            shown += os.read(master, 4096)
    os.close(master)
    code = process.wait(timeout=100)
    assert b"[1/4]" in shown, shown
    return code


@pytest.mark.parametrize("ignores", [False, True])
def test_a_lost_terminal_ends_a_run_tidily_unless_that_is_ignored(
    ignores: bool, images: Path, data: DataFolder, tmp_path: Path
) -> None:
    def before() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignores else signal.SIG_DFL)

    code = ended_without_terminal(images, data, before, tmp_path / "errors")
    assert "Traceback" not in (tmp_path / "errors").read_text()
    (run,) = data.results.glob("*/run.json")
    described = json.loads(run.read_text())
    cells = list(run.parent.glob("cells/[!.]*"))
    assert {"power", "sidecar"} <= described.keys()
    if ignores:
        assert (code, len(cells)) == (0, 4) and described["finished_utc"]
    else:
        assert code == 129 and 1 <= len(cells) < 4 and not described["finished_utc"]
