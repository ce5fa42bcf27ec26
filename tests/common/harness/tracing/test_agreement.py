"""CUPTI against the frameworks' own profilers: what can be told of the command without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from common.harness import tracing
from common.harness.adapter import DeviceOutOfMemory, Unsupported
from common.harness.tracing import CannotTrace, Record, agreement, cupti_activity

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


def test_the_pauses_that_iprofiler_counts_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    cupti = {**side(90.0, 90), "span_us": 101.0}
    assert agreement._compare(given(variant="tensorrt"), cupti, side(100.0, 80)) == 1
    assert "first kernel to the last CUPTI tells 101.0 us" in capsys.readouterr().out
    agreement._compare(given(), cupti, side(100.0, 80))
    assert "101.0" not in capsys.readouterr().out


def test_a_span_is_of_one_inference() -> None:
    walls = [(0, 10_000), (20_000, 30_000)]
    times = [(1_000, 2_000), (1_500, 5_000), (4_000, 4_500), (21_000, 27_000), (15_000, 16_000)]
    records = [Record("kernel", "k", start, end) for start, end in times]
    assert agreement._span_us(records, walls, 0) == (4.0 + 6.0) / 2
    assert agreement._span_us([], walls, 0) == 0.0


class OfTheDriver(Exception):
    """As PyCUDA's: no RuntimeError."""


class Context:
    """Of TensorRT, as far as a profiler goes: each execution reports three layers."""

    profiler: Any = SimpleNamespace(report_layer_time=lambda _name, _ms: None)
    executed = 0

    def execute_async_v3(self, _stream: int) -> bool:
        self.executed += 1
        # the first one is of a cold GPU
        for name, ms in (("conv", 0.5), ("pool", 0.25), ("reformat", 0.125)):
            self.profiler.report_layer_time(name, ms if self.executed > 1 else 100.0)
        return True


def test_iprofiler_is_asked_without_a_graph_and_of_the_adapters_own_library(monkeypatch: pytest.MonkeyPatch) -> None:
    context = Context()

    def replay() -> None:
        raise AssertionError("TensorRT reports no layers of a graph")

    slot = SimpleNamespace(
        _context=context,
        _execute=lambda stream: context.execute_async_v3(stream.handle),
        enqueue=replay,
        stream=SimpleNamespace(handle=7, synchronize=lambda: None),
    )
    adapter = SimpleNamespace(_slots=[slot], _trt=SimpleNamespace(IProfiler=object))
    monkeypatch.setattr(agreement, "_adapter", lambda _given: nullcontext(adapter))
    monkeypatch.setitem(
        sys.modules, "tensorrt", None
    )  # importing it fails, as TensorRT 8.6 does without the adapter's flags
    found = agreement._by_tensorrt(given(variant="tensorrt"))
    assert (found["us"], found["pieces"]) == (875.0, 3)
    assert context.executed == agreement.RUNS + 1


def test_batch_sizes_name_the_engine_of_a_sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FRAMEWATT_BATCH_SIZES", "8")
    seen: list[str] = []

    def side(_given: object) -> dict[str, Any]:
        seen.append(os.environ["FRAMEWATT_BATCH_SIZES"])
        return {}

    monkeypatch.setattr(agreement, "_side", side)
    assert agreement.main(["model", "--side", "own", "--batch-sizes", "1,32"]) == 0
    assert seen == ["1,32"]


def test_a_side_that_saw_nothing_is_no_agreement(capsys: pytest.CaptureFixture[str]) -> None:
    assert agreement._compare(given(), side(0.0, 0), side(100.0, 166)) == 2
    assert "saw nothing" in capsys.readouterr().err


def test_engines_of_sweeps_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FRAMEWATT_DATA", str(tmp_path))
    assert agreement.cache_of(given(variant="tensorrt", cache=None)) == tmp_path / "framework-cache/processes/tensorrt"
    assert agreement.cache_of(given(cache=str(tmp_path / "mine"))) == tmp_path / "mine"


#: of torch, as much as a side needs before it reads its model
TORCH = """
class cuda:
    is_available = staticmethod(lambda: True)
    init = staticmethod(lambda: None)
"""
PROFILER = """
from contextlib import nullcontext
from types import SimpleNamespace
ProfilerActivity = SimpleNamespace(CPU=0, CUDA=1)
profile = lambda activities: nullcontext()
"""


def command(tmp_path: Path, *more: str, torch: str) -> subprocess.CompletedProcess[str]:
    """torch: of the stand-in's source."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(torch)
    (tmp_path / "torch/profiler.py").write_text(PROFILER)
    return subprocess.run(
        [sys.executable, "-m", "common.harness.tracing.agreement", str(tmp_path / "nowhere"), "--variant", "torch", *more],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "FRAMEWATT_DATA": str(tmp_path), "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip


def test_no_framework_is_a_line_of_the_side_and_one_of_the_command(tmp_path: Path) -> None:
    done = command(tmp_path, torch="raise ImportError('libcudart.so is not there')")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: libcudart.so is not there",
        "error: the side 'cupti' ended with exit code 2; what it printed stands above",
    ]


def test_no_model_is_a_line_of_the_side(tmp_path: Path) -> None:
    done = command(tmp_path, "--side", "own", torch=TORCH)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and str(tmp_path / "nowhere" / "model.json") in line


def test_an_adapter_of_no_model_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FRAMEWATT_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    nowhere = given(model_dir=str(tmp_path / "nowhere"), cache=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nowhere"), agreement._adapter(nowhere):
        raise AssertionError("there was no model to prepare")


class Closed:
    """An adapter, with all that a side asks of one; `fails` is the call that raises."""

    def __init__(self, fails: str = "", closing_fails: bool = False) -> None:
        self.calls: list[str] = []
        self._fails, self._closing_fails = fails, closing_fails
        context = Context()
        self._trt = SimpleNamespace(IProfiler=object)
        self._slots = [
            SimpleNamespace(
                _context=context,
                _execute=lambda stream: self._note("execute") or context.execute_async_v3(stream.handle),
                stream=SimpleNamespace(handle=7, synchronize=lambda: None),
            )
        ]

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call == self._fails:
            raise OfTheDriver(f"{call} failed")

    def supports(self, _cell: object) -> None:
        self._note("supports")

    def load(self, *_given: object) -> None:
        self._note("load")

    def prepare(self, *_given: object) -> None:
        self._note("prepare")

    def run(self) -> None:
        self._note("run")

    def synchronize(self) -> None:
        self._note("synchronize")

    def close(self) -> None:
        self.calls.append("close")
        if self._closing_fails:
            raise RuntimeError("the context is destroyed")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Closed]:
    """Has each side make this adapter, of a model that needs no files, with a recorder that sees nothing."""

    def make(fails: str = "", closing_fails: bool = False) -> Closed:
        adapter = Closed(fails, closing_fails)
        monkeypatch.setattr(agreement, "import_adapter", lambda _path: lambda _variant: adapter)
        monkeypatch.setattr(agreement, "tune", lambda *_given: None)
        monkeypatch.setattr(agreement, "expect", lambda *_given: None)
        monkeypatch.setattr(agreement, "ModelFiles", SimpleNamespace(read=lambda _path: SimpleNamespace(name="m")))
        reference = SimpleNamespace(batches=lambda _size: [{}])
        monkeypatch.setattr(agreement, "Reference", SimpleNamespace(read=lambda _model: reference))
        monkeypatch.setattr(cupti_activity, "attach", SimpleNamespace)
        monkeypatch.setattr(tracing, "trace", lambda run, recorder, *_given: _traced(recorder))
        monkeypatch.setenv("FRAMEWATT_CACHE_DIR", str(tmp_path))
        return adapter

    return make


def _traced(recorder: Any) -> Any:
    recorder.run()
    recording = SimpleNamespace(records=[Record("kernel", "k", 1_000, 2_000)], dropped=0, message="", clock_error_ns=0)
    return SimpleNamespace(recording=recording, walls=[(0, 10_000)])


SIDES = [("tensorrt", "cupti"), ("tensorrt", "own")]


@pytest.mark.parametrize(("variant", "name"), SIDES)
def test_a_side_closes_its_adapter_before_it_ends(
    made: Callable[..., Closed], capsys: pytest.CaptureFixture[str], variant: str, name: str
) -> None:
    adapter = made()
    assert agreement.main(["model", "--variant", variant, "--side", name]) == 0
    assert json.loads(capsys.readouterr().out)["pieces"]
    assert "execute" in adapter.calls, "it was measured"
    assert adapter.calls[-1] == "close" and adapter.calls.count("close") == 1


@pytest.mark.parametrize(("variant", "name"), SIDES)
@pytest.mark.parametrize("fails", ["supports", "load", "prepare", "run", "execute"])
@pytest.mark.parametrize("closing_fails", [False, True])
def test_a_side_that_fails_closes_it_too_and_says_why_it_failed(
    made: Callable[..., Closed],
    capsys: pytest.CaptureFixture[str],
    variant: str,
    name: str,
    fails: str,
    closing_fails: bool,
) -> None:
    adapter = made(fails, closing_fails)
    assert agreement.main(["model", "--variant", variant, "--side", name]) == 2
    assert capsys.readouterr().err == f"error: OfTheDriver: {fails} failed\n"
    assert adapter.calls[-2:] == [fails, "close"]


def test_a_side_of_torch_closes_it(made: Callable[..., Closed], monkeypatch: pytest.MonkeyPatch) -> None:
    profiled = SimpleNamespace(profiler=SimpleNamespace(kineto_results=SimpleNamespace(events=list)))
    profiler = ModuleType("torch.profiler")
    profiler.ProfilerActivity = SimpleNamespace(CPU=0, CUDA=1)  # type: ignore[attr-defined]
    profiler.profile = lambda activities: nullcontext(profiled)  # type: ignore[attr-defined]
    torch = SimpleNamespace(cuda=SimpleNamespace(init=lambda: None, is_available=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch.profiler", profiler)
    for name in ("cupti", "own"):
        adapter = made()
        assert agreement.main(["model", "--variant", "torch", "--side", name]) == 0
        assert adapter.calls[-1] == "close" and adapter.calls.count("close") == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Unsupported("no bf16 here"), "error: no bf16 here"),
        (DeviceOutOfMemory("2 GiB asked"), "error: DeviceOutOfMemory: 2 GiB asked"),
        (DeviceOutOfMemory(), "error: DeviceOutOfMemory"),
        (MemoryError(), "error: MemoryError"),
        (RuntimeError("CUDA error: no kernel image\nCompile with ..."),
         "error: RuntimeError: CUDA error: no kernel image Compile with ..."),
        (OfTheDriver("cuMemAlloc failed"), "error: OfTheDriver: cuMemAlloc failed"),
    ],
)  # fmt: skip
def test_a_side_that_cannot_run_says_why_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    def side(_given: object) -> None:
        raise error

    monkeypatch.setattr(agreement, "_side", side)
    assert agreement.main(["model", "--side", "own"]) == 2
    assert capsys.readouterr().err == f"{line}\n"


def test_a_mistake_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def side(_given: object) -> None:
        raise TypeError("run() takes 1 argument")

    monkeypatch.setattr(agreement, "_side", side)
    with pytest.raises(TypeError, match="takes 1"):
        agreement.main(["model", "--side", "own"])


@pytest.mark.parametrize("message", ["", "no JSON\n", "[1]\n"])
def test_a_side_without_figures_is_reported(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    monkeypatch.setattr(
        agreement.subprocess, "run", lambda *arguments, **more: subprocess.CompletedProcess(arguments, 0, message)
    )
    with pytest.raises(CannotTrace, match="'own' ended without figures"):
        agreement._measured("own", [])


def test_figures_of_a_side_are_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    message = f"a library prints\n{json.dumps(side(5.0, 2))}\n"
    monkeypatch.setattr(
        agreement.subprocess, "run", lambda *arguments, **more: subprocess.CompletedProcess(arguments, 0, message)
    )
    assert agreement._measured("own", []) == side(5.0, 2)
