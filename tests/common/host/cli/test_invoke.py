"""./invoke itself, where the Python of .venv cannot be run: one that is gone is replaced, another user's is said."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.host.paths import ROOT

#: a Python that knows how to make an environment with itself in it, and says what else it is asked for
PYTHON = """#!/usr/bin/env bash
case "$1 $2" in
  "-c "*) exit 0 ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip") touch "${0%/*}/invoke" && chmod +x "${0%/*}/invoke"; [ ! -e "${0%/*}/../../offline" ] ;;
  *) echo "runs: ${*: -1}" ;;
esac
"""
NOBODY = 65534


@pytest.fixture
def checkout() -> Iterator[Path]:
    """Where another user may look, which is not so below pytest's folders."""
    folder = Path(tempfile.mkdtemp(prefix="framewatt's test-"))
    folder.chmod(0o755)
    for name in ("invoke", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    binaries = folder / ".venv/bin"
    binaries.mkdir(parents=True)
    (binaries / "invoke").write_text("#!/bin/sh\n")
    (binaries / "invoke").chmod(0o755)
    digest = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
    (folder / ".venv/.framewatt-lock").write_text(f"{digest} 2\n")
    yield folder
    shutil.rmtree(folder)


def run(checkout: Path, user: int | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "FRAMEWATT_PYTHON": str(checkout / "python"), "HOME": str(checkout)}
    return subprocess.run(
        [str(checkout / "invoke"), "--version"], env=environment, cwd=checkout, user=user, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_an_environment_whose_python_is_there_is_taken(checkout: Path) -> None:
    shutil.copy(checkout / "python", checkout / ".venv/bin/python")
    done = run(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "runs: --version\n", "")


def test_an_environment_whose_python_is_gone_is_made_again(checkout: Path) -> None:
    (checkout / ".venv/bin/python").symlink_to("/nowhere/python3")
    done = run(checkout)
    assert (done.returncode, done.stdout) == (0, "runs: --version\n")
    assert done.stderr.startswith("Setting up .venv")


def test_an_environment_that_was_made_half_is_made_again(checkout: Path) -> None:
    (checkout / ".venv/bin/python").symlink_to("/nowhere/python3")
    (checkout / "offline").touch()
    assert run(checkout).returncode == 2
    assert os.access(checkout / ".venv/bin/invoke", os.X_OK), "half of the packages are there"
    (checkout / "offline").unlink()
    done = run(checkout)
    assert (done.returncode, done.stdout) == (0, "runs: --version\n")
    assert done.stderr.startswith("Setting up .venv")


as_another_user = pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="only root can be another user"
)


@as_another_user
@pytest.mark.parametrize("has_python", [False, True])
def test_what_another_user_is_just_making_is_not_taken_for_a_private_python(checkout: Path, has_python: bool) -> None:
    (checkout / ".venv/.framewatt-lock").unlink()
    (checkout / ".venv.lock").touch(mode=0o644)
    checkout.chmod(0o777)
    if has_python:
        shutil.copy(checkout / "python", checkout / ".venv/bin/python")
    done = run(checkout, NOBODY)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {checkout}/.venv is another user's and not complete: ")
    assert done.stderr.count("\n") == 1


@as_another_user
def test_another_users_private_python_is_one_line(checkout: Path) -> None:
    private = checkout / "home"
    private.mkdir(mode=0o700)
    shutil.copy(checkout / "python", private / "python")
    (checkout / ".venv/bin/python").symlink_to(private / "python")
    checkout.chmod(0o777)
    done = run(checkout, NOBODY)
    assert (done.returncode, done.stdout) == (2, "")
    (command,) = re.findall(r"rm -r (.+?);", done.stderr)
    assert shlex.split(command) == [f"{checkout}/.venv"]
    assert done.stderr.startswith(f"error: {checkout}/.venv/bin/python cannot be run by you: ")
    assert done.stderr.count("\n") == 1
