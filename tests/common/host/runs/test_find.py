"""What the words on a command line mean as runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.cleaning import leftovers
from common.host.paths import DataFolder
from common.host.runs.archive import seal
from common.host.runs.find import how_many, run_folders, run_or_cell, words_for
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


def test_a_damaged_archive_costs_itself(tmp_path: Path) -> None:
    """In a folder of runs, or named beside others; alone it is an error. A link that nobody typed is not followed."""
    data, mixed, messages = DataFolder(tmp_path / "data"), tmp_path / "mixed", list[str]()
    good = seal(make_run(mixed / "s1"))
    (mixed / "cut.tar.xz").write_bytes(good.read_bytes()[:100])
    (mixed / "link.tar.xz").symlink_to(good)
    os.mkfifo(mixed / "fifo.tar.xz")
    found = run_folders([str(mixed)], data, messages.append)
    assert [folder.name for folder in found] == ["s1"]
    assert len(messages) == 3 and all(line.startswith("left out: ") for line in messages)
    for words, line in zip(("fifo.tar.xz is a FIFO", "link.tar.xz is a link", "cut.tar.xz"), messages, strict=True):
        assert words in line and "\n" not in line
    messages.clear()
    both = run_folders([str(mixed / "cut.tar.xz"), str(good)], data, messages.append)
    assert ([folder.name for folder in both], len(messages)) == (["s1"], 1)
    with pytest.raises(UserError, match=r"cut\.tar\.xz"):
        run_folders([str(mixed / "cut.tar.xz")], data, messages.append)
    good.unlink()
    with pytest.raises(UserError, match="fifo"):
        run_folders([str(mixed)], data, messages.append)


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


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    make_run(data.results / "r1")
    (tmp_path / "half" / "cells").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    for name, text in {"torn": "{oops", "list": "[]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    os.mkfifo(tmp_path / "fifo.tar.xz")
    (tmp_path / "dangling").symlink_to("nowhere")
    sealed = seal(make_run(tmp_path / "s1"))
    sealed.write_bytes(sealed.read_bytes()[:-20])
    for word, pattern in {
        "half": "has cells, but no run.json", "empty": "is a folder without a run.json",
        "torn": "torn/run.json cannot be read: it is not JSON", "list": "list/run.json is not a run's description",
        "notes.txt": "is a file, but none that ends in",
        "dangling": "is a link to nowhere, which does not exist",
        "fifo.tar.xz": "is a FIFO", "s1.tar.xz": "s1.tar.xz is cut off", "gone": "gone does not exist",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=pattern) as caught:
            run_folders([str(tmp_path / word)], data)
        assert "unknown run" not in str(caught.value)
    with pytest.raises(UserError, match=r"there is no run or path 'r2'; runs in .*: r1\."):
        run_folders(["r2"], data)
    with pytest.raises(UserError, match=r"runs in .*: r1\. Did you mean r1\?"):
        run_folders(["r1x"], data)


def test_old_caches_of_the_host_are_removed_where_containers_could_write(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    for folder in (
        data.cache / "analysis",
        data.cache / "unsealed",
        data.cache / "tensorrt",
        data.host_cache / "analysis",
    ):
        folder.mkdir(parents=True)
    assert leftovers(data) == [data.cache / "analysis", data.cache / "unsealed"]


def test_a_run_of_a_folder_has_words_that_name_it_again(tmp_path: Path) -> None:
    data, mixed = DataFolder(tmp_path / "data"), tmp_path / "mixed"
    make_run(data.results / "r1")
    seal(make_run(mixed / "s1"))
    make_run(mixed / "s2")
    found = [one for word in ("r1", str(mixed)) for one in run_or_cell(word, data)]
    assert [one.words for one in found] == ["r1", str(mixed / "s1.tar.xz"), str(mixed / "s2")]
    assert [run_or_cell(one.words, data)[0].folder for one in found] == [one.folder for one in found]


def test_a_sealed_run_is_called_as_the_user_did_and_not_by_where_it_lies_unpacked(tmp_path: Path) -> None:
    data, mixed = DataFolder(tmp_path / "data"), tmp_path / "mixed"
    make_run(data.results / "r1")
    seal(make_run(mixed / "s1"))
    make_run(mixed / "s2")
    sealed = str(mixed / "s1.tar.xz")
    for words, expected in (
        (["r1", str(mixed)], ["r1", sealed, str(mixed / "s2")]),
        (["all", sealed, str(mixed / "s2")], ["r1", sealed, str(mixed / "s2")]),
    ):
        assert [words_for(folder, words, data) for folder in run_folders(words, data)] == expected


def test_runs_of_one_name_in_two_folders_are_named_apart(tmp_path: Path) -> None:
    data, places = DataFolder(tmp_path / "data"), [tmp_path / "a", tmp_path / "b"]
    for place in places:
        make_run(place / "other")
        (make_run(place / "same") / "run.json").write_text(json.dumps({"run": "same", "of": place.name}))
    words = [str(place) for place in places]
    for sealed, ending in (([], ("", "")), (places[1:], ("", ".tar.xz")), (places[:1], (".tar.xz", ".tar.xz"))):
        for place in sealed:
            seal(place / "same")
        found = [folder for folder in run_folders(words, data) if folder.name == "same"]
        expected = [f"{place / 'same'}{end}" for place, end in zip(places, ending, strict=True)]
        assert [words_for(folder, words, data) for folder in found] == expected


def test_runs_are_counted_without_unpacking_any(tmp_path: Path) -> None:
    data, mixed = DataFolder(tmp_path / "data"), tmp_path / "mixed"
    for name in ("r1", "r2"):
        make_run(data.results / name)
    make_run(mixed / "s1")
    (mixed / "no archive at all.tar.xz").write_bytes(b"")
    words = ("r1", "all", str(mixed), str(mixed / "s1"), "nothing")
    assert [how_many(word, data) for word in words] == [1, 2, 2, 1, 1]
    assert not data.host_cache.exists()
