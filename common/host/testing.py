"""`invoke test`: linters, types and tests with everything they need."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from signal import SIGTERM
from typing import IO

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host.children import dying_with_parent
from common.host.cli.progress import Steps
from common.host.fleet.transport.install import install as install_ray
from common.host.frameworks import environments
from common.host.frameworks.registry import load_images
from common.host.models import ExportOptions, ensure_model, find_model
from common.host.paths import IMAGES, ROOT, DataFolder
from common.models import DEFAULT_MODEL

#: of the images, those whose environments take longest to make, and so come first
LARGEST = ("tensorflow", "torch", "jax")


def _environments(console: Console) -> list[str]:
    """Makes the CPU environments of all images that have one, and installs Ray; returns what could not be made, in words."""
    problems = []
    names = [image.name for image in load_images(IMAGES) if (image.folder / "requirements-cpu.txt").is_file()]
    missing = [name for name in names if not environments.is_ready(name, "cpu")]
    missing.sort(key=lambda name: LARGEST.index(name) if name in LARGEST else len(LARGEST))
    failed: list[Exception] = []

    def ray() -> None:
        try:
            install_ray()
        except Exception as error:
            failed.append(error)

    # a daemon, so that Ctrl-C does not wait for it: its pip ends with this process
    beside = threading.Thread(target=ray, daemon=True)
    with Steps(console).show("Setting up the frameworks") as on_step:
        beside.start()
        ready: list[str] = []

        def on_ready(name: str) -> None:
            ready.append(name)
            on_step(len(ready), len(missing), f"{name} is ready")

        on_step(0, len(missing), ", ".join(missing) or "ready")
        failures = environments.ensure_all(missing, "cpu", on_ready=on_ready)
        beside.join()
    for error in failed:
        if not isinstance(error, UserError):
            raise error
        problems.append(str(error))
    return problems + [str(error) for error in failures.values()]


def _model(console: Console) -> list[str]:
    """Exports the model of the demo where it is missing; returns why that failed, in words.

    Here and not in the tests that need it: beside all others, and with less priority, it can take longer than a test may.
    """
    folder = DataFolder.default().models
    try:
        if find_model(folder, DEFAULT_MODEL) is not None:
            return []
        folder.mkdir(parents=True, exist_ok=True)
        with Steps(console).show(f"Exporting {DEFAULT_MODEL}") as on_step:
            ensure_model(
                DEFAULT_MODEL, folder, lambda image: environments.interpreter(image, "cpu"),
                lambda step, steps, name: on_step(step, steps, name), ExportOptions("seeded"),
            )  # fmt: skip
    except UserError as error:
        return [str(error)]
    except OSError as error:
        return [f"{folder} cannot be written: {(error.strerror or str(error)).lower()}"]
    return []


#: tests that compute and judge no times: they run in processes of their own, beside the others and with less priority, so
#: that the others meet no busier machine than they would alone
COMPUTING = ("tests/images", "tests/common/export", "tests/analysis", "tests/fuzz")
NICENESS = 10
#: each pytest names its ten slowest tests at the end
SLOWEST = "--durations=10"
#: tests that mostly wait, for an engine or for what they have killed: beside the others, so that the machine has something to do
ENGINE = ("tests/engine",)
FAULTS = ("tests/common/host/faults",)
FLEET = ("tests/common/host/fleet",)
#: processes for the tests on an engine: each has images and containers under names of its own
ENGINE_PROCESSES = 2


def run_tests(console: Console, *, core: bool, only: str, engine_all: bool = False) -> int:
    """Runs ruff, mypy and pytest; returns the exit code: that of the first that failed.

    core leaves out what needs a framework's environment, an engine or Ray. only: a path or a -k expression for pytest.
    engine_all: also what needs the container images of all frameworks. Raises UserError for core with engine_all.
    """
    if core and engine_all:
        raise UserError("--core leaves out all tests on an engine, --engine-all adds some; give one of them")
    chosen: list[str] = []
    if core:
        chosen = ["-m", "not framework and not engine and not gpu and not fleet"]
    elif engine_all:
        chosen = ["-m", ""]  # in place of pyproject.toml's, which leaves every_image out
    if only:
        words = [only] if (ROOT / only.split("::")[0]).exists() else ["-k", only]
        # pytest exits with 5 when a -k expression matches nothing: that is a failure to the person who typed it.
        return set_up(console, core) or _run(console, ["pytest", *chosen, *words])
    for command in (["ruff", "check", "--quiet"], ["ruff", "format", "--check", "--quiet"]):
        code = _run(console, command)
        if code:
            return code
    # mypy runs beside what is downloaded and unpacked, and beside the first tests
    with _stream(console, "mypy", ["mypy", "--no-error-summary"]) as types:
        code = set_up(console, core)
        if code or types.has_failed():
            return code or types.finish(console)
        code = _run_all_tests(
            console, chosen, (COMPUTING, FAULTS, FLEET) if core else (COMPUTING, ENGINE, FAULTS, FLEET)
        )
        return types.finish(console) or code


def set_up(console: Console, core: bool) -> int:
    """What the tests need, unless only those without it are run; 2 where something could not be had, which it says."""
    problems = [] if core else _environments(console) or _model(console)
    for problem in problems:
        console.print(escape(f"error: {problem}"), style="red", highlight=False, soft_wrap=True)
    return 2 if problems else 0


def _command(console: Console, words: Sequence[str]) -> list[str]:
    console.print(escape("$ python -m " + " ".join(words)), style="dim", highlight=False, soft_wrap=True)
    return [sys.executable, "-m", *words]


def _run(console: Console, words: Sequence[str]) -> int:
    """Runs `python -m WORDS` and says where it failed; returns its exit code."""
    command, begin = dying_with_parent(_command(console, words), SIGTERM), time.time()
    code, cpu_s = _with_cpu_seconds(lambda: subprocess.run(command, cwd=ROOT).returncode)
    _print_times(console, words[0], cpu_s, time.time() - begin)
    if code:
        console.print(f"{words[0]} failed", style="red")
    return code


def _with_cpu_seconds(wait: Callable[[], int]) -> tuple[int, float]:
    """What `wait` returns, and the CPU time, in s, of the process that it waits for, with those that this one has waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return code, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _print_times(console: Console, what: str, cpu_s: float, wall_s: float) -> None:
    """Where the suite's time goes: on few cores the sum of the CPU times decides, whatever runs beside what."""
    text = f"{what}: {cpu_s:.0f} s of CPU time in {wall_s:.0f} s"
    console.print(escape(text), style="dim", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class _Stream:
    """A module of Python that runs beside the others and is heard at its end. name: for people. begin: as time.time()."""

    name: str
    output: IO[str]
    process: subprocess.Popen[bytes]
    begin: float

    def has_failed(self) -> bool:
        """Whether it has ended so by now; its end, with its CPU time, is left to `finish`."""
        ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None and (ended.si_code != os.CLD_EXITED or ended.si_status != 0)

    def finish(self, console: Console) -> int:
        """Waits for its end and prints what it said; returns its exit code."""
        code, cpu_s = _with_cpu_seconds(self.process.wait)
        end = os.fstat(self.output.fileno()).st_mtime  # when it said its last: it may have waited long to be heard
        self.output.seek(0)
        sys.stdout.write(self.output.read())
        sys.stdout.flush()
        _print_times(console, self.name, cpu_s, max(0.0, end - self.begin))
        if code:
            console.print(escape(f"{self.name} failed"), style="red")
        return code


@contextmanager
def _stream(console: Console, name: str, words: Sequence[str]) -> Iterator[_Stream]:
    """Starts `python -m WORDS`, and ends it where it still runs: Ctrl-C reaches it too, whatever else happens does not."""
    with tempfile.TemporaryFile("w+") as output:
        command = dying_with_parent(_command(console, words), SIGTERM)
        begin = time.time()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield _Stream(name, output, process, begin)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def _run_all_tests(console: Console, chosen: Sequence[str], streams: Sequence[Sequence[str]]) -> int:
    """All tests: each of the streams in a pytest of its own beside the rest; what they said comes when the rest is done."""
    aside = [folder for folders in (COMPUTING, ENGINE, FAULTS, FLEET) for folder in folders]
    with ExitStack() as stack:
        running = []
        for folders in streams:
            there = [folder for folder in folders if (ROOT / folder).is_dir()]
            words = ["pytest", SLOWEST, *_processes(folders), *chosen, *there]
            running.append(stack.enter_context(_stream(console, f"pytest {' '.join(folders)}", words)))
            if folders is COMPUTING:
                os.setpriority(os.PRIO_PROCESS, running[-1].process.pid, NICENESS)  # before it starts any other
        code = _run(console, ["pytest", SLOWEST, *chosen, *(f"--ignore={folder}" for folder in aside)])
        for stream in running:
            code = stream.finish(console) or code
    return code


def _processes(folders: Sequence[str]) -> list[str]:
    if folders not in (COMPUTING, ENGINE):
        return []
    # by default the files with the most tests come first; tests/conftest.py has those that take longest in front
    count = ENGINE_PROCESSES if folders is ENGINE else max(1, min(len(os.sched_getaffinity(0)), 4))
    return ["-n", str(count), "--dist", "loadfile", "--no-loadscope-reorder"]
