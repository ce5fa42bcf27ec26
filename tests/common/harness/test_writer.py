"""The files of a cell read back as what was written."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path

import pytest

from common import schema
from common.harness import cell_folder
from common.harness.cell_folder import CannotWrite
from common.harness.writer import write_cell

ROW = {"cell_key": "k", "status": "crashed", "message": 'a "quoted", odd one', "batch_size": 8}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_the_schemas_columns_and_empty_means_unknown(tmp_path: Path) -> None:
    write_cell(
        tmp_path, ROW, [("import", 5, 7), ("load", 8, None)], [10, 20], [15, 26], device_times=[(1, 9, 4)],
    )  # fmt: skip
    folder = tmp_path / "cells" / "k"
    for file in folder.iterdir():
        with file.open(newline="") as lines:
            assert next(csv.reader(lines)) == schema.header(file.name)
    (row,) = rows(folder / "cell.csv")
    assert (row["message"], row["batch_size"], row["parity_rel_l2"]) == (ROW["message"], "8", "")
    assert [tuple(p.values()) for p in rows(folder / "phases.csv")] == [("import", "5", "7"), ("load", "8", "")]
    assert (folder / "samples.csv").read_text() == "i,start_ns,end_ns,scheduled_ns\n0,10,15,\n1,20,26,\n"
    assert (folder / "device_times.csv").read_text() == "i,start_ns,end_ns,device_ns\n0,1,9,4\n"


def test_no_samples_is_a_header_and_no_device_times_is_no_file(tmp_path: Path) -> None:
    write_cell(tmp_path, ROW, [])
    assert (tmp_path / "cells" / "k" / "samples.csv").read_text() == "i,start_ns,end_ns,scheduled_ns\n"
    assert not (tmp_path / "cells" / "k" / "device_times.csv").exists()


def test_many_samples_are_numbered_through(tmp_path: Path) -> None:
    count = 150_000
    starts = list(range(10**15, 10**15 + 3 * count, 3))
    write_cell(tmp_path, ROW, [], starts, [s + 1 for s in starts], [s - 1 for s in starts])
    lines = (tmp_path / "cells" / "k" / "samples.csv").read_text().splitlines()
    assert len(lines) == count + 1
    assert lines[-1] == f"{count - 1},{starts[-1]},{starts[-1] + 1},{starts[-1] - 1}"
    assert lines[65537] == f"65536,{starts[65536]},{starts[65536] + 1},{starts[65536] - 1}"


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")],
)
@pytest.mark.parametrize("moment", ["fsync", "mkdir", "rename"])
def test_a_disk_that_takes_no_more_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str, moment: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((os, "fsync") if moment == "fsync" else (Path, moment)), refuse)
    with pytest.raises(CannotWrite, match=f"cannot write cell k: .*{words}"):
        write_cell(tmp_path, ROW, [])
    monkeypatch.undo()
    assert not cell_folder.exists(tmp_path, "k")
    assert not list(tmp_path.glob(f"{cell_folder.UNFINISHED}/*"))


def test_a_column_that_the_schema_does_not_know_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no column speed"):
        write_cell(tmp_path, {**ROW, "speed": 3}, [])
    assert not cell_folder.exists(tmp_path, "k")
