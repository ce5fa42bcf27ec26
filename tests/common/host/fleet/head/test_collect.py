"""Files arrive whole, or not at all: hashes, order, names, a full disk, and what a killed collector leaves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.host.fleet.head.collect import Corrupt, Receiving, repair

KEY = "M_good_fp32_b0001_host_single-stream_script_gpu0_r0"


def piece(path: str, data: bytes, offset: int = 0) -> dict[str, Any]:
    return {"path": path, "offset": offset, "data": data, "sha256": hashlib.sha256(data).hexdigest()}


def whole(**files: bytes) -> dict[str, Any]:
    return {f"cells/{KEY}/{name}.csv": [len(data), hashlib.sha256(data).hexdigest()] for name, data in files.items()}


@pytest.fixture
def receiving(tmp_path: Path) -> Receiving:
    found = Receiving(tmp_path / "results" / "run")
    found.take([piece("run.json", b'{"run": "elsewhere", "fleet": {"target": "A2-1"}}')])
    return found


def test_a_cell_appears_when_all_of_it_is_here(receiving: Receiving) -> None:
    receiving.take([piece(f"cells/{KEY}/samples.csv", b"one\n"), piece("power.csv", b"1\n")])
    receiving.take([piece(f"cells/{KEY}/samples.csv", b"two\n", 4)])
    assert not (receiving.folder / "cells").exists()
    last = [
        piece(f"cells/{KEY}/samples.csv", b"three\n", 8),
        piece(f"cells/{KEY}/cell.csv", b"row\n"),
        piece("power.csv", b"2\n", 2),
    ]
    receiving.cell(KEY, whole(cell=b"row\n", samples=b"one\ntwo\nthree\n"), last)
    assert (receiving.folder / "power.csv").read_bytes() == b"1\n2\n"
    assert (receiving.folder / "cells" / KEY / "samples.csv").read_bytes() == b"one\ntwo\nthree\n"
    receiving.end()
    assert sorted(path.name for path in receiving.folder.iterdir()) == ["cells", "power.csv", "run.json"]


@pytest.mark.parametrize(
    ("pieces", "of_cell", "words"),
    [
        ([piece("power.csv", b"x") | {"data": b"y"}], None, "another hash"),
        ([piece("../../escape", b"x")], None, "no file of a run"),
        ([piece("/etc/escape", b"x")], None, "no file of a run"),
        ([piece(f"cells/{KEY}/deep/cell.csv", b"x")], None, "no file of a run"),
        ([piece("power.csv", b"x", 7)], None, "without its beginning"),
        ([piece("power.csv", b"x"), piece("power.csv", b"x", 7)], None, "has 1 bytes, the next piece begins at 7"),
        ([piece("run.json", b"{")], None, "not JSON"),
        ([piece(f"cells/{KEY}/cell.csv", b"row\n")], whole(cell=b"other\n"), "is not what the host has"),
        ([piece(f"cells/{KEY}/cell.csv", b"row\n")], whole(cell=b"row\n", samples=b""), "is not what the host has"),
        ([piece(f"cells/{KEY}/samples.csv", b"")], whole(samples=b""), "came without its row"),
    ],
)
def test_what_was_not_sent_like_this_is_refused(
    receiving: Receiving, tmp_path: Path, pieces: list[dict[str, Any]], of_cell: dict[str, Any] | None, words: str
) -> None:
    with pytest.raises(Corrupt, match=words):
        receiving.take(pieces)
        if of_cell is not None:
            receiving.cell(KEY, of_cell)
    assert not (receiving.folder / "cells" / KEY).exists()
    assert not (tmp_path / "escape").exists()
    receiving.end()
    assert not (receiving.folder / "unfinished").exists()


def test_a_key_that_is_a_path_is_refused(receiving: Receiving) -> None:
    for key in ("../x", "", "a/b"):
        with pytest.raises(Corrupt):
            receiving.cell(key, {})


def test_a_lost_attempt_says_so_in_its_run(receiving: Receiving) -> None:
    receiving.facts["host"] = "east"
    receiving.take([piece("run.json", b'{"finished_utc": null, "fleet": {"target": "A2-1"}}')])
    receiving.cell(KEY, whole(cell=b"row\n"), [piece(f"cells/{KEY}/cell.csv", b"row\n")])
    receiving.end("the host was lost")
    description = json.loads((receiving.folder / "run.json").read_text())
    assert description["run"] == "run", "a run is called as its folder"
    assert description["fleet"]["target"] == "A2-1"
    assert description["fleet"]["host"] == "east"
    assert description["fleet"]["ended"]["reason"] == "the host was lost"
    assert description["finished_utc"] is None


def test_an_attempt_that_brought_no_cell_leaves_no_folder(receiving: Receiving, tmp_path: Path) -> None:
    Receiving(tmp_path / "run").end("the host was lost")
    assert not (tmp_path / "run").exists()
    receiving.end("the host was lost")
    assert not receiving.folder.exists()


def test_a_disk_that_takes_no_more_is_one_line(receiving: Receiving) -> None:
    (receiving.folder / "power.csv").mkdir()
    with pytest.raises(UserError, match=r"power\.csv cannot be written: is a directory"):
        receiving.take([piece("power.csv", b"x")])


def test_what_a_killed_collector_left_is_made_fit_to_be_read(receiving: Receiving) -> None:
    receiving.take([piece("power.csv", b"head\nrow\nhalf a r"), piece(f"cells/{KEY}/cell.csv", b"row\n")])
    receiving.take([piece("attempts.csv", b"head\nrow\n")])
    repair(receiving.folder)
    assert (receiving.folder / "power.csv").read_bytes() == b"head\nrow\n"
    assert (receiving.folder / "attempts.csv").read_bytes() == b"head\nrow\n"
    assert not (receiving.folder / "unfinished").exists()
