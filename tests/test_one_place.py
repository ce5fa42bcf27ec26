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


#: modules that parse JSON which is neither what another program printed nor, plainly, a file that they read -> what it is
_OTHER_JSON = {
    "analysis/comparisons/recipes.py": "a value of a table",
    "analysis/importers/trtexec.py": "a file whose numbers keep their digits",
    "analysis/readers/fingerprints.py": "lines of helpers that import the standard library alone",
    "common/harness/process.py": "a worker's lines, on a pipe on which nothing else is written",
    "common/harness/worker.py": "the supervisor's lines, on such a pipe",
    "common/host/bench/top_classes.py": "a value of a table",
    "common/host/fleet/head/collect.py": "a file out of an archive",
    "common/host/runners/cell_check.py": "the text of a file, for whether it is JSON at all",
    "common/interleaving.py": "lines of the host, on such a pipe",
    "images/_shared/keras_file.py": "a file out of an archive",
}
#: a file by its path; `.read(` alone may be a pipe's
_A_FILE = re.compile(r"\.read_text\(|\bregular_files\.read\(|\b_content\(")


def _parses_other_json(source: str) -> bool:
    """Whether a module calls json.loads on anything but what the same expression reads of a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "json":
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.load", "json.loads"):
            parsed = ast.unparse(node.args[0])
            if "std" in parsed or not _A_FILE.search(parsed):
                return True
    return False


def test_json_that_another_program_printed_is_parsed_in_one_place() -> None:
    """`common/typed_json`: text that is no JSON, no object, or too deep is none, for every reader (parse_object, last_object)."""
    found = {_name(file) for file in FILES if _parses_other_json(file.read_text())}
    assert found == {"common/typed_json.py", *_OTHER_JSON}


@pytest.mark.parametrize(
    ("source", "other"),
    [
        ("json.loads(path.read_text())", False),
        ("json.loads((folder / 'index.json').read_text())['files']", False),
        ("json.loads(regular_files.read(path, MOST))", False),
        ("json.loads(process.read())", True),
        ("json.loads(process.stdout.read())", True),
        ("json.loads(sys.stdin.read_text())", True),
        ("json.load(file)", True),
        ("for line in process.stdout:\n    json.loads(line)", True),
        ("text = subprocess.run(command, capture_output=True).stdout\njson.loads(text)", True),
        ("from json import loads\nloads(text)", True),
        ("parse_object(process.read())", False),
    ],
)
def test_what_counts_as_parsing_what_another_program_printed(source: str, other: bool) -> None:
    assert _parses_other_json(source) is other
