"""Locks stand beside every requirements file, and hold what they must."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.cli.console import default_console
from common.host.frameworks import environments, locks
from common.host.paths import IMAGES, ROOT
from common.host.runners.containers import bases
from common.install_locked import OF, digest_of, entries_of, normalised, requirements_of
from tests import scripts


def test_every_requirements_file_has_its_lock() -> None:
    of_images = locks.image_locks()
    assert {lock.source.parent.name for lock in of_images} >= {"onnxrt", "torch", "tensorflow", "tensorrt", "sidecar"}
    assert environments.NOTEBOOK in {lock.source for lock in of_images}
    assert [str(lock.target) for lock in locks.stale(of_images)] == [], "./invoke lock"


@pytest.mark.parametrize("lock", locks.image_locks(), ids=lambda lock: str(lock.target.relative_to(ROOT)))
def test_a_lock_pins_each_package_with_hashes_and_names_no_index(lock: locks.Lock) -> None:
    text = lock.target.read_text()
    assert "://" not in text
    names = set()
    for name, entry in entries_of(lock.target):
        assert re.match(r"[A-Za-z0-9._-]+==\S+", entry) and re.search(r"--hash=sha256:[0-9a-f]{64}$", entry, re.M), (
            entry
        )
        names.add(name)
    free = {name for name, _ in requirements_of(lock.source)} - names
    assert free <= {"torch"}, "only what comes from another index is unlocked"
    assert not names & {"torch", "triton"}


def test_locks_of_named_folders_alone() -> None:
    every = locks.image_locks()
    assert locks.of_folders(every, "") == every
    assert {lock.source.parent.name for lock in locks.of_folders(every, "litert, onnxrt")} == {"litert", "onnxrt"}
    with pytest.raises(UserError, match=r"unknown image folder 'onnxrtt'.*Did you mean onnxrt"):
        locks.of_folders(every, "onnxrtt")


def test_hosts_locks_are_pinned_too() -> None:
    for lock in locks.host_locks():
        entries = list(entries_of(lock.target))
        assert entries and all("==" in text and "--hash=sha256:" in text for _, text in entries), lock.target


#: answers as `uv pip compile --output-file` does
UV = r"""
import pathlib, sys
words = sys.argv
out = pathlib.Path(words[words.index("--output-file") + 1])
kept = out.read_text() if out.exists() else ""
if "broken" in pathlib.Path(words[3]).read_text():
    sys.exit("no such package")
out.write_text("a==1 \\\n    --hash=sha256:" + "0" * 64 + "\nnvidia-b==2 \\\n    --hash=sha256:" + "1" * 64 + "\n"
               + "# " + " ".join(words[4:6]) + ("kept" if kept else "") + "\n")
"""


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    uv = scripts.put(tmp_path / "uv", UV)
    monkeypatch.setattr(locks, "_uv", lambda: uv)
    (tmp_path / "images" / "toy").mkdir(parents=True)
    (tmp_path / "images" / "_template").mkdir()
    (tmp_path / "images" / "_template" / "requirements.txt").write_text("a\n")
    return tmp_path / "images"


def test_renewing_writes_what_is_locked_and_says_of_what(images: Path) -> None:
    file = images / "toy" / "requirements.txt"
    file.write_text("# lock: python=3.9 without=nvidia-*,torch\na\ntorch\n")
    toys = locks.image_locks(images, file)[:1]
    assert [lock.source for lock in toys] == [file] and locks.stale(toys) == toys
    assert locks.renew(toys, default_console(), upgrade=False) == [file.with_suffix(".lock")]
    assert locks.stale(toys) == []
    text = file.with_suffix(".lock").read_text()
    assert OF + digest_of(file) in text and [name for name, _ in entries_of(file.with_suffix(".lock"))] == ["a"]
    assert locks.renew(toys, default_console(), upgrade=False) == []
    file.write_text("a\nb\n")
    assert locks.stale(toys) == toys


def test_what_cannot_be_locked_is_one_line_and_the_lock_stays(images: Path) -> None:
    file = images / "toy" / "requirements.txt"
    file.write_text("broken\n")
    file.with_suffix(".lock").write_text("as it was")
    with pytest.raises(UserError, match="cannot be locked: no such package"):
        locks.renew(locks.image_locks(images, file)[:1], default_console(), upgrade=False)
    assert file.with_suffix(".lock").read_text() == "as it was"


def test_a_directive_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("# lock: pyton=3.9\n")
    with pytest.raises(UserError, match=r"'# lock: pyton=3\.9' is unknown"):
        locks.directives(tmp_path / "r.txt")


def test_dockerfiles_install_through_the_locks_alone() -> None:
    for file in IMAGES.glob("*/Dockerfile"):
        for line in re.sub(r"\\\n", " ", file.read_text()).splitlines():
            if line.startswith("RUN") and "pip install" in line:
                assert "--require-hashes" in line, f"{file}: {line}"


# -- bases -------------------------------------------------------------------------------------------------------------

DIGEST = "sha256:" + "ab" * 32


def test_every_base_stands_in_the_file() -> None:
    assert set(bases.default_bases()) <= set(bases.read()), "./invoke lock --bases"


def test_a_base_is_taken_by_its_digest_where_that_is_known(tmp_path: Path) -> None:
    file = tmp_path / "bases.lock"
    file.write_text(f"# words\n\nknown:1 {DIGEST}\nother:2 unknown\n")
    assert bases.pinned("known:1", file) == f"known:1@{DIGEST}"
    assert bases.pinned("other:2", file) == "other:2"
    assert bases.pinned("mine:3", file) == "mine:3"
    file.write_text("known:1 sha256:short\n")
    with pytest.raises(UserError, match="line 1"):
        bases.read(file)


class Registry:
    """Of an engine's client what look_up asks for: knows one base."""

    def __init__(self) -> None:
        self.api = self

    def inspect_distribution(self, name: str) -> dict[str, dict[str, str]]:
        if name != "python:3.11-slim":
            raise bases.DockerException("dial tcp: no such host")
        return {"Descriptor": {"digest": DIGEST}}


def test_looking_up_keeps_what_cannot_be_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "bases.lock"
    file.write_text(f"own:1 {DIGEST}\n")
    bases.look_up(default_console(), file, Registry())  # type: ignore[arg-type]
    found = bases.read(file)
    assert found["python:3.11-slim"] == found["own:1"] == DIGEST
    assert {found[name] for name in bases.default_bases()} == {DIGEST, "unknown"}


def test_names_are_compared_as_indexes_do() -> None:
    assert normalised("Some_Name.x") == "some-name-x"
