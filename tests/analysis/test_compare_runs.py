from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis.compare_runs import GOT_SLOWER, compare_folders
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
