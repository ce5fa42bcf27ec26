"""What has one meaning stands in one place: read off the sources."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    ROOT / "tasks.py",
    *(file for room in ("common", "analysis", "images") for file in sorted((ROOT / room).rglob("*.py"))),
]
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def _name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def _definitions(file: Path) -> Iterator[str]:
    """Names that a module defines at its top: classes and assignments, not imports."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _constants(file: Path) -> Iterator[object]:
    yield from (node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant))


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("Row", "analysis/database/connection.py"),
        ("Verdict", "common/stats/comparison.py"),
        ("OnStep", "common/host/models.py"),
        ("CLUMP_GAP", "common/stats/intervals.py"),
    ],
)
def test_a_name_of_one_meaning_is_defined_once(name: str, home: str) -> None:
    assert [_name(file) for file in FILES if name in _definitions(file)] == [home]


def test_the_minimum_sample_counts_of_percentiles_stand_once() -> None:
    """As numbers: 662 (p99) and 6636 (p99.9); 64, 130 and 11 are other things too."""
    homes = [_name(file) for file in FILES if {662, 6636} & {value for value in _constants(file) if type(value) is int}]
    assert homes == ["common/stats/percentiles.py"]
    queries = [
        file.name for file in (ROOT / "analysis/sql").glob("*.sql") if re.search(r"\b(662|6636)\b", file.read_text())
    ]
    assert queries == []


def test_a_colour_of_a_plot_stands_in_one_module() -> None:
    """Greys are no colours: a line of #444444 means nothing."""
    homes = defaultdict(set)
    for file in FILES:
        for value in _constants(file):
            for colour in _COLOUR.findall(value) if isinstance(value, str) else ():
                if len({colour[1:3].lower(), colour[3:5].lower(), colour[5:7].lower()}) > 1:
                    homes[colour.lower()].add(_name(file))
    assert len(homes) > 20
    assert {colour: sorted(files) for colour, files in homes.items() if len(files) > 1} == {}


_PRINTED = {"stdout", "stdin", "readline", "communicate"}
#: pipes of our own, on which nothing else is written: of worker and supervisor, of the two sides of `verify`, and of helpers
#: that import the standard library alone, as their file does
_PRIVATE = {
    "common/harness/worker.py",
    "common/harness/process.py",
    "common/interleaving.py",
    "analysis/readers/fingerprints.py",
}


def _loads_what_was_printed(file: Path) -> bool:
    """Whether a function calls json.loads on what it reads of another program, or on lines that it is handed.

    What is loaded is followed through the assignments of the function, in any order of its lines.
    """
    text = file.read_text()
    if "json.loads" not in text:
        return False
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    rest = ast.Module([node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))], [])
    for scope in (*functions, rest):
        tainted = {"line", "lines"}
        for _ in range(5):  # through as many names
            for node in ast.walk(scope):
                if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and _is_printed(node.value, tainted):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    tainted |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
                elif isinstance(node, (ast.For, ast.comprehension)) and _is_printed(node.iter, tainted):
                    tainted |= {one.id for one in ast.walk(node.target) if isinstance(one, ast.Name)}
        for node in ast.walk(scope):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "json.loads"
                and _is_printed(node.args[0], tainted)
            ):
                return True
    return False


def _is_printed(value: ast.AST | None, tainted: set[str]) -> bool:
    return value is not None and any(
        (isinstance(node, ast.Attribute) and node.attr in _PRINTED)
        or (isinstance(node, ast.Name) and node.id in tainted)
        for node in ast.walk(value)
    )


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("def f():\n    return json.loads(done.stdout)", True),
        ("def f():\n    first = process.stdout.readline()\n    return json.loads(first or b'{}')", True),
        ("spec = json.loads(sys.stdin.readline() or '{}')", True),
        (
            "def f():\n    said = [p.communicate()[0] for p in ps]\n    return [json.loads(w.splitlines()[-1]) for w in said]",
            True,
        ),
        ("def f():\n    last = done.stdout.splitlines()\n    text = last[-1]\n    return json.loads(text)", True),
        ("def f(line):\n    return json.loads(line)", True),
        ("def f(path):\n    subprocess.run(['x'], stdout=2)\n    return json.loads(path.read_text())", False),
    ],
)
def test_json_of_another_program_is_recognized(tmp_path: Path, source: str, printed: bool) -> None:
    file = tmp_path / "module.py"
    file.write_text(source)
    assert _loads_what_was_printed(file) is printed


def test_json_that_another_program_printed_is_parsed_in_one_place() -> None:
    """`common/typed_json`: text that is no JSON, no object, or too deep is none, for every reader (parse_object, last_object)."""
    homes = {_name(file) for file in FILES if _loads_what_was_printed(file)}
    assert homes - _PRIVATE == {"common/typed_json.py"}
