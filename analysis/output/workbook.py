"""Excel workbooks, written whole or not at all."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xlsxwriter
from xlsxwriter.exceptions import FileCreateError, FileSizeError
from xlsxwriter.worksheet import Worksheet

from common.host.whole_files import whole
from common.text import shortened, visible

#: more than this Excel does not open
MOST_CELL_TEXT = 32_767


class _Sheet(Worksheet):  # type: ignore[misc]
    """Text that others wrote is shown as it is, and fits; what is no number for Excel stands as text."""

    def write_string(self, row: int, column: int, text: str, *more: Any) -> Any:
        return super().write_string(row, column, shortened(visible(text), MOST_CELL_TEXT), *more)

    def write_number(self, row: int, column: int, number: float, *more: Any) -> Any:
        if not math.isfinite(number):
            return self.write_string(row, column, str(number), *more)
        return super().write_number(row, column, number, *more)


class _Book(xlsxwriter.Workbook):  # type: ignore[misc]
    worksheet_class = _Sheet


@contextmanager
def workbook(path: Path) -> Iterator[Any]:
    """An xlsxwriter.Workbook that takes the place of `path` at the block's end.

    No text in it becomes a formula or a link: cells are written by write_string and write_number. Raises OSError, as files
    do, where xlsxwriter has errors of its own.
    """
    try:
        with whole(path) as part, tempfile.TemporaryDirectory(prefix="framewatt-excel-") as scratch:
            options = {"strings_to_formulas": False, "strings_to_urls": False, "tmpdir": scratch}
            with _Book(str(part), options) as book:
                yield book
    except FileCreateError as error:
        cause = error.args[0]
        number = getattr(cause, "errno", None) or errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
    except FileSizeError as error:
        raise OSError(errno.EFBIG, "Excel takes no table of this size", str(path)) from error
