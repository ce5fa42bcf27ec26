"""What the words on a command line mean as runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from common.host.paths import DataFolder
from common.host.runs.archive import seal
from common.host.runs.find import run_folders
from tests.common.host.runs.test_archive import make_run


def test_words_mean_folders_sealed_runs_and_folders_of_both(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    for name in ("r1", "r2"):
        make_run(data.results / name)
    mixed = tmp_path / "mixed"
    seal(make_run(mixed / "s1"))
    make_run(mixed / "s2")
    seal(make_run(mixed / "s3"))

    def named(*words: str) -> list[str]:
        return [folder.name for folder in run_folders(words, data)]

    assert named() == ["r2"]
    assert named("all") == ["r1", "r2"]
    assert named("r1", str(mixed)) == ["r1", "s1", "s2", "s3"]
    assert named(str(mixed / "s3.tar.xz")) == ["s3"]
    with pytest.raises(UserError, match="r3"):
        named("r3")


def test_all_runs_beside_others(tmp_path: Path) -> None:
    """'all' once counted only when it stood alone."""
    data, elsewhere = DataFolder(tmp_path / "data"), tmp_path / "reference" / "old"
    for folder in (data.results / "one", data.results / "two", elsewhere):
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    found = run_folders(["all", str(elsewhere.parent)], data)
    assert found == [data.results / "one", data.results / "two", elsewhere]


@pytest.mark.parametrize("names", [[], ["all"]])
def test_all_of_no_runs(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run in"):
        run_folders(names, DataFolder(tmp_path))
