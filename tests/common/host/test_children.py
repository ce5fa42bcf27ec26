"""What the host starts ends with it, however the host ends, and takes along what it has started itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.host import children
from common.host.paths import ROOT

#: says its own id and its child's; both are deaf to SIGTERM
DEAF_FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
HOST = """
import signal, subprocess, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, say, has it ignored
from common.host import children
children.GRACE_SECONDS = 0.3
with {how} as child:
    print(getattr(child, "process", child).stdout.readline(), end="", flush=True)
    time.sleep(600)
"""
GUARDED = "children.guarded([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE)"
DYING = "subprocess.Popen(children.dying_with_parent([sys.executable, '-c', sys.argv[1]]), stdout=subprocess.PIPE, text=True)"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def host(how: str) -> tuple[subprocess.Popen[str], list[int]]:
    code = HOST.format(how=how)
    process = subprocess.Popen([sys.executable, "-c", code, DEAF_FAMILY], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV])
def test_a_guarded_family_ends_with_the_host(number: signal.Signals) -> None:
    process, family = host(GUARDED)
    assert len(family) == 2 and all(map(is_running, family))
    process.send_signal(number)
    process.wait()
    assert gone(family)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_dies_with_its_parent_does(number: signal.Signals) -> None:
    process, family = host(DYING)
    process.send_signal(number)
    process.wait()
    gone_one = gone(family[:1])
    for pid in family[1:]:
        os.kill(pid, signal.SIGKILL)
    assert gone_one


def test_a_guard_that_is_killed_takes_its_command_along() -> None:
    process, family = host(GUARDED)
    guard = int(Path(f"/proc/{family[0]}/stat").read_text().rpartition(")")[2].split()[1])
    assert guard != process.pid
    os.kill(guard, signal.SIGKILL)
    try:
        assert gone(family[:1])
    finally:
        os.kill(family[1], signal.SIGKILL)
        process.kill()
        process.wait()


def test_what_is_left_at_the_end_of_the_block_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "GRACE_SECONDS", 0.3)
    with (
        pytest.raises(KeyError),
        children.guarded([sys.executable, "-c", DEAF_FAMILY], stdout=subprocess.PIPE) as child,
    ):
        assert child.process.stdout is not None
        family = [int(word) for word in child.process.stdout.readline().split()]
        raise KeyError
    assert gone(family)


@pytest.mark.parametrize("start", [children.run_guarded, lambda words: run_dying(words)])
@pytest.mark.parametrize(
    ("body", "code"), [("pass", 0), ("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", -9), ("os.abort()", -6)]
)
def test_exit_codes_are_the_programs_own(start: Callable[[list[str]], tuple[int, str]], body: str, code: int) -> None:
    words = [sys.executable, "-c", f"import os, sys; print(sys.argv[1:], flush=True); {body}", "a b", "", "$x"]
    assert start(words) == (code, "['a b', '', '$x']\n")


def run_dying(words: list[str]) -> tuple[int, str]:
    done = subprocess.run(children.dying_with_parent(words), stdout=subprocess.PIPE, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", ["none", "text", "."])
def test_a_program_that_cannot_be_started_is_said_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "text").write_text("no program")
    with pytest.raises(OSError):
        children.dying_with_parent([tmp_path / name])
    with pytest.raises(OSError):
        children.run_guarded([tmp_path / name])


def test_no_descriptor_is_left() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        children.run_guarded([sys.executable, "-c", "pass"])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
