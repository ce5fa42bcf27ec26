"""What is written whole: an error in the middle leaves what was there, and nothing beside it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.whole_files import check_target, check_targets, whole, write_text


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    path.write_text("before")
    path.chmod(0o600)
    with whole(path) as part:
        part.write_text("after")
        assert part.suffix == ".md" and path.read_text() == "before"
    assert path.read_text() == "after" and path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["table.md"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left"), KeyboardInterrupt(), ValueError("x")])
@pytest.mark.parametrize("before", ["before", None])
def test_nothing_is_left_of_one_that_was_not_finished(tmp_path: Path, error: BaseException, before: str | None) -> None:
    path = tmp_path / "table.md"
    if before is not None:
        path.write_text(before)
    with pytest.raises(type(error)), whole(path) as part:
        part.write_text("half of")
        raise error
    assert [one.name for one in tmp_path.iterdir()] == ([] if before is None else ["table.md"])
    assert before is None or path.read_text() == before


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "real.md", tmp_path / "link.md"
    link.symlink_to(target)
    write_text(link, "text")
    assert link.is_symlink() and target.read_text() == "text"


def test_what_is_no_file_is_written_to_as_it_is() -> None:
    write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "table.md", "text")


def test_places_that_cannot_be_written_are_named_before_any_work(tmp_path: Path) -> None:
    check_targets(tmp_path / "a" / "b", ("report.html",))
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UserError, match="file: it is a file, and has to be a folder; move it away"):
        check_targets(tmp_path / "file")
    with pytest.raises(UserError, match=r"report.html: it is a folder, and has to be a file; move it away"):
        check_targets(tmp_path, ("report.html",))
    check_targets(tmp_path / ("x" * 300), ("report.html",))  # what makes the folder says that the name is too long


def test_a_file_that_cannot_come_to_be_is_told_before_any_work(tmp_path: Path) -> None:
    check_target(tmp_path / "new.json")
    check_target(Path("/dev/stdout"))
    with pytest.raises(UserError, match="there is no folder"):
        check_target(tmp_path / "none" / "new.json")
    with pytest.raises(UserError, match="it is a folder"):
        check_target(tmp_path)
