"""Script and notebook take turns: what `invoke selfbench --notebook` measures and refuses."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import UserError
from common.host.selfbench import frontends
from common.host.selfbench.frontends import Cost, both_front_ends, cost_of
from common.host.verify.command import Case, SideEnded
from common.stats.comparison import Verdict
from common.stats.intervals import Interval

Make = Callable[..., Case]


@pytest.fixture(autouse=True)
def as_outside_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that sees this variable does not capture its output as it does elsewhere."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)


def test_both_run_the_same_and_answer_alternately(make_case: Make, tmp_path: Path) -> None:
    folder = tmp_path / "round"
    folder.mkdir()
    with both_front_ends(make_case(), folder) as (script, notebook):
        blocks = [side.block(0.01) for side in (script, notebook, notebook, script)]
    assert all(len(block) >= 1 and min(block) > 0 for block in blocks)
    # What the library prints is in the logs of both, and disturbs neither conversation.
    for name in ("script", "notebook"):
        assert "what a library prints does not disturb" in (folder / f"{name}.log").read_text()


def test_a_row_has_a_ratio_over_rounds(make_case: Make) -> None:
    row = cost_of(make_case(), rounds=2, pairs=11, block_s=0.005)
    assert (row.variant, row.batch_size, row.ratio.replicates, row.ratio.samples) == ("product", 2, 2, 22)
    assert row.ratio.low <= row.ratio.estimate <= row.ratio.high
    assert min(row.script_ns, row.notebook_ns) > 0
    assert (row.cpu_ratio.replicates, row.cpu_ratio.samples) == (2, 22)
    assert row.cpu_ratio.estimate > 0
    assert 0 <= row.p_value <= 1


def test_what_the_adapter_refuses_is_said(make_case: Make, tmp_path: Path) -> None:
    with (
        pytest.raises(SideEnded, match="the script: batch 3 is not to its taste"),
        both_front_ends(make_case(3), tmp_path),
    ):
        pass


def test_a_kernel_that_dies_is_said_with_its_last_words(make_case: Make, tmp_path: Path) -> None:
    case = make_case()
    adapter = case.image.adapter
    text = adapter.read_text().replace(
        "    def run(self):\n",
        "    def run(self):\n        import os, sys\n        if 'ipykernel' in sys.modules:\n"
        "            os.write(2, b'no device left\\n')\n            os.abort()\n",
    )
    adapter.write_text(text)
    with pytest.raises(SideEnded) as caught, both_front_ends(case, tmp_path):
        pass
    assert str(caught.value).startswith("the notebook was ended by SIGABRT: ")
    assert "no device left" in (tmp_path / "notebook.log").read_text()


def test_outputs_that_differ_are_an_error(make_case: Make, tmp_path: Path) -> None:
    case = make_case()
    adapter = case.image.adapter
    text = adapter.read_text().replace(
        '        return {"output": self.result}\n',
        "        import sys\n        return {'output': self.result * (1.5 if 'ipykernel' in sys.modules else 1)}\n",
    )
    adapter.write_text(text)
    with (
        pytest.raises(UserError, match=r"outputs of script and notebook differ by 0\.5"),
        both_front_ends(case, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("low", "high", "p_value", "verdict"),
    [
        (0.995, 1.004, 0.4, Verdict.SAME),
        (1.03, 1.05, 1e-6, Verdict.SLOWER),
        (0.93, 0.96, 1e-6, Verdict.FASTER),
        (1.001, 1.05, 0.03, Verdict.UNCLEAR),
        (0.9, 1.2, 0.5, Verdict.UNCLEAR),
    ],
)
def test_verdicts_and_their_table(low: float, high: float, p_value: float, verdict: Verdict) -> None:
    cpu_ratio = Interval(1.0012, 0.9987, 1.0043, 0.95, 96, 6)
    row = Cost("onnxrt", 8, 2e6, 2.1e6, Interval((low + high) / 2, low, high, 0.95, 96, 6), cpu_ratio, p_value)
    assert row.verdict(1) is verdict
    # One in fifty of nine comparisons is not good enough for each of them.
    assert replace(row, p_value=0.01).verdict(9) in (Verdict.SAME, Verdict.UNCLEAR)
    output = io.StringIO()
    frontends._print(Console(file=output, width=120), [row], {"onnxrt": "ONNX Runtime"})
    assert f"[{low:.3f}, {high:.3f}]" in output.getvalue()
    assert "1.001 [0.999, 1.004]" in output.getvalue()
    assert verdict.value in output.getvalue()
