"""`invoke test`: linters, types and tests with everything they need."""

from __future__ import annotations

import subprocess
import sys

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host import environments
from common.host.fleet.install import install as install_ray
from common.host.image_registry import load_images
from common.host.paths import IMAGES, ROOT
from common.host.progress import Steps


def _environments(console: Console) -> list[str]:
    """Makes the CPU environments of all images that have one, and installs Ray; returns what could not be made, in words."""
    problems = []
    try:
        install_ray()
    except UserError as error:
        problems.append(str(error))
    with Steps(console).show("Setting up the frameworks") as on_step:
        names = [i.name for i in load_images(IMAGES) if any(v.precisions_cpu for v in i.variants)]
        for done, name in enumerate(names):
            on_step(done, len(names), name)
            try:
                environments.ensure(name, "cpu")
            except UserError as error:
                problems.append(str(error))
    return problems


def run_tests(console: Console, *, core: bool, only: str) -> int:
    """Runs ruff, mypy and pytest; returns the exit code: that of the first that failed.

    core leaves out what needs a framework's environment, an engine or Ray. only: a path or a -k expression for pytest.
    """
    if not core:
        for problem in _environments(console):
            console.print(escape(f"error: {problem}"), style="red", highlight=False, soft_wrap=True)
            return 2
    python = sys.executable
    pytest = [python, "-m", "pytest"]
    if only:
        pytest += [only] if (ROOT / only.split("::")[0]).exists() else ["-k", only]
    if core:
        pytest += ["-m", "not framework and not engine and not gpu and not fleet"]
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
