from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.readers import fingerprints
from analysis.readers.run_folder import scan
from tests.analysis.conftest import Build, RunBuilder

MS = 10**6


@pytest.fixture
def run(build: Build) -> RunBuilder:
    made = build()
    made.cell("onnxrt", 8, durations_ns=[MS] * 20)
    made.cell("torch", 8, status="crashed", message="no")
    (made.folder / "cells" / ".hidden").mkdir()
    (made.folder / "cells" / "a file").write_text("")
    return made


def test_a_scan_sees_what_is_looked_at_again(run: Any) -> None:
    found = scan("run", run.folder)
    assert found.names == ("cell.csv", "phases.csv", "samples.csv")
    assert fingerprints.of_run(str(run.folder), found.names) == found.fingerprint


def _same_size_and_time(folder: Path) -> None:
    path = next(folder.glob("cells/*onnxrt*/samples.csv"))
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"0,", b"1,", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


CHANGES: dict[str, Callable[[Path], object]] = {
    "written with its old time put back": _same_size_and_time,
    "a file more in a cell": lambda folder: next(folder.glob("cells/*torch*")).joinpath("passes.csv").write_text(""),
    "a file less in a cell": lambda folder: next(folder.glob("cells/*onnxrt*/samples.csv")).unlink(),
    "a file of another name": lambda folder: next(folder.glob("cells/*onnxrt*/samples.csv")).rename(folder / "x.txt"),
    "a cell more": lambda folder: folder.joinpath("cells", "new").mkdir(),
    "a cell of another name": lambda folder: next(folder.glob("cells/*torch*")).rename(folder / "cells" / "z"),
    "a cell less": lambda folder: next(folder.glob("cells/*torch*")).rename(folder / "z"),
    "a power file more": lambda folder: folder.joinpath("power-1.csv").write_text(""),
    "run.json": lambda folder: folder.joinpath("run.json").write_text("{ }"),
    "no cells": lambda folder: folder.joinpath("cells").rename(folder / "z"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_changes_it(run: Any, change: str) -> None:
    found = scan("run", run.folder)
    CHANGES[change](run.folder)
    assert fingerprints.of_run(str(run.folder), found.names)[0] != found.fingerprint[0]
    again = scan("run", run.folder)
    assert fingerprints.of_run(str(run.folder), again.names) == again.fingerprint


def test_helpers_find_the_same(run: Any, build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = build("naïve run \n2")
    other.cell("onnxrt", 8, durations_ns=[MS] * 20)
    names = {str(one.folder): scan("x", one.folder).names for one in (run, other)} | {str(tmp_path / "gone"): ()}
    here = fingerprints.begin(names, 0)()
    assert set(here) == {str(run.folder), str(other.folder)}
    monkeypatch.setattr(fingerprints.os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert fingerprints.begin(names, fingerprints.MANY_FILES)() == here


def test_helpers_that_cannot_be_had(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {str(run.folder): scan("x", run.folder).names}
    here = fingerprints.begin(names, 0)()
    monkeypatch.setattr(fingerprints.os, "sched_getaffinity", lambda _: {0, 1})
    for executable in ("/nonexistent", "/bin/false"):
        monkeypatch.setattr(fingerprints.sys, "executable", executable)
        assert fingerprints.begin(names, fingerprints.MANY_FILES)() == here
