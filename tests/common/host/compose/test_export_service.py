"""The export's service writes a folder of its own; the plan's takes a model from there, and nothing that is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.compose import prepare
from common.host.compose.plan import take_exported
from common.host.compose.rendezvous import Meeting
from common.host.models import find_model
from common.host.paths import DataFolder
from tests.common.host.runners.test_exported import NAME, export


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    (tmp_path / "models").mkdir()
    return DataFolder(tmp_path)


@pytest.fixture
def meeting(data: DataFolder) -> Meeting:
    meeting = Meeting(data.root / "compose" / "cpu")
    prepare.make_folders(meeting, data)
    return meeting


def test_a_model_is_taken_and_the_next_sweep_begins_with_downloads_alone(data: DataFolder, meeting: Meeting) -> None:
    export(meeting.models / NAME)
    (meeting.models / ".keras").mkdir()
    (meeting.models / "junk").symlink_to("/etc")
    (meeting.models / "more").mkdir()
    take_exported(meeting, data, "m", None)
    assert find_model(data.models, "m") is not None
    prepare.make_folders(meeting, data)
    assert [path.name for path in meeting.models.iterdir()] == [".keras"]


def test_a_link_in_place_of_the_model_costs_the_export(data: DataFolder, meeting: Meeting, tmp_path: Path) -> None:
    victim = export(tmp_path / "victim")
    (meeting.models / NAME).symlink_to(victim)
    with pytest.raises(UserError, match=r"what the export of m-0+ left is refused: m-0+ is a link"):
        take_exported(meeting, data, "m", None)
    assert list(data.models.iterdir()) == [] and victim.is_dir()
    prepare.make_folders(meeting, data)
    assert list(meeting.models.iterdir()) == [] and victim.is_dir()


def test_a_model_on_another_mount_is_copied(
    data: DataFolder, meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the plan's container both folders are mounts, between which nothing can be renamed."""
    rename = Path.rename

    def within_one(path: Path, target: Path) -> Path:
        if path.is_relative_to(meeting.folder) != Path(target).is_relative_to(meeting.folder):
            raise OSError(18, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", within_one)
    export(meeting.models / NAME)
    take_exported(meeting, data, "m", None)
    model = find_model(data.models, "m")
    assert model is not None and [path.name for path in data.models.iterdir()] == [NAME]
    shutil.rmtree(meeting.models / NAME)
    assert model.lacking() == []
