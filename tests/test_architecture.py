"""docs/architecture.md: its picture of the rooms against the real imports, and the greps of its questions against the files.

`python -m tests.test_architecture` draws the picture anew.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.test_rooms import IMPORTS, room

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/architecture.md"


#: what stands as one in the picture of docs/architecture.md -> its rooms
_TOGETHER = {
    "common/host/fleet": ("common/host/fleet/",),
    "common/host/runners": ("common/host/runners/",),
    "commands of analysis": (
        "analysis/analyze.py", "analysis/explain.py", "analysis/compose_report.py", "analysis/history.py", "analysis/selfbench",
    ),
    "clean, test": ("common/host/cleaning.py", "common/host/testing.py"),
}  # fmt: skip


def _shown_room(module: str) -> str:
    name = room(module)
    return next((shown for shown, rooms in _TOGETHER.items() if name.startswith(rooms)), name)


def picture() -> str:
    """The rooms and who imports whom, as Mermaid, a line for each room: an arrow that others imply is left out."""
    arrows: dict[str, set[str]] = {}
    for module, others in IMPORTS.items():
        for other in others:
            arrows.setdefault(_shown_room(module), set()).add(_shown_room(other))
    arrows = {name: below - {name} for name, below in arrows.items()}

    def reached(name: str) -> set[str]:
        return arrows.get(name, set()).union(*(reached(one) for one in arrows.get(name, ())))

    def implied(name: str) -> set[str]:
        return set().union(*(reached(one) for one in arrows[name]))

    shown: set[str] = set()

    def node(name: str) -> str:
        """With its label where it is named for the first time."""
        label = "" if name in shown else f'["{name}"]'
        shown.add(name)
        return re.sub("[^a-z]+", "_", name) + label

    highest_first = sorted(arrows, key=lambda name: (-len(reached(name)), name))
    lines = [
        f"  {node(name)} --> {' & '.join(map(node, sorted(arrows[name] - implied(name))))}"
        for name in highest_first
        if arrows[name]
    ]
    return "\n".join(["flowchart TD", *lines])


def test_the_picture_of_the_rooms_is_that_of_the_imports() -> None:
    """Where it is not: `python -m tests.test_architecture`."""
    assert f"```mermaid\n{picture()}\n```" in PAGE.read_text()


QUESTIONS = re.findall(r"^\| [^|]+ \| (.+?) \| `(grep [^`]+)` \|$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("places", "command"), QUESTIONS)
def test_each_question_s_grep_hits_the_places_that_it_names_and_no_other(places: str, command: str) -> None:
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    hit = {line.split(":")[0] for line in done.stdout.splitlines()}
    assert hit == set(re.findall(r"`([\w/.-]*\w)`", places))


def test_the_five_questions_are_asked() -> None:
    assert len(QUESTIONS) >= 5


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(re.sub(r"```mermaid\n.*?\n```", lambda _: f"```mermaid\n{picture()}\n```", text, flags=re.DOTALL))
