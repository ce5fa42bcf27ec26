"""Where things lie, also where the data folder may only be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.host import paths
from common.host.paths import DataFolder


@pytest.fixture
def may_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of another user's; root may write everywhere, so the kernel's answer is given here."""
    theirs = tmp_path / "theirs"
    (theirs / "results").mkdir(parents=True)
    answer = os.access

    def access(path: object, mode: int) -> bool:
        return answer(path, mode) and not (mode & os.W_OK and Path(str(path)).is_relative_to(theirs))

    monkeypatch.setattr(paths.os, "access", access)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return theirs


def test_what_is_made_of_runs_goes_to_the_users_cache_where_the_data_folder_may_only_be_read(
    may_not_write: Path,
) -> None:
    data = DataFolder(may_not_write)
    assert data.results == may_not_write / "results", "runs are read where they are"
    own = {data.report, data.host_cache}
    assert {path.name for path in own} == {"report", "host-cache"}
    (parent,) = {path.parent for path in own}
    assert parent.parent == may_not_write.parent / "cache" / "framewatt"
    assert DataFolder(may_not_write / "elsewhere").report.parent != parent, "each data folder has its own"


def test_a_data_folder_of_ones_own_has_them_too(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "not yet there")
    assert data.report == data.root / "report" and data.host_cache == data.root / "host-cache"
    assert not data.root.exists()


def test_a_report_folder_of_others_is_left_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report").mkdir()
    answer = os.access
    monkeypatch.setattr(paths.os, "access", lambda path, mode: answer(path, mode) and Path(path).name != "report")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = DataFolder(tmp_path)
    assert data.report.is_relative_to(tmp_path / "cache")
    assert data.host_cache == tmp_path / "host-cache"


@pytest.mark.parametrize("name", ["report", "host-cache"])
@pytest.mark.parametrize("what", ["file", "broken link"])
def test_what_is_no_folder_is_not_silently_gone_round(tmp_path: Path, name: str, what: str) -> None:
    """A disk that is not mounted: whoever writes there names it in an error."""
    place = tmp_path / name
    if what == "file":
        place.touch(0o400)
    else:
        place.symlink_to(tmp_path / "not mounted")
    data = DataFolder(tmp_path)
    assert {"report": data.report, "host-cache": data.host_cache}[name] == place
    with pytest.raises(OSError, match=name):
        place.mkdir(parents=True, exist_ok=True)


def test_a_link_to_a_folder_that_may_only_be_read_is_gone_round(may_not_write: Path, tmp_path: Path) -> None:
    data = DataFolder(may_not_write / "mine")
    (may_not_write / "elsewhere").mkdir()
    data.root.mkdir()
    (data.root / "report").symlink_to(may_not_write / "elsewhere")
    assert data.report.is_relative_to(tmp_path / "cache")
