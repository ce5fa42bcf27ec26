"""Two processes take turns, and what becomes of their times."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from common.errors import UserError
from common.harness.other_load import Reading
from common.host.devices import Device
from common.host.paths import DataFolder
from common.host.plan.options import Options
from common.host.runners.local import LocalRunner
from common.host.runs.run import locked
from common.host.selfbench import gpu, order
from common.host.verify.command import (
    RECIPE,
    Case,
    LoopComparison,
    Result,
    SideEnded,
    SideProcess,
    compare,
    held_against,
    load_of,
    other_work,
    verify,
)  # fmt: skip
from common.host.verify.report import HEADINGS, line, markdown, print_result, write_markdown
from common.model_files import DESCRIPTION, Tensor
from common.stats.intervals import Interval
from common.stats.pairs import interval_of, latency_ratios
from tests.waiting import wait_for

Make = Callable[..., Case]


def verdict(low: float, high: float, reason: str = "") -> LoopComparison:
    ratio = Interval((low + high) / 2, low, high, 0.95, 16, 1)
    return LoopComparison("tf", "tuned", "fp32", 1, "host", 1e6, 1e6, ratio, 0.0, reason)


def gone(pid: int) -> bool:
    """Ended; what nobody waits for may stay as a zombie."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def blocks(
    ratio: float, pairs: int = 40, drift: float = 0.0, noise: float = 0.002
) -> list[tuple[list[int], list[int]]]:
    """Pairs of blocks on a machine whose speed wanders by `drift` from the first pair to the last."""
    rng = np.random.default_rng(3)

    def block(median: float, pair: int) -> list[int]:
        centre = median * (1 + drift * pair / pairs) * rng.normal(1, noise)
        return [int(value) for value in centre * rng.normal(1, 0.05, 101)]

    return [(block(ratio * 1e6, pair), block(1e6, pair)) for pair in range(pairs)]


def test_both_sides_are_asked_as_often_and_give_a_ratio_and_the_distance_of_their_outputs(
    make_case: Make, tmp_path: Path
) -> None:
    row = compare(make_case(), 11, 0.01, tmp_path)
    assert row.reason == ""
    assert row.ratio is not None
    assert row.ratio.samples == 11
    assert row.ratio.low <= row.ratio.estimate <= row.ratio.high
    assert row.difference is not None
    assert row.difference < 1e-6
    assert row.harness_ns is not None
    assert row.recipe_ns is not None
    assert min(row.harness_ns, row.recipe_ns) > 0


def test_a_recipe_with_another_output_is_off_however_equal_its_times(make_case: Make, tmp_path: Path) -> None:
    row = compare(make_case(factor=1.5), 11, 0.005, tmp_path)
    assert row.ratio is not None
    assert row.word == "OFF"
    assert row.reason.startswith("the outputs differ by 0.33")


@pytest.mark.parametrize(
    ("batch_size", "begin", "reason"),
    [
        (3, "pass", "the harness: batch 3 is not to its taste"),
        (4, "pass", "the harness: four is too many"),
        (
            2,
            "{{ refuse('no pinned memory') }}",
            "there is no recipe for toy_product_fp32_b0002_host_single-stream_script_cpu_r0: no pinned memory",
        ),
        (2, "raise ValueError('the model is broken')", "the recipe: ValueError: the model is broken"),
        (
            2,
            "print('out of luck', file=sys.stderr, flush=True); os._exit(7)",
            "the recipe ended with exit code 7: out of luck",
        ),
        (2, "os._exit(1)", "the recipe ended with exit code 1: it said nothing"),
        (2, "os.kill(os.getpid(), 9)", "the recipe was ended by SIGKILL: it said nothing"),
    ],
)
def test_a_side_that_cannot_is_the_rows_reason(
    make_case: Make, tmp_path: Path, batch_size: int, begin: str, reason: str
) -> None:
    row = compare(make_case(batch_size, begin), 11, 0.01, tmp_path)
    assert row.ratio is None
    assert row.reason == reason
    assert row.word == "-"


def test_a_side_that_dies_in_the_middle_is_the_rows_reason(make_case: Make, tmp_path: Path) -> None:
    row = compare(
        make_case(infer="assert calls < 5, 'tired'"),
        11,
        0.01,
        tmp_path,
    )
    assert row.reason == "the recipe: AssertionError: tired"


def test_a_side_that_hangs_is_ended(make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.host.verify.command.BLOCK_GRACE_SECONDS", 0.3)
    monkeypatch.setattr("common.host.verify.command.READY_SECONDS", 5.0)
    row = compare(make_case(infer="time.sleep(0 if calls == 1 else 60)"), 11, 0.01, tmp_path)
    assert row.reason.startswith("the recipe gave no answer within 5 s and was ended: ")


def test_what_the_sides_drop_in_tmpdir_lies_in_the_rows_folder(make_case: Make, tmp_path: Path) -> None:
    """Compilers' files stayed in /tmp, also when both sides came to their end."""
    case = make_case(begin="import tempfile; tempfile.mkstemp(suffix='.s')")
    adapter = case.image.folder / "adapter.py"
    dropping = "        import tempfile\n        tempfile.mkstemp(suffix='.py')\n"
    adapter.write_text(adapter.read_text().replace("        batch = only(", f"{dropping}        batch = only("))
    folder = tmp_path / "row"
    folder.mkdir()
    assert compare(case, 11, 0.005, folder).reason == ""
    assert {path.suffix for path in (folder / "tmp").iterdir()} == {".s", ".py"}
    place = tmp_path / "order"
    place.mkdir()
    with order.both_orders(case, 8, place):
        pass
    for name in ("after", "alone"):
        assert {path.suffix for path in (place / name / "tmp").iterdir()} == {".py"}


def test_a_drift_of_the_machine_meets_both_and_leaves_the_ratio() -> None:
    still, drifting = (interval_of([latency_ratios(pairs)]) for pairs in (blocks(1.01), blocks(1.01, drift=1.0)))
    for found in (still, drifting):
        assert found.low <= 1.01 <= found.high
        assert found.high - found.low < 0.01


def test_some_disturbed_pairs_do_not_move_the_ratio() -> None:
    disturbed = blocks(1.0)
    for pair in (3, 17, 30):
        disturbed[pair] = ([9 * value for value in disturbed[pair][0]], disturbed[pair][1])
    assert interval_of([latency_ratios(disturbed)]).estimate == pytest.approx(1.0, abs=0.005)


def test_too_few_pairs_for_an_interval_are_refused() -> None:
    with pytest.raises(UserError, match="at least 11"):
        interval_of([latency_ratios(blocks(1.0, pairs=10))])


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.99, 1.01, "OK"), (0.97, 1.0, "UNCLEAR"), (0.9, 1.1, "UNCLEAR"), (1.03, 1.05, "OFF"), (0.9, 0.97, "OFF")],
)
def test_the_verdict_is_about_the_whole_interval(low: float, high: float, word: str) -> None:
    assert verdict(low, high).word == word


LOAD = "others kept 1.2 and the two sides 0.8 of 2 CPUs busy"


@pytest.mark.parametrize(
    ("low", "high", "reason", "word"),
    [
        (0.9, 0.97, "", "UNCLEAR"),
        (1.03, 1.05, "", "UNCLEAR"),
        (0.97, 1.0, "", "UNCLEAR"),
        (0.99, 1.01, "", "OK"),
        (1.08, 1.6, "", "UNCLEAR"),
        (1.45, 1.55, "", "OFF"),
        (0.6, 0.89, "", "OFF"),
        (0.99, 1.01, "the outputs differ by 0.5, more than 0.01", "OFF"),
    ],
)
def test_under_other_load_a_ratio_slightly_outside_the_target_proves_nothing(
    low: float, high: float, reason: str, word: str
) -> None:
    """On a loaded machine `verify` once said OFF where `bench` marked the same cell `l`. Load makes no outputs differ, and nothing
    half as slow again: a ratio of 1.5 once ended with exit code 0 on a busy machine."""
    row = dataclasses.replace(verdict(low, high, reason), load=LOAD)
    assert row.word == word
    assert line(row).endswith(f"{word}{f': {reason}' if reason else ''} (l: {LOAD})")
    assert f"(l: {LOAD}) |" in markdown(Result([row], Device("cpu", "cpu", "a CPU"), []))


@pytest.mark.parametrize(
    ("end", "cpus", "words"),
    [
        (Reading(10.0, 20.0, 8.0), 2, LOAD),
        (Reading(10.0, 20.0, 8.0), 4, ""),  # CPUs stayed free
        (Reading(10.0, 20.0, 18.0), 2, ""),  # the sides alone kept both busy
        (None, 2, ""),
    ],
)
def test_other_work_is_what_took_something_from_the_sides(end: Reading | None, cpus: int, words: str) -> None:
    assert other_work(Reading(0.0, 0.0, 0.0), end, cpus) == words
    assert other_work(None, end, cpus) == ""


@pytest.mark.parametrize(("others_s", "loaded"), [(20.0, True), (0.0, False)])
def test_the_load_during_the_pairs_stands_in_the_row(
    make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others_s: float, loaded: bool
) -> None:
    readings = []

    def reading(own_s: float) -> Reading:
        readings.append(own_s)
        return Reading(10.0 * len(readings), own_s + others_s * len(readings), own_s)

    monkeypatch.setattr("common.host.verify.command.other_load.read", reading)
    monkeypatch.setattr("common.host.verify.command.os.cpu_count", lambda: 2)
    row = compare(make_case(), 11, 0.01, tmp_path)
    assert row.reason == ""
    assert len(readings) == 2 and readings[1] > readings[0] > 0, "CPU time of both sides, which grows"
    assert row.load.startswith("others kept 2.0 and the two sides 0.") == loaded
    assert loaded or row.load == ""


def test_the_cpu_time_of_a_side_is_that_of_its_process(tmp_path: Path) -> None:
    program = "import time\nwhile time.process_time() < 0.3: pass\nprint('{\"facts\": {}}', flush=True)\ninput()"
    side = SideProcess("a side", [sys.executable, "-c", program], dict(os.environ), tmp_path / "log")
    try:
        side.facts()
        took = side.cpu_s()
        assert took is not None and took >= 0.28
        found = load_of(side, side)
        assert found is not None and found.own_s >= 2 * took
    finally:
        side.close()
    assert side.cpu_s() is None
    assert load_of(side) is None


@pytest.mark.parametrize(
    ("options", "pairs", "seconds", "words"),
    [
        ({}, 10, 1.0, "--pairs 10"),
        ({}, 16, 0.0, "--block-seconds"),
        ({"framework": "tensorflw"}, 16, 1.0, "unknown framework 'tensorflw'"),
        ({"framework": "tensorrt"}, 16, 1.0, "tensorrt does not run on a CPU"),
        ({"batch_sizes": "0"}, 16, 1.0, "batch size 0"),
        ({"io": "disk"}, 16, 1.0, "unknown io 'disk'"),
        ({"input": "bits"}, 16, 1.0, "unknown input 'bits'"),
        ({"model": "Nothing50"}, 16, 1.0, "Nothing50"),
        ({"threads": -2}, 16, 1.0, "--threads must be at least 1, not -2"),
    ],
)
def test_bad_values_are_said_before_anything_is_made(
    tmp_path: Path, options: dict[str, Any], pairs: int, seconds: float, words: str
) -> None:
    data = DataFolder(tmp_path / "data")
    with pytest.raises(UserError, match=words):
        verify(Options(**{"device": "cpu", "framework": "tf", "io": "", **options}), pairs, seconds, Console(), data)
    assert not data.root.exists()


@pytest.mark.parametrize("measure", [lambda *given: verify(given[0], 16, 1.0, *given[1:]), order.measure, gpu.measure])
def test_a_device_in_use_is_said_before_anything_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measure: Callable[[Options, Console, DataFolder], object]
) -> None:
    for step in ("prepare", "ensure_model"):
        monkeypatch.setattr(LocalRunner, step, lambda *_, step=step, **__: pytest.fail(f"{step} was begun"))
    data = DataFolder(tmp_path / "data")
    with locked(data.locks / "cpu.lock", "cpu"), pytest.raises(UserError, match="is in use by process"):
        measure(Options(framework="onnxrt", device="cpu"), Console(quiet=True), data)


@pytest.mark.parametrize(
    ("measure", "options", "words"),
    [
        (measure, options, words)
        for measure in (order.measure, gpu.measure)
        for options, words in (
            ({"framework": "tensorflw"}, "unknown framework 'tensorflw'"),
            ({"precision": "fp61"}, "unknown precision 'fp61'"),
        )
    ]
    + [
        (order.measure, {"batch_sizes": "1,7"}, "no order is between the batch sizes 1,7"),
        (order.measure, {"threads": -2}, "--threads must be at least 1, not -2"),
    ],
)
def test_bad_values_of_selfbench_are_said_though_the_device_is_in_use(
    tmp_path: Path, measure: Callable[[Options, Console, DataFolder], object], options: dict[str, Any], words: str
) -> None:
    data = DataFolder(tmp_path / "data")
    with locked(data.locks / "cpu.lock", "cpu"), pytest.raises(UserError, match=words):
        measure(Options(**{"framework": "onnxrt", "device": "cpu", **options}), Console(quiet=True), data)


def test_table_and_markdown_have_the_same_cells(tmp_path: Path) -> None:
    rows = [
        verdict(0.99, 1.01),
        LoopComparison("tensorrt", "tuned", "fp16", 8, "device", reason="the harness: no GPU | none"),
    ]
    result = Result(rows, Device("cpu", "cpu", "a CPU"), ["a CPU, load average 0.1"])
    console = Console(width=200, record=True, file=(tmp_path / "screen").open("w"))
    print_result(result, console)
    screen = console.export_text()
    text = markdown(result)
    for words in ("0.9900 to 1.0100", "OK", "the harness: no GPU", "a CPU, load average 0.1", *HEADINGS):
        assert words in screen
        assert words in text
    assert {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")} == {
        len(HEADINGS) + 1
    }
    path = write_markdown(result, tmp_path / "report")
    assert path.read_text() == text
    assert path.name.startswith("verify-cpu-")


def outputs(*kinds: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(f"out{number}", "float32", (1, 4), kind=kind) for number, kind in enumerate(kinds))


def write_outputs(folder: Path, side: str, **arrays: np.ndarray) -> None:
    np.savez(folder / f"{side}.npz", **arrays)  # type: ignore[arg-type]


def test_outputs_that_are_drawn_are_not_held_against_each_other(tmp_path: Path) -> None:
    ones = np.ones(4, np.float32)
    write_outputs(tmp_path, "harness", array_0=ones, array_1=ones)
    write_outputs(tmp_path, "recipe", array_0=ones, array_1=3 * ones)
    far, why = held_against(tmp_path, outputs("raw", "raw"), 1e-3)
    assert far is not None and far > 0.5
    assert why == f"the outputs differ by {far:.2g}, more than 0.001"
    assert held_against(tmp_path, outputs("raw", "random"), 1e-3) == (0.0, "")


@pytest.mark.parametrize("side", ["harness", "recipe"])
@pytest.mark.parametrize("lacking", [[0], [1], [2], [0, 2]])
def test_an_output_that_is_missing_is_named_on_either_side_wherever_it_stands(
    side: str, lacking: list[int], tmp_path: Path
) -> None:
    arrays = {f"array_{number}": np.ones(4, np.float32) for number in range(3)}
    there = {name: one for name, one in arrays.items() if int(name[-1]) not in lacking}
    for one in ("harness", "recipe"):
        write_outputs(tmp_path, one, **(there if one == side else arrays))
    words = " ".join(["output" if len(lacking) == 1 else "outputs", ", ".join(f"out{one}" for one in lacking)])
    found = held_against(tmp_path, outputs("raw", "random", "raw"), 1e-3)
    assert found == (None, f"the {side} lacks the {words}")


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (np.ones(3), "the output out0 has the shape (4,) in the harness, (3,) in the recipe"),
        (
            np.array([1, 1, np.nan, 1]),
            "the output out0 holds NaN or infinity where the other side has another value",
        ),
    ],
)
def test_outputs_without_a_distance_are_words_not_nan(theirs: np.ndarray, why: str, tmp_path: Path) -> None:
    for ours, other in (("harness", "recipe"), ("recipe", "harness")):
        write_outputs(tmp_path, ours, array_0=np.ones(4, np.float32))
        write_outputs(tmp_path, other, array_0=theirs.astype(np.float32))
        found, words = held_against(tmp_path, outputs("raw"), 1e-3)
        assert found is None
        assert words == why or (len(theirs) == 3 and "(3,) in the harness" in words)


def test_a_recipe_that_gives_no_such_output_is_off(make_case: Make, tmp_path: Path) -> None:
    """`the outputs differ by nan, more than 0.001`"""
    row = compare(make_case(given="{}"), 11, 0.005, tmp_path)
    assert row.ratio is not None
    assert row.word == "OFF"
    assert row.reason == "the recipe lacks the output output"
    assert "nan" not in line(row) + markdown(Result([row], Device("cpu", "cpu", "a CPU"), []))


def test_what_needs_no_process_to_be_refused_is_a_row_and_starts_none(
    make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dataclasses.replace(make_case(2).model, fixed_batch=2)
    monkeypatch.setattr("common.host.verify.command.LocalRunner.prepare", lambda *arguments: None)
    monkeypatch.setattr("common.host.verify.command.LocalRunner.ensure_model", lambda *arguments: model)
    monkeypatch.setattr("common.host.verify.command.LocalRunner.interpreter", lambda *arguments: Path("python"))
    monkeypatch.setattr("common.host.verify.command.compare", lambda *arguments: pytest.fail("it is compared"))
    options = Options(device="cpu", framework="onnxrt", io="host", batch_sizes="1", tuning="tuned")
    (row,) = verify(options, 16, 1.0, Console(quiet=True), DataFolder(tmp_path / "data")).verdicts
    assert row.reason == (
        "the model's batch size is fixed at 2; --batch-sizes 2 measures it, and --rebatch tries to make it dynamic"
    )
    asked: list[int] = []

    def compare_one(case: Case, *others: object) -> LoopComparison:
        asked.append(case.batch_size)
        return verdict(0.99, 1.01)

    monkeypatch.setattr("common.host.verify.command.compare", compare_one)
    options = dataclasses.replace(options, batch_sizes="")
    verify(options, 16, 1.0, Console(quiet=True), DataFolder(tmp_path / "data"))
    assert asked == [2], "who names no size gets the one that there is"


def test_each_row_is_reported_when_it_is_there(
    make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of many rows may be cut short: what was measured by then is on the screen."""
    model = make_case(2).model
    monkeypatch.setattr("common.host.verify.command.LocalRunner.prepare", lambda *arguments: None)
    monkeypatch.setattr("common.host.verify.command.LocalRunner.ensure_model", lambda *arguments: model)
    monkeypatch.setattr("common.host.verify.command.LocalRunner.interpreter", lambda *arguments: Path("python"))
    measured = iter([verdict(0.99, 1.01), KeyboardInterrupt()])

    def compare_one(*arguments: object) -> LoopComparison:
        one = next(measured)
        if isinstance(one, BaseException):
            raise one
        return one

    monkeypatch.setattr("common.host.verify.command.compare", compare_one)
    reported: list[LoopComparison] = []
    options = Options(device="cpu", framework="onnxrt", io="host", batch_sizes="1,32")
    with pytest.raises(KeyboardInterrupt):
        verify(options, 16, 1.0, Console(quiet=True), DataFolder(tmp_path / "data"), on_row=reported.append)
    assert [line(row) for row in reported] == ["tf tuned fp32 batch 1 host: 1.0000 (0.9900 to 1.0100), OK"]
    as_bytes = LoopComparison("tf", "tuned", "fp32", 1, "host", reason="why", input="uint8")
    assert line(as_bytes) == "tf tuned fp32 batch 1 host, uint8: why"
    lacking = LoopComparison("tensorrt", "tuned", "fp16", 8, "device", reason="the harness: no GPU")
    assert line(lacking) == "tensorrt tuned fp16 batch 8 device: the harness: no GPU"


@pytest.mark.parametrize("asked", ["float32", "uint8", "float32,uint8"])
def test_a_model_that_takes_bytes_is_said_to_be_fed_bytes(
    make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """Table, key and recipe once said float32 of a model whose own input is of bytes."""
    toy = make_case(2)
    with np.load(toy.model.root / "reference.npz") as arrays:
        inputs, outputs = arrays["inputs"].astype(np.uint8), arrays["outputs"]
    np.savez(toy.model.root / "reference.npz", inputs=inputs, outputs=outputs)
    (given,) = toy.model.inputs
    model = dataclasses.replace(toy.model, inputs=(dataclasses.replace(given, dtype="uint8"),))
    (model.root / DESCRIPTION).write_text(json.dumps(model.describe()))
    monkeypatch.setattr("common.host.verify.command.LocalRunner.prepare", lambda *arguments: None)
    monkeypatch.setattr("common.host.verify.command.LocalRunner.ensure_model", lambda *arguments: model)
    monkeypatch.setattr("common.host.verify.command.LocalRunner.interpreter", lambda *arguments: toy.interpreter)
    recipes: list[str] = []

    def compare_one(case: Case, pairs: int, block_seconds: float, folder: Path) -> LoopComparison:
        assert "_host-uint8_" in case.cell.key
        row = compare(dataclasses.replace(case, variant=toy.variant, image=toy.image), pairs, block_seconds, folder)
        recipes.append((folder / RECIPE).read_text())
        return row

    monkeypatch.setattr("common.host.verify.command.compare", compare_one)
    console = Console(file=io.StringIO(), width=200)
    options = Options(device="cpu", framework="onnxrt", io="host", batch_sizes="2", input=asked)
    result = verify(options, 11, 0.005, console, DataFolder(tmp_path / "data"))
    (row,) = result.verdicts
    assert row.reason == ""
    assert row.input == "uint8"
    assert line(row).startswith("product tuned fp32 batch 2 host, uint8: ")
    assert "| host, uint8 |" in markdown(result)
    assert '"uint8"' in recipes[0] and "float32" not in recipes[0].partition("INPUTS")[2].splitlines()[0]
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("toy takes pictures of bytes: it is fed uint8" in said) is (asked != "uint8")


def deaf_side(folder: Path) -> tuple[SideProcess, int]:
    """One that is ready, then hears nothing; and the process id of what it started itself."""
    child = folder / "child"
    program = (
        "import pathlib, subprocess, sys, time\n"
        "one = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
        "pathlib.Path(sys.argv[1]).write_text(str(one.pid))\n"
        "print('{\"facts\": {}}', flush=True)\n"
        "time.sleep(3600)\n"
    )
    side = SideProcess("a side", [sys.executable, "-c", program, str(child)], dict(os.environ), folder / "log")
    side.facts()
    return side, int(child.read_text())


def test_a_side_that_hears_nothing_is_ended_at_once_by_ctrl_c_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.host.verify.command.CLOSE_SECONDS", 3600.0)  # beyond the time limit of a test
    side, child = deaf_side(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        try:
            raise KeyboardInterrupt
        finally:
            side.close()
    wait_for(lambda: gone(child))


def test_ctrl_c_while_a_side_is_waited_for_ends_it_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.host.verify.command.CLOSE_SECONDS", 3600.0)
    side, child = deaf_side(tmp_path)
    main = threading.get_ident()
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        side.close()
    assert side._process.returncode == -signal.SIGKILL
    assert side._process.stdout is not None and side._process.stdout.closed
    wait_for(lambda: gone(child))


def test_a_side_that_hangs_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.host.verify.command.BLOCK_GRACE_SECONDS", 0.2)
    side, child = deaf_side(tmp_path)
    try:
        with pytest.raises(SideEnded, match=r"gave no answer within 0\.3 s and was ended"):
            side.block(0.1)
        wait_for(lambda: gone(child))
    finally:
        side.close()
