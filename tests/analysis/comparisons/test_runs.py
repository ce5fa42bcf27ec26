from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis.comparisons.runs import GOT_SLOWER, compare_cells, compare_folders, floors_for
from analysis.output.compare_formats import writer
from common.errors import UserError
from tests.analysis.conftest import Build, RunBuilder

MS = 10**6


def noisy(ms: float, seed: int, count: int = 400) -> list[int]:
    return [int(x) for x in np.random.default_rng(seed).normal(ms, 0.02 * ms, count) * MS]


def three(run: Any, variant: str, batch_size: int, ms: float, seed: int, count: int = 400, **columns: Any) -> None:
    """A cell measured by three workers that differ by about 0.1 %."""
    for replicate in range(3):
        level = ms * (1 + 0.001 * (replicate - 1))
        durations = noisy(level, 10 * seed + replicate, count)
        run.cell(variant, batch_size, durations_ns=durations, replicate=replicate, **columns)


def compared(a: Any, b: Any) -> tuple[int, str]:
    console = Console(width=200)
    with console.capture() as captured:
        code = compare_folders(a.folder, b.folder, console)
    return code, captured.get()


def test_slower_cells_make_the_exit_code_3(build: Build) -> None:
    a, b = build("a"), build("b")
    for i, (variant, before, after) in enumerate((("onnxrt", 10, 11), ("torch", 20, 15), ("tf", 30, 30))):
        three(a, variant, 8, before, 10 + i)
        three(b, variant, 8, after, 20 + i)
    code, text = compared(a, b)
    assert code == GOT_SLOWER == 3
    lines = [line.split() for line in text.splitlines() if "fp32" in line and not line.startswith("Of ")]
    verdicts = {words[0]: words[-1] for words in lines}
    assert verdicts == {"ONNX": "SLOWER", "PyTorch": "FASTER", "TensorFlow": "SAME"}
    assert "1 FASTER, 1 SLOWER, 1 SAME" in text
    assert "Holm" in text
    code, _ = compared(b, a)
    assert code == GOT_SLOWER, "torch was faster in b"


def test_equal_runs_are_no_alarm(build: Build) -> None:
    a, b = build("a"), build("b")
    a.cell("onnxrt", 8, durations_ns=noisy(10, 1))
    b.cell("onnxrt", 8, durations_ns=noisy(10, 2, count=700))
    b.cell("torch", 8, durations_ns=noisy(10, 3))
    code, text = compared(a, b)
    assert code == 0
    assert "1 cell is only in B" in text


def test_a_cell_that_no_longer_runs(build: Build) -> None:
    a, b = build("a"), build("b")
    for variant in ("onnxrt", "torch"):
        a.cell(variant, 8, durations_ns=noisy(10, 1))
    b.cell("onnxrt", 8, durations_ns=noisy(10, 2))
    b.cell("torch", 8, status="oom", message="no room")
    code, text = compared(a, b)
    assert code == GOT_SLOWER
    assert "ok in A, oom in B: no room" in text


def test_runs_that_cannot_be_compared(build: Build) -> None:
    a, b = build("a"), build("b")
    a.cell("onnxrt", 8, durations_ns=noisy(10, 1))
    b.cell("onnxrt", 16, durations_ns=noisy(10, 1))
    with pytest.raises(UserError, match="a and b have no cell in common"):
        compared(a, b)
    with pytest.raises(UserError, match="with itself"):
        compared(a, a)


def test_few_samples_are_unclear(build: Build) -> None:
    a, b = build("a"), build("b")
    a.cell("onnxrt", 8, durations_ns=[10 * MS] * 5)
    b.cell("onnxrt", 8, durations_ns=[20 * MS] * 5)
    code, text = compared(a, b)
    assert code == 0
    assert "1 UNCLEAR" in text
    assert "n too small for a median" in text


def test_gpus_side_by_side(build: Build) -> None:
    a, b = build("a", device="gpu0", device_name="GPU A"), build("b", device="gpu1", device_name="GPU B")
    three(a, "onnxrt", 8, 10, 1)
    three(b, "onnxrt", 8, 5, 2)
    code, text = compared(a, b)
    assert code == 0
    assert "The devices differ: GPU A and GPU B." in text
    assert "1 FASTER" in text


def cells_compared(a: str, b: str, *runs: Any) -> tuple[int, str]:
    console = Console(width=200)
    with console.capture() as captured:
        code = compare_cells([run.folder for run in runs], a, b, console)
    return code, captured.get()


def verdicts_of(text: str) -> list[str]:
    return [
        line.split()[-1]
        for line in text.splitlines()
        if " fp32 batch " in line and not line.startswith(("Of ", "B is "))
    ]


def test_any_two_cells_of_one_run(build: Build) -> None:
    run = build()
    for seed, (variant, size, ms) in enumerate(
        (("onnxrt", 8, 10), ("torch", 8, 11), ("onnxrt", 16, 30), ("torch", 16, 15))
    ):
        three(run, variant, size, ms, 40 + seed)
    code, text = cells_compared("framework=onnxrt,batch=8", "framework=torch,batch=8", run)
    assert (code, verdicts_of(text)) == (GOT_SLOWER, ["SLOWER"])
    assert "ONNX Runtime fp32 batch 8 host" in text and "PyTorch fp32 batch 8 host" in text
    # What neither condition is about pairs the cells: a whole row of a table against another.
    code, text = cells_compared("framework=onnxrt", "framework=torch", run)
    assert (code, verdicts_of(text)) == (GOT_SLOWER, ["SLOWER", "FASTER"]) and "Holm" in text
    # Batch sizes that differ are compared by the image.
    code, text = cells_compared("framework=torch,batch=8", "framework=torch,batch=16", run)
    assert (code, verdicts_of(text)) == (0, ["FASTER"])
    assert "A, ms an image" in text and "1.37" in text and "0.93" in text


def test_cells_of_two_runs(build: Build) -> None:
    a, b = build("a"), build("b")
    three(a, "onnxrt", 8, 10, 1)
    three(a, "torch", 8, 10, 2)
    three(b, "torch", 8, 12, 3)
    three(b, "torch", 16, 12, 4)
    code, text = cells_compared("framework=onnxrt", "framework=torch", a, b)
    assert (code, verdicts_of(text)) == (GOT_SLOWER, ["SLOWER"])
    assert "1 more cell has no counterpart" in text


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ("framework=onnxrt", "framework=tensorflow", "unknown variant 'tensorflow'"),
        ("framework=onnxrt", "framework=tf", "--cell-b 'framework=tf' names no cell of run that ran (oom: no room)"),
        ("io=host", "framework=torch", "--cell-a 'io=host' means several cells"),
        ("framework=torch", "framework=torch", "the same cells"),
        ("framework=onnxrt", "batch=16", "no cell of --cell-a has one of --cell-b beside it"),
    ],
)
def test_cells_that_cannot_be_compared(build: Build, a: str, b: str, words: str) -> None:
    run = build()
    run.cell("onnxrt", 8, durations_ns=noisy(10, 1))
    run.cell("torch", 8, durations_ns=noisy(10, 2))
    run.cell("torch", 16, io="device", durations_ns=noisy(10, 3))
    run.cell("tf", 8, status="oom", message="no room")
    with pytest.raises(UserError) as caught:
        cells_compared(a, b, run)
    assert words in str(caught.value)


def test_sides_of_two_cards_of_one_kind_are_said_with_the_level_of_the_intervals(build: Build) -> None:
    a, b, again = (
        build(name, device="gpu0", device_name="GPU A", uuid=uuid).run_json(
            devices=[{"device": "gpu0", "uuid": uuid, "name": "GPU A"}]
        )
        for name, uuid in (("a", "GPU-1"), ("b", "GPU-2"), ("again", "GPU-1"))
    )
    for seed, run in enumerate((a, b, again)):
        three(run, "onnxrt", 8, 10, 3 * seed)
        three(run, "torch", 8, 20, 3 * seed + 1)
    _, text = compared(a, b)
    assert "A and B were measured on different cards of one kind (GPU A: GPU-1 and GPU-2)" in " ".join(text.split())
    assert "2 cells compared: intervals are at 9" in text
    out = io.StringIO()
    compare_folders(a.folder, b.folder, Console(quiet=True), write=writer("json", out))
    assert {cell["note"] for cell in json.loads(out.getvalue())["cells"]} == {"different cards of one kind"}
    assert "different cards" not in compared(a, again)[1]


def test_a_side_without_a_uuid_is_not_said_to_be_another_card(build: Build) -> None:
    a = build("a", device="gpu0", device_name="GPU A", uuid="GPU-1")
    b = build("b", device="gpu0", device_name="GPU A")
    for seed, run in enumerate((a, b)):
        three(run, "onnxrt", 8, 10, 3 * seed)
    text = " ".join(compared(a, b)[1].split())
    assert "measured on one card or on two of one kind, which is not known (GPU A: GPU-1 and unknown)" in text
    assert "on different cards" not in text
    out = io.StringIO()
    compare_folders(a.folder, b.folder, Console(quiet=True), write=writer("json", out))
    assert json.loads(out.getvalue())["cells"][0]["note"] == "perhaps different cards of one kind"


def test_cells_of_several_gpus_of_a_run_name_theirs_in_every_format(build: Build, tmp_path: Any) -> None:
    runs = []
    for name in "ab":
        first = build(name, device="gpu0", device_name="GPU A", uuid="GPU-0")
        three(first, "torch", 8, 10, 1)
        second = RunBuilder(first.folder, device="gpu1", device_name="GPU A", uuid="GPU-1", now_ns=first.now_ns)
        three(second, "torch", 8, 12 if name == "a" else 24, 2)
        runs.append(first)
    code, text = compared(*runs)
    table = [line.split() for line in text.splitlines() if line.startswith(("framework", "PyTorch"))]
    assert code == GOT_SLOWER and table[0][4] == "device" and [line[4] for line in table[1:]] == ["gpu0", "gpu1"]
    assert "most in PyTorch fp32 batch 8 host gpu1" in text
    formats = {}
    for name in ("markdown", "json", "customSmallerIsBetter"):
        out = io.StringIO()
        compare_folders(*(run.folder for run in runs), Console(quiet=True), write=writer(name, out))
        formats[name] = out.getvalue()
    assert "| io | device |" in formats["markdown"] and "| host | gpu1 |" in formats["markdown"]
    cells = json.loads(formats["json"])["cells"]
    assert [(cell["a_device"], cell["b_device"]) for cell in cells] == [("gpu0", "gpu0"), ("gpu1", "gpu1")]
    assert [cell["name"].split()[-1] for cell in cells] == ["gpu0", "gpu1"]
    series = json.loads(formats["customSmallerIsBetter"])
    assert [one["name"].split()[-1] for one in series] == ["gpu0", "gpu1"]
    compare_folders(*(run.folder for run in runs), Console(quiet=True), out=tmp_path)
    with (tmp_path / "compare.csv").open() as file:
        assert [row["b_device"] for row in csv.DictReader(file)] == ["gpu0", "gpu1"]


def test_another_gpu_of_the_kind_is_no_difference_and_what_differs_is_named(build: Build) -> None:
    """Runs of two hosts: the number of the GPU says where it sat."""
    a, b = build("a", device="gpu1", device_name="GPU A"), build("b", device="gpu0", device_name="GPU A")
    three(a, "tensorrt", 8, 10, 1)
    three(b, "torch", 8, 20, 2)
    code, text = cells_compared("framework=tensorrt", "framework=torch", a, b)
    assert (code, verdicts_of(text)) == (GOT_SLOWER, ["SLOWER"])
    three(b, "tf", 8, 20, 3, io="device", tuning="stock")
    three(b, "tf", 16, 20, 4, io="device", tuning="stock")
    with pytest.raises(UserError) as caught:
        cells_compared("framework=tensorrt", "framework=tf,batch=8", a, b)
    assert "the nearest two in io (host against device), tuning (tuned against stock)" in str(caught.value)
    # where a side has several, they are told apart
    three(RunBuilder(b.folder, device="gpu1", device_name="GPU A", now_ns=b.now_ns), "torch", 8, 5, 5)
    code, text = cells_compared("framework=tensorrt", "framework=torch", a, b)
    assert (code, verdicts_of(text)) == (0, ["FASTER"]), "gpu1 with gpu1"
    cpu = build("c")
    three(cpu, "torch", 8, 20, 6)
    with pytest.raises(UserError, match=r"the nearest two in device \(gpu1 against cpu\)$"):
        cells_compared("framework=tensorrt", "framework=torch", a, cpu)


def test_one_worker_a_side_gives_no_verdict_and_no_alarm(build: Build) -> None:
    a, b = build("a"), build("b")
    a.cell("onnxrt", 8, durations_ns=noisy(10, 1))
    b.cell("onnxrt", 8, durations_ns=noisy(20, 2))
    code, text = compared(a, b)
    assert code == 0 and "1 UNCLEAR" in text and "--replicates 3" in text


def test_earlier_runs_tell_how_far_workers_lie_apart(build: Build) -> None:
    a, b, earlier, other = build("a"), build("b"), build("earlier"), build("other", device_name="Another CPU")
    a.cell("onnxrt", 8, durations_ns=noisy(10, 1))
    b.cell("onnxrt", 8, durations_ns=noisy(12, 2))
    for run in (earlier, other):
        for size in (1, 8, 16):
            three(run, "onnxrt", size, 10, size)
    console = Console(width=200)
    assert compare_folders(a.folder, b.folder, console, earlier=[other.folder]) == 0
    with console.capture() as captured:
        assert compare_folders(a.folder, b.folder, console, earlier=[earlier.folder, other.folder]) == GOT_SLOWER
    assert "taken from other cells" in captured.get()
    found = floors_for(
        [{"variant": "onnxrt", "device_name": "Test CPU", "device": "cpu", "replicates": 3}], [earlier.folder]
    )
    assert found == {}, "nobody asks where both sides have several workers"


def test_marks_stand_in_the_terminal_in_markdown_and_in_csv(build: Build, tmp_path: Any) -> None:
    a, b = build("a"), build("b")
    three(a, "onnxrt", 8, 10, 1, 4000)
    three(b, "onnxrt", 8, 10, 2, 4000, stop_reason="unsteady", load_average_end=9.0)
    console = Console(width=200)
    with console.capture() as captured:
        compare_folders(a.folder, b.folder, console, out=tmp_path / "out")
    text = captured.get()
    (row,) = [line for line in text.splitlines() if "fp32" in line]
    assert row.split()[-2:] == ["SAME", "dl"]
    assert "d  the window drifted" in text and "l  something else wanted the CPUs" in text
    markdown = (tmp_path / "out" / "compare.md").read_text()
    assert "SAME dl |" in markdown and "the window drifted" in markdown and "98% interval" in markdown
    (values,) = csv.DictReader((tmp_path / "out" / "compare.csv").open())
    assert values["marks"] == "load unsteady" and values["verdict"] == "SAME" and float(values["confidence"]) == 0.98
    assert (values["a_workers"], values["b_samples"]) == ("3", "12000")
