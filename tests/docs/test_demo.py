"""What pages say of `invoke demo` is what it measures and prints; the figures themselves are of the day that stands beside them."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from analysis.analyze import analyze
from common.host.frameworks.registry import all_variants, load_images
from common.host.paths import IMAGES, ROOT
from common.host.plan import plan_file
from tests.analysis.conftest import Build, build, undrawn

__all__ = ["build", "undrawn"]

README, RESULTS, TASKS = ((ROOT / name).read_text() for name in ("README.md", "docs/results.md", "docs/tasks.md"))
NUMBERS = {6: "six", 7: "seven", 21: "twenty-one"}
#: the signs behind a figure: they are of the day
MARKS = re.compile(r"(?<=[0-9]) [a-z]+\b")


def block() -> list[str]:
    found = re.search(r"^\$ \./invoke demo\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def measured() -> dict[str, tuple[float, ...]]:
    """Variant -> images/s, of the table in docs/results.md."""
    section = RESULTS.partition("## A small CPU")[2].partition("\n## ")[0]
    titles = {variant.title: name for name, variant in all_variants(load_images(IMAGES)).items()}
    found = {}
    for line in section.splitlines():
        name, *figures = (cell.strip(" *") for cell in line.strip("|").split("|"))
        title = re.sub(r" [0-9.]+$", "", name)
        if title in titles:
            found[titles[title]] = tuple(float(re.sub(r"[^0-9.]", "", figure)) for figure in figures)
    return found


def test_pages_tell_what_the_plan_asks_for() -> None:
    (sweep,) = plan_file.read(plan_file.find("demo")).sweeps
    frameworks, sizes = sweep.options.framework.split(","), sweep.options.batch_sizes.split(",")
    assert set(measured()) == set(frameworks)
    cells = NUMBERS[len(frameworks) * len(sizes)]
    assert f"all {cells} cells" in RESULTS and f"all {cells} cells" in TASKS
    assert f"measures {NUMBERS[len(frameworks)]} frameworks" in TASKS
    assert block()[0].split() == ["variant", "precision", *(f"b{size}" for size in sizes)]
    assert f"{NUMBERS[len(block())]} lines of what the demo prints" in README
    for page in (RESULTS, TASKS):
        assert "4 min 31 s" in page, "the README links to it"


def test_the_readme_shows_what_these_figures_print(build: Build, undrawn: None, tmp_path: Path) -> None:
    run = build("demo", device_name="AMD EPYC")
    for variant, rates in measured().items():
        for size, rate in zip((1, 8, 32), rates, strict=True):
            run.cell(variant, size, [round(size / rate * 1e9)] * 40, model="MobileNetV3L")
    out = Console(file=io.StringIO(), width=300)
    analyze([run.folder], tmp_path / "report", out, here=True)
    printed = [MARKS.sub("", line).split() for line in out.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    expected = [MARKS.sub("", line).split() for line in block()]
    places = [printed.index(line) for line in expected]
    assert places == sorted(places)
