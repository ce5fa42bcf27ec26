from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.comparisons.candidates import choose_device
from analysis.comparisons.decision import Candidate, Figure, Limit, decide, rounded
from analysis.comparisons.question import JOULES, POWER, THROUGHPUT, Question, latency
from analysis.comparisons.recommend import recommend
from common.errors import UserError
from tests.analysis.conftest import Build, RunBuilder

MS = 10**6
LATENCY = latency(50)


def candidate(name: str, batch_size: int = 8, **figures: Any) -> Candidate:
    """Figures as numbers, or as (low, value, high)."""
    known = {
        key: Figure(value) if not isinstance(value, tuple) else Figure(value[1], value[0], value[2])
        for key, value in figures.items()
    }
    return Candidate(name, "fp32", batch_size, known, {"streams": 1})


def test_the_best_that_meets_every_limit() -> None:
    fast = candidate("fast", throughput=(990, 1000, 1010), latency=30.0, power=40.0)
    slow = candidate("slow", throughput=(490, 500, 510), latency=10.0, power=40.0)
    hot = candidate("hot", throughput=(700, 701, 702), latency=10.0, power=90.0)
    limits = [Limit(LATENCY, 20, "--max-latency-ms"), Limit(POWER, 50, "--max-power-w")]
    decision = decide([fast, slow, hot], THROUGHPUT, limits)
    assert decision.winner is slow
    assert decision.clear
    assert decision.meets_limits == 1
    loosened = {c.limit.option: (c.bound, c.winner) for c in decision.changes if c.loosened}
    assert loosened == {"--max-latency-ms": (30.0, fast), "--max-power-w": (90.0, hot)}
    without = decide([fast, slow, hot], THROUGHPUT, [])
    assert (without.winner, without.runner_up) == (fast, hot)


def test_less_is_better() -> None:
    thrifty, wasteful = candidate("a", joules=(9, 10, 11)), candidate("b", joules=(18, 20, 22))
    decision = decide([wasteful, thrifty], JOULES, [])
    assert (decision.winner, decision.runner_up, decision.clear) == (thrifty, wasteful, True)


def test_overlapping_or_unknown_intervals_are_unclear() -> None:
    one, near = candidate("a", throughput=(95, 100, 105)), candidate("b", throughput=(90, 96, 102))
    assert decide([one, near], THROUGHPUT, []).rivals == (near,)
    unknown = candidate("c", throughput=50)
    assert decide([one, unknown], THROUGHPUT, []).rivals == (unknown,)
    same_framework = candidate("a", 16, throughput=(94, 99, 104))
    assert decide([one, same_framework], THROUGHPUT, []).clear


def test_an_unknown_figure_meets_no_limit() -> None:
    unmeasured = candidate("a", throughput=1000.0)
    metered = candidate("b", throughput=10.0, power=30.0)
    assert decide([unmeasured, metered], THROUGHPUT, [Limit(POWER, 50, "--max-power-w")]).winner is metered


def test_the_nearest_miss_is_by_the_factor_of_the_worst_limit() -> None:
    a = candidate("a", throughput=100.0, latency=40.0, power=55.0)
    b = candidate("b", throughput=200.0, latency=25.0, power=100.0)
    limits = [Limit(LATENCY, 20, "--max-latency-ms"), Limit(POWER, 50, "--max-power-w")]
    decision = decide([a, b], THROUGHPUT, limits)
    assert decision.winner is None
    assert decision.nearest in (a, b)
    assert max(limit.excess(decision.nearest) for limit in limits) == 2.0
    least = Limit(THROUGHPUT, 400, "--min-throughput")
    assert decide([a, b], THROUGHPUT, [least]).nearest is b
    assert least.excess(candidate("c", throughput=0.0)) == math.inf


def test_how_far_a_limit_may_be_tightened() -> None:
    fast, slow = candidate("fast", throughput=100.0, latency=15.0), candidate("slow", throughput=50.0, latency=5.0)
    decision = decide([fast, slow], THROUGHPUT, [Limit(LATENCY, 20, "--max-latency-ms")])
    (change,) = decision.changes
    assert (change.bound, change.winner, change.loosened) == (15.0, slow, False)


@pytest.mark.parametrize(
    ("value", "up", "text"),
    [(18.874, True, "18.9"), (18.8, True, "18.8"), (1113.2, False, "1110"), (0.0123, True, "0.0123")],
)
def test_bounds_are_rounded_to_the_side_that_holds(value: float, up: bool, text: str) -> None:
    assert rounded(value, up) == text


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question(objective="speed"), "unknown objective 'speed'; there is throughput, joules, latency, cost"),
        (Question(max_latency_ms=0), "--max-latency-ms is a positive number, not 0"),
        (Question(max_power_w=math.nan), "--max-power-w is a positive number, not nan"),
        (Question(min_throughput=-1), "--min-throughput is a positive number, not -1"),
        (Question(objective="cost"), "give --price-per-kwh"),
        (Question(percentile=42), "there is no percentile 42"),
    ],
)
def test_questions_that_cannot_be_asked(question: Question, message: str) -> None:
    with pytest.raises(UserError, match=message):
        question.checked()


DEVICES: list[dict[str, Any]] = [
    {"device_name": "NVIDIA A2", "device": "gpu0", "device_uuid": "GPU-1"},
    {"device_name": "NVIDIA A200", "device": "gpu1", "device_uuid": "GPU-2"},
    {"device_name": "NVIDIA TITAN X (Pascal)", "device": "gpu2", "device_uuid": None},
]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("A2", "NVIDIA A2"),
        ("nvidia a2", "NVIDIA A2"),
        ("gpu1", "NVIDIA A200"),
        ("GPU-2", "NVIDIA A200"),
        ("pascal", "NVIDIA TITAN X (Pascal)"),
        ("titan x", "NVIDIA TITAN X (Pascal)"),
        ("a20", "NVIDIA A200"),
    ],
)
def test_a_gpu_by_its_name_number_or_words(given: str, name: str) -> None:
    assert choose_device(DEVICES, given) == name


def test_unknown_and_ambiguous_gpus() -> None:
    with pytest.raises(UserError, match=r"unknown GPU 'B300'; there is NVIDIA A2, NVIDIA A200, NVIDIA TITAN X"):
        choose_device(DEVICES, "B300")
    with pytest.raises(UserError, match=r"could be NVIDIA A2 or NVIDIA A200 or NVIDIA TITAN X"):
        choose_device(DEVICES, "nvidia")
    with pytest.raises(UserError, match="which device"):
        choose_device(DEVICES, None)
    assert choose_device(DEVICES[:1], None) == "NVIDIA A2"


def requested(runs: list[Path], question: Question, where: str | None = None) -> tuple[int, str]:
    console = Console(width=300, record=True, quiet=False)
    with console.capture() as captured:
        code = recommend(runs, question, console, where=where)
    return code, captured.get()


@pytest.fixture
def run(build: Build) -> RunBuilder:
    run = build()
    for worker in range(3):
        for variant, size, ms in (("onnxrt", 8, 10), ("torch", 8, 20), ("torch", 64, 60)):
            durations = [ms * MS + (i * 7919 % 200) * 1000 for i in range(200)]
            run.cell(variant, size, durations_ns=durations, replicate=worker)
    run.cell("tf", 8, status="crashed", message="it fell")
    return run


def test_in_words(run: Any) -> None:
    code, text = requested([run.folder], Question(max_latency_ms=30))
    assert code == 0
    assert (
        "Best: ONNX Runtime fp32 at batch 8: the highest throughput with median latency of a batch at most 30 ms"
        in text
    )
    assert "Runner-up: PyTorch fp32 at batch 8: 398" in text
    assert "--max-latency-ms 60.1 ms lets in PyTorch fp32 at batch 64" in text
    assert "UNCLEAR" not in text


def test_conditions_that_no_cell_meets_are_named(run: Any) -> None:
    with pytest.raises(UserError, match="no cell meets 'framework=onnxrt,batch_size>=64'"):
        requested([run.folder], Question(), where="framework=onnxrt,batch_size>=64")


def test_nobody_meets_it(run: Any) -> None:
    code, text = requested([run.folder], Question(max_latency_ms=5))
    assert code == 1
    assert "No cell with median latency of a batch at most 5 ms." in text
    assert "Nearest miss: ONNX Runtime fp32 at batch 8: median latency of a batch 10.10 ms" in text
    code, text = requested([run.folder], Question(max_power_w=50))
    assert code == 1
    assert "Power is unknown for 3 of 3 cells; they are left out." in text
    assert "Nearest miss" not in text
    code, text = requested([run.folder], Question(objective="joules"))
    assert (code, "No cell has a known energy per image." in text) == (1, True)


def test_cells_that_a_limit_leaves_out_unknown_are_counted(build: Build) -> None:
    run = build()
    run.cell("onnxrt", 8, durations_ns=[10 * MS + i for i in range(80)])
    run.cell("kerasxla", 8, durations_ns=[400 * MS] * 3)
    code, text = requested([run.folder], Question(max_latency_ms=500))
    assert code == 0
    assert "Median latency of a batch is unknown for 1 of 2 cells; they are left out." in text
    assert "left out" not in requested([run.folder], Question())[1]


def test_only_failures(build: Build) -> None:
    run = build()
    run.cell("tf", 8, status="oom")
    with pytest.raises(UserError, match="no cell on Test CPU is ok"):
        requested([run.folder], Question())


def test_equal_cells_are_unclear(build: Build) -> None:
    run = build()
    for variant in ("onnxrt", "torch"):
        for worker in range(3):
            durations = [10 * MS + worker * 1000 + (i * 7919 % 97) * 10_000 for i in range(300)]
            run.cell(variant, 8, durations_ns=durations, replicate=worker)
    _, text = requested([run.folder], Question())
    assert "UNCLEAR against " in text and ": intervals overlap; --replicates 5 or more would tell." in text


def test_one_worker_recommends_but_is_never_clear(build: Build) -> None:
    run = build()
    run.cell("onnxrt", 8, durations_ns=[10 * MS + i for i in range(300)])
    run.cell("torch", 8, durations_ns=[30 * MS + i for i in range(300)])
    code, text = requested([run.folder], Question())
    assert code == 0 and "Best: ONNX Runtime" in text
    assert (
        "UNCLEAR against PyTorch fp32 at batch 8: one worker tells nothing of the next one; --replicates 3 or more"
        in text
    )


def test_groups_without_an_answer_are_one_line_and_the_answer_comes_last(build: Build) -> None:
    run = build("a")
    run.cell("onnxrt", 8, [5_000_000] * 100)
    run.cell("torch", 8, [7_000_000] * 100)
    for scenario in ("offline", "server"):
        run.cell("onnxrt", 8, [90_000_000] * 100, scenario=scenario, streams=1, target_rate_per_s=None)
    code, text = requested([run.folder], Question(max_latency_ms=6.0))
    lines = text.splitlines()
    assert code == 0, "one group has an answer"
    (nobody,) = [line for line in lines if "No cell meets the limits" in line]
    assert "offline" in nobody and "server" in nobody and "single-stream" not in nobody
    assert lines[-3].startswith("Best: ONNX Runtime fp32 at batch 8: the highest throughput")
    assert lines[-2].startswith("  throughput 1,600 images/s")
    assert lines[-1] == f"Run: {run.folder}"
    console = Console(width=200)
    with console.capture() as captured:
        recommend(
            [run.folder], Question(max_latency_ms=6.0), console, named=lambda folder: f"mine/{folder.name}.tar.xz"
        )
    assert captured.get().splitlines()[-1] == "Run: mine/a.tar.xz", "as the user named it, wherever it lies unpacked"
    assert requested([run.folder], Question(max_latency_ms=0.1))[0] == 1


def test_inputs_are_never_mixed_and_front_ends_have_names(build: Build) -> None:
    run = build("a")
    for seed, more in enumerate(({}, {"input": "uint8"}, {"frontend": "notebook"})):
        run.cell("onnxrt", 8, [(20 - 5 * seed) * 10**6] * 60, **more)
    out = Console(file=io.StringIO(), width=300)
    recommend([run.folder], Question(), out)
    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert "uint8 input: Best: ONNX Runtime fp32 at batch 8: the highest throughput, the only cell." in text
    assert "Best: ONNX Runtime fp32 at batch 8 in a notebook: the highest throughput, of 2 cells." in text


def on_card(build: Build, name: str, variant: str, uuid: str, ms: float, number: str = "gpu0") -> RunBuilder:
    """A run of three workers that agree within 0.1 %, on a card of its own."""
    facts = [{"device": number, "uuid": uuid, "name": "H9"}]
    run = build(name, device=number, device_name="H9", uuid=uuid).run_json(devices=facts)
    for worker in range(3):
        durations = [int(ms * MS) + worker * 1000 + (i * 7919 % 97) * 100 for i in range(300)]
        run.cell(variant, 8, durations_ns=durations, replicate=worker)
    return run


def lines_of(*runs: RunBuilder) -> list[str]:
    code, text = requested([run.folder for run in runs], Question())
    assert code == 0
    return [line for line in text.splitlines() if line.startswith(("Runner-up", "UNCLEAR"))]


def test_two_cards_of_one_kind_have_no_verdict_whatever_their_intervals_and_one_run_would_tell(build: Build) -> None:
    runs = on_card(build, "a", "onnxrt", "GPU-1", 10), on_card(build, "b", "torch", "GPU-2", 12)
    runner_up, unclear = lines_of(*runs)
    assert runner_up.endswith(" % less, measured on another GPU of this kind.")
    assert unclear == (
        "UNCLEAR against PyTorch fp32 at batch 8: not measured on the same GPU, and no interval knows how far GPUs of one kind "
        "differ; more workers alone would not tell, one run on one GPU would: invoke bench --model ResNet50 --framework onnxrt,torch "
        "--precision fp32 --batch-sizes 8 --replicates 5"
    )


def test_what_lies_far_below_on_another_card_is_not_called_undecided(build: Build) -> None:
    runs = on_card(build, "a", "onnxrt", "GPU-1", 10), on_card(build, "b", "torch", "GPU-2", 13)
    (runner_up,) = lines_of(*runs)
    assert runner_up.endswith(" % less, measured on another GPU of this kind.")


def test_a_card_is_known_by_its_uuid_not_by_its_number(build: Build) -> None:
    """The card is gpu1 of the second run: what two runs of it tell apart is told, with that they are two."""
    runs = on_card(build, "a", "onnxrt", "GPU-1", 10), on_card(build, "b", "torch", "GPU-1", 30, number="gpu1")
    (runner_up,) = lines_of(*runs)
    assert runner_up.endswith(" % less, measured in another run.")


def test_what_two_runs_of_one_card_leave_open_one_run_would_tell(build: Build) -> None:
    runs = on_card(build, "a", "onnxrt", "GPU-1", 10), on_card(build, "b", "torch", "GPU-1", 10)
    _, unclear = lines_of(*runs)
    assert "intervals overlap; not measured in the same run" in unclear
    assert "; one run on one GPU would tell: invoke bench " in unclear


def test_rivals_of_the_same_run_still_ask_for_more_workers(build: Build) -> None:
    one, other = on_card(build, "a", "onnxrt", "GPU-1", 10), on_card(build, "b", "tensorrt", "GPU-2", 12)
    for worker in range(3):
        one.cell(
            "torch",
            8,
            durations_ns=[10 * MS + worker * 1000 + (i * 7919 % 97) * 100 for i in range(300)],
            replicate=worker,
        )
    _, near, far = lines_of(one, other)
    assert near.endswith(": intervals overlap; --replicates 5 or more would tell.")
    assert far.startswith("UNCLEAR against TensorRT fp32 at batch 8: not measured on the same GPU")


def workers_of(run: RunBuilder, variant: str, ms: float, count: int = 3, **columns: Any) -> None:
    """Workers that agree within 0.1 %."""
    for worker in range(count):
        durations = [int(ms * MS) + worker * 1000 + (i * 7919 % 97) * 100 for i in range(300)]
        run.cell(variant, 8, durations_ns=durations, replicate=worker, **columns)


def test_each_rival_is_told_of_by_where_it_was_measured_and_by_what_holds_of_it(build: Build) -> None:
    """One of another run, one of another card, none of which the other's reason holds; intervals of some alone overlap."""
    best = on_card(build, "a", "onnxrt", "GPU-1", 10)
    other_run, other_card = on_card(build, "b", "torch", "GPU-1", 10.001), on_card(build, "c", "tensorrt", "GPU-2", 11)
    workers_of(other_card, "torchcompile", 10.001)
    workers_of(other_card, "jax", 10.5, count=1)
    runner_up, of_run, of_card = lines_of(best, other_run, other_card)
    assert runner_up.endswith(" % less, measured in another run.")
    assert of_run.startswith(
        "UNCLEAR against PyTorch fp32 at batch 8: intervals overlap; not measured in the same run, and no "
    )
    assert "GPUs of one kind" not in of_run
    names, reasons = of_card.split(": ")[:2]
    assert {"TensorRT", "torch.compile", "JAX"} <= set(re.split(r"[ ,]+", names))
    assert reasons.startswith(
        "some intervals overlap; some are of one worker, which tells nothing of the next one; not measured on"
    )


@pytest.mark.parametrize(
    ("first", "second", "said", "reason"),
    [
        (
            "GPU-1",
            "",
            "perhaps measured on another GPU of this kind",
            "it is not known whether on the same GPU",
        ),
        (
            "",
            "GPU-1",
            "perhaps measured on another GPU of this kind",
            "it is not known whether on the same GPU",
        ),
        ("GPU-1", "GPU-2", ", measured on another GPU of this kind", "not measured on the same GPU"),
        ("", "", "in another run", "not measured in the same run"),
    ],
)
def test_a_missing_uuid_is_no_other_card_and_gives_no_verdict(
    build: Build, first: str, second: str, said: str, reason: str
) -> None:
    runner_up, unclear = lines_of(on_card(build, "a", "onnxrt", first, 10), on_card(build, "b", "torch", second, 10))
    assert runner_up.endswith(f"{said}.")
    assert reason in unclear and ("; not measured on the same GPU" in unclear) is (said[0] == ",")


def test_two_numbers_without_a_uuid_may_be_one_card_of_two_hosts(build: Build) -> None:
    runs = on_card(build, "a", "onnxrt", "", 10), on_card(build, "b", "torch", "", 10, number="gpu1")
    runner_up, unclear = lines_of(*runs)
    assert runner_up.endswith(", perhaps measured on another GPU of this kind.")
    assert "it is not known whether on the same GPU" in unclear


def test_what_another_card_measured_far_apart_is_said_of_the_figures_that_are_left_out(build: Build) -> None:
    old = on_card(build, "a", "onnxrt", "GPU-1", 10)
    new = on_card(build, "b", "onnxrt", "GPU-2", 50)
    _, text = requested([old.folder, new.folder], Question())
    (line,) = [line for line in text.splitlines() if line.startswith("Left out")]
    assert line.endswith(
        "; another GPU of this kind reached 5 times the throughput of what counts (ResNet50, ONNX Runtime fp32 batch 8 host: run a "
        "against b)."
    )


@pytest.mark.parametrize(
    ("uuid", "ms", "far"), [("GPU-1", 10.5, True), ("GPU-1", 10, False), ("GPU-2", 10.5, False), ("", 20, True)]
)
def test_how_far_is_far_on_one_card_its_intervals_tell(build: Build, uuid: str, ms: float, far: bool) -> None:
    """5 % are more than intervals of one card have, and less than cards differ by."""
    runs = on_card(build, "a", "onnxrt", "GPU-1", 10), on_card(build, "b", "onnxrt", uuid, ms)
    _, text = requested([run.folder for run in runs], Question())
    (line,) = [line for line in text.splitlines() if line.startswith("Left out")]
    assert ("times the throughput" in line) is far
    assert (f"the same GPU reached {ms / 10:.3g} times" in line) is (far and uuid == "GPU-1")
    assert ("what is perhaps another GPU of this kind reached 2 times" in line) is (uuid == "")


def test_published_figures_ask_for_no_more_workers(build: Build) -> None:
    run = build("a").run_json(origin="elsewhere")
    for variant, ms in (("onnxrt", 10), ("torch", 11)):
        run.cell(variant, 8, durations_ns=[ms * MS] * 60, origin="elsewhere")
    _, unclear = lines_of(run)
    assert unclear.endswith("; what was published tells no more.") and "--replicates" not in unclear


def test_each_group_names_the_run_of_its_best_cell(build: Build) -> None:
    a, b = build("a"), build("b")
    a.cell("onnxrt", 8, [5_000_000] * 100)
    b.cell("onnxrt", 8, [5_000_000] * 100, io="device")
    code, text = requested([a.folder, b.folder], Question())
    named = [line for line in text.splitlines() if line.startswith("Run: ")]
    assert code == 0 and len(named) == 2
    of_run = {line.split(" (")[0]: line for line in named}
    assert "io=host" in of_run[f"Run: {a.folder}"] and "io=device" in of_run[f"Run: {b.folder}"]


@pytest.mark.parametrize(
    ("cores", "said", "reason"),
    [
        (
            8,
            ", measured on another CPU of this kind.",
            "not measured on the same CPU, and no interval knows how far CPUs",
        ),
        (None, ", perhaps measured on another CPU of this kind.", "it is not known whether on the same CPU"),
        (4, ", measured in another run.", "not measured in the same run"),
    ],
)
def test_cpus_of_hosts_with_other_cores_are_two(build: Build, cores: int | None, said: str, reason: str) -> None:
    a = build("a").run_json(host={"cpu_model": "Test CPU", "logical_cores": 4})
    b = build("b").run_json(host={"cpu_model": "Test CPU", "logical_cores": cores})
    workers_of(a, "onnxrt", 10)
    workers_of(b, "torch", 10)
    runner_up, unclear = lines_of(a, b)
    assert runner_up.endswith(said) and reason in unclear and "GPU" not in unclear
