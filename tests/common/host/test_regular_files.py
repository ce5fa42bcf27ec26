"""Only files are opened, none without a bound."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from common.host import regular_files


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert regular_files.read(tmp_path / "a", 3) == b"abc"
    with pytest.raises(OSError, match="larger than 0 KiB"):
        regular_files.read(tmp_path / "a", 2)


def test_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        for name, kind in {
            "link": "a link",
            "zero": "a link",
            "folder": "a folder",
            "fifo": "a FIFO",
            "socket": "a socket",
        }.items():
            assert regular_files.kind_of(tmp_path / name) == kind
            with pytest.raises(OSError, match=f"it is {kind}, not a file"):
                regular_files.read(tmp_path / name, 10)
    assert regular_files.kind_of("/dev/zero") == "a device"
    with pytest.raises(OSError, match="it is a device"):
        regular_files.read("/dev/zero", 10)
    with pytest.raises(FileNotFoundError):
        regular_files.read(tmp_path / "none", 10)


def test_a_link_that_the_user_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert regular_files.read(tmp_path / "link", 10, follow=True) == b"abc"
    with pytest.raises(OSError, match="a device"):
        regular_files.read(tmp_path / "zero", 10, follow=True)
