"""The published data, where it lies, and ways to damage small copies of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from rich.console import Console

from analysis.database.connection import Database
from analysis.database.open_runs import open_runs
from analysis.importers.import_results import ImportResult, import_results
from analysis.importers.imported import Facts

REPOSITORY = Path(__file__).resolve().parents[3]
#: folder -> which of the machine's GPUs ran, as the README of the data says
ORDINALS: Mapping[str, int] = {"a2": 0, "v100": 0, "titan-x": 1}


def _published() -> Path:
    given = os.environ.get("FRAMEWATT_PUBLISHED")
    return Path(given) if given else REPOSITORY.parent / "shared" / "published-results"


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of the published results; without it the test is skipped by name."""
    folder = _published()
    if not (folder / "expected").is_dir():
        pytest.skip(f"published results are not at {folder}; set FRAMEWATT_PUBLISHED to their folder")
    return folder


@pytest.fixture(scope="session")
def imported_runs(published: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """folder of the data -> run folder."""
    results = tmp_path_factory.mktemp("results")
    return {
        name: import_results(
            published / name, results, console=Console(quiet=True), facts=Facts(gpu_ordinal=ordinal)
        ).folder
        for name, ordinal in ORDINALS.items()
    }


@pytest.fixture(scope="session")
def study(imported_runs: Mapping[str, Path]) -> Iterator[Database]:
    with open_runs(list(imported_runs.values())) as database:
        yield database


Import = Callable[..., tuple[ImportResult, str]]


@pytest.fixture
def import_this(tmp_path: Path) -> Import:
    """Imports a path into a folder of the test's own; returns the result and what was printed."""

    def run(path: Path, format: str | None = None, **facts: object) -> tuple[ImportResult, str]:
        console = Console(width=200, record=True, quiet=False, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
        given = Facts(**facts)  # type: ignore[arg-type]
        result = import_results(path, tmp_path / "results", console=console, facts=given, format=format)
        return result, console.export_text()

    return run
