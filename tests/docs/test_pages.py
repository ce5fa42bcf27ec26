"""The pages: links lead somewhere, commands exist, the front page is one screen, generated tables are what the files say."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from invoke.collection import Collection

import tasks
from analysis.output import (
    reference_docs,
    reference_page,
    reference_recipes,
    reference_runs,
    reference_table,
    worth_table,
)
from common.errors import UserError
from common.host.paths import ROOT, DataFolder

PAGES = [
    ROOT / line
    for line in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()
]  # fmt: skip
#: of a screen; a line is at most about two of a terminal's
MOST_LINES = 75


@cache
def flags() -> dict[str, set[str]]:
    """Task -> its options."""
    return {str(one.name): set(one.flags) for one in Collection.from_module(tasks).to_contexts()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_what_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://", "#", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_are_tasks_and_options_that_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # tells what once was
    for line in page.read_text().replace("\\\n", " ").splitlines():
        for command in re.findall(r"(?:^|`|\./)invoke ((?:fleet )?[a-z][a-z-]*(?: [^`#]*)?)", line):
            words = command.split()
            name = " ".join(words[:2]) if words[0] == "fleet" else words[0]
            if name not in flags():
                continue  # a sentence
            for option in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", command):
                assert option in flags()[name], f"invoke {name} {option}"


def front_page() -> str:
    """As a reader sees it first: what is folded takes one line."""
    return re.sub(r"(?s)<details>.*?</details>", "<details></details>", (ROOT / "README.md").read_text())


def test_the_front_page_is_one_screen() -> None:
    text = front_page()
    assert len(text.splitlines()) <= MOST_LINES
    assert text.count("](docs/images/") == 2, "how fast, and why"
    assert len(re.findall(r"^- ", text, re.MULTILINE)) == 5, "what a row means"


def test_every_page_of_docs_is_in_its_list() -> None:
    listed = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in listed, page.name


def test_the_tables_of_the_h100_are_what_its_runs_say(tmp_path: Path) -> None:
    folder = ROOT / "data" / "reference" / "h100"
    page = (folder / reference_table.PAGE).read_text()
    rendered = reference_table.render(folder, DataFolder(tmp_path))
    again = f"python -m analysis.output.reference_table {folder.relative_to(ROOT)} writes them anew"
    assert reference_table.updated(page, rendered) == page, again


def test_the_recipes_are_those_of_the_reference_runs() -> None:
    """With the host's own cache, in which reference runs are unpacked once."""
    pages = reference_recipes.pages(DataFolder.default().host_cache)
    folder = reference_recipes.FOLDER
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert there == set(pages), "invoke recipe --docs writes them anew"
    for path, text in pages.items():
        assert (folder / path).read_text() == text, f"{path}: invoke recipe --docs writes it anew"


def test_what_pages_say_of_the_reference_runs_is_what_these_give() -> None:
    cache = DataFolder.default().host_cache
    results, cells, worth = reference_docs.parts(cache)
    page, front = reference_docs.RESULTS.read_text(), reference_docs.README.read_text()
    again = "invoke recipe --docs writes it anew"
    assert reference_docs.with_results(page, results) == page, again
    assert reference_docs.CELLS.read_text() == cells, again
    assert reference_docs.with_worth(front, worth) == front, again
    generated = [folder for folder in reference_runs.folders(cache) if folder.generated]
    assert generated, "else the loop below would look at nothing"
    for folder in generated:
        text = reference_page.updated(folder, cache)
        assert (folder.path / reference_runs.README).read_text() == text, f"{folder.name}: {again}"
    with pytest.raises(UserError, match="has lost the marks"):
        reference_docs.with_worth(front.replace(reference_docs.WORTH_END, ""), worth)
    with pytest.raises(UserError, match="has lost the marks"):
        reference_docs.with_results(page.replace(reference_docs.RESULTS_BEGIN, ""), results)


def test_the_front_page_has_room_for_the_whole_table_of_worth() -> None:
    lines = front_page().splitlines()
    rows = [place for place, line in enumerate(lines) if line.startswith("|")]
    most = worth_table.MOST_ROWS + worth_table.MOST_OF_TRANSFORMER
    assert len(lines) - (len(rows) - 2) + most <= MOST_LINES
