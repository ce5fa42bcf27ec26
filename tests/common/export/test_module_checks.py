"""The first half of the export of a user's own module, as a process: signals, and errors of the module's own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.common.export.conftest import ROOT, environment_python

OWN = """
import time
from pathlib import Path

import torch

class Own(torch.nn.Module):
    def __init__(self, what=None):
        super().__init__()
        self.what = what

    def forward(self, a):
        if self.what == "waits":
            wait()
        if self.what == "interrupts":
            raise KeyboardInterrupt("of its own")
        return a * 2

def wait():
    (Path(__file__).parent / "reached").write_text("")
    time.sleep(60)

def waits_in_forward():
    return Own("waits"), torch.rand(2, 4)

def waits_in_build():
    wait()

def interrupts():
    return Own("interrupts"), torch.rand(2, 4)
"""


def start(tmp_path: Path, function: str) -> subprocess.Popen[str]:
    (tmp_path / "own.py").write_text(OWN)
    return subprocess.Popen(
        [str(environment_python("torch")), "-m", "common.export", "--module", f"{tmp_path}/own.py:{function}",
         "--out", str(tmp_path / "models")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # as in a terminal, also where the tests run in the background of a shell, which ignores SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


@pytest.mark.framework
@pytest.mark.parametrize("function", ["waits_in_forward", "waits_in_build"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_no_error_of_the_users_code(
    tmp_path: Path, function: str, number: signal.Signals, code: int
) -> None:
    exporter = start(tmp_path, function)
    until = time.monotonic() + 120
    while not (tmp_path / "reached").exists() and exporter.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    exporter.send_signal(number)
    _, output = exporter.communicate(timeout=60)
    assert (exporter.returncode, output) == (code, "")
    assert not list(tmp_path.glob("models/*")), "the folder that it was filling is gone"


@pytest.mark.framework
def test_a_keyboard_interrupt_of_the_modules_own_is_one_line(tmp_path: Path) -> None:
    exporter = start(tmp_path, "interrupts")
    _, output = exporter.communicate(timeout=180)
    assert exporter.returncode == 2
    assert (
        output
        == "error: own.py:interrupts does not run with its example inputs 'a' (2, 4): KeyboardInterrupt: of its own\n"
    )
    assert not list(tmp_path.glob("models/*"))
