"""GPU facts through the real binding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fake_nvml.build import build, library_path, uuid

ROOT = Path(__file__).parents[3]


def _inventory(library: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "common.sidecar.inventory"],
        cwd=ROOT,
        env={**os.environ, **library_path(library), **environment},
        capture_output=True,
        text=True,
    )


def _facts(library: Path, **environment: str) -> list[dict[str, Any]]:
    answer = _inventory(library, **environment)
    assert answer.returncode == 0, answer.stderr
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found


def test_all_facts(nvml_library: Path) -> None:
    own = os.getpid()
    (gpu,) = _facts(nvml_library, FAKE_NVML_PROCESSES=f"{own}:python3:1048576,4000000:trainer:7")
    assert gpu == {
        "index": 0, "uuid": uuid(0), "name": "Stand-in GPU", "driver": "580.00.01", "cuda": "13.0",
        "compute_capability": "9.0", "memory_bytes": 80 * 2**30, "memory_used_bytes": 10 * 2**30,
        "power_limit_mw": 700000, "power_limit_default_mw": 700000, "power_limit_enforced_mw": 650000,
        "ecc": True, "persistence": True, "mig_mode": False,
        "pcie_generation": 4, "pcie_generation_max": 5, "pcie_width": 8, "pcie_width_max": 16,
        "sm_clock_default_mhz": 1755, "memory_clock_default_mhz": 2619,
        "sm_clock_max_mhz": 1980, "memory_clock_max_mhz": 2619,
        "processes": [
            {"pid": own, "name": "python3", "memory_bytes": 1048576},
            {"pid": 4000000, "name": "trainer", "memory_bytes": 7},
        ],
        "pci_bus_id": "00000000:01:00.0", "cpu_affinity": list(range(8)),
        "missing": {},
    }  # fmt: skip


def test_each_failing_probe_is_none_with_its_reason(nvml_library: Path) -> None:
    (gpu,) = _facts(
        nvml_library, FAKE_NVML_UNSUPPORTED="nvmlDeviceGetEccMode,nvmlDeviceGetMigMode",
        FAKE_NVML_FORBIDDEN="nvmlDeviceGetEnforcedPowerLimit",
    )  # fmt: skip
    assert gpu["ecc"] is None and gpu["mig_mode"] is None and gpu["power_limit_enforced_mw"] is None
    assert gpu["missing"] == {
        "ecc": "Not Supported", "mig_mode": "Not Supported", "power_limit_enforced_mw": "Insufficient Permissions"
    }  # fmt: skip
    assert gpu["power_limit_mw"] == 700000


def test_symbols_that_an_old_driver_lacks(tmp_path: Path) -> None:
    """Running processes raise NVMLLibraryMismatchError there, which is no NVMLError."""
    library = build(
        tmp_path,
        without=("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlSystemGetCudaDriverVersion_v2",
                 "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetDefaultApplicationsClock"),
    )  # fmt: skip
    (gpu,) = _facts(library)
    assert gpu["processes"] is None and list(gpu["missing"]) == ["processes"]
    assert (gpu["cuda"], gpu["memory_used_bytes"], gpu["sm_clock_default_mhz"]) == ("13.0", 11 * 2**30, 1755)


def test_mig_mode_and_several_gpus(nvml_library: Path) -> None:
    gpus = _facts(nvml_library, FAKE_NVML_GPUS="2", FAKE_NVML_MIG="1")
    assert [(gpu["index"], gpu["uuid"], gpu["mig_mode"]) for gpu in gpus] == [(0, uuid(0), True), (1, uuid(1), True)]


def test_a_lost_gpu_does_not_hide_the_others(nvml_library: Path, tmp_path: Path) -> None:
    control = tmp_path / "control"
    control.write_text("lost 0\n")
    lost, other = _facts(nvml_library, FAKE_NVML_GPUS="2", FAKE_NVML_CONTROL=str(control))
    assert lost["uuid"] is None and lost["missing"]["uuid"] == "GPU is lost"
    assert other["uuid"] == uuid(1) and other["missing"] == {}


def test_no_library(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    answer = _inventory(tmp_path / "libnvidia-ml.so.1")
    assert answer.returncode == 3
    assert answer.stderr == "no GPU facts: no NVIDIA driver library (libnvidia-ml.so.1) on this machine\n"


def test_driver_not_loaded(nvml_library: Path) -> None:
    answer = _inventory(nvml_library, FAKE_NVML_INIT_ERROR="9")
    assert (answer.returncode, answer.stderr) == (3, "no GPU facts: the NVIDIA driver is not loaded\n")
