"""`invoke lock`: locks with hashes of all requirements, made by uv, which is itself locked.

Every `images/<image>/requirements*.txt` (the template's apart: whoever copies it makes a lock of their own), the
notebook's, and those of the host side get a `.lock` beside them. A comment `# lock: KEY=VALUE ...` in a requirements
file says what is special about it: python=3.9 is the oldest Python that the lock serves (default 3.11), without=NAMES,
a comma list of packages with * that stay unlocked, because they come from a base image or from another index.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.errors import UserError, unknown
from common.host.children import dying_with_parent, run_guarded
from common.host.frameworks import environments
from common.host.paths import ENVIRONMENTS, IMAGES, ROOT
from common.install_locked import OF, digest_of, entries_of, is_current

UV_LOCK = ROOT / "requirements-uv.lock"
OLDEST_PYTHON = "3.11"


@dataclass(frozen=True)
class Lock:
    """A lock that `invoke lock` writes. arguments: of `uv pip compile`; source: what it is made of."""

    target: Path
    arguments: tuple[str, ...]
    source: Path
    #: packages with * that do not come into the lock
    without: tuple[str, ...] = ()
    #: what uv reads from standard input, for a lock that is of no file
    text: str = ""
    head: tuple[str, ...] = ()


def directives(file: Path) -> Mapping[str, str]:
    """KEY -> VALUE of the file's `# lock:` lines. Raises UserError for a key that does not exist."""
    found: dict[str, str] = {}
    for line in re.findall(r"^# lock:(.*)$", file.read_text(), re.MULTILINE):
        for word in line.split():
            key, equals, value = word.partition("=")
            if not equals or key not in ("python", "without"):
                raise UserError(f"{file}: '# lock: {word}' is unknown; there is python=3.N and without=NAME,NAME")
            found[key] = value
    return found


def image_locks(images: Path = IMAGES, notebook: Path = environments.NOTEBOOK) -> list[Lock]:
    """Of every requirements file of every image, and of the notebook's."""
    files = [*sorted(images.glob("[!_.]*/requirements*.txt")), notebook]
    return [_lock_of(file) for file in files]


def of_folders(locks: Sequence[Lock], names: str) -> list[Lock]:
    """Those of a comma list of folders under images/; all where none is named. Raises UserError for a folder without requirements."""
    wanted = [word.strip() for word in names.split(",") if word.strip()]
    folders = dict.fromkeys(lock.source.parent.name for lock in locks if lock.source != environments.NOTEBOOK)
    for name in wanted:
        if name not in folders:
            raise unknown("image folder", name, folders)
    return [lock for lock in locks if not wanted or lock.source.parent.name in wanted]


def _lock_of(file: Path) -> Lock:
    options = directives(file)
    alone = ("--no-deps",) if "nodeps" in file.stem else ()
    arguments = (str(file), "--python-version", options.get("python", OLDEST_PYTHON), *alone)
    without = tuple(filter(None, options.get("without", "").split(",")))
    head = (
        f"# Made of {file.name} by uv: ./invoke lock renews it. Read by common/install_locked.py.",
        OF + digest_of(file),
    )
    return Lock(file.with_suffix(".lock"), arguments, file, without, head=head)


def host_locks() -> list[Lock]:
    """Of the host side, of Ray beside it, and of uv itself."""
    host = ROOT / "requirements.lock"
    python = ("--python-version", OLDEST_PYTHON)
    return [
        Lock(
            host, (str(ROOT / "pyproject.toml"), "--group", "test", *python), ROOT / "pyproject.toml",
            head=("# Made of pyproject.toml, its group `test` included, by uv: ./invoke lock --host renews it.",),
        ),
        Lock(
            ROOT / "requirements-fleet.lock", ("-", "-c", str(host), *python), ROOT / "pyproject.toml", text="ray>=2.49",
            head=("# What 'invoke fleet' needs beside requirements.lock; made by uv: ./invoke lock --host renews it.",),
        ),
        Lock(
            UV_LOCK, ("-", *python), ROOT / "pyproject.toml", text="uv>=0.9",
            head=("# The program that makes locks; by itself: ./invoke lock --host renews it.",),
        ),
    ]  # fmt: skip


def stale(locks: Sequence[Lock]) -> list[Lock]:
    """Those of images that are missing or are not of their requirements file."""
    return [lock for lock in locks if not (lock.target.is_file() and is_current(lock.source, lock.target))]


def renew(locks: Sequence[Lock], console: Console, *, upgrade: bool) -> list[Path]:
    """Writes the locks anew; returns those that changed. upgrade: newest versions instead of those that stand there.

    Raises UserError with uv's words.
    """
    uv = _uv()
    changed = []
    for lock in locks:
        before = lock.target.read_text() if lock.target.is_file() else ""
        text = _compiled(uv, lock, upgrade=upgrade)
        if text != before:
            lock.target.write_text(text)
            changed.append(lock.target)
        what = "written" if text != before else "unchanged"
        console.print(escape(f"{what}: {_shown(lock.target)}"), highlight=False, soft_wrap=True)
    return changed


def _uv() -> Path:
    folder = ENVIRONMENTS / "uv"
    stamp = folder / environments.STAMP
    if not stamp.is_file() or stamp.read_text() != UV_LOCK.read_text():
        ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
        commands: list[list[str | Path]] = [
            [sys.executable, "-m", "venv", "--clear", folder],
            [folder / "bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", UV_LOCK],
        ]
        for words in commands:
            code, output = run_guarded(words)
            if code:
                raise UserError(f"uv could not be installed from {UV_LOCK.name}: {(output.splitlines() or [''])[-1]}")
        stamp.write_text(UV_LOCK.read_text())
    return folder / "bin/uv"


def _compiled(uv: Path, lock: Lock, *, upgrade: bool) -> str:
    """The text of a lock: uv's, below our own head, without what stays unlocked."""
    options = ["--universal", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    with tempfile.TemporaryDirectory(prefix="framewatt-") as folder:
        out = Path(folder) / "lock"
        if lock.target.is_file() and not upgrade:
            out.write_text(lock.target.read_text())  # uv keeps its versions where they still fit
        done = subprocess.run(
            dying_with_parent([uv, "pip", "compile", *lock.arguments, *options, "--output-file", out]),
            input=lock.text, capture_output=True, text=True, env=_environment(), cwd=ROOT,
        )  # fmt: skip
        if done.returncode:
            words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise UserError(f"{_shown(lock.source)} cannot be locked: {words[:400]}")
        entries = list(entries_of(out))
    kept = [text for name, text in entries if not any(fnmatch.fnmatch(name, one) for one in lock.without)]
    return "\n".join(lock.head) + "\n" + "".join(kept)


def _environment() -> dict[str, str]:
    """The index and certificates that pip is told of by its variables."""
    environment = dict(os.environ)
    for ours, theirs in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_CERT", "SSL_CERT_FILE")):
        if os.environ.get(ours):
            environment.setdefault(theirs, os.environ[ours])
    return environment


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
