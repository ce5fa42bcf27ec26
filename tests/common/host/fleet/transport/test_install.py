"""How Ray comes into .venv: by its own lock, which agrees with the other one and with pyproject.toml."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.fleet.transport import install
from common.host.paths import ROOT


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def test_the_two_locks_agree() -> None:
    fleet, others = pins(install.LOCK), pins(ROOT / "requirements.lock")
    assert {name: others[name] for name in fleet.keys() & others.keys()} == {
        name: fleet[name] for name in fleet.keys() & others.keys()
    }
    assert "ray" in fleet.keys() - others.keys()


def test_every_package_of_the_lock_has_hashes() -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", install.LOCK.read_text())
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)


def test_the_locks_ray_is_one_that_pyproject_takes() -> None:
    (wanted,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["fleet"]
    least = tuple(map(int, wanted.removeprefix("ray>=").split(".")))
    assert tuple(map(int, pins(install.LOCK)["ray"].split("."))) >= least
    assert f"echo '{wanted}'" in install.LOCK.read_text()


def test_a_ray_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "is_installed", lambda: True)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))
    install.install()


def test_what_pip_says_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "is_installed", lambda: False)
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "LOCK", tmp_path / "requirements-fleet.lock")
    (tmp_path / "requirements-fleet.lock").write_text("ray==0.0.0.1 --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match=r"Ray could not be installed from requirements-fleet\.lock: ERROR: "):
        install.install()
