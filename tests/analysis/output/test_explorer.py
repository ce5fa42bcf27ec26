"""The first screen of the report: its sliders answer what `invoke recommend` answers, in the same words."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.analyze import write_report
from analysis.comparisons import decision_table, recommend
from analysis.comparisons.candidates import group_rows
from analysis.comparisons.question import Question
from analysis.database.open_runs import open_runs
from analysis.output import explorer
from analysis.results import tables
from analysis.results.all_intervals import all_intervals
from analysis.results.cards import OF_TWO_CARDS
from analysis.results.metrics import spoken_of
from analysis.results.selection import Selection
from common.stats.intervals import Interval
from tests.analysis.conftest import Build, Opened, RunBuilder, nothing_drawn

MS = 10**6
SECOND = 10**9
#: as the adapter of TensorFlow and Keras says that its figures are right
COPIED = '{"input_copy": "each inference"}'
#: (variant, precision, workers, speed): near enough to each other that some are unclear, and one of a single worker
VARIANTS = (
    ("tensorrt", "fp16", 3, 1.0),
    ("torch", "fp16", 3, 1.01),
    ("torch", "tf32", 1, 1.5),
    ("onnxrt", "fp32", 3, 2.0),
    ("tf", "int8", 2, 0.7),
    ("keras", "amp", 1, 1.2),
)


def fill(run: RunBuilder) -> RunBuilder:
    """Six variants at four batch sizes and one at a single one; the board draws more for larger batches and less precision."""
    readings: list[dict[str, Any]] = []
    for place, (variant, precision, workers, speed) in enumerate(VARIANTS):
        for size, worker in itertools.product((1, 8, 32, 128), range(workers)):
            run.now_ns += SECOND
            begin = run.now_ns
            ms = speed * (1 + 0.2 * size) * (1 + 0.004 * worker)
            durations = [int(ms * MS) + (i * 7919 % 97) * 2000 for i in range(max(24, int(800 / ms)))]
            run.cell(
                variant,
                size,
                durations_ns=durations,
                precision=precision,
                replicate=worker,
                idle_ns=SECOND // 10,
                settings=COPIED,
            )
            watts = 100 + 40 * place + size
            readings += [
                {
                    "t_ns": t,
                    "domain": "gpu",
                    "device": 0,
                    "uuid": "GPU-1",
                    "power_source": "instant",
                    "power_mw": watts * 1000,
                }
                for t in range(begin - SECOND // 5, run.now_ns + SECOND // 5, SECOND // 20)
            ]
    run.now_ns += SECOND
    run.cell("kerasxla", 128, durations_ns=[900 * MS] * 3, precision="fp32", settings=COPIED)  # too few for a median
    run.power(readings)
    return run


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory) -> RunBuilder:
    folder = tmp_path_factory.mktemp("explorer") / "results" / "run"
    run = RunBuilder(folder, device="gpu0", device_name="GPU Z", uuid="GPU-1").run_json()
    return fill(run)


@pytest.fixture(scope="module")
def page(metered: RunBuilder) -> Path:
    with nothing_drawn():
        return write_report([metered.folder], metered.folder.parent.parent / "out", Console(quiet=True)).report


def table_of(page: Path) -> Any:
    match = re.search(r'<script type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert match
    return json.loads(match[1])


def requested(run: Path, question: Question) -> list[str]:
    """What `invoke recommend` prints of its one group, the answer first: it prints that last."""
    console = Console(width=2000, no_color=True)
    with console.capture() as captured:
        recommend.recommend([run], question, console)
    device, _, *lines = [line.rstrip() for line in captured.get().splitlines() if line.strip()]
    assert device == "GPU Z"
    if not lines[-1].startswith("Run: "):
        return lines
    best = next(place for place, line in enumerate(lines) if line.startswith("Best: "))
    return lines[best:-1] + lines[:best]


@pytest.fixture(scope="module")
def answered(metered: RunBuilder) -> Callable[..., list[str]]:
    """As `asked`, from one reading of the run; that it is the same is tried where both are asked."""
    with open_runs([metered.folder]) as database:
        rows = tables.load(database, Selection())
        intervals = all_intervals(database, rows)
        meanings = {row["mark"]: row["meaning"] for row in database.query("FROM mark_meaning")}
    ((_, members),) = group_rows(rows).items()
    return lambda question: [line.rstrip() for line in recommend.answer(members, question, intervals, meanings)[1]]


MOVE = """
const seen = [], names = ["latency", "power", "precision"];
const control = (name) => document.querySelector(`[data-control="${name}"]`);
const grid = %s;
for (const [objective, ...places] of grid) {
  control("objective").value = objective;
  control("objective").dispatchEvent(new Event("change"));
  places.forEach((place, i) => {
    control(names[i]).value = place;
    control(names[i]).dispatchEvent(new Event("input"));
  });
  seen.push({
    lines: [...document.querySelectorAll(".group:not([hidden]) .said p")].map((line) => line.textContent),
    reported: names.map((name) => control(name).getAttribute("aria-valuetext")),
    pale: document.querySelectorAll(".panels svg:first-of-type .cell.out").length,
    command: document.querySelector(".again").textContent,
    bounds: [...document.querySelectorAll(".bound")].map((line) => line.getAttribute("d") !== ""),
  });
}
return seen;
"""


def test_sliders_say_what_recommend_says(
    metered: RunBuilder, answered: Any, page: Path, tmp_path: Path, ask: Any
) -> None:
    """A grid of limits, from those that nobody meets to none."""
    table = table_of(page)
    steps = table["steps"]
    some = {
        name: sorted({0, 1, len(steps[name]) // 3, len(steps[name]) // 2, len(steps[name])})
        for name in decision_table.LIMITS
    }
    grid = [
        [objective, *places]
        for objective in decision_table.OBJECTIVES
        for places in itertools.product(some["latency"], some["power"], some["precision"])
    ]
    assert len(grid) > 200
    seen = ask(page, MOVE % json.dumps(grid), tmp_path)
    assert len(seen) == len(grid)
    kinds: set[str] = set()
    commands: set[str] = set()
    left_out = False
    for (objective, *places), found in zip(grid, seen, strict=True):
        chosen = [
            steps[name][place] if place < len(steps[name]) else (None, None)
            for name, place in zip(decision_table.LIMITS, places, strict=True)
        ]
        question = Question(
            objective=objective, max_latency_ms=chosen[0][0], max_power_w=chosen[1][0], min_precision=chosen[2][1]
        )
        lines = answered(question)
        assert [line.rstrip() for line in found["lines"]] == lines, (objective, chosen)
        if (command := found["command"]) not in commands and len(commands) < 6:
            commands.add(command)
            assert requested(metered.folder, question) == lines
        left_out |= any(line.endswith("; they are left out.") for line in lines)
        kinds |= {line.split(":")[0].split(" ")[0] for line in lines}
        assert found["bounds"] == [chosen[0][0] is not None, chosen[1][0] is not None] or chosen[1][0] is not None
        for bound, reported in zip(chosen, found["reported"], strict=True):
            assert reported == "any" if bound[1] is None else bound[1] in reported
    assert {"Best", "Runner-up", "UNCLEAR", "No", "Nearest", "What", "Below", "Above", "On"} <= kinds, (
        "the grid tries every sentence"
    )
    assert left_out


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (
            "GPU-1",
            ["--replicates 5 or more would tell.", "one run on one GPU would tell: invoke bench ", "in another run."],
        ),
        (
            "GPU-2",
            [
                "--replicates 5 or more would tell.",
                "one run on one GPU would: invoke bench ",
                "on another GPU of this kind.",
            ],
        ),
    ],
)
def test_cells_of_two_cards_or_runs_are_told_of_as_recommend_does(
    card: str, words: list[str], tmp_path: Path, ask: Any
) -> None:
    """Two runs, on one card or two: rivals of the winner's own run and of the other."""
    folders = []
    for place, (uuid, variants) in enumerate((("GPU-1", ("onnxrt", "torch")), (card, ("tf", "tensorrt")))):
        run = RunBuilder(tmp_path / "results" / f"run{place}", device="gpu0", device_name="GPU Z", uuid=uuid).run_json()
        for variant, size, worker in itertools.product(variants, (1, 8, 32), range(3)):
            slower = {"tf": 1.001, "torch": 1.002, "tensorrt": 1.3}.get(variant, 1)
            ms = slower * (1 + 0.2 * size) * (1 + 0.004 * worker)
            durations = [int(ms * MS) + (i * 7919 % 97) * 2000 for i in range(200)]
            tuning = "stock" if variant == "torch" else "tuned"
            run.cell(variant, size, durations_ns=durations, replicate=worker, settings=COPIED, tuning=tuning)
        folders.append(run.folder)
    with nothing_drawn():
        page = write_report(folders, tmp_path / "out", Console(quiet=True)).report
    steps = table_of(page)["steps"]["latency"]
    grid = [[objective, place, 0, 0] for objective in ("throughput", "latency") for place in range(1, len(steps) + 1)]
    seen = ask(page, MOVE.replace("places.forEach", "places.slice(0, 1).forEach") % json.dumps(grid), tmp_path)
    with open_runs(folders) as database:
        rows = tables.load(database, Selection())
        intervals = all_intervals(database, rows)
    ((_, members),) = group_rows(rows).items()
    spoken: set[str] = set()
    for (objective, place, *_), found in zip(grid, seen, strict=True):
        bound = steps[place][0] if place < len(steps) else None
        _, lines = recommend.answer(members, Question(objective=objective, max_latency_ms=bound), intervals, {})
        said = [line.rstrip() for line in found["lines"] if not line.startswith("Mark on it")]
        assert said == [line.rstrip() for line in lines if not line.startswith("Mark on it")], (objective, bound)
        spoken |= set(lines)
    text = "\n".join(spoken)
    assert [one for one in words if one not in text] == []
    assert "not measured on the same GPU" not in text or card == "GPU-2"


def test_the_recommendation_moves(page: Path, tmp_path: Path, ask: Any) -> None:
    steps = table_of(page)["steps"]
    most = [len(steps[name]) for name in decision_table.LIMITS]
    grid = [["throughput", *most], ["throughput", 8, *most[1:]], ["throughput", *most[:2], 0], ["joules", *most]]
    free, quick, fine, thrifty = ask(page, MOVE % json.dumps(grid), tmp_path)
    assert free["lines"][0].startswith("Best: TensorFlow int8 at batch 128")
    assert len({found["lines"][0] for found in (free, quick, fine, thrifty)}) == 4
    assert free["pale"] == 0 < quick["pale"] < 24 and fine["pale"] > 0
    assert "ONNX Runtime fp32" in fine["lines"][0]
    assert quick["command"].endswith(f" --max-latency-ms {steps['latency'][8][1]}")
    assert thrifty["command"].endswith(" --objective joules")


def test_the_page_without_its_script_says_the_same(metered: RunBuilder, page: Path) -> None:
    text = page.read_text()
    stated = re.search(r'<div class="said"[^>]*>(.*?)</div>', text, re.DOTALL)
    assert stated
    lines = [re.sub("<[^>]+>", "", line) for line in re.findall(r"<p>(.*?)</p>", stated[1])]
    assert [line.strip() for line in lines] == [line.strip() for line in requested(metered.folder, Question())]
    assert '<div class="controls" hidden>' in text, "what needs the script is not shown without it"


KEYBOARD = """
const group = document.querySelector(".group:not([hidden])"), chart = group.querySelector("figure");
const tip = document.getElementById("tip");
chart.focus();
chart.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", cancelable: true }));
const sliders = [...document.querySelectorAll(".controls input")];
return {
  tip: tip.textContent, twins: chart.querySelectorAll(".cell.on").length,
  named: sliders.every((one) => one.closest("label").textContent.trim()),
  tab: sliders.every((one) => one.tabIndex === 0), live: group.querySelector(".said").getAttribute("aria-live"),
  titles: [...chart.querySelectorAll("svg[role=img]")].map((one) => one.getAttribute("aria-label")),
  bars: chart.querySelectorAll(".bar").length, cells: chart.querySelectorAll(".cell").length,
};
"""


def test_keyboard_and_screen_reader(page: Path, tmp_path: Path, ask: Any) -> None:
    seen = ask(page, KEYBOARD, tmp_path)
    assert "throughput" in seen["tip"] and "cell ResNet50_" in seen["tip"]
    assert seen["twins"] == 2, "the same cell in both panels"
    assert seen["named"] and seen["tab"] and seen["live"] == "polite"
    assert seen["titles"] == ["throughput against median latency of a batch", "throughput against energy per image"]
    assert seen["cells"] == 48, "the cell without a median and without readings is in neither"
    assert seen["bars"] >= 40, "intervals are drawn"


def test_a_cell_that_a_chart_has_not_is_named_below_it(page: Path) -> None:
    caption = re.search(r"<figcaption>(.*?)</figcaption>", page.read_text(), re.DOTALL)
    assert caption
    why = "Without a known throughput and median latency of a batch above 0, and so not drawn"
    assert f"{why}: Keras + XLA fp32 at batch 128." in caption[1]


def test_a_sentence_for_each_device(build: Build, opened: Opened) -> None:
    runs = [build(name, device_name=f"CPU {name}") for name in ("slow", "quick")]
    for run, factor in zip(runs, (2, 1), strict=True):
        for worker in range(3):
            for variant, ms in (("torch", 10), ("onnxrt", 30)):
                run.cell(variant, 8, durations_ns=[factor * ms * MS + i * 1000 for i in range(80)], replicate=worker)
    database = opened(*runs)
    rows = tables.load(database, Selection())
    intervals = all_intervals(database, rows)
    found = explorer.device_sentences(explorer.explore(rows, intervals, {}).groups)
    assert [sentence.split(",")[0] for sentence in found] == ["On the CPU quick", "On the CPU slow"]
    assert "PyTorch fp32 at batch 8 has the highest throughput, 79" in found[0]
    assert "; also the shortest latency, 10.04 ms" in found[0]
    assert found[1].endswith("; PyTorch fp32 at batch 8 is 0.50 times as fast as on the CPU quick.")


def test_the_sentence_names_what_it_is_about_where_there_is_more_and_against_whom_it_is_unclear(
    build: Build, opened: Opened
) -> None:
    """It spoke of "the NVIDIA H200" in a report of three models, and was sure of what two cards had measured."""
    runs = [build(f"gpu{n}", device="gpu0", uuid=f"GPU-{n}", device_name="GPU Z") for n in (0, 1)]
    for run, variant, ms in zip((*runs, runs[0]), ("torch", "onnxrt", "tf"), (10, 10.5, 30), strict=True):
        for worker in range(3):
            durations = [int(ms * MS) + i * 1000 for i in range(80)]
            run.cell(variant, 8, durations_ns=durations, replicate=worker)

    def sentence() -> str:
        database = opened(*runs)
        rows = tables.load(database, Selection())
        (found,) = explorer.device_sentences(explorer.explore(rows, all_intervals(database, rows), {}).groups)
        return found

    alone = sentence()
    assert alone.startswith("On the GPU Z, PyTorch fp32 at batch 8 has the highest throughput, 79")
    unclear = f" (UNCLEAR against ONNX Runtime fp32 at batch 8: {OF_TWO_CARDS})"
    assert alone.count(unclear) == 2, "of throughput and of latency; TensorFlow is far below on the same card"
    for worker in range(3):
        same = [int(10.0001 * MS) + i * 1000 for i in range(80)]
        runs[0].cell("torchcompile", 8, durations_ns=same, replicate=worker)
    assert " (UNCLEAR against torch.compile fp32 at batch 8 and 1 more: intervals overlap)" in sentence()
    runs[0].cell("torch", 8, durations_ns=[9 * MS] * 80, input="uint8")
    runs[0].cell("torch", 8, durations_ns=[9 * MS] * 80, model="BERT-base")
    assert sentence().startswith(
        "On the GPU Z, ResNet50, float32 input: PyTorch fp32 at batch 8 has the highest throughput"
    )


def test_a_sentence_of_one_worker_is_unclear(build: Build, opened: Opened) -> None:
    run = build()
    for variant, ms in (("torch", 10), ("onnxrt", 30)):
        run.cell(variant, 8, durations_ns=[ms * MS + i * 1000 for i in range(80)])
    database = opened(run)
    rows = tables.load(database, Selection())
    (found,) = explorer.device_sentences(explorer.explore(rows, all_intervals(database, rows), {}).groups)
    assert found.count(" (UNCLEAR against ONNX Runtime fp32 at batch 8: one worker tells nothing of the next one)") == 2


def test_the_sentence_of_each_model_counts_in_its_own_item(build: Build, opened: Opened) -> None:
    run = build("items")
    for model, item, device in (("BERT-base", "sequence", "CPU a"), ("mine", "sample", "CPU b")):
        for variant, ms in (("torch", 1), ("onnxrt", 2)):
            durations = [ms * MS + i * 1000 for i in range(80)]
            run.cell(variant, 8, durations_ns=durations, model=model, item=item, device_name=device)
    database = opened(run)
    rows = tables.load(database, Selection())
    found = explorer.device_sentences(explorer.explore(rows, all_intervals(database, rows), {}).groups)
    assert [re.findall(r"(\w+)/s", sentence)[:1] for sentence in found] == [["sequences"], ["samples"]]


@pytest.mark.parametrize(("low", "high"), [(0.4, 112.0), (100, 120), (155.2, 608.0), (0.0012, 0.0013), (1, 1.0001)])
def test_steps_of_a_slider_span_the_figures(low: float, high: float) -> None:
    found = decision_table.spread(low, high)
    assert found == sorted(set(found))
    assert found[0] < low
    assert found[-1] >= high or len(found) == decision_table.MOST_STEPS
    assert len(found) <= decision_table.MOST_STEPS


def test_steps_of_figures_that_cannot_be_spread() -> None:
    assert decision_table.spread(0, 10) == decision_table.spread(5, 5) == []


def test_the_longest_sliders_end_where_all_cells_meet_them() -> None:
    spans = [(10.0**power, 10.0**power * factor) for power in range(-2, 4) for factor in (1.8, 2.99, 25.0, 900.0, 1e6)]
    assert all(
        decision_table.spread(low, high)[-1] >= high
        and len(decision_table.spread(low, high)) <= decision_table.MOST_STEPS
        for low, high in [*spans, (579.45, 920.57), (3.0, 8.9)]
    )


def test_a_page_speaks_of_the_item_and_its_numbers_are_json(build: Build, opened: Opened) -> None:
    run = build("tokens")
    for variant in ("onnxrt", "torch"):
        run.cell(variant, 8, durations_ns=[MS + i for i in range(60)], item="token")
    database = opened(run)
    rows = tables.load(database, Selection())
    endless = {
        (tuple(row["cell_keys"]), row["run"], "throughput"): Interval(1.0, 0.0, math.inf, 0.95, 60, 2, True)
        for row in rows
    }
    with spoken_of("token"):
        (group,) = explorer.explore(rows, endless, {}).groups
        assert (
            group["command"]
            == "invoke recommend --gpu cpu --where model=ResNet50,io=host,scenario=single-stream,input=float32"
        )
    shown = json.dumps({name: group[name] for name in ("lines", "panels", "data")})
    assert "tokens/s" in shown
    assert "image" not in json.dumps(
        {name: value for name, value in json.loads(group["data"]).items() if name != "phrases"}
    )
    assert "image" not in json.dumps([group["lines"], group["panels"]])

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    table = json.loads(group["data"], parse_constant=refuse)
    assert [cell["figures"]["throughput"][1:3] for cell in table["cells"]] == [[None, None]] * 2
