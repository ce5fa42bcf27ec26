"""Python environments for local runs: one per image folder and flavour, made from its requirements files.

`.envs/<image>-cpu` comes from `requirements-cpu.txt`, `.envs/<image>-gpu` from `requirements.txt`. Packages whose
declared dependencies would replace half the environment stand in `requirements-nodeps.txt` (both flavours) and are
installed with `--no-deps` afterwards; the Dockerfiles do the same. What `--frontend notebook` needs is added when it is
first asked for, and replaces nothing that an environment holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from common.errors import UserError
from common.host.paths import ENVIRONMENTS, IMAGES, ROOT

STAMP = ".framewatt-requirements"
#: added to an environment that is there, on demand; the stamp of its own tells whether it is
NOTEBOOK = ROOT / "common/harness/frontends/requirements-notebook.txt"
NOTEBOOK_STAMP = ".framewatt-notebook"
#: environments made at the same time: one downloads while the other unpacks
SIDE_BY_SIDE = 2

_installing: set[subprocess.Popen[str]] = set()


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


def _wanted_stamp(files: list[tuple[Path, list[str]]]) -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for file, _ in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def folder_of(image: str, flavour: str) -> Path:
    return ENVIRONMENTS / f"{image}-{flavour}"


def is_ready(image: str, flavour: str, notebook: bool = False) -> bool:
    """True when the environment exists and belongs to the current requirements; notebook: those of the notebook too."""
    folder = folder_of(image, flavour)
    try:
        if notebook and (folder / NOTEBOOK_STAMP).read_text() != _wanted_stamp([(NOTEBOOK, [])]):
            return False
        return (folder / STAMP).read_text() == _wanted_stamp(requirement_files(image, flavour))
    except (OSError, UserError):
        return False


def interpreter(image: str, flavour: str) -> Path:
    return folder_of(image, flavour) / "bin" / "python"


def ensure(
    image: str, flavour: str, on_line: Callable[[str], None] = lambda line: None, notebook: bool = False
) -> Path:
    """Makes the environment if it is missing or stale; returns its interpreter. on_line gets pip's lines as they come.

    notebook: adds what the notebook front end needs.

    Raises UserError with pip's last words when an installation fails; nothing half-made is taken for ready.
    """
    files = requirement_files(image, flavour)
    wanted = _wanted_stamp(files)
    folder = folder_of(image, flavour)
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two sweeps started at once make it once
        python = interpreter(image, flavour)
        if not is_ready(image, flavour):
            if folder.exists():
                shutil.rmtree(folder)
            _run([sys.executable, "-m", "venv", str(folder)], on_line, f"the environment of {image}")
            for file, options in files:
                _install(python, [*options, "-r", str(file)], on_line, f"images/{image}/{file.name}")
            (folder / STAMP).write_text(wanted)
        if notebook and not is_ready(image, flavour, notebook):
            _add_notebook(python, on_line, f"{NOTEBOOK.name} in the environment of {image}")
            (folder / NOTEBOOK_STAMP).write_text(_wanted_stamp([(NOTEBOOK, [])]))
    return python


def _add_notebook(python: Path, on_line: Callable[[str], None], what: str) -> None:
    """Installs it beside what is there: every version that the environment holds is a constraint."""
    held = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True)
    with tempfile.NamedTemporaryFile("w", prefix="framewatt-", suffix=".txt") as constraints:
        constraints.write(held.stdout)
        constraints.flush()
        _install(python, ["-c", constraints.name, "-r", str(NOTEBOOK)], on_line, what)


def _install(python: Path, arguments: list[str], on_line: Callable[[str], None], what: str) -> None:
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ]
    _run([*command, *arguments], on_line, what)


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
            for process in list(_installing):
                process.kill()
            raise
    return {image: failures[image] for image in images if image in failures}


def _run(command: list[str], on_line: Callable[[str], None], what: str) -> None:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    _installing.add(process)
    last: list[str] = []
    try:
        for line in process.stdout:
            on_line(line.rstrip())
            last = [*last[-20:], line.strip()]
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        _installing.discard(process)
    if code:
        errors = [line for line in last if line.lower().startswith("error")] or last[-1:]
        raise UserError(f"{what} could not be installed: {errors[0] if errors else f'exit code {code}'}")
