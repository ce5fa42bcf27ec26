"""A sealed run is the same run in one file, and what is no sealed run is refused in one line."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.host.runs import archive as sealed_runs
from common.host.runs.archive import seal, unpacked


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
    folder = unpacked(sealed, tmp_path / "cache")
    assert folder.name == "r1"
    assert files(folder) == before


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (seal(make_run(tmp_path / place / "r1")).read_bytes() for place in ("x", "y"))
    assert one == other


def unpacked_at(folder: Path) -> int:
    return (folder / "run.json").stat().st_ino


def test_it_is_unpacked_once(tmp_path: Path) -> None:
    sealed = seal(make_run(tmp_path / "r1"))
    first = unpacked_at(unpacked(sealed, tmp_path / "cache"))
    assert unpacked_at(unpacked(sealed, tmp_path / "cache")) == first


def edit_in_place(folder: Path) -> None:
    path = folder / "cells" / "a" / "samples.csv"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"2", b"4"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a thorough one would


def put_a_link(folder: Path) -> None:
    path = folder / "cells" / "a" / "samples.csv"
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


def note_of(folder: Path) -> Path:
    return folder.parent.with_name(folder.parent.name + ".note")


def in_its_place(path: Path, make: Any) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    make(path)


@pytest.mark.parametrize(
    "change",
    [
        edit_in_place,
        put_a_link,
        lambda folder: (folder / "run.json").unlink(),
        lambda folder: (folder / "power.csv").write_text("t_ns"),
        lambda folder: (folder / "cells" / "b").mkdir(),
        lambda folder: folder.parent.with_name(folder.parent.name + ".note").unlink(),
        lambda folder: folder.parent.with_name(folder.parent.name + ".note").write_text("x"),
        lambda folder: in_its_place(note_of(folder), Path.mkdir),
        lambda folder: in_its_place(note_of(folder), lambda path: path.symlink_to("/dev/zero")),
        lambda folder: in_its_place(note_of(folder), os.mkfifo),
        lambda folder: in_its_place(folder.parent, lambda path: path.symlink_to(path.parent)),
        lambda folder: in_its_place(folder.parent, Path.touch),
    ],
    ids=[
        "edited",
        "linked",
        "removed",
        "added",
        "folder",
        "note gone",
        "note edited",
        "note a folder",
        "note a link",
        "note a FIFO",
        "all a link",
        "all a file",
    ],
)
def test_what_was_changed_since_is_unpacked_anew(tmp_path: Path, change: Any) -> None:
    run = make_run(tmp_path / "r1")
    before = files(run)
    sealed = seal(run)
    change(unpacked(sealed, tmp_path / "cache"))
    assert files(unpacked(sealed, tmp_path / "cache")) == before
    assert not [path for path in (tmp_path / "cache" / "unsealed").iterdir() if path.name.startswith(".")]


def test_an_archive_of_another_name_is_another_run(tmp_path: Path) -> None:
    sealed = seal(make_run(tmp_path / "r1"))
    unpacked(sealed, tmp_path / "cache")
    other = tmp_path / "r2.tar.xz"
    other.write_bytes(sealed.read_bytes())
    with pytest.raises(UserError, match=r"holds the run r1: give it its name again, r1.tar.xz"):
        unpacked(other, tmp_path / "cache")


class Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


def bomb(path: Path, *members: tuple[str, int], pax: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:xz", preset=0, format=tarfile.PAX_FORMAT) as opened:
        for name, size in members:
            entry = tarfile.TarInfo(name)
            entry.size = size
            entry.pax_headers = pax or {}
            opened.addfile(entry, Zeros(size))
    return path


def left_in(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_a_small_file_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    archive = bomb(tmp_path / "r.tar.xz", ("r/cells/k/samples.csv", 200 * 2**20), ("r/run.json", 2))
    with pytest.raises(UserError, match="holds more than 16 MiB, 100 times its own size"):
        unpacked(archive, tmp_path / "cache")
    assert left_in(tmp_path / "cache") == []


def test_many_small_members_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_runs, "MOST_FILES", 3)
    archive = bomb(tmp_path / "r.tar.xz", *((f"r/cells/k{i}/cell.csv", 1) for i in range(5)))
    with pytest.raises(UserError, match="more than 3 files"):
        unpacked(archive, tmp_path / "cache")
    assert left_in(tmp_path / "cache") == []


def test_headers_without_end(tmp_path: Path) -> None:
    archive = bomb(tmp_path / "r.tar.xz", ("r/run.json", 2), pax={"comment": "x" * 2**22})
    with pytest.raises(UserError, match="damaged"):
        unpacked(archive, tmp_path / "cache")


def test_an_archive_that_asks_for_more_memory_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = seal(make_run(tmp_path / "r"))
    monkeypatch.setattr(sealed_runs, "MOST_MEMORY", 2**20)
    with pytest.raises(UserError, match="damaged: Memory usage limit"):
        unpacked(archive, tmp_path / "cache")


@pytest.mark.parametrize("name", ["r/other.csv", "r/cells/k/adapter.py", "r/cells/k/deep/cell.csv", "r/cells/.k/cell.csv",
                                  "r/cells/k\n/cell.csv", "r/cells/k\x1b[31m/cell.csv",
                                  "./r/run.json", "r//run.json", "/r/run.json"])  # fmt: skip
def test_a_member_that_no_run_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is not a run sealed by invoke keep: it holds") as caught:
        unpacked(archive(tmp_path / "r.tar.xz", **{name: "x"}), tmp_path / "cache")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert left_in(tmp_path / "cache") == []


def test_a_member_twice(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "r.tar.xz", "w:xz") as opened:
        for text in (b"{}", b"[]"):
            entry = tarfile.TarInfo("r/run.json")
            entry.size = len(text)
            opened.addfile(entry, io.BytesIO(text))
    with pytest.raises(UserError, match="twice"):
        unpacked(tmp_path / "r.tar.xz", tmp_path / "cache")


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_called_so(tmp_path: Path, kept: float) -> None:
    sealed = seal(make_run(tmp_path / "r1"))
    raw = sealed.read_bytes()
    sealed.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(UserError, match=r"r1.tar.xz is cut off: it ends before"):
        unpacked(sealed, tmp_path / "cache")


@pytest.mark.parametrize("name", ["../r1/run.json", "r1/../../run.json", "/etc/run.json", "other/run.json"])
def test_nothing_is_written_outside_of_the_run(tmp_path: Path, name: str) -> None:
    bad = archive(tmp_path / "r1.tar.xz", **{name: "{}"})
    with pytest.raises(UserError, match=r"not a run sealed by invoke keep|holds the run other"):
        unpacked(bad, tmp_path / "cache")
    assert list((tmp_path / "cache" / "unsealed").iterdir()) == []


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "r1.tar.xz", "w:xz") as opened:
        entry = tarfile.TarInfo("r1/run.json")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(entry)
    with pytest.raises(UserError, match=r"it holds 'r1/run\.json'"):
        unpacked(tmp_path / "r1.tar.xz", tmp_path / "cache")


def test_a_damaged_file_is_named_in_one_line(tmp_path: Path) -> None:
    sealed = seal(make_run(tmp_path / "r1"))
    whole = sealed.read_bytes()
    for broken in (whole[: len(whole) // 2], b"not xz at all", b"", whole[:60] + b"\0" * 40 + whole[100:]):
        sealed.write_bytes(broken)
        with pytest.raises(UserError, match=r"is damaged|is cut off|holds no run"):
            unpacked(sealed, tmp_path / "cache")
    assert list((tmp_path / "cache" / "unsealed").iterdir()) == []
