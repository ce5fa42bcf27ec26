"""The sidecar switched beside a worker: what `invoke selfbench --gpu` measures and refuses."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import UserError
from common.host.paths import DataFolder
from common.host.plan.options import Options
from common.host.selfbench import gpu as selfbench_gpu
from common.host.selfbench.gpu import sidecar_ratios
from common.host.verify.command import Case, SideEnded

Make = Callable[..., Case]


def test_a_pair_of_blocks_is_one_ratio_and_the_sidecar_did_record(make_case: Make, tmp_path: Path) -> None:
    ratios = sidecar_ratios(make_case(), tmp_path, pairs=4)
    assert len(ratios) == 4
    assert all(0 < ratio < 100 for ratio in ratios)
    assert len((tmp_path / "power.csv").read_text().splitlines()) > 4


def test_no_sidecar_is_left_running(make_case: Make, tmp_path: Path) -> None:
    sidecar_ratios(make_case(), tmp_path, pairs=1)
    written = (tmp_path / "power.csv").as_posix()
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.exists()]
    assert not any(written.encode() in words for words in running)


def test_what_the_adapter_refuses_is_said(make_case: Make, tmp_path: Path) -> None:
    with pytest.raises(SideEnded, match="batch 3 is not to its taste"):
        sidecar_ratios(make_case(3), tmp_path, pairs=1)


def test_one_device_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(selfbench_gpu, "choose_devices", lambda device, gpu: [object(), object()])
    with pytest.raises(UserError, match="one device at a time, not on 2"):
        selfbench_gpu.measure(Options(framework="torch", gpu="0,1"), Console(file=io.StringIO()), DataFolder(tmp_path))
