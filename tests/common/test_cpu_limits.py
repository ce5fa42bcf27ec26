"""What a cpuset and a control group's quota leave of the machine, and the threads that follow from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common import cpu_limits
from common.host.paths import ROOT


def quota(tmp_path: Path, own: str, files: dict[str, str]) -> float | None:
    root = tmp_path / "cgroup"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "own").write_text(own)
    return cpu_limits.cpu_quota(root, tmp_path / "own")


V2, V1 = "0::/pod/box\n", "5:memory:/pod/box\n4:cpu,cpuacct:/pod/box\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2, {"pod/box/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"pod/box/cpu.max": "max 100000\n"}, None),
        (V2, {"pod/box/cpu.max": "max 100000", "pod/cpu.max": "50000 100000"}, 0.5),
        (V2, {"pod/box/cpu.max": "50000 100000", "pod/cpu.max": "400000 100000"}, 0.5),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2.0),
        (V2, {"cpu.max": "200000 100000"}, 2.0),  # the path is the host's, the mount is a container's
        (V2, {"unified/pod/box/cpu.max": "200000 100000"}, 2.0),
        (V2, {"pod/box/cpu.max": "rubbish"}, None),
        (V2, {"pod/box/cpu.max": ""}, None),
        (V2, {"pod/box/cpu.max": "0 0"}, None),
        (V1, {"cpu/pod/box/cpu.cfs_quota_us": "30000\n", "cpu/pod/box/cpu.cfs_period_us": "20000\n"}, 1.5),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "30000", "cpu,cpuacct/cpu.cfs_period_us": "10000"}, 3.0),
        (V1, {"cpu/pod/box/cpu.cfs_quota_us": "-1", "cpu/pod/box/cpu.cfs_period_us": "100000"}, None),
        (V1, {"cpu/pod/box/cpu.cfs_quota_us": "100000"}, None),
        ("4:cpuset:/pod\n", {"cpuset/pod/cpu.cfs_quota_us": "1", "cpuset/pod/cpu.cfs_period_us": "1"}, None),
        ("", {"cpu.max": "1 1"}, None),
    ],
)
def test_quotas_of_both_hierarchies(tmp_path: Path, own: str, files: dict[str, str], expected: float | None) -> None:
    assert quota(tmp_path, own, files) == expected


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert cpu_limits.cpu_quota(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(
    ("usable", "limit", "threads"),
    [(8, None, None), (3, None, 3), (8, 2.0, 2), (8, 1.5, 2), (8, 0.2, 1), (3, 6.0, 3), (2, 1.0, 1), (8, 8.0, None), (8, 16.0, None)],
)  # fmt: skip
def test_threads_follow_what_may_be_used(
    monkeypatch: pytest.MonkeyPatch, usable: int, limit: float | None, threads: int | None
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(cpu_limits, "usable_cpus", lambda: usable)
    monkeypatch.setattr(cpu_limits, "cpu_quota", lambda: limit)
    assert cpu_limits.default_threads() == threads


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU cannot be divided")
@pytest.mark.parametrize(("device", "given", "threads"), [("cpu", None, 1), ("cpu", 7, 7), ("cuda:0", None, None)])
def test_a_job_within_a_cpuset(tmp_path: Path, device: str, given: int | None, threads: int | None) -> None:
    job = {
        "run_dir": "r", "model_dir": "m", "adapter": "a", "image": "i", "device": device, "device_name": "", "device_uuid": "",
        "cache_dir": "c", "runner": "local", "cells": [], "settings": {}, "threads": given,
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    code = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from pathlib import Path; from common.job import Job; print(Job.read_here(Path(sys.argv[1])).threads)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "job.json")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(threads), done.stderr
