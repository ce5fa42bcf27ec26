"""`invoke test`: linters, types and tests with everything they need."""

from __future__ import annotations

import subprocess
import sys

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host import environments
from common.host.image_registry import load_images
from common.host.paths import IMAGES, ROOT
from common.host.progress import Steps


def _environments(console: Console) -> list[str]:
    """Makes the CPU environments of all images that have one; returns what could not be made, in words."""
    names = [image.name for image in load_images(IMAGES) if (image.folder / "requirements-cpu.txt").is_file()]
    missing = [name for name in names if not environments.is_ready(name, "cpu")]
    with Steps(console).show("Setting up the frameworks") as on_step:
        ready: list[str] = []

        def on_ready(name: str) -> None:
            ready.append(name)
            on_step(len(ready), len(missing), f"{name} is ready")

        on_step(0, len(missing), ", ".join(missing) or "ready")
        failures = environments.ensure_all(missing, "cpu", on_ready=on_ready)
    return [str(error) for error in failures.values()]


def run_tests(console: Console, *, core: bool, only: str, engine_all: bool = False) -> int:
    """Runs ruff, mypy and pytest; returns the exit code: that of the first that failed.

    core leaves out what needs a framework's environment or an engine. only: a path or a -k expression for pytest.
    engine_all: also what needs the container images of all frameworks. Raises UserError for core with engine_all.
    """
    if core and engine_all:
        raise UserError("--core leaves out all tests on an engine, --engine-all adds some; give one of them")
    if not core:
        problems = _environments(console)
        for problem in problems:
            console.print(escape(f"error: {problem}"), style="red", highlight=False, soft_wrap=True)
        if problems:
            return 2
    python = sys.executable
    pytest = [python, "-m", "pytest"]
    if only:
        pytest += [only] if (ROOT / only.split("::")[0]).exists() else ["-k", only]
    if core:
        pytest += ["-m", "not framework and not engine and not gpu"]
    if engine_all:
        pytest += ["-m", ""]  # in place of pyproject.toml's, which leaves every_image out
    commands = [pytest] if only else [
        [python, "-m", "ruff", "check", "--quiet"],
        [python, "-m", "ruff", "format", "--check", "--quiet"],
        [python, "-m", "mypy", "--no-error-summary"],
        pytest,
    ]  # fmt: skip
    for command in commands:
        console.print(escape("$ " + " ".join(["python", *command[1:]])), style="dim", highlight=False)
        # pytest exits with 5 when a -k expression matches nothing: that is a failure to the person who typed it.
        code = subprocess.run(command, cwd=ROOT).returncode
        if code:
            console.print(escape(f"{command[2]} failed"), style="red")
            return code
    return 0
