"""The rooms of docs/architecture.md, held against what the modules import: no circle, and nothing upward.

All imports count, those inside functions and those for types alone too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Rooms from the lowest to the highest: a module may import its own room and rooms of lower levels, no other. A room is a
#: folder with all below it that is not a room of its own, or one module.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("common",),
    ("common/harness", "common/sidecar", "common/stats"),
    ("common/export",),
    ("common/host",),
    ("common/host/cli", "common/host/frameworks", "common/host/runs"),
    ("common/host/plan", "common/host/recipes"),
    ("common/host/runners",),
    ("common/host/runners/containers",),
    ("common/host/doctor",),
    ("common/host/bench",),
    ("common/host/verify", "common/host/compose", "common/host/fleet/worker"),
    ("common/host/selfbench", "common/host/fleet/transport"),
    ("common/host/fleet/head", "common/host/cleaning.py", "common/host/testing.py"),
    ("analysis/readers", "analysis/style.py"),
    ("analysis/database", "analysis/importers"),
    ("analysis/results",),
    ("analysis/comparisons",),
    ("analysis/plots",),
    ("analysis/output",),
    ("analysis/explain.py",),
    ("analysis/analyze.py", "analysis/selfbench"),
    ("analysis/compose_report.py", "analysis/history.py"),
    ("tasks.py",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def _modules() -> dict[str, Path]:
    """Dotted name -> file, of all modules that are no test and no image's."""
    files = [*ROOT.glob("common/**/*.py"), *ROOT.glob("analysis/**/*.py"), ROOT / "tasks.py"]
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
        if "__pycache__" not in file.parts
    }


MODULES = _modules()


def _imported(file: Path) -> Iterator[str]:
    """Modules of this project that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                if whole in MODULES:
                    yield whole
                elif node.module in MODULES:
                    yield node.module


IMPORTS = {name: sorted(set(_imported(file)) - {name}) for name, file in MODULES.items()}


def room(module: str) -> str:
    """The room of LEVELS that a module is in."""
    place = MODULES[module].relative_to(ROOT)
    for part in (place, *place.parents):
        if part.as_posix() in LEVEL:
            return part.as_posix()
    raise AssertionError(f"{place} is in no room of LEVELS")


def test_no_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


def test_nothing_imports_upward() -> None:
    upward = [
        f"{module} imports {other}: {room(other)} is not below {room(module)}"
        for module, others in IMPORTS.items()
        for other in others
        if room(other) != room(module) and LEVEL[room(other)] >= LEVEL[room(module)]
    ]
    assert upward == []


def test_every_room_exists() -> None:
    assert [name for name in LEVEL if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("folder", ["common/harness", "common/sidecar", "common/export", "images"])
def test_what_goes_into_images_imports_nothing_of_the_host(folder: str) -> None:
    """`common/host`, `common/stats` and `analysis` are not in an image (.dockerignore)."""
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            wrong = [name for name in names if name.startswith(("common.host", "common.stats", "analysis"))]
            assert wrong == [], f"{file.relative_to(ROOT)} imports {wrong}"


def test_the_sidecars_image_copies_all_that_the_sidecar_imports() -> None:
    waiting = [name for name in MODULES if name.startswith("common.sidecar")]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += IMPORTS[name]
    dockerfile = (ROOT / "images/sidecar/Dockerfile").read_text()
    missing = [
        file.name
        for file in map(MODULES.__getitem__, needed)
        if file.parent == ROOT / "common" and f"common/{file.name}" not in dockerfile
    ]
    assert missing == []
