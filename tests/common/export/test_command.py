"""The exporter's command line, as far as it needs no framework."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.export import __main__ as exporter

ROOT = Path(__file__).resolve().parents[3]


def export(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "common.export", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_unknown_model_names_what_exists_and_the_nearest(tmp_path: Path) -> None:
    done = export("--model", "MobileNetV3X", "--out", str(tmp_path / "models"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown model 'MobileNetV3X'; there is MobileNetV3L, ")
    assert "Did you mean MobileNetV3" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "models").exists()


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = export("--model", "MobileNetV3L", "--out", str(tmp_path / "file" / "models"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write models to ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("--model", "MobileNetV3L", "--onnx", "x.onnx", "--out", "x")])
def test_neither_or_both_sources(arguments: tuple[str, ...]) -> None:
    done = export(*arguments)
    assert done.returncode == 2
    assert "error: " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            MemoryError(),
            2,
            "error: too little memory for this export (MemoryError:); free some, or export on a larger machine\n",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            2,
            "error: too little memory for this export (",
        ),
        (RuntimeError("a fault of ours"), 1, "Traceback "),
    ],
)
def test_too_little_memory_is_one_line_and_a_fault_of_ours_is_not(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: Exception,
    code: int,
    words: str,
) -> None:
    def fails(*_: object) -> str:
        raise error

    monkeypatch.setattr(exporter, "_export", fails)
    monkeypatch.setattr(exporter, "claim_stdout", lambda: sys.stdout)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert exporter.main(["--model", "MobileNetV3L", "--out", str(tmp_path)]) == code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    printed = capsys.readouterr().err
    assert printed.startswith(words)
    assert code == 1 or printed.count("\n") == 1
