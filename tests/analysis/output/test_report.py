from __future__ import annotations

import html
import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.analyze import write_report
from analysis.comparisons.summary import answers, uncertainty
from analysis.output import explorer, report, tooltips
from analysis.output import pdf as browser
from analysis.plots.axes import batch_axis
from analysis.results import sample_intervals
from analysis.results.all_intervals import all_intervals
from analysis.results.metrics import METRICS, spoken_of
from analysis.results.selection import Selection
from analysis.results.tables import build as build_tables
from analysis.results.tables import load, selected
from common.errors import UserError
from common.stats.intervals import Interval
from tests.analysis.conftest import SECOND, Build, Opened, RunBuilder

MS = 10**6


def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def fill(run: Any, factor: int = 1, workers: int = 1) -> Any:
    """torch is fastest at batch 8, slowest at batch 64; tf crashes with a message that is HTML."""
    for batch_size, torch_ms, onnx_ms in ((8, 4, 6), (16, 6, 9), (64, 40, 16)):
        for variant, ms in (("torch", torch_ms), ("onnxrt", onnx_ms), ("keras", 100)):
            durations = [factor * ms * MS + i % 7 * 1000 for i in range(70)]
            for worker in range(workers):
                versions = {"framework_version": "1.2.3", "python_version": "3.11"}
                run.cell(variant, batch_size, durations_ns=durations, replicate=worker, **versions)
    run.cell("tf", 8, status="crashed", message="<script>boom()</script>")
    return run


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One report for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("page")
    run = fill(RunBuilder(folder / "results" / "run").run_json())
    return write_report([run.folder], folder / "out", console()).report


def test_it_stands_alone_and_is_small(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "http://" not in re.sub(
        r'xmlns(:\w+)?="[^"]*"', "", re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    )
    assert len(text) < 5_000_000
    assert "boom()" in text
    assert "<script>boom" not in text
    assert "invoke report run</code>" in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)), "several plots share a page, their ids must not clash"


def test_the_answer_comes_from_the_data(build: Build, opened: Opened) -> None:
    database = opened(fill(build(), workers=3))
    rows = load(database, Selection())
    intervals = all_intervals(database, rows)
    (answer,) = answers(build_tables(database, rows, list(METRICS)), intervals)
    assert re.match(
        r"Batch 8: PyTorch fp32, 1,99\d images/s \[1,99\d, 2?,?[\d,]+\], (49\.\d|50\.0) % above ONNX Runtime fp32",
        answer.sentences[0],
    )
    assert answer.sentences[2].startswith("Batch 64: ONNX Runtime fp32, ")
    summary = dict(answer.summary)
    assert summary["Most images per second"].startswith("ONNX Runtime fp32 at batch 64: ")
    assert summary["Shortest latency"].startswith("PyTorch fp32 at batch 8: 4.003 ms")
    assert "UNCLEAR" not in " ".join(answer.sentences)


def test_equal_frameworks_are_unclear(build: Build, opened: Opened) -> None:
    run = build()
    for variant, offset in (("torch", 0), ("onnxrt", 3)):
        for worker in range(3):
            durations = [5 * MS + (i * 7919 + offset) % 997 * 1000 + 5000 * worker for i in range(200)]
            run.cell(variant, 8, durations_ns=durations, replicate=worker)
    database = opened(run)
    rows = load(database, Selection())
    (answer,) = answers(build_tables(database, rows, ["throughput"]), all_intervals(database, rows))
    assert answer.sentences[0].endswith("; UNCLEAR, their intervals overlap.")
    assert "UNCLEAR" in dict(answer.summary)["Most images per second"]


def test_one_worker_is_never_clear(build: Build, opened: Opened) -> None:
    database = opened(fill(build()))
    rows = load(database, Selection())
    (answer,) = answers(build_tables(database, rows, ["throughput"]), all_intervals(database, rows))
    for text in (*answer.sentences, dict(answer.summary)["Most images per second"]):
        assert text.endswith("UNCLEAR, one worker tells nothing of the next one (--replicates 3 would).")


def test_an_interval_without_an_end_is_open(build: Build, opened: Opened) -> None:
    run = build()
    run.cell("torch", 8, durations_ns=[MS] * 12)
    database = opened(run)
    (table,) = build_tables(database, load(database, Selection()), ["throughput"])
    (entry,) = table.entries.values()
    wild = Interval(entry.value or 0.0, 3.32, 7e9, 0.95, 2, 1)
    assert uncertainty(table, entry, {(entry.keys, entry.run, "throughput"): wild}) == " [3.320, open]"


def test_an_interval_of_one_worker_has_a_sign_beside_those_over_workers(build: Build, opened: Opened) -> None:
    """It lacks what differs from worker to worker, so that it looked better than one of three."""
    run = build()
    for variant, workers in (("torch", 3), ("onnxrt", 1)):
        for worker in range(workers):
            durations = [(5 + worker) * MS + i % 7 * 1000 for i in range(200)]
            run.cell(variant, 8, durations_ns=durations, replicate=worker)

    def shown(where: str | None = None) -> tuple[dict[str, str], list[str]]:
        database = opened(run)
        rows = selected(database, where)
        (table,) = build_tables(database, rows, ["throughput"])
        found = report._table(table, all_intervals(database, rows))
        lines = [line for line in found["footers"] if "one worker alone" in line]
        return {row["labels"][0]["value"]: row["places"][0]["interval"] for row in found["rows"]}, lines

    intervals, (line,) = shown()
    assert re.fullmatch(r"\[[\d,.]+, [\d,.]+\] 1w", intervals["onnxrt"])
    assert re.fullmatch(r"\[[\d,.]+, [\d,.]+\]", intervals["torch"])
    assert line.startswith("1w  an interval of one worker alone: what differs from worker to worker is not in it")
    assert shown("variant=torch")[1] == []
    intervals, (line,) = shown("variant=onnxrt")
    assert "1w" not in intervals["onnxrt"] and line.startswith("Each interval is of one worker alone: ")


SORT = """
const table = document.querySelector(".block table");
const column = () => [...table.tBodies[0].rows].map((row) => row.cells[2].firstChild.textContent.trim());
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const buttons = [...table.querySelectorAll("thead button")];
const seen = { headings: buttons.map((button) => button.textContent), tab: buttons.every((button) => button.tabIndex === 0) };
buttons[2].click(); seen.falling = column(); seen.aria = buttons[2].closest("th").getAttribute("aria-sort");
buttons[2].click(); seen.rising = column();
buttons[0].click(); seen.names = names(); seen.cleared = buttons[2].closest("th").getAttribute("aria-sort");
return seen;
"""


def test_sorting_in_a_browser(page: Path, tmp_path: Path, ask: Any) -> None:
    seen = ask(page, SORT, tmp_path)
    assert seen["headings"] == ["framework", "precision", "batch 8", "batch 16", "batch 64"]
    assert seen["tab"] is True
    numbers = [float(text.replace(",", "")) for text in seen["falling"][:-1]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 3
    assert seen["falling"][-1] == "crashed", "what has no figure comes last"
    assert seen["aria"] == "descending"
    assert seen["rising"] == [*reversed(seen["falling"][:-1]), "crashed"]
    assert seen["names"] == sorted(seen["names"])
    assert seen["cleared"] is None


FILTER = """
const words = document.getElementById("filter"), figure = document.getElementById("figure"), count = document.getElementById("count");
const rows = () =>
  [...document.querySelectorAll(".block:not([hidden]) tbody tr:not([hidden])")].map((row) => row.cells[0].textContent);
const metrics = () => [...new Set([...document.querySelectorAll(".block:not([hidden])")].map((block) => block.dataset.metric))];
const set = (text) => { words.value = text; words.dispatchEvent(new Event("input")); };
const seen = { all: rows().length, total: count.value };
set("TORCH fp32"); seen.torch = [...new Set(rows())]; seen.count = count.value;
set("nothing-like-it"); seen.none = rows().length;
words.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" })); seen.again = rows().length;
figure.value = "median latency"; figure.dispatchEvent(new Event("change")); seen.metrics = metrics();
seen.open = document.querySelector("details.further") ? document.querySelector("details.further").hidden : true;
return seen;
"""


def test_filtering_in_a_browser(page: Path, tmp_path: Path, ask: Any) -> None:
    seen = ask(page, FILTER, tmp_path)
    assert seen["total"] == f"{seen['all']} rows"
    assert seen["torch"] == ["PyTorch"]
    assert re.fullmatch(rf"\d+ of {seen['all']} rows", seen["count"])
    assert seen["none"] == 0
    assert seen["again"] == seen["all"]
    assert seen["metrics"] == ["median latency"]
    assert seen["open"] is True


HOVER = """
const plot = document.querySelector(".plots figure"), mark = plot.querySelector(".at"), box = mark.getBoundingClientRect();
const tip = document.getElementById("tip");
const seen = { marks: plot.querySelectorAll(".at").length, before: tip.hidden, size: box.width > 4 && box.height > 4 };
mark.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: box.left + 2, clientY: box.top + 2 }));
seen.tip = tip.hidden ? "" : tip.textContent;
plot.dispatchEvent(new PointerEvent("pointerleave")); seen.gone = tip.hidden;
plot.focus(); plot.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", cancelable: true }));
seen.keyboard = tip.hidden ? "" : tip.textContent;
plot.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" })); seen.escaped = tip.hidden;
return seen;
"""


def test_hovering_in_a_browser(page: Path, tmp_path: Path, ask: Any) -> None:
    seen = ask(page, HOVER, tmp_path)
    assert seen["marks"] == 9, "three frameworks at three batch sizes"
    assert seen["before"] is True and seen["gone"] is True and seen["escaped"] is True
    assert seen["size"] is True
    assert re.fullmatch(r"[\w ]+, batch \d+\nthroughput: [\d,.]+ images/s", seen["tip"])
    assert seen["keyboard"].count("\n") == 1


WIDTH = """
const narrow = innerWidth, page = document.documentElement.scrollWidth;
const small = [...document.querySelectorAll("p, li, td")].filter((e) => parseFloat(getComputedStyle(e).fontSize) < 11).length;
return { narrow, page, small };
"""


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_never_scrolls_sideways(page: Path, tmp_path: Path, width: int, ask: Any) -> None:
    seen = ask(page, WIDTH, tmp_path, width)
    assert seen["page"] <= seen["narrow"]
    assert seen["small"] == 0


@pytest.mark.parametrize(("item", "unit"), [("image", "images"), ("sample", "samples"), ("token", "samples")])
def test_a_batch_is_of_samples_whatever_the_rates_count(item: str, unit: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3), dpi=100)
    plot = figure.subplots()
    plot.plot([1, 8], [10, 20.5], label="torch")
    with spoken_of(item):
        batch_axis(plot, [1, 8])
    assert plot.get_xlabel() == f"batch size ({unit})"
    assert tooltips.targets(figure)[1].text.startswith("torch\nbatch size: 8\n")


def test_values_of_a_plot() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3), dpi=100)
    axes = figure.subplots()
    axes.plot([1, 8], [10, 20.5], label="torch\n   oom at 16")
    axes.plot([1, 8], [1, 2])  # has no name: decoration
    axes.set_xlabel("batch size (images)")
    axes.set_ylabel("throughput (images/s)")
    first, second = tooltips.targets(figure)
    assert first.text == "torch\nbatch size: 1\nthroughput: 10 images/s"
    assert second.text == "torch\nbatch size: 8\nthroughput: 20.50 images/s"
    assert 0 < first.left < second.left < 4 * 72
    assert 0 < second.top < first.top < 3 * 72


def test_long_lines_answer_at_some_points_only() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot(range(10_000), label="power")
    assert len(tooltips.targets(figure)) == tooltips.MOST_OF_A_LINE


def test_bars_and_names() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.barh(["A2", "V100"], [3.0, 4.0], label="torch <b>")
    axes.set_xlabel("energy (J)")
    found = tooltips.targets(figure)
    assert [target.text for target in found] == ["torch <b>\nA2\nenergy: 3 J", "torch <b>\nV100\nenergy: 4 J"]
    assert "torch &lt;b&gt;" in found[0].element
    assert found[0].width > 10 and found[0].height > 10


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of two devices, the first half as fast."""
    folder = tmp_path_factory.mktemp("side-by-side")
    slow, fast = (
        RunBuilder(folder / "results" / name, device_name=device).run_json()
        for name, device in (("one", "Slow CPU"), ("two", "Fast CPU"))
    )
    runs = [fill(slow, 2, 3), fill(fast, workers=3)]
    return write_report([run.folder for run in runs], folder / "out", console(), compare=True).report.read_text()


def test_devices_side_by_side(side_by_side: str) -> None:
    text = side_by_side
    assert "Slow CPU against Fast CPU" in text
    assert re.search(
        r"Batch 8\. Slow CPU: PyTorch fp32, [^;]*; Fast CPU: PyTorch fp32, [^;]*\((2\.000|1\.999|2\.001) times Slow CPU\)",
        text,
    )
    assert "invoke report one two --compare" in text


def test_the_tables_that_stand_open_are_of_the_first_chart_though_another_input_was_measured(
    undrawn: None, build: Build, tmp_path: Path
) -> None:
    run = build()
    for model, sizes in (("BERT-base", (1, 8)), ("ResNet50", (1, 8, 32))):
        for size in sizes:
            run.cell("torch", size, durations_ns=[MS + i for i in range(30)], model=model)
    run.cell("torch", 8, durations_ns=[MS + i for i in range(30)], input="uint8")
    text = write_report([run.folder], tmp_path / "out", console()).report.read_text()
    first = text[text.index('id="tables"') : text.index('<details class="further">')]
    assert "ResNet50" in first and "BERT-base" not in first


def test_runs_of_one_device_side_by_side(undrawn: None, build: Build, tmp_path: Path) -> None:
    runs = [fill(build("before")), fill(build("after"))]
    text = write_report([run.folder for run in runs], tmp_path / "out", console(), compare=True).report.read_text()
    assert "before against after" in text
    assert "1.000 times before, UNCLEAR" in text


def test_what_one_side_alone_has_is_no_comparison(build: Build, tmp_path: Path) -> None:
    runs = [fill(build("one", device_name="Slow CPU"), 2), fill(build("two", device_name="Fast CPU"))]
    runs[0].cell("torch", 128, durations_ns=[500 * MS + i for i in range(30)])
    runs[0].cell("torch", 8, io="device", durations_ns=[MS + i for i in range(30)])
    text = write_report([run.folder for run in runs], tmp_path / "out", console(), compare=True).report.read_text()
    side = text[text.index('id="compared"') : text.index('id="explorer"')]
    assert "Batch 8. Slow CPU: " in side and "Batch 128" not in side and "io=device" not in side
    assert re.search(r"<li>\d+ rows? that only one side has (is|are) left out here</li>", text)


def test_the_gpus_of_one_run_side_by_side(undrawn: None, build: Build, tmp_path: Path) -> None:
    facts = [{"device": f"gpu{number}", "uuid": f"GPU-{number}", "name": "H9"} for number in range(2)]
    first = build("both", device="gpu0", device_name="H9", uuid="GPU-0").run_json(devices=facts)
    fill(first, 2)
    fill(RunBuilder(first.folder, device="gpu1", device_name="H9", uuid="GPU-1", now_ns=first.now_ns))
    text = write_report([first.folder], tmp_path / "out", console(), compare=True).report.read_text()
    assert "gpu0 against gpu1" in text
    assert re.search(r"\((2\.000|1\.999|2\.001) times gpu0", text)
    assert "Sides are of different cards of one kind (H9): a difference may be that of the cards" in text
    assert "Measured on 2 H9, each cell on several of them" in text


def test_one_side_is_none(build: Build, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="--compare needs two or more runs or GPUs; there is only cpu of run run: name another"
    ):
        write_report([fill(build()).folder], tmp_path / "out", console(), compare=True)


def test_pdf_without_a_browser(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(
        UserError, match=r"a PDF needs a browser on PATH \(chromium, .*\); print report.html from your own"
    ):
        write_report([fill(build()).folder], tmp_path / "out", console(), pdf=True)
    assert not (tmp_path / "out").exists(), "said before any work is done"


def test_a_browser_that_prints_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "chromium"
    fake.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    fake.chmod(0o755)
    (tmp_path / "page.html").write_text("<p>page</p>")
    monkeypatch.setattr(browser, "find", lambda: str(fake))
    with pytest.raises(UserError, match="chromium printed nothing: no display"):
        browser.print_to_pdf(tmp_path / "page.html", tmp_path / "page.pdf")


def test_what_is_folded_or_answers_to_a_pointer_is_not_laid_out_for_print() -> None:
    page = (
        '<p>a<script>if (1 < 2) "<details>"</script></p><details class="x"><summary>b</summary><details open>c</details></details>'
        '<details open><summary>d</summary>e<details>f</details></details>g<svg><g class="targets"><circle/></g><path/></svg>'
    )
    assert browser.printed(page) == "<p>a</p><details open><summary>d</summary>e</details>g<svg><path/></svg>"


def test_what_does_not_fit_is_counted(build: Build, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    database = opened(fill(build()))
    rows = load(database, Selection())
    every = build_tables(database, rows, list(METRICS))
    monkeypatch.setattr(report, "MOST_PLACES", 40)
    bare = len(report.render(database, rows, every, [], {}).encode())
    monkeypatch.setattr(report, "MOST_PAGE_BYTES", bare + 2_000)
    drawings = [report.Drawing("<svg></svg>", "small"), report.Drawing("<svg>" + "x" * 2_000 + "</svg>", "big")]
    text = report.render(database, rows, every, drawings, {})
    assert len(text.encode()) <= report.MOST_PAGE_BYTES
    assert f"{len(every) - 2} more tables do not fit" in text
    assert "1 more plots do not fit" in text
    assert "throughput (images/s), more is better" in text, "headlines come first"


def test_no_group_goes_without_plots_for_the_rare_ones_of_another(
    build: Build, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a page with eight frameworks in its last group that group had none, and a group of a single cell had nine."""
    database = opened(fill(build()))
    rows = load(database, Selection())
    every = build_tables(database, rows, list(METRICS))
    drawings = [
        report.Drawing(f"<svg>{'x' * 4_000}</svg>", f"{group} {number}", group)
        for group, count in (("many", 9), ("some", 9), ("last", 3))
        for number in range(count)
    ]
    bare = len(report.render(database, rows, every, [], {}).encode())
    monkeypatch.setattr(report, "MOST_PAGE_BYTES", bare + 8 * 4_300)
    text = report.render(database, rows, every, drawings, {})
    assert len(text.encode()) <= report.MOST_PAGE_BYTES
    shown = re.findall(r"<figcaption>((?:many|some|last) \d)</figcaption>", text)
    assert shown == ["many 0", "many 1", "many 2", "some 0", "some 1", "some 2", "last 0", "last 1"]
    assert f"{len(drawings) - len(shown)} more plots do not fit" in text


#: Of a complete plan of reference runs (2,448 configurations), for a test that takes seconds.
SCALE = 24


def a_plan(run: RunBuilder) -> RunBuilder:
    """2,448 / SCALE configurations: 2 models, both io modes, levels that several frameworks have, three workers each, with power."""
    begin, durations = run.now_ns, [4 * MS + i % 9 * 20_000 for i in range(30)]
    for model in ("MobileNetV3L", "ResNet50"):
        for io_mode, variant in ((i, v) for i in ("host", "device") for v in ("torch", "onnxrt", "torchcompile")):
            for tuning, batch_size, worker in (
                (t, b, w) for t in ("stock", "tuned") for b in (1, 8, 32, 128) for w in range(3)
            ):
                slower = [length * (worker + 50) // 50 for length in durations]
                run.cell(variant, batch_size, slower, model=model, io=io_mode, tuning=tuning, replicate=worker)
    times = range(begin - SECOND, run.now_ns + SECOND, SECOND // 10)
    run.power(
        {
            "t_ns": at,
            "domain": "gpu",
            "device": 0,
            "uuid": "GPU-1",
            "power_mw": 200_000,
            "energy_mj": (at - begin + SECOND) // 5_000_000,
        }
        for at in times
    )
    return run


def test_a_page_of_thousands_of_cells_keeps_its_intervals_and_fits(
    build: Build, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = opened(a_plan(build(device="gpu0", device_name="Test GPU", uuid="GPU-1")))
    rows = load(database, Selection())
    assert 2_448 / SCALE * 0.9 < len(rows) < sample_intervals.MOST_ROWS / SCALE, "intervals are told of a whole plan"
    intervals = all_intervals(database, rows)
    every = build_tables(database, rows, list(METRICS))
    plots = [report.Drawing("<svg>" + "x" * 4_000 + "</svg>", f"plot {number}") for number in range(60)]
    bare = len(report.render(database, [], [], [], {}).encode())
    monkeypatch.setattr(explorer, "MOST_BYTES", explorer.MOST_BYTES // SCALE)
    monkeypatch.setattr(report, "MOST_PLACES", report.MOST_PLACES // SCALE)
    monkeypatch.setattr(report, "MOST_PAGE_BYTES", bare + (report.MOST_PAGE_BYTES - bare) // SCALE)
    explored = report.explore(database, rows, intervals, ["run"])
    text = report.render(database, rows, every, plots, intervals, explored=explored)
    assert len(text.encode()) <= report.MOST_PAGE_BYTES
    assert 0 < len(explored.groups) < 4 and re.search(r"Without a chart: [^<]* \(no room left on this page\)", text)
    assert len(explored.groups) + len(explored.uncharted) == 4
    assert text.count("<small>") > 20, "intervals"
    assert "more tables do not fit" in text and text.count('<div class="block"') >= 2
    assert "<svg>xxx" in text, "there is room for plots"


@pytest.mark.parametrize(
    ("limit", "most", "why"),
    [
        ("MOST_CELLS", 2, "cells, and a chart shows at most 2"),
        ("MOST_BYTES", 10, "no room left on this page"),
        ("MOST_GROUPS", 0, "this page has 0 charts already"),
    ],
)
def test_where_nothing_has_a_chart_each_group_is_named_with_the_reason(
    build: Build, opened: Opened, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, why: str
) -> None:
    database = opened(fill(build(), workers=1))
    rows = load(database, Selection())
    whole = report.explore(database, rows, {}, ["run"])
    assert whole.groups and not whole.uncharted
    assert "Without a chart" not in report.render(database, rows, [], [], {}, explored=whole)
    monkeypatch.setattr(explorer, limit, most)
    explored = report.explore(database, rows, {}, ["run"])
    assert not explored.groups
    text = report.render(database, rows, [], [], {}, explored=explored)
    assert 'id="explorer"' not in text
    (said,) = re.findall(r"Without a chart: ([^<]*)\. <code>--where</code>", text)
    for group in whole.groups:
        assert re.search(re.escape(group["heading"]) + r" \([^()]*" + re.escape(why) + r"\)", html.unescape(said))


def test_tables_give_way_before_a_page_grows_too_big(
    build: Build, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = opened(fill(build(), workers=3))
    rows = load(database, Selection())
    every = build_tables(database, rows, list(METRICS))
    whole = report.render(database, rows, every, [], {})
    monkeypatch.setattr(report, "MOST_PLACES", sum(len(table.rows) * (len(table.columns) + 1) for table in every))
    monkeypatch.setattr(report, "MOST_PAGE_BYTES", len(whole.encode()) - 1)
    text = report.render(database, rows, every, [], {})
    assert len(text.encode()) <= report.MOST_PAGE_BYTES
    assert "more tables do not fit" in text and "more tables do not fit" not in whole
    assert "throughput (images/s), more is better" in text, "headlines come first"


COPY = """
const row = document.querySelector(".block tbody tr"), button = row.querySelector("button.copy");
const menu = document.getElementById("copies"), seen = { label: button.getAttribute("aria-label"), before: menu.hidden };
button.click();
seen.choices = [...menu.children].map((choice) => choice.textContent);
seen.focus = document.activeElement === menu.firstChild;
seen.copied = [...menu.children].map((choice) => { choice.click(); const text = menu.dataset.copied; button.click(); return text; });
if (menu.hidden) button.click();
seen.after = menu.hidden;
menu.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
seen.escaped = menu.hidden && document.activeElement === button;
return seen;
"""


def test_copying_a_row_in_a_browser(page: Path, tmp_path: Path, ask: Any) -> None:
    seen = ask(page, COPY, tmp_path)
    assert seen["label"] == "copy the row ONNX Runtime fp32"
    assert seen["choices"] == ["Copy as Markdown", "Copy its invoke command"], "there is no task that prints recipes"
    headings, aligned, row = seen["copied"][0].split("\n")
    assert headings == "| framework | precision | batch 8 | batch 16 | batch 64 |"
    assert aligned == "| --- | --- | ---: | ---: | ---: |"
    assert row.startswith("| ONNX Runtime | fp32 | 1,33")
    assert "copy" not in row
    assert (
        seen["copied"][1]
        == "invoke bench --model ResNet50 --framework onnxrt --precision fp32 --batch-sizes 8,16,64 --device cpu"
    )
    assert seen["before"] and seen["focus"] and not seen["after"] and seen["escaped"]


def test_a_recipe_of_each_cell_where_there_is_such_a_task(
    undrawn: None, build: Build, tmp_path: Path, ask: Any
) -> None:
    run = fill(build())
    words = ["data/my runs"]
    made = write_report([run.folder], tmp_path / "out", console(), recipe="invoke recipe", words=words).report
    seen = ask(made, COPY, tmp_path)
    assert seen["choices"][2] == "Copy its recipe"
    key = "ResNet50_onnxrt_fp32_b0008_host_single-stream_script_cpu_r0"
    assert seen["copied"][2].split("\n")[0] == f"invoke recipe {key} 'data/my runs'", (
        "as runs that lie elsewhere need it"
    )
    assert len(seen["copied"][2].split("\n")) == 3


FITS = """
const table = document.querySelector("#tables ~ .block .scroll"), dark = getComputedStyle(document.documentElement);
const first = document.querySelector("#tables ~ .block table");
return {
  table: table.scrollWidth, room: table.clientWidth, columns: first.tHead.rows[0].cells.length,
  open: [...document.querySelectorAll("details")].filter((part) => part.open && part.id === "runs").length,
};
"""


def test_the_first_table_fits_with_all_batch_sizes(undrawn: None, build: Build, tmp_path: Path, ask: Any) -> None:
    run = build()
    for size in (1, 8, 16, 32, 64, 128, 256, 512):
        for worker in range(3):
            run.cell(
                "kerasxla", size, durations_ns=[size * MS + worker * 1000 + i * 99 for i in range(70)], replicate=worker
            )
    seen = ask(write_report([run.folder], tmp_path / "out", console()).report, FITS, tmp_path, 1400)
    assert seen["columns"] == 10
    assert seen["table"] <= seen["room"]
    assert seen["open"] == 0, "where it comes from is folded away"


NARROW = """
const table = document.querySelector("#tables ~ .block table");
const shown = [...table.tBodies[0].rows[0].cells].filter((cell) => cell.offsetWidth);
return {
  below: getComputedStyle(shown[0], "::after").content, labels: shown.filter((cell) => cell.matches(".label")).length,
  first: shown[1].getBoundingClientRect().right - table.parentNode.getBoundingClientRect().left,
  room: table.parentNode.clientWidth, tuning: table.tHead.rows[0].cells[2].offsetWidth,
};
"""


def test_on_a_narrow_screen_no_label_pushes_the_figures_out_of_view(
    undrawn: None, build: Build, tmp_path: Path, ask: Any
) -> None:
    """Framework, precision, level and run took 885 px of the 359 that there were."""
    runs = []
    for day in (1, 2):
        runs.append(build(f"2026010{day}-170349_gpu0").run_json(created_utc=f"2026-01-0{day}T00:00:00Z"))
        for variant, ms in (("tfxla", 12), ("onnxrt", 20), ("keras", 20))[: 3 if day == 1 else 1]:
            for tuning in ("stock", "tuned"):
                runs[-1].cell(variant, 512, durations_ns=[ms * MS + i for i in range(70)], tuning=tuning)
    made = write_report([run.folder for run in runs], tmp_path / "out", console()).report
    seen = ask(made, NARROW, tmp_path, 500)  # the least that a window can have
    assert seen["labels"] == 1 and seen["tuning"] == 0
    assert re.fullmatch(r'"fp32 (stock|tuned) run 2026010\d-170349_gpu0"', seen["below"])
    assert seen["first"] <= 340 <= seen["room"]
    wide = ask(made, NARROW, tmp_path, 1400)
    assert wide["labels"] == 4 and wide["below"] == "none"


def test_provenance_is_said_once(page: Path) -> None:
    text = page.read_text()
    assert text.count("Measured on Test CPU: run run of 2026-01-02.") == 1
    assert ">1 run</summary>" in text


def test_a_comparison_comes_first(side_by_side: str) -> None:
    text = side_by_side
    assert (
        text.index('id="compared"')
        < text.index('id="explorer"')
        < text.index('id="answers"')
        < text.index('id="tables"')
    )


def test_colours_are_by_the_distance_from_the_best(build: Build, opened: Opened) -> None:
    """One framework a hundred times slower must not colour all others blue."""
    run = build()
    for variant, ms in (("onnxrt", 10), ("torch", 20), ("tf", 40), ("keras", 1000)):
        run.cell(variant, 8, durations_ns=[ms * MS] * 20)
    database = opened(run)
    (table,) = build_tables(database, load(database, Selection()), ["throughput"])
    ranks = {row[0]: table.entry(row, 8).rank for row in table.rows}
    assert ranks == pytest.approx({"onnxrt": 1.0, "torch": 0.5, "tf": 0.0, "keras": 0.0}, abs=1e-9)


def pages_of(pdf: Path) -> int:
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf.read_bytes()))


def test_a_pdf_is_whole_and_short(build: Build, tmp_path: Path) -> None:
    """Of two groups of eight frameworks only the first stands open."""
    if browser.find() is None:
        pytest.skip("no browser on PATH: no PDF is printed")
    run = build()
    for kept in ("host", "device"):
        for place, variant in enumerate(("torch", "onnxrt", "keras", "tf", "openvino", "jax", "tfxla", "kerasxla")):
            for size in (1, 8, 64):
                run.cell(variant, size, io=kept, durations_ns=[(place + 2) * MS + i * 997 for i in range(30)])
    result = write_report([run.folder], tmp_path / "out", console(), pdf=True)
    raw = (tmp_path / "out" / "report.pdf").read_bytes()
    assert raw.startswith(b"%PDF-") and raw.rstrip().endswith(b"%%EOF")
    assert tmp_path / "out" / "report.pdf" in result.paths
    assert 1 < pages_of(tmp_path / "out" / "report.pdf") <= 12
