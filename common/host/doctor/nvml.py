"""What NVML does on this machine, measured: for `invoke doctor`.

Each function takes the initialised pynvml module and a device handle and returns a plain dict, figures as measured and
None where the GPU does not offer the reading. Times in ms or us as the names say.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from common.sidecar.nvml import describe, probe_errors

Read = Callable[[], Any]


def _field_power(nvml: Any, handle: Any, field: int) -> float:
    (value,) = nvml.nvmlDeviceGetFieldValues(handle, [(field, nvml.NVML_POWER_SCOPE_GPU)])
    if value.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(value.nvmlReturn)
    return float(value.value.uiVal)


def readings(nvml: Any, handle: Any) -> dict[str, Read]:
    """Name -> a call of each reading that the sidecar may use."""
    return {
        "power_instant": lambda: _field_power(nvml, handle, nvml.NVML_FI_DEV_POWER_INSTANT),
        "power_average": lambda: _field_power(nvml, handle, nvml.NVML_FI_DEV_POWER_AVERAGE),
        "power_usage": lambda: float(nvml.nvmlDeviceGetPowerUsage(handle)),
        "energy_counter": lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)),
        "sm_clock": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "memory_clock": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "temperature": lambda: nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU),
        "event_reasons": lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
        "utilization": lambda: nvml.nvmlDeviceGetUtilizationRates(handle),
        "memory": lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2),
    }


def call_costs(nvml: Any, handle: Any, repeats: int = 50) -> dict[str, dict[str, Any]]:
    """Wall time of each reading: {name: {median_us, worst_us, unavailable}}.

    The first call, which may set things up, is not timed. unavailable: the reason, then the times are None.
    """
    costs: dict[str, dict[str, Any]] = {}
    for name, read in readings(nvml, handle).items():
        took: list[int] = []
        try:
            read()
            for _ in range(repeats):
                begin = time.perf_counter_ns()
                read()
                took.append(time.perf_counter_ns() - begin)
        except probe_errors(nvml) as error:
            costs[name] = {"median_us": None, "worst_us": None, "unavailable": describe(error)}
        else:
            costs[name] = {"median_us": median(took) / 1e3, "worst_us": max(took) / 1e3, "unavailable": None}
    return costs


def update_period(nvml: Any, handle: Any, name: str, seconds: float = 2.0, poll_ms: float = 2.0) -> dict[str, Any]:
    """How often a reading changes: {period_ms, p10_ms, p90_ms, changes, unavailable}.

    name: one of readings(). Polls each poll_ms for `seconds`. The period is the median time between two changes, None
    with fewer than three changes: an idle GPU may show the same power for long, its energy counter hardly.
    """
    read = readings(nvml, handle)[name]
    unknown: dict[str, Any] = {"period_ms": None, "p10_ms": None, "p90_ms": None, "changes": 0, "unavailable": None}
    changed_at: list[int] = []
    try:
        last = read()
        deadline = time.monotonic_ns()
        end = deadline + round(seconds * 1e9)
        while deadline < end:
            deadline = max(deadline + round(poll_ms * 1e6), time.monotonic_ns())
            time.sleep(max(0, deadline - time.monotonic_ns()) / 1e9)
            value = read()
            if value != last:
                changed_at.append(time.monotonic_ns())
                last = value
    except probe_errors(nvml) as error:
        return {**unknown, "unavailable": describe(error)}
    gaps = sorted(later - before for before, later in itertools.pairwise(changed_at))
    if len(gaps) < 2:
        return {**unknown, "changes": len(changed_at)}
    return {
        "period_ms": median(gaps) / 1e6,
        "p10_ms": gaps[len(gaps) // 10] / 1e6,
        "p90_ms": gaps[len(gaps) * 9 // 10] / 1e6,
        "changes": len(changed_at),
        "unavailable": None,
    }


def idle_power(nvml: Any, handle: Any, seconds: float = 1.0, poll_ms: float = 20.0) -> dict[str, Any]:
    """Power while nobody works: {median_mw, min_mw, max_mw, source, processes, unavailable}.

    source: the first of power_instant, power_average, power_usage that answers. processes: compute processes on the
    GPU, None where NVML does not tell; with one of them this is not idle without a context.
    """
    calls = readings(nvml, handle)
    reason = None
    for source in ("power_instant", "power_average", "power_usage"):
        try:
            values = _poll(calls[source], seconds, poll_ms)
        except probe_errors(nvml) as error:
            reason = reason or describe(error)
            continue
        if min(values) > 0:  # boards without the sensor answer 0 with success
            figures = {"median_mw": median(values), "min_mw": min(values), "max_mw": max(values)}
            return {**figures, "source": source, "processes": _processes(nvml, handle), "unavailable": None}
        reason = reason or "reads 0"
    none = dict.fromkeys(("median_mw", "min_mw", "max_mw", "source"))
    return {**none, "processes": _processes(nvml, handle), "unavailable": reason}


def clock_stability(nvml: Any, handle: Any, seconds: float = 1.0, poll_ms: float = 20.0) -> dict[str, Any]:
    """The SM clock over some time: {median_mhz, min_mhz, max_mhz, spread, event_reasons, unavailable}.

    spread: (max - min) / median. event_reasons: all bits seen in that time, None where NVML does not tell. Run it under
    load to learn whether the clock holds; idle GPUs change it at will.
    """
    calls = readings(nvml, handle)
    seen: list[int] = []

    def read() -> float:
        try:
            seen.append(int(calls["event_reasons"]()))
        except probe_errors(nvml):
            pass
        return float(calls["sm_clock"]())

    try:
        clocks = _poll(read, seconds, poll_ms)
    except probe_errors(nvml) as error:
        none = dict.fromkeys(("median_mhz", "min_mhz", "max_mhz", "spread", "event_reasons"))
        return {**none, "unavailable": describe(error)}
    middle = median(clocks)
    bits = 0
    for reasons in seen:
        bits |= reasons
    return {
        "median_mhz": middle,
        "min_mhz": min(clocks),
        "max_mhz": max(clocks),
        "spread": (max(clocks) - min(clocks)) / middle if middle else None,
        "event_reasons": bits if seen else None,
        "unavailable": None,
    }


def _poll(read: Read, seconds: float, poll_ms: float) -> list[float]:
    """The reading each poll_ms for some time, at least twice."""
    values: list[float] = []
    end = time.monotonic_ns() + round(seconds * 1e9)
    while len(values) < 2 or time.monotonic_ns() < end:
        values.append(float(read()))
        time.sleep(poll_ms / 1e3)
    return values


def _processes(nvml: Any, handle: Any) -> int | None:
    try:
        return len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except probe_errors(nvml):
        return None
