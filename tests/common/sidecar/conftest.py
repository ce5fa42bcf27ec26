"""Runs the real sidecar, as a process, against the NVML stand-in."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_nvml import build

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if build.compiler() is None:
        pytest.skip("no C compiler for the NVML stand-in")
    return build.build(tmp_path_factory.mktemp("nvml"))


class Sidecar:
    """A running sidecar and what it wrote."""

    def __init__(self, out: Path, process: subprocess.Popen[str], errors: Path) -> None:
        self.out = out
        self.process = process
        self._errors = errors
        self._events: list[dict[str, Any]] = []

    def ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.errors
        self._events.append(json.loads(line))
        return self._events[-1]

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        assert self.process.stdout is not None
        self._events += [json.loads(line) for line in self.process.stdout]
        return self.process.wait(timeout=60)

    @property
    def events(self) -> dict[str, dict[str, Any]]:
        return {event["event"]: event for event in self._events}

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    @property
    def rows(self) -> list[dict[str, str]]:
        with self.out.open(newline="") as file:
            return list(csv.DictReader(file))

    def wait_for(self, condition: Callable[[list[dict[str, str]]], Any]) -> None:
        """Until the rows on disk fulfil the condition; fails after 60 s."""
        deadline = time.monotonic() + 60
        while not condition(self.rows):
            assert time.monotonic() < deadline, f"{self.rows[-2:]}\n{self.errors}"
            time.sleep(0.02)

    def wait_for_words(self, words: str) -> None:
        deadline = time.monotonic() + 60
        while words not in self.errors:
            assert time.monotonic() < deadline, self.errors
            time.sleep(0.02)


Start = Callable[..., Sidecar]


@pytest.fixture
def start(tmp_path: Path, nvml_library: Path) -> Iterator[Start]:
    """start(*arguments, library=..., out=..., **environment) -> Sidecar; without RAPL unless --powercap is given."""
    started: list[subprocess.Popen[str]] = []

    def start_one(*arguments: str, library: Path | None = None, out: Path | None = None, **environment: str) -> Sidecar:
        out = out or tmp_path / "power.csv"
        errors = tmp_path / f"errors-{len(started)}.txt"
        command = [sys.executable, "-m", "common.sidecar", "--out", str(out), *arguments]
        if "--powercap" not in arguments:
            command += ["--powercap", str(tmp_path / "no-powercap")]
        with errors.open("w") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.PIPE, text=True,
                env={**os.environ, **build.library_path(library or nvml_library), **environment},
            )  # fmt: skip
        started.append(process)
        return Sidecar(out, process, errors)

    yield start_one
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stdin):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


class Powercap:
    """A powercap tree like the kernel's."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, folder: str, name: str, energy_uj: int, span_uj: int = 262_143_328_850) -> Path:
        path = self.root / folder
        path.mkdir(parents=True)
        (path / "name").write_text(f"{name}\n")
        (path / "max_energy_range_uj").write_text(f"{span_uj}\n")
        self.set(folder, energy_uj)
        return path

    def set(self, folder: str, energy_uj: int) -> None:
        # In place and in one write, as sysfs shows one value to each read: the sidecar keeps the file open.
        handle = os.open(self.root / folder / "energy_uj", os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(handle, f"{energy_uj:<20}\n".encode(), 0)
        os.close(handle)


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    return Powercap(tmp_path / "powercap")
