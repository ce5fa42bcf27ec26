"""Versions as an axis, from options to rows: the same cells with each, and a row with the reason for one that cannot be made."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from common.host import cleaning
from common.host.bench.command import bench
from common.host.cleaning import clean
from common.host.frameworks import environments
from common.host.frameworks.versions import Pin
from common.host.paths import DataFolder
from tests.common.host.bench.test_command import OPTIONS, console, data, images

__all__ = ["data", "images"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Pin | None]:
    """Environments of every version but 3.0, all of them this interpreter; returns what was made."""
    requested: list[Pin | None] = []

    def ensure(
        image: str, flavour: str, on_line: object = None, notebook: bool = False, pin: Pin | None = None
    ) -> Path:
        requested.append(pin)
        if pin is not None and pin.version == "3.0":
            raise UserError("numpy==3.0 in images/abacus/requirements-cpu.txt could not be installed: ERROR: none such")
        return Path(sys.executable)

    monkeypatch.setattr(environments, "ensure", ensure)
    monkeypatch.setattr(environments, "is_ready", lambda *arguments, **more: not more.get("pin"))
    monkeypatch.setattr(environments, "interpreter", lambda image, flavour, pin=None: Path(sys.executable))
    return requested


def test_the_same_cells_with_every_version(
    images: Path, data: DataFolder, made: list[Pin | None], capsys: pytest.CaptureFixture[str]
) -> None:
    options = replace(OPTIONS, python="", framework="", version="abacus@1.0,abacus@3.0,abacus@locked", replicates=2)
    out = console()
    run = bench(options, out, data, images).run
    assert made == [Pin("abacus", "numpy", "1.0"), Pin("abacus", "numpy", "3.0")]
    reported = out.file.getvalue()  # type: ignore[attr-defined]
    assert "2 environments to make: numpy==1.0, numpy==3.0" in reported.replace("\n", " ")
    rows = [
        dict(zip(*(line.split(",") for line in path.read_text().splitlines()[:2]), strict=False))
        for path in sorted((run.folder / "cells").glob("*/cell.csv"))
    ]
    found = sorted((row["version"], int(row["batch_size"]), int(row["replicate"]), row["status"]) for row in rows)
    assert found == sorted(
        (version, size, replicate, "unsupported" if version == "3.0" else "ok")
        for version in ("", "1.0", "3.0")
        for size in (1, 8)
        for replicate in (0, 1)
    )
    for row in rows:
        assert ("could not be installed: ERROR: none such" in row["message"]) == (row["version"] == "3.0")
    assert run.finished
    assert run.description["versions"] == {"abacus": ["1.0", "3.0", ""]} or run.description["versions"] == {
        "abacus": ("1.0", "3.0", "")
    }
    assert list((run.folder / "logs").glob("abacus-1.0_*.log")), "the workers' logs are taken"


def test_clean_removes_the_environments_of_versions_alone(
    data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (environments, cleaning):
        monkeypatch.setattr(module, "ENVIRONMENTS", tmp_path / "envs")
    # No engine: images of versions that are on this machine's are somebody's, or those of the engine's tests beside this one.
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    for name in ("onnxrt-cpu", "onnxrt-cpu@onnxruntime-1.30.0"):
        (tmp_path / "envs" / name).mkdir(parents=True)
        (tmp_path / "envs" / name / "file").write_bytes(b"x" * 2**20)
    (tmp_path / "envs" / "onnxrt-cpu.lock").touch()
    for version in ("1.30.0", "9.9"):  # one that was made, and one that could not be
        (tmp_path / "envs" / f"onnxrt-cpu@onnxruntime-{version}.lock").touch()
    out = console()
    clean(data, out, models=False, results=False, cache=False, environments=False, yes=False, versions=True)
    assert sorted(path.name for path in (tmp_path / "envs").iterdir()) == ["onnxrt-cpu", "onnxrt-cpu.lock"]
    assert "1.0 MiB freed" in out.file.getvalue()  # type: ignore[attr-defined]
