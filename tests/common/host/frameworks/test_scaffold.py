"""`invoke new`: what it writes into the copy of the template, and what it refuses before anything is made."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.frameworks import scaffold
from common.host.frameworks.registry import load_images
from common.host.frameworks.scaffold import Filling, new_image
from common.host.paths import IMAGES


@pytest.fixture
def images(tmp_path: Path) -> Path:
    shutil.copytree(IMAGES / "_template", tmp_path / "images" / "_template")
    return tmp_path / "images"


def test_package_and_title_fill_labels_smoke_line_and_requirements(images: Path) -> None:
    folder = new_image("fastnet", images, Filling("fast-net==2.1", "FastNet & Co"))
    (image,) = load_images(images)
    assert (image.imports, image.variants[0].title) == ("fast_net", "FastNet & Co")
    dockerfile = (folder / "Dockerfile").read_text()
    assert re.search(r"^RUN python3 -c 'import fast_net, common.harness.worker; ", dockerfile, re.MULTILINE)
    for name in ("requirements.txt", "requirements-cpu.txt"):
        assert "fast-net==2.1" in (folder / name).read_text().splitlines()
    assert not (folder / "Dockerfile.cpu-only").exists()


def test_cpu_only_has_one_flavour_and_a_base_of_python_s(images: Path) -> None:
    folder = new_image("fastnet", images, Filling("fastnet-cpu==1.0", module="fastnet", cpu_only=True))
    (image,) = load_images(images)
    assert (image.base_image, image.imports) == ("python:3.11-slim", "fastnet")
    assert sorted(path.name for path in folder.glob("requirements*")) == ["requirements-cpu.txt"]
    assert "requirements.txt\n" not in (folder / "Dockerfile").read_text().replace("/tmp/requirements.txt", "")


def test_nothing_given_leaves_the_template_as_it_is(images: Path) -> None:
    folder = new_image("abacus", images)
    (image,) = load_images(images)
    assert (image.imports, image.variants[0].title) == ("numpy", "abacus")
    assert (folder / "requirements.txt").is_file()


def test_a_package_without_a_version_gets_the_newest(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = {"fastnet": "fastnet (3.4.1)\nAvailable versions: 3.4.1, 3.4.0\n"}

    class Done:
        def __init__(self, command: list[str], **_: object) -> None:
            self.stdout = output.get(command[-1], "")

    monkeypatch.setattr(scaffold.subprocess, "run", Done)
    assert scaffold.pinned("fastnet") == "fastnet==3.4.1"
    assert scaffold.pinned("fastnet[gpu]") == "fastnet[gpu]==3.4.1"
    with pytest.raises(UserError, match="give NAME==VERSION"):
        new_image("other", images, Filling("no-such-package"))
    assert not (images / "other").exists()


@pytest.mark.parametrize(
    ("filling", "word"),
    [
        (Filling("fast net==1"), "no package of PyPI"),
        (Filling("fastnet==1; rm -r x"), "no package of PyPI"),
        (Filling(title='Fast"Net'), "cannot stand in a label"),
        (Filling("fastnet==1", module="fast-net"), "no module"),
        (Filling("fastnet==1", module="os, sys"), "no module"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_made(images: Path, filling: Filling, word: str) -> None:
    with pytest.raises(UserError, match=word):
        new_image("fastnet", images, filling)
    assert not (images / "fastnet").exists()
