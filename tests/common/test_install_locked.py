"""What a lock lets in: files whose hashes it names, and nothing in place of what is there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common import install_locked
from common.host.paths import ROOT


def wheel(folder: Path, name: str, version: str = "1.0", needs: str = "", content: str = "") -> str:
    """Writes a wheel of one module; returns its SHA-256."""
    info = f"{name}-{version}.dist-info"
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (f"Requires-Dist: {needs}\n" if needs else "")
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n{content}")
        archive.writestr(f"{info}/METADATA", text)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Place:
    """A folder of wheels, a requirements file with its lock, and a folder to install into."""

    def __init__(self, folder: Path) -> None:
        self.wheels, self.target = folder / "wheels", folder / "site"
        self.wheels.mkdir()
        self.target.mkdir()
        self.file = folder / "requirements.txt"

    def lock(self, **hashes: str) -> None:
        entries = [f"{name}==1.0 \\\n    --hash=sha256:{value}\n" for name, value in hashes.items()]
        self.file.with_suffix(".lock").write_text(
            "# made by a test\n" + install_locked.OF + install_locked.digest_of(self.file) + "\n" + "".join(entries)
        )

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        # --target: pip looks at what the interpreter has by PYTHONPATH
        words = ["--no-index", "--find-links", str(self.wheels), "--target", str(self.target), "--upgrade", *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        environment |= {"PYTHONPATH": str(self.target), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run(
            [sys.executable, str(ROOT / "common/install_locked.py"), *words, str(self.file)],
            capture_output=True, text=True, env=environment,
        )  # fmt: skip

    def installed(self) -> set[str]:
        return {path.stem for path in self.target.glob("*.py")}


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of an installation that failed."""
    last = done.stdout.splitlines()[-1]
    assert last.startswith(install_locked.REASON)
    return last.removeprefix(install_locked.REASON)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_the_lock_names_is_installed_with_what_it_needs(place: Place) -> None:
    place.file.write_text("first==1.0\n")
    place.lock(first=wheel(place.wheels, "first", needs="second"), second=wheel(place.wheels, "second"))
    done = place.install()
    assert done.returncode == 0, done.stderr
    assert place.installed() == {"first", "second"}


@pytest.mark.parametrize("changed", ["first", "second"])
def test_another_file_under_the_name_is_refused(place: Place, changed: str) -> None:
    place.file.write_text("first==1.0\n")
    hashes = {"first": wheel(place.wheels, "first", needs="second"), "second": wheel(place.wheels, "second")}
    place.lock(**hashes)
    wheel(place.wheels, changed, needs="second" if changed == "first" else "", content="import os")
    done = place.install()
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stdout
    assert f"{changed}==1.0 is another file than the one whose hash requirements.txt has in its lock" in reason(done)
    assert not place.installed()


def test_a_lock_of_other_requirements_is_refused(place: Place) -> None:
    place.file.write_text("first==1.0\n")
    place.lock(first=wheel(place.wheels, "first"))
    place.file.write_text("first==1.0\nsecond\n")
    done = place.install()
    assert done.returncode == 2
    assert "ERROR: requirements.lock is not of this requirements.txt" in done.stderr


def test_without_a_lock_that_is_said(place: Place) -> None:
    place.file.write_text("first\n")
    wheel(place.wheels, "first")
    done = place.install()
    assert done.returncode == 0 and "has no lock" in done.stdout and place.installed() == {"first"}


def test_what_stays_unlocked_comes_by_the_requirements(place: Place) -> None:
    place.file.write_text("first==1.0\nfree==1.0\n")
    place.lock(first=wheel(place.wheels, "first"))
    wheel(place.wheels, "free")
    assert place.install().returncode == 0
    assert place.installed() == {"first", "free"}


LOCK = """\
# head
Some.Name==2.0 ; python_full_version < '3.11' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
other==1.0 \\
    --hash=sha256:cc
"""


def test_packages_that_are_there_stay_unless_they_are_pinned(tmp_path: Path) -> None:
    file, lock = tmp_path / "r.txt", tmp_path / "r.lock"
    (tmp_path / "more.txt").write_text("some_name>=1\n")
    file.write_text("# words\nOther==1.0  # why\n-r more.txt\n")
    lock.write_text(LOCK)
    some, other = (text for _, text in install_locked.entries_of(lock))
    assert some.startswith("Some.Name==2.0") and some.count("--hash") == 2
    assert install_locked.wanted_of(file, lock, set()) == some + other
    assert install_locked.wanted_of(file, lock, {"some-name", "other"}) == other
    assert install_locked.wanted_of(file, lock, {"some-name", "other"}, keep=True) == ""


def test_a_comment_changes_no_digest_and_a_requirement_does(tmp_path: Path) -> None:
    file, more = tmp_path / "r.txt", tmp_path / "more.txt"
    more.write_text("second\n")
    file.write_text("first==1.0\n-r more.txt\n")
    before = install_locked.digest_of(file)
    file.write_text("# why\n\nfirst==1.0 # here\n-r more.txt\n")
    assert install_locked.digest_of(file) == before
    more.write_text("second>1\n")
    assert install_locked.digest_of(file) != before
    more.write_text("second\n")
    file.write_text("# lock: python=3.9\nfirst==1.0\n-r more.txt\n")
    assert install_locked.digest_of(file) != before


def test_a_pin_replaces_the_version_of_one_package_and_says_that_nothing_is_checked(place: Place) -> None:
    place.file.write_text("# a comment\nfirst[extra]==1.0 ; python_version > '3'\nsecond==1.0\n")
    place.lock(first=wheel(place.wheels, "first"), second=wheel(place.wheels, "second"))
    wheel(place.wheels, "first", "2.0")
    done = place.install("--pin=First==2.0")
    assert done.returncode == 0, done.stderr
    assert "First==2.0 in place of the lock's: packages are not checked" in done.stdout
    assert (place.target / "first.py").read_text().startswith("version = '2.0'")
    assert place.installed() == {"first", "second"}


@pytest.mark.parametrize("pin", ["--pin=", "--pin=other==2.0"])
def test_a_file_that_does_not_ask_for_the_package_is_installed_by_its_lock(place: Place, pin: str) -> None:
    place.file.write_text("first==1.0\n")
    place.lock(first="0" * 64)
    wheel(place.wheels, "first")
    done = place.install(pin)
    assert done.returncode != 0
    assert "hash" in (done.stdout + done.stderr).lower()


def test_a_pinned_text_keeps_extras_and_markers(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("onnxruntime-gpu[cuda,cudnn]==1.31.1\nnumpy>=1.24\nx==1; python_version < '3.12'\n")
    assert install_locked.pinned_text(file, "onnxruntime_gpu==1.30.0") == (
        "onnxruntime-gpu[cuda,cudnn]==1.30.0\nnumpy>=1.24\nx==1; python_version < '3.12'\n"
    )
    assert install_locked.pinned_text(file, "x==2").endswith("x==2; python_version < '3.12'\n")
    assert install_locked.pinned_text(file, "y==2") == ""


def test_a_version_that_does_not_exist_is_said_with_those_that_do(place: Place) -> None:
    place.file.write_text("first==1.0\n")
    for number in range(8):
        wheel(place.wheels, "first", f"1.{number}")
    done = place.install("--pin=first==9.9")
    assert done.returncode != 0
    assert reason(done).startswith("there is no release 9.9 of first for Python 3.")
    assert reason(done).endswith("the newest are 1.2, 1.3, 1.4, 1.5, 1.6, 1.7")


def test_a_release_whose_wheels_are_for_other_pythons(place: Place) -> None:
    place.file.write_text("first==1.0\n")
    wheel(place.wheels, "first")
    for tag in ("cp38-cp38-any", "cp310-cp310-any", "cp39-cp39-any"):
        wheel(place.wheels, "first", "0.9")
        (place.wheels / "first-0.9-py3-none-any.whl").rename(place.wheels / f"first-0.9-{tag}.whl")
    output = reason(place.install("--pin=first==0.9"))
    assert output.startswith("first==0.9 has no wheel for Python 3.")
    assert "its wheels are for cp38, cp39, cp310; the newest are 1.0" in output


def test_packages_that_do_not_go_together_are_named(place: Place) -> None:
    place.file.write_text("first==1.0\nsecond==1.0\n")
    wheel(place.wheels, "first", "2.0", needs="second<1")
    wheel(place.wheels, "second")
    assert reason(place.install("--pin=first==2.0")) == (
        "these do not go together: requirements.txt asks for second==1.0; first 2.0 depends on second<1"
    )


def test_what_a_version_needs_and_is_not_there(place: Place) -> None:
    place.file.write_text("first==1.0\n")
    wheel(place.wheels, "first", "2.0", needs="second>=3")
    assert reason(place.install("--pin=first==2.0")).startswith(
        "first==2.0 needs second>=3, of which there is no release for Python 3."
    )


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["ERROR: Ignored the following versions that require a different python version: 0.9 Requires-Python <3.11,>=3.7; 1.0 "
          "Requires-Python >=3.99", "ERROR: Could not find a version that satisfies the requirement a==0.9 (from versions: 2.0)"],
         "a==0.9 is for Python <3.11,>=3.7, and this is 3."),
        (["WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'",
          "ERROR: Could not find a version that satisfies the requirement a==0.9 (from versions: none)"],
         "no package index answers, which is asked for a==0.9"),
        (["  error: subprocess-exited-with-error", "ERROR: Failed to build 'a' when getting requirements to build wheel"],
         "Failed to build 'a' when getting requirements to build wheel"),
        (["Collecting a", "no space left"], "no space left"),
        ([], "pip says nothing"),
    ],
)  # fmt: skip
def test_what_pip_says_in_many_lines_is_one(lines: list[str], words: str) -> None:
    assert install_locked.reason_of(lines, "requirements.txt", "a==0.9").startswith(words)
