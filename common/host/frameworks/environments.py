"""Python environments for local runs: one per image folder and flavour, made from its requirements files.

`.envs/<image>-cpu` comes from `requirements-cpu.txt`, `.envs/<image>-gpu` from `requirements.txt`. Packages whose
declared dependencies would replace half the environment stand in `requirements-nodeps.txt` (both flavours) and are
installed with `--no-deps` afterwards; the Dockerfiles do the same. Each file has a lock with hashes beside it, see
common/install_locked.py. What `--frontend notebook` needs is added when it is
first asked for, and replaces nothing that an environment holds. `.envs/<image>-cpu@<package>-<version>` is one that
`--version` asked for: the same with another version of the framework.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from common.errors import UserError
from common.host.children import Guarded, guarded
from common.host.frameworks.registry import Variant
from common.host.frameworks.versions import Pin
from common.host.paths import ENVIRONMENTS, IMAGES, ROOT
from common.install_locked import NO_INDEX, PIN, REASON, entries_of, normalised, requirements_of

STAMP = ".framewatt-requirements"
#: where the checkout's owner makes them
SHARED = ROOT / ".envs"
#: added to an environment that is there, on demand; the stamp of its own tells whether it is
NOTEBOOK = ROOT / "common/harness/frontends/requirements-notebook.txt"
NOTEBOOK_STAMP = ".framewatt-notebook"
#: checks what it installs against hashes; the Dockerfiles use it too
INSTALL = ROOT / "common/install_locked.py"
#: between the name of an image's environment and the version that it has in place of the lock's
OF_VERSION = "@"
#: environments made at the same time: one downloads while the other unpacks
SIDE_BY_SIDE = 2

_installing: set[Guarded] = set()


@dataclass(frozen=True)
class Extra:
    """What some models need beside an image's requirements. files: in the image's folder, "nodeps" in the name of those
    that come without dependencies; stamp: tells that an environment has it; model: one that needs it."""

    files: tuple[str, ...]
    stamp: str
    model: str

    def of(self, image: str) -> list[tuple[Path, list[str]]]:
        """(file, extra pip options); empty for an image that has no use for it."""
        paths = [IMAGES / image / name for name in self.files]
        return [(path, ["--no-deps"] if "nodeps" in path.name else []) for path in paths if path.is_file()]


#: models born in PyTorch
TIMM = Extra(("requirements-timm.txt", "requirements-timm-nodeps.txt"), ".framewatt-timm", "timm:resnet18")
#: the registry's transformers, to export them and to read their .keras files
KERAS_HUB = Extra(("requirements-keras-hub-nodeps.txt",), ".framewatt-keras-hub", "BERT-base")
TIMM_IMAGE = "torch"


def requirement_files(image: str, flavour: str) -> list[tuple[Path, list[str]]]:
    """(file, extra pip options) in the order of installation. Raises UserError when the image has no such flavour."""
    folder = IMAGES / image
    main = folder / ("requirements-cpu.txt" if flavour == "cpu" else "requirements.txt")
    if not main.is_file():
        raise UserError(
            f"images/{image} has no {main.name}, so it cannot run on the {flavour.upper()} without a container"
        )
    files: list[tuple[Path, list[str]]] = [(main, [])]
    without_dependencies = folder / "requirements-nodeps.txt"
    if without_dependencies.is_file():
        files.append((without_dependencies, ["--no-deps"]))
    return files


def _wanted_stamp(files: list[tuple[Path, list[str]]], pin: Pin | None = None) -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]}{pin.requirement if pin else ''}".encode())
    for file, _ in files:
        digest.update(file.read_bytes())
        if file.with_suffix(".lock").is_file():
            digest.update(file.with_suffix(".lock").read_bytes())
    return digest.hexdigest()


def folder_of(image: str, flavour: str, pin: Pin | None = None) -> Path:
    """Of a checkout that may only be read, the owner's where that is current."""
    name = f"{image}-{flavour}" + (f"{OF_VERSION}{pin.label}" if pin else "")
    places = [ENVIRONMENTS] if ENVIRONMENTS == SHARED else [ENVIRONMENTS, SHARED]
    current = (place / name for place in places if _is_current(place / name, image, flavour, pin))
    return next(current, ENVIRONMENTS / name)


def of_versions() -> list[Path]:
    """The environments that --version made."""
    return sorted(path for path in ENVIRONMENTS.glob(f"*{OF_VERSION}*") if path.is_dir())


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none. What goes meanwhile is passed over."""
    total = 0
    for place, _, names in os.walk(folder):  # rglob raises where a folder goes
        for name in names:
            with suppress(FileNotFoundError):
                status = Path(place, name).lstat()
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def _is_current(folder: Path, image: str, flavour: str, pin: Pin | None = None) -> bool:
    try:
        return _text(folder / STAMP) == _wanted_stamp(requirement_files(image, flavour), pin)
    except (OSError, UserError):
        return False


def _has_notebook(folder: Path) -> bool:
    return _text(folder / NOTEBOOK_STAMP) == _wanted_stamp([(NOTEBOOK, [])])


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def is_ready(image: str, flavour: str, notebook: bool = False, pin: Pin | None = None) -> bool:
    """True when the environment exists and belongs to the current requirements; notebook: those of the notebook too."""
    folder = folder_of(image, flavour, pin)
    return _is_current(folder, image, flavour, pin) and (not notebook or _has_notebook(folder))


def interpreter(image: str, flavour: str, pin: Pin | None = None) -> Path:
    return folder_of(image, flavour, pin) / "bin" / "python"


def installed_version(python: Path, variant: Variant) -> str:
    """The version that a variant's workers would report in this interpreter's environment; "" where its files do not tell.

    Nothing is started.
    """
    places = [str(path) for path in python.parent.parent.glob("lib/python3*/site-packages")]
    found = (one.version for name in variant.reports for one in metadata.distributions(name=name, path=places))
    return next(found, "")


def locked_version(variant: Variant, requirements: Path) -> str:
    """The version that a variant's workers would report where these requirements are installed by their lock; "" where that is open.

    It is where a base image brings the package, since whoever built the image chose that, and where the file is from another
    index than the lock's files (`# lock: without=...`), which tells only there which build it is (2.13.0+cpu).
    """
    lock = requirements.with_suffix(".lock")
    if not requirements.is_file() or not lock.is_file():
        return ""
    asked = {name for name, rest in requirements_of(requirements) if "==" in rest}
    wanted = asked & {normalised(name) for name in variant.reports}
    found = {text.partition("==")[2].split()[0].rstrip(";") for name, text in entries_of(lock) if name in wanted}
    return found.pop() if len(found) == 1 else ""


def ensure(
    image: str,
    flavour: str,
    on_line: Callable[[str], None] = lambda line: None,
    notebook: bool = False,
    pin: Pin | None = None,
) -> Path:
    """Makes the environment if it is missing or stale; returns its interpreter. on_line gets pip's lines as they come.

    notebook: adds what the notebook front end needs. pin: another version of the framework than the lock's.

    Raises UserError with pip's last words when an installation fails; nothing half-made is taken for ready.
    """
    files = requirement_files(image, flavour)
    wanted = _wanted_stamp(files, pin)
    if is_ready(image, flavour, notebook, pin):
        return interpreter(image, flavour, pin)
    # Not the owner's, to which a notebook cannot be added.
    folder = ENVIRONMENTS / folder_of(image, flavour, pin).name
    what = f"{pin.requirement} in " if pin else ""
    changed = [f"{PIN}{pin.requirement}"] if pin else []
    python = folder / "bin" / "python"
    try:
        ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
        lock_file = (ENVIRONMENTS / f"{folder.name}.lock").open("a")
    except OSError as error:
        raise UserError(
            f"{ENVIRONMENTS} cannot be written: {error.strerror}; XDG_CACHE_HOME names another folder for environments"
        ) from error
    with lock_file as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two sweeps started at once make it once
        if not _is_current(folder, image, flavour, pin):
            if folder.exists():
                shutil.rmtree(folder)
            _run([sys.executable, "-m", "venv", str(folder)], on_line, f"the environment of {image}")
            try:
                for file, options in files:
                    _install(python, [*changed, *options, str(file)], on_line, f"{what}images/{image}/{file.name}")
            except UserError:
                if pin:  # nobody will ask for it again
                    shutil.rmtree(folder)
                raise
            (folder / STAMP).write_text(wanted)
        if notebook and not _has_notebook(folder):
            # Beside what is there: every version that the environment holds stays.
            _install(python, ["--keep", str(NOTEBOOK)], on_line, f"{NOTEBOOK.name} in the environment of {image}")
            (folder / NOTEBOOK_STAMP).write_text(_wanted_stamp([(NOTEBOOK, [])]))
    return python


def ensure_extra(
    image: str, flavour: str, extra: Extra, on_line: Callable[[str], None] = lambda line: None, pin: Pin | None = None
) -> Path:
    """The image's environment with what some models need, where it has a use for it; returns its interpreter.

    Raises UserError as `ensure`.
    """
    python = ensure(image, flavour, on_line, pin=pin)
    files = extra.of(image)
    wanted = _wanted_stamp(files)
    folder = folder_of(image, flavour, pin)
    if not files or _text(folder / extra.stamp) == wanted:
        return python
    if folder.parent != ENVIRONMENTS:
        raise UserError(
            f"{folder} is another user's, and lacks {extra.files[0]}: its owner adds it with invoke bench --model {extra.model}"
        )
    with (ENVIRONMENTS / f"{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _text(folder / extra.stamp) != wanted:
            for file, options in files:
                _install(python, ["--keep", *options, str(file)], on_line, f"images/{image}/{file.name}")
            (folder / extra.stamp).write_text(wanted)
    return python


def _install(python: Path, arguments: list[str], on_line: Callable[[str], None], what: str) -> None:
    options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    _run([str(python), str(INSTALL), *options, *arguments], on_line, what)


def ensure_all(
    images: Sequence[str],
    flavour: str,
    on_line: Callable[[str, str], None] = lambda image, line: None,
    on_ready: Callable[[str], None] = lambda image: None,
    notebook: bool = False,
) -> dict[str, UserError]:
    """Makes the missing environments, SIDE_BY_SIDE at a time; returns image -> why it could not be made, empty if all were.

    on_line(image, line) gets pip's lines, on_ready(image) each environment that is there, both from any thread.
    notebook: adds what the notebook front end needs.
    """
    failures: dict[str, UserError] = {}
    make = partial(ensure, notebook=True) if notebook else ensure
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        futures = {pool.submit(make, image, flavour, partial(on_line, image)): image for image in images}
        try:
            for future in as_completed(futures):
                try:
                    future.result()
                    on_ready(futures[future])
                except UserError as error:
                    failures[futures[future]] = error
        except BaseException:  # Ctrl-C reaches this thread alone
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(_installing):
                child.end()
            raise
    return {image: failures[image] for image in images if image in failures}


#: what pip says of a server that it does not reach
_NOT_REACHED = "after connection broken by"


def _run(command: list[str], on_line: Callable[[str], None], what: str) -> None:
    last: list[str] = []
    with guarded(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.process.stdout is not None
        _installing.add(child)
        try:
            for line in child.process.stdout:
                on_line(line.rstrip())
                last = [*last[-20:], line.strip()]
            code = child.process.wait()
        finally:
            _installing.discard(child)
    # a server that was reached at the second try is no reason where another one is given
    reasons = [line for line in last if line.startswith(REASON)]
    silent = NO_INDEX in reasons[-1] if reasons else any(_NOT_REACHED in line for line in last)
    if code and silent:
        raise UserError(
            f"{what} could not be installed: the package index does not answer; is this machine online? "
            "PIP_INDEX_URL names another index, PIP_FIND_LINKS a folder of wheels"
        )
    if code:
        raise UserError(f"{what} could not be installed: {_why(last, code)}")


def _why(last: list[str], code: int) -> str:
    """The reason in one line. last: the last lines of what failed."""
    reasons = [line.removeprefix(REASON) for line in last if line.startswith(REASON)]
    errors = [line for line in last if line.lower().startswith("error")]
    return (reasons[-1:] or errors[:1] or last[-1:] or [f"exit code {code}"])[0]
