"""What `selfbench --docker` leaves behind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.errors import UserError
from common.held_folders import is_held
from common.host.paths import DataFolder
from common.host.selfbench import containers
from common.host.verify.command import SideEnded


def test_its_folder_is_one_that_clean_knows_and_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    users = DataFolder(tmp_path / "data")
    monkeypatch.setattr(DataFolder, "default", lambda: users)
    monkeypatch.setattr(containers.engine, "connect", lambda: None)
    monkeypatch.setattr(containers, "Bench", lambda *arguments: None)
    seen: list[Path] = []

    def rounds(bench: Any, folder: Path, *arguments: Any) -> list[list[float]]:
        assert is_held(folder) and folder.parent == temporary
        assert (folder / "data" / "models").resolve() == users.models.resolve()
        seen.append(folder)
        raise SideEnded("the container: it is tired")

    monkeypatch.setattr(containers, "container_rounds", rounds)
    with pytest.raises(UserError, match="it is tired"):
        containers.measure(Console(quiet=True))
    assert seen[0].name.startswith("framewatt-docker-")
    assert not list(temporary.iterdir())
    assert users.models.is_dir()
