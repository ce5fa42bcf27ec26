"""The doctor's measurements through the real binding, in a process whose driver library is the stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fake_nvml import build

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if build.compiler() is None:
        pytest.skip("no C compiler for the NVML stand-in")
    return build.build(tmp_path_factory.mktemp("nvml"))


def _ask(library: Path, expression: str, **environment: str) -> Any:
    """The value of an expression of `doctor` (the module), `nvml` and `gpu` (a handle), through JSON."""
    program = (
        "import json, common.host.doctor.nvml as doctor; from common.sidecar.nvml import open_nvml\n"
        f"nvml = open_nvml(); gpu = nvml.nvmlDeviceGetHandleByIndex(0); print(json.dumps({expression}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, **build.library_path(library), **environment},
    )  # fmt: skip
    return json.loads(answer.stdout)


def test_the_dear_call_is_found(library: Path) -> None:
    costs = _ask(library, "doctor.call_costs(nvml, gpu, 20)", FAKE_NVML_ENERGY_COST_US="2800",
                 FAKE_NVML_UNSUPPORTED="nvmlDeviceGetUtilizationRates,field185")  # fmt: skip
    assert costs["energy_counter"]["median_us"] >= 2800
    assert costs["energy_counter"]["worst_us"] >= costs["energy_counter"]["median_us"]
    assert max(costs, key=lambda name: costs[name]["median_us"] or 0) == "energy_counter"
    for name in ("utilization", "power_average"):
        assert costs[name] == {"median_us": None, "worst_us": None, "unavailable": "Not Supported"}


@pytest.mark.parametrize("step_ms", [50, 100])
def test_the_period_of_the_counter(library: Path, step_ms: int) -> None:
    period = _ask(library, "doctor.update_period(nvml, gpu, 'energy_counter', 1.2)", FAKE_NVML_STEP_MS=str(step_ms))
    assert period["period_ms"] == pytest.approx(step_ms, rel=0.2)
    assert period["p10_ms"] <= period["period_ms"] <= period["p90_ms"]


def test_the_period_of_power_that_moves_and_of_power_that_does_not(library: Path) -> None:
    call = "doctor.update_period(nvml, gpu, 'power_instant', 1.2)"
    moving = _ask(library, call, FAKE_NVML_POWER="sine:300,100,1.7")
    assert moving["period_ms"] == pytest.approx(100, rel=0.2)
    still = _ask(library, call)
    assert (still["period_ms"], still["changes"], still["unavailable"]) == (None, 0, None)
    refused = _ask(library, call, FAKE_NVML_UNSUPPORTED="field186")
    assert (refused["period_ms"], refused["unavailable"]) == (None, "Not Supported")


def test_idle_power_and_its_source(library: Path) -> None:
    call = "doctor.idle_power(nvml, gpu, 0.1)"
    idle = _ask(library, call, FAKE_NVML_POWER="constant:71.5", FAKE_NVML_PROCESSES="12:trainer:5")
    assert idle == {
        "median_mw": 71500, "min_mw": 71500, "max_mw": 71500, "source": "power_instant", "processes": 1,
        "unavailable": None,
    }  # fmt: skip
    older = _ask(library, call, FAKE_NVML_UNSUPPORTED="nvmlDeviceGetFieldValues")
    assert (older["source"], older["median_mw"], older["processes"]) == ("power_usage", 100000, 0)
    unknown = _ask(library, call, FAKE_NVML_POWER="constant:0")
    assert (unknown["median_mw"], unknown["unavailable"]) == (None, "reads 0")


def test_clock_stability(library: Path) -> None:
    call = "doctor.clock_stability(nvml, gpu, 0.1)"
    clocks = _ask(library, call, FAKE_NVML_REASONS="0x44")
    assert clocks == {
        "median_mhz": 1980, "min_mhz": 1980, "max_mhz": 1980, "spread": 0, "event_reasons": 0x44, "unavailable": None
    }  # fmt: skip
    silent = _ask(library, call, FAKE_NVML_FORBIDDEN="nvmlDeviceGetCurrentClocksEventReasons")
    assert silent["event_reasons"] is None and silent["median_mhz"] == 1980
    none = _ask(library, call, FAKE_NVML_UNSUPPORTED="nvmlDeviceGetClockInfo")
    assert none["median_mhz"] is None and none["unavailable"] == "Not Supported"
