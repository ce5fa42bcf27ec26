from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis.comparisons.runs import GOT_SLOWER, compare_cells, compare_folders
from common.errors import UserError

MS = 10**6


def noisy(ms: float, seed: int, count: int = 400) -> list[int]:
    return [int(x) for x in np.random.default_rng(seed).normal(ms, 0.02 * ms, count) * MS]


def compared(a: Any, b: Any) -> tuple[int, str]:
    console = Console(width=200)
    with console.capture() as captured:
        code = compare_folders(a.folder, b.folder, console)
    return code, captured.get()


def test_slower_cells_make_the_exit_code_3(build: Any) -> None:
    a, b = build("a"), build("b")
    for i, (variant, before, after) in enumerate((("onnxrt", 10, 11), ("torch", 20, 15), ("tf", 30, 30))):
        a.cell(variant, 8, durations_ns=noisy(before, 10 + i))
        b.cell(variant, 8, durations_ns=noisy(after, 20 + i))
    code, text = compared(a, b)
    assert code == GOT_SLOWER == 3
    verdicts = {line.split()[0]: line.split()[-1] for line in text.splitlines() if "fp32" in line}
    assert verdicts == {"ONNX": "SLOWER", "PyTorch": "FASTER", "TensorFlow": "SAME"}
    assert "1 FASTER, 1 SLOWER, 1 SAME" in text
    assert "Holm" in text
    code, _ = compared(b, a)
    assert code == GOT_SLOWER, "torch was faster in b"


def test_equal_runs_are_no_alarm(build: Any) -> None:
    a, b = build("a"), build("b")
    a.cell("onnxrt", 8, durations_ns=noisy(10, 1))
    b.cell("onnxrt", 8, durations_ns=noisy(10, 2, count=700))
    b.cell("torch", 8, durations_ns=noisy(10, 3))
    code, text = compared(a, b)
    assert code == 0
    assert "1 cell is only in B" in text


def test_a_cell_that_no_longer_runs(build: Any) -> None:
    a, b = build("a"), build("b")
    for variant in ("onnxrt", "torch"):
        a.cell(variant, 8, durations_ns=noisy(10, 1))
    b.cell("onnxrt", 8, durations_ns=noisy(10, 2))
    b.cell("torch", 8, status="oom", message="no room")
    code, text = compared(a, b)
    assert code == GOT_SLOWER
    assert "ok in A, oom in B: no room" in text


def test_runs_that_cannot_be_compared(build: Any) -> None:
    a, b = build("a"), build("b")
    a.cell("onnxrt", 8, durations_ns=noisy(10, 1))
    b.cell("onnxrt", 16, durations_ns=noisy(10, 1))
    with pytest.raises(UserError, match="a and b have no cell in common"):
        compared(a, b)
    with pytest.raises(UserError, match="with itself"):
        compared(a, a)


def test_few_samples_are_unclear(build: Any) -> None:
    a, b = build("a"), build("b")
    a.cell("onnxrt", 8, durations_ns=[10 * MS] * 5)
    b.cell("onnxrt", 8, durations_ns=[20 * MS] * 5)
    code, text = compared(a, b)
    assert code == 0
    assert "1 UNCLEAR" in text
    assert "n too small for a median" in text


def test_gpus_side_by_side(build: Any) -> None:
    a, b = build("a", device="gpu0", device_name="GPU A"), build("b", device="gpu1", device_name="GPU B")
    a.cell("onnxrt", 8, durations_ns=noisy(10, 1))
    b.cell("onnxrt", 8, durations_ns=noisy(5, 2))
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
    return [line.split()[-1] for line in text.splitlines() if " fp32 batch " in line]


def test_any_two_cells_of_one_run(build: Any) -> None:
    run = build()
    for seed, (variant, size, ms) in enumerate(
        (("onnxrt", 8, 10), ("torch", 8, 11), ("onnxrt", 16, 30), ("torch", 16, 15))
    ):
        run.cell(variant, size, durations_ns=noisy(ms, 40 + seed))
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


def test_cells_of_two_runs(build: Any) -> None:
    a, b = build("a"), build("b")
    a.cell("onnxrt", 8, durations_ns=noisy(10, 1))
    a.cell("torch", 8, durations_ns=noisy(10, 2))
    b.cell("torch", 8, durations_ns=noisy(12, 3))
    b.cell("torch", 16, durations_ns=noisy(12, 4))
    code, text = cells_compared("framework=onnxrt", "framework=torch", a, b)
    assert (code, verdicts_of(text)) == (GOT_SLOWER, ["SLOWER"])
    assert "1 more cell has none to be held against" in text


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
def test_cells_that_cannot_be_compared(build: Any, a: str, b: str, words: str) -> None:
    run = build()
    run.cell("onnxrt", 8, durations_ns=noisy(10, 1))
    run.cell("torch", 8, durations_ns=noisy(10, 2))
    run.cell("torch", 16, io="device", durations_ns=noisy(10, 3))
    run.cell("tf", 8, status="oom", message="no room")
    with pytest.raises(UserError) as caught:
        cells_compared(a, b, run)
    assert words in str(caught.value)
