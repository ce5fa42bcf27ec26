"""A sealed run is the same run in one file, and what is no sealed run is refused in one line."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.runs.archive import seal, unsealed


def make_run(folder: Path) -> Path:
    (folder / "cells" / "a").mkdir(parents=True)
    (folder / "run.json").write_text(f'{{"run": "{folder.name}"}}')
    (folder / "cells" / "a" / "samples.csv").write_text("i,start_ns\n" + "1,2\n" * 1000)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def archive(path: Path, **entries: str) -> Path:
    with tarfile.open(path, "w:xz") as opened:
        for name, text in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            opened.addfile(entry, io.BytesIO(text.encode()))
    return path


def test_what_comes_out_is_what_went_in(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r1")
    before = files(run)
    sealed = seal(run)
    assert sealed == tmp_path / "r1.tar.xz"
    assert not run.exists()
    assert sealed.stat().st_size < 1000
    folder = unsealed(sealed, tmp_path / "cache")
    assert folder.name == "r1"
    assert files(folder) == before


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (seal(make_run(tmp_path / place / "r1")).read_bytes() for place in ("x", "y"))
    assert one == other


def test_it_is_unpacked_once_and_again_where_files_are_gone(tmp_path: Path) -> None:
    sealed = seal(make_run(tmp_path / "r1"))
    folder = unsealed(sealed, tmp_path / "cache")
    (folder / "mark").touch()
    assert (unsealed(sealed, tmp_path / "cache") / "mark").exists()
    (folder / "run.json").unlink()
    assert (unsealed(sealed, tmp_path / "cache") / "run.json").exists()
    assert [path.name for path in (tmp_path / "cache" / "unsealed").iterdir()] == [folder.parent.name]


@pytest.mark.parametrize("name", ["../r1/run.json", "r1/../../run.json", "/etc/run.json", "other/run.json"])
def test_nothing_is_written_outside_of_the_run(tmp_path: Path, name: str) -> None:
    bad = archive(tmp_path / "r1.tar.xz", **{name: "{}"})
    with pytest.raises(UserError, match="not a run sealed by invoke keep"):
        unsealed(bad, tmp_path / "cache")
    assert list((tmp_path / "cache" / "unsealed").iterdir()) == []


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "r1.tar.xz", "w:xz") as opened:
        entry = tarfile.TarInfo("r1/run.json")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(entry)
    with pytest.raises(UserError, match=r"it holds r1/run\.json"):
        unsealed(tmp_path / "r1.tar.xz", tmp_path / "cache")


def test_a_damaged_file_is_named_in_one_line(tmp_path: Path) -> None:
    sealed = seal(make_run(tmp_path / "r1"))
    whole = sealed.read_bytes()
    for broken in (whole[: len(whole) // 2], b"not xz at all", b"", whole[:60] + b"\0" * 40 + whole[100:]):
        sealed.write_bytes(broken)
        with pytest.raises(UserError, match=r"is damaged|holds no run"):
            unsealed(sealed, tmp_path / "cache")
    assert list((tmp_path / "cache" / "unsealed").iterdir()) == []
