"""A checkout that another user may only read, and packages of others that are called as ours are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.frameworks import environments
from common.host.paths import ROOT


@pytest.fixture
def two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The owner's environments and one's own; nothing is installed."""
    owners, own = tmp_path / "checkout" / ".envs", tmp_path / "cache" / "envs"
    monkeypatch.setattr(environments, "SHARED", owners)
    monkeypatch.setattr(environments, "ENVIRONMENTS", own)
    monkeypatch.setattr(environments, "_install", lambda *arguments: None)
    return owners, own


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    stamp = environments._wanted_stamp(environments.requirement_files("sidecar", "cpu"))
    (folder / environments.STAMP).write_text(stamp)
    return folder / "bin" / "python"


def test_the_owners_environment_is_used_while_it_is_current(two_places: tuple[Path, Path]) -> None:
    owners, own = two_places
    python = make(owners / "sidecar-cpu")
    assert environments.is_ready("sidecar", "cpu")
    assert environments.ensure("sidecar", "cpu") == python
    assert not own.exists()
    (owners / "sidecar-cpu" / environments.STAMP).write_text("of other requirements")
    assert environments.ensure("sidecar", "cpu") == own / "sidecar-cpu" / "bin" / "python"
    assert environments.is_ready("sidecar", "cpu")


def test_what_is_added_goes_into_ones_own(two_places: tuple[Path, Path]) -> None:
    owners, own = two_places
    make(owners / "sidecar-cpu")
    assert not environments.is_ready("sidecar", "cpu", notebook=True)
    assert environments.ensure("sidecar", "cpu", notebook=True).is_relative_to(own)
    assert environments.is_ready("sidecar", "cpu", notebook=True)
    assert not (owners / "sidecar-cpu" / environments.NOTEBOOK_STAMP).exists()


def test_no_place_at_all_is_one_line(
    two_places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "file" / "envs")
    with pytest.raises(UserError, match="cannot be written: Not a directory; XDG_CACHE_HOME names another"):
        environments.ensure("sidecar", "cpu")


CODE = "import {name}, common, analysis, images, tests; print(*(m.__file__ for m in (common, analysis, images, tests)), sep='\\n')"


@pytest.mark.parametrize("name", ["images.onnxrt.trial", "common.schema", "analysis.style", "tests.fake_nvml.build"])
def test_packages_of_others_are_not_taken_for_ours(tmp_path: Path, name: str) -> None:
    for package in ("images", "common", "analysis", "tests"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('not ours')")
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(name=name)], cwd=tmp_path.parent, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(Path(file).is_relative_to(ROOT) for file in done.stdout.splitlines())


def test_modules_in_the_callers_folder_are_not_taken_for_ours(tmp_path: Path) -> None:
    for module in ("common", "invoke", "tasks", "rich"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('not ours')")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([ROOT / "invoke", "--version"], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stdout.startswith("invoke "), done.stderr


def test_paths_begin_at_the_callers_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").mkdir()  # the path is found, and is no file
    words = ["bench", "--framework", "onnxrt", "--device", "cpu", "--model", "mine.onnx"]
    done = subprocess.run([ROOT / "invoke", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "mine.onnx is not a file" in done.stderr
