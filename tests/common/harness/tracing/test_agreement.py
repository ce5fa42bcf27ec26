"""CUPTI against the frameworks' own profilers: what can be told of the command without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from common.harness.tracing import agreement

ROOT = Path(__file__).resolve().parents[4]


def given(**more: Any) -> Namespace:
    return Namespace(
        **{"variant": "torch", "precision": "fp16", "tuning": "tuned", "batch_size": 32, "io": "host", **more}
    )


def side(us: float, pieces: float) -> dict[str, Any]:
    return {"us": us, "pieces": pieces, "what": "made up"}


@pytest.mark.parametrize(("us", "code"), [(102.9, 0), (97.2, 0), (103.1, 1), (96.0, 1)])
def test_three_per_cent(us: float, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert agreement._compare(given(), side(us, 166), side(100.0, 166)) == code
    assert f"= {us / 100:.4f}" in capsys.readouterr().out


def test_other_kernels_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert agreement._compare(given(), side(106.0, 166), side(100.0, 171)) == 1
    assert "ran other kernels" in capsys.readouterr().out
    agreement._compare(given(tuning="stock"), side(106.0, 166), side(100.0, 171))
    assert "--tuning stock" not in capsys.readouterr().out
    # TensorRT tells layers, CUPTI kernels: their numbers differ always
    agreement._compare(given(variant="tensorrt"), side(100.0, 119), side(100.0, 90))
    assert "other kernels" not in capsys.readouterr().out


def test_a_side_that_saw_nothing_is_no_agreement(capsys: pytest.CaptureFixture[str]) -> None:
    assert agreement._compare(given(), side(0.0, 0), side(100.0, 166)) == 2
    assert "saw nothing" in capsys.readouterr().err


def test_engines_of_sweeps_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FRAMEWATT_DATA", str(tmp_path))
    assert agreement.cache_of(given(variant="tensorrt", cache=None)) == tmp_path / "framework-cache/processes/tensorrt"
    assert agreement.cache_of(given(cache=str(tmp_path / "mine"))) == tmp_path / "mine"


def test_no_framework_and_no_model_are_lines(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "common.harness.tracing.agreement",
        str(tmp_path / "nowhere"),
        "--variant",
        "torch",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "FRAMEWATT_DATA": str(tmp_path)},
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: the side 'cupti' ended with exit code 2; what it printed")


def test_figures_of_a_side_are_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said = f"a library prints\n{json.dumps(side(5.0, 2))}\n"
    monkeypatch.setattr(
        agreement.subprocess, "run", lambda *arguments, **more: subprocess.CompletedProcess(arguments, 0, said)
    )
    assert agreement._measured("own", []) == side(5.0, 2)
