"""Workbooks: whole or not at all, and no text of others acts in them."""

from __future__ import annotations

import errno
import zipfile
from pathlib import Path

import pytest
from xlsxwriter.workbook import Workbook

from analysis.output.workbook import MOST_CELL_TEXT, workbook


def _texts(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".xml"))


def test_text_of_others_stands_as_text(tmp_path: Path) -> None:
    with workbook(tmp_path / "a.xlsx") as book:
        sheet = book.add_worksheet()
        for row, text in enumerate(["=1+1", "http://127.0.0.1/", "\x1b[31m\u202eabc", "A" * (MOST_CELL_TEXT + 10)]):
            sheet.write_string(row, 0, text)
        for row, number in enumerate([float("nan"), float("inf"), 2.0]):
            sheet.write_number(row, 1, number)
    text = _texts(tmp_path / "a.xlsx")
    assert "<f>" not in text and "<hyperlink " not in text
    assert "\\x1b[31m\\u202eabc" in text and "\u202e" not in text and "_x001B_" not in text
    assert "A" * (MOST_CELL_TEXT - 3) + "..." in text
    assert "<t>nan</t>" in text and "<t>inf</t>" in text and "<v>2</v>" in text


def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"before")

    def full(book: Workbook) -> None:
        Path(book.filename).write_bytes(b"half of")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Workbook, "_store_workbook", full)
    with pytest.raises(OSError, match="No space left") as error, workbook(tmp_path / "a.xlsx") as book:
        book.add_worksheet()
    assert error.value.errno == errno.ENOSPC
    assert [one.name for one in tmp_path.iterdir()] == ["a.xlsx"] and (tmp_path / "a.xlsx").read_bytes() == b"before"
