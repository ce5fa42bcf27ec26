"""Each rule both ways: it speaks at its threshold with its numbers, and not below."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.results import explain_sentences
from analysis.results.explain_sentences import sentences
from analysis.results.explained import LAUNCH_GAP, WAIT_GAP, Explained

WALL = 10e6


def cell(classes: dict[str, float], kernels: list[dict[str, Any]] | None = None, **facts: Any) -> Explained:
    """classes: shares of the wall time; what is left is convolution, so that they add up."""
    shares = dict(classes)
    shares["convolution"] = shares.get("convolution", 0) + 1 - sum(shares.values())
    times = {name: share * WALL for name, share in shares.items() if share > 0}
    busy = sum(ns for name, ns in times.items() if name not in (LAUNCH_GAP, WAIT_GAP))
    known = {
        "variant": "torch", "precision": "fp32", "batch_size": 32, "source": "cupti", "wall_ns": WALL, "busy_ns": busy,
        "busy_share": busy / WALL, "launches": 1340.0,
        "graph_launches": 0.0, "kernels": 1340.0, "operators": 0.0, "h2d_bytes_per_s": None,
    }  # fmt: skip
    return Explained("run", "key", {**known, **facts}, times, kernels or [])


def kernel(class_name: str, share: float, tensor_cores: bool = False, calls: float = 4) -> dict[str, Any]:
    return {
        "name": f"{class_name} kernel",
        "class": class_name,
        "ns": share * WALL,
        "calls": calls,
        "tensor_cores": tensor_cores,
    }


def spoken(one: Explained, rule: str, link: float | None = None) -> str | None:
    return next((sentence.text for sentence in sentences(one, link) if sentence.rule == rule), None)


CASES = [
    ("launch gaps", explain_sentences.LAUNCH_BOUND, lambda share: cell({LAUNCH_GAP: share}), "launches 1,340 kernels one by one"),
    ("gaps on the GPU", explain_sentences.WAITING, lambda share: cell({WAIT_GAP: share}), "1,340 short kernels follow each other"),
    (
        "outside operators", explain_sentences.GAPS_ON_CPU,
        lambda share: cell({LAUNCH_GAP: share}, source="torch.profiler", kernels=None, operators=933.0), "no operator computes",
    ),
    ("layout changes", explain_sentences.LAYOUT, lambda share: cell({"layout change": share}), "goes to layout changes"),
    (
        "elementwise passes", explain_sentences.ELEMENTWISE,
        lambda share: cell({"elementwise": share}, [kernel("elementwise", share, calls=47)]), "47 elementwise passes",
    ),
    ("copies", explain_sentences.COPIES, lambda share: cell({"copy H2D": share}, h2d_bytes_per_s=40e9), "at 40 GB/s"),
    (
        "one kernel", explain_sentences.ONE_KERNEL, lambda share: cell({}, [kernel("convolution", share)]),
        "is spent in convolution kernel",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "threshold", "make", "says"), CASES, ids=[case[0] for case in CASES])
def test_a_rule_speaks_above_its_threshold_and_not_below(rule, threshold, make, says):
    above = spoken(make(threshold + 0.01), rule)
    assert above is not None
    assert says in above
    assert explain_sentences.percent(threshold + 0.01) in above or rule == "launch gaps"
    assert spoken(make(threshold - 0.01), rule) is None


@pytest.mark.parametrize(
    ("shares", "facts", "rule", "says"),
    [
        ({LAUNCH_GAP: 0.9}, {"launches": 1.0}, "launch gaps", "launches 1 kernel:"),
        ({WAIT_GAP: 0.9}, {"kernels": 1.0}, "gaps on the GPU", "1 short kernel runs with pauses"),
        (
            {LAUNCH_GAP: 0.9}, {"source": "torch.profiler", "kernels": None, "operators": 1.0}, "outside operators",
            "around 1 operator;",
        ),
    ],
)  # fmt: skip
def test_of_one_no_plural_is_said(shares, facts, rule, says):
    one = cell(shares)
    assert says in spoken(replace(one, facts={**one.facts, **facts}), rule)


def test_a_long_copy_is_said_once():
    one = cell({"copy H2D": 0.4}, [kernel("copy H2D", 0.4, calls=1)], h2d_bytes_per_s=55e9)
    assert spoken(one, "copies") is not None
    assert spoken(one, "one kernel") is None


def test_what_is_compiled_already_gets_no_advice_to_compile():
    text = spoken(cell({LAUNCH_GAP: 0.5}, variant="tfxla"), "launch gaps")
    assert text is not None
    assert text.endswith("a CUDA graph removes this")


def test_launch_gaps_of_a_graph_name_the_graph():
    text = spoken(cell({LAUNCH_GAP: 0.4}, launches=0.0, graph_launches=1.0), "launch gaps")
    assert text is not None
    assert "its kernels start as 1 CUDA graph:" in text
    assert "one by one" not in text


def test_a_graph_whose_kernels_were_not_recorded_launches_nothing_one_by_one() -> None:
    text = spoken(beside_graphs(launches=0, kernels=0, graphs=1), "launch gaps")
    assert text is not None
    assert "though its kernels start as 1 CUDA graph: the work of an inference is small" in text
    assert "one by one" not in text


def test_kernels_beside_a_graph_are_counted():
    text = spoken(beside_graphs(launches=2, kernels=272, graphs=1), "launch gaps")
    assert text is not None
    assert "though all but 2 of its 272 kernels start as 1 CUDA graph:" in text
    assert "one by one" not in text


@pytest.mark.parametrize(("launches", "kernels"), [(183, 234), (183, 2000), (40, 60)])
def test_many_kernels_beside_graphs_are_launched_one_by_one(launches: float, kernels: float) -> None:
    text = spoken(beside_graphs(launches, kernels, graphs=9), "launch gaps")
    assert text is not None
    assert f"which launches {launches:,.0f} kernels one by one" in text


def beside_graphs(launches: float, kernels: float, graphs: float) -> Explained:
    one = cell({LAUNCH_GAP: 0.8}, launches=launches, graph_launches=graphs)
    return replace(one, facts={**one.facts, "kernels": kernels})


def test_launch_gaps_say_how_much_of_the_time_the_gpu_works():
    text = spoken(cell({LAUNCH_GAP: 0.97}), "launch gaps")
    assert text is not None
    assert text.startswith("the GPU works 3.0 % of the time; 9.7 ms of 10 ms it stands idle")
    assert "CUDA graph" in text


def test_few_launches_are_not_blamed_on_a_missing_graph():
    text = spoken(cell({LAUNCH_GAP: 0.5}, launches=3.0), "launch gaps")
    assert text is not None
    assert "CUDA graph" not in text


def test_gaps_are_reported_without_a_cure_where_no_calls_of_the_host_were_recorded():
    text = spoken(cell({LAUNCH_GAP: 0.81}, launches=None), "launch gaps")
    assert text is not None
    assert "stands idle while the host works; CUPTI reported no calls of the host" in text
    assert "CUDA graph" not in text


def test_a_cpu_has_no_launch_gaps_and_no_copies_to_a_gpu():
    one = cell({LAUNCH_GAP: 0.9}, source="TensorFlow's profiler")
    assert spoken(one, "launch gaps") is None
    assert spoken(one, "outside operators") is not None


@pytest.mark.parametrize(("speed", "cure"), [(40e9, "uint8"), (10e9, "pinned host memory")])
def test_slow_copies_are_held_against_the_link(speed, cure):
    text = spoken(cell({"copy H2D": 0.3}, h2d_bytes_per_s=speed), "copies", link=63e9)
    assert text is not None
    assert cure in text


@pytest.mark.parametrize(
    ("used", "precision", "speaks"), [(0.1, "fp16", True), (0.5, "fp16", False), (0.1, "fp32", False)]
)
def test_half_precision_without_tensor_cores(used, precision, speaks):
    kernels = [kernel("convolution", used, tensor_cores=True), kernel("convolution", 0.6 - used)]
    text = spoken(cell({}, kernels, precision=precision), "tensor cores")
    assert (text is not None) == speaks


def test_a_busy_device_is_reported_so():
    assert spoken(cell({LAUNCH_GAP: 0.09}), "busy") is not None
    assert spoken(cell({LAUNCH_GAP: 0.11}), "busy") is None


@pytest.mark.parametrize(
    ("times", "cure"),
    [
        ({"convolution": 0.9}, "in convolution: to be faster it takes fewer or faster kernels"),
        ({"convolution": 0.6, "elementwise": 0.22}, "in convolution: to be faster it takes fewer or faster kernels"),
        ({"convolution": 0.8, "layout change": 0.11}, "to be faster it takes fewer or faster kernels"),
        ({"convolution": 0.8, "copy H2D": 0.1}, "to be faster it takes fewer or faster kernels and copies"),
        (
            {"convolution": 0.8, LAUNCH_GAP: 0.06},
            "without any gaps it would take 6.0 % less, and more than that takes fewer or faster kernels",
        ),
    ],
)
def test_a_busy_device_needs_fewer_or_faster_kernels_and_nothing_else_is_claimed(
    times: dict[str, float], cure: str
) -> None:
    text = spoken(cell(times), "busy")
    assert text is not None and text.endswith(cure)
    assert "only" not in text


def recorded(gaps: dict[str, float], cost: float, **facts: Any) -> Explained:
    """Recording makes an inference `cost` (a share of the recorded time) longer."""
    return cell(gaps, median_traced_ns=WALL, median_untraced_ns=WALL * (1 - cost), **facts)


def test_what_recording_costs_is_taken_off_the_gap_before_it_is_judged():
    """ONNX Runtime fp16 at batch 1: 37 % of the recorded time is gaps, but recording alone takes 27 %."""
    assert spoken(recorded({LAUNCH_GAP: 0.37}, cost=0.27), "launch gaps") is None
    assert spoken(recorded({LAUNCH_GAP: 0.37}, cost=0.0), "launch gaps") is not None


def test_a_gap_that_is_left_is_told_with_the_corrected_figures():
    text = spoken(recorded({LAUNCH_GAP: 0.6}, cost=0.2), "launch gaps")
    assert text is not None
    assert text.startswith(
        "after the recorder's 2 ms is taken off, the GPU works 50 % of the time; 4 ms of 8 ms it stands idle while the host works"
    )


def test_more_than_the_gaps_is_never_taken_off():
    one = recorded({LAUNCH_GAP: 0.2, WAIT_GAP: 0.1}, cost=0.5)
    assert (one.time_of(LAUNCH_GAP), one.time_of(WAIT_GAP)) == (0.0, 0.0)
    assert one.time_ns == pytest.approx(0.7 * WALL)
    assert one.busy_share == pytest.approx(1.0)


def test_what_is_left_of_the_recorder_s_cost_is_taken_off_the_gaps_while_the_host_waits():
    one = recorded({LAUNCH_GAP: 0.1, WAIT_GAP: 0.25}, cost=0.2)
    assert one.time_of(LAUNCH_GAP) == 0.0
    assert one.time_of(WAIT_GAP) == pytest.approx(0.15 * WALL)
    assert spoken(one, "gaps on the GPU") is None
    assert sum(map(one.time_of, one.classes)) == pytest.approx(one.time_ns)


@pytest.mark.parametrize("cost", [-0.3, 0.0, 0.009])
def test_nothing_is_taken_off_where_recording_costs_nothing_that_can_be_told(cost):
    one = recorded({LAUNCH_GAP: 0.6}, cost=cost)
    assert one.time_ns == WALL
    text = spoken(one, "launch gaps")
    assert text is not None and "recorder" not in text


def test_shares_of_the_work_alone_know_nothing_of_the_recorder():
    text = spoken(recorded({LAUNCH_GAP: 0.5, "layout change": 0.2}, cost=0.2), "layout changes")
    assert text is not None and "recorder" not in text


def test_a_device_busy_with_copies_gets_no_advice_on_kernels_alone():
    text = spoken(cell({"copy H2D": 0.14, "elementwise": 0.5}, h2d_bytes_per_s=55e9), "busy")
    assert text is not None
    assert "in elementwise" in text
    assert spoken(cell({"copy H2D": 0.4}, h2d_bytes_per_s=55e9), "busy") is None


def test_the_most_costly_comes_first():
    found = sentences(cell({LAUNCH_GAP: 0.4, "layout change": 0.2, "copy H2D": 0.3}))
    assert [sentence.rule for sentence in found] == ["launch gaps", "copies", "layout changes"]


def test_nothing_is_said_of_what_has_no_single_cause():
    assert sentences(cell({LAUNCH_GAP: 0.15, "elementwise": 0.2})) == []


@pytest.mark.parametrize(
    ("ns", "text"), [(121e6, "121 ms"), (1.25e9, "1,250 ms"), (2.13e6, "2.13 ms"), (900, "0.9 us"), (5e4, "50 us")]
)
def test_times_read_well(ns, text):
    assert explain_sentences.ms(ns) == text
