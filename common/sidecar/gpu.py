"""One GPU: which readings it offers, and one row of `power.csv` from them."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

from common.sidecar.counter import Unwrapper
from common.sidecar.nvml import describe, lost_codes, probe_errors
from common.sidecar.visible import visible

Log = Callable[[str], None]
Values = Dict[str, Any]
Read = Callable[[], Values]

#: NVML's energy counter has 64 bits of millijoules; firmware that keeps 32 wraps here
ENERGY_SPAN_MJ = 2.0**32
#: so many rounds in a row without any answer, and the GPU counts as lost whatever its errors say
SILENT_ROUNDS = 5


class GpuLost(Exception):
    """The GPU answers nothing any more."""


class ReadsZero(Exception):
    """A power or energy reading of 0, which no powered GPU draws: boards without the sensor answer so, with success."""


class Gpu:
    """Reads one GPU. Readings that it does not offer are logged once and stay empty.

    nvml: the initialised pynvml module. uuid: NVML's UUID of a whole GPU.
    Raises GpuLost where the GPU does not answer at the start.
    """

    def __init__(self, nvml: Any, uuid: str, log: Log) -> None:
        self._nvml = nvml
        self._log = log
        self._errors: Tuple[Type[Exception], ...] = (*probe_errors(nvml), ReadsZero)
        self._lost_codes = lost_codes(nvml)
        self._complained: Dict[str, str] = {}
        self._silent_rounds = 0
        self._unwrap = Unwrapper(ENERGY_SPAN_MJ, certain=False)
        self.uuid = uuid
        self.missing: List[str] = []
        self.power_source: Optional[str] = None
        #: wall and CPU time of each read of the energy counter, ns; the read is the dearest of all
        self.energy_read_ns: List[int] = []
        self.energy_cpu_ns = 0
        try:
            self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            self.index = int(nvml.nvmlDeviceGetIndex(self._handle))
            self.name = str(nvml.nvmlDeviceGetName(self._handle))
        except self._errors as error:
            raise GpuLost(describe(error)) from None
        self._power = self._choose("power_mw", self._power_alternatives())
        self._energy = self._choose("energy_mj", [("", self._read_energy)])
        self._fast = self._choose_all(
            ("sm_clock_mhz", [self._clock("sm_clock_mhz", nvml.NVML_CLOCK_SM)]),
            ("memory_clock_mhz", [self._clock("memory_clock_mhz", nvml.NVML_CLOCK_MEM)]),
            ("temperature_c", [self._temperature, self._temperature_before_cuda_13]),
            ("event_reasons", [self._event_reasons, self._throttle_reasons]),
        )
        self._slow = self._choose_all(
            ("gpu_utilization_percent", [self._utilization]),
            ("memory_used_bytes", [self._memory_v2, self._memory_v1]),
        )
        if self.missing:
            self._log(f"GPU {self.index} ({self.name}) does not offer {', '.join(self.missing)}: left empty")
        if str(self.power_source).endswith("_module"):
            self._log(f"GPU {self.index} tells power of its whole module only, processor included")

    @property
    def has_energy_counter(self) -> bool:
        return self._energy is not None

    def describe(self) -> Values:
        """What the `ready` event says of this GPU."""
        return {
            "index": self.index,
            "uuid": self.uuid,
            "name": self.name,
            "power_source": self.power_source,
            "energy_counter": self.has_energy_counter,
            "missing": self.missing,
        }

    def read(self, energy: bool, slow: bool) -> Values:
        """One row of power.csv. energy, slow: whether the counter, and utilisation and memory, are due.

        Raises GpuLost.
        """
        row: Values = {"domain": "gpu", "device": self.index, "uuid": self.uuid, "power_source": self.power_source}
        known = len(row)
        # The counter first: it takes milliseconds, and the power reading must be fresh when t_ns is taken.
        if energy and self._energy:
            self._add(row, "energy_mj", self._energy)
        if self._power:
            self._add(row, "power_mw", self._power)
        row["t_ns"] = time.monotonic_ns()
        for name, read in self._fast:
            self._add(row, name, read)
        if slow:
            for name, read in self._slow:
                self._add(row, name, read)
        if len(row) == known + 1:
            self._silent_rounds += 1
            if self._silent_rounds >= SILENT_ROUNDS:
                raise GpuLost("nothing has been answered for a while")
        else:
            self._silent_rounds = 0
        if row.get("power_mw") is None:
            row["power_source"] = None
        return row

    def _add(self, row: Values, name: str, read: Read) -> None:
        try:
            row.update(read())
        except self._errors as error:
            if getattr(error, "value", None) in self._lost_codes:
                raise GpuLost(describe(error)) from None
            if name not in self._complained:
                self._complained[name] = describe(error)
                self._log(f"GPU {self.index}: {name} failed once or more, left empty then: {describe(error)}")

    def _choose(self, name: str, alternatives: List[Tuple[str, Read]]) -> Optional[Read]:
        """The first alternative that answers; for power its name is kept. None, and noted, where none does."""
        for source, read in alternatives:
            try:
                read()
            except self._errors as error:
                if getattr(error, "value", None) == self._nvml.NVML_ERROR_GPU_IS_LOST:
                    raise GpuLost(describe(error)) from None
                continue
            if name == "power_mw":
                self.power_source = source
            return read
        self.missing.append(name)
        return None

    def _choose_all(self, *readings: Tuple[str, List[Read]]) -> List[Tuple[str, Read]]:
        chosen = ((name, self._choose(name, [("", read) for read in reads])) for name, reads in readings)
        return [(name, read) for name, read in chosen if read is not None]

    def _power_alternatives(self) -> List[Tuple[str, Read]]:
        """Best first. The module scope is last: on Grace Hopper it is all there is, and it counts the CPU too."""
        nvml = self._nvml
        instant = getattr(nvml, "NVML_FI_DEV_POWER_INSTANT", 186)
        average = getattr(nvml, "NVML_FI_DEV_POWER_AVERAGE", 185)
        gpu = getattr(nvml, "NVML_POWER_SCOPE_GPU", 0)
        module = getattr(nvml, "NVML_POWER_SCOPE_MODULE", 1)
        return [
            ("instant", self._power_field(instant, gpu)),
            ("average", self._power_field(average, gpu)),
            ("usage", self._power_usage),
            ("instant_module", self._power_field(instant, module)),
            ("average_module", self._power_field(average, module)),
        ]

    def _power_field(self, field: int, scope: int) -> Read:
        nvml, request = self._nvml, [(field, scope)]

        def read() -> Values:
            value = nvml.nvmlDeviceGetFieldValues(self._handle, request)[0]
            # The call succeeds even where a single field is refused: each value has its own return code.
            if value.nvmlReturn != nvml.NVML_SUCCESS:
                raise nvml.NVMLError(value.nvmlReturn)
            return {
                "power_mw": _drawn(_number(nvml, value)),
                "driver_timestamp_us": int(value.timestamp) or None,
            }

        return read

    def _power_usage(self) -> Values:
        return {"power_mw": _drawn(self._nvml.nvmlDeviceGetPowerUsage(self._handle))}

    def _read_energy(self) -> Values:
        begin, cpu = time.monotonic_ns(), time.thread_time_ns()
        reading = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        self.energy_read_ns.append(time.monotonic_ns() - begin)
        self.energy_cpu_ns += time.thread_time_ns() - cpu
        before = self._unwrap.restarts
        energy = self._unwrap(_drawn(reading))
        if self._unwrap.restarts != before:
            self._log(f"GPU {self.index}: the energy counter started again (driver reloaded?)")
        return {"energy_mj": int(energy)}

    def _clock(self, name: str, clock: int) -> Read:
        nvml = self._nvml

        def read() -> Values:
            return {name: nvml.nvmlDeviceGetClockInfo(self._handle, clock)}

        return read

    def _temperature(self) -> Values:
        return {"temperature_c": self._nvml.nvmlDeviceGetTemperatureV(self._handle, self._nvml.NVML_TEMPERATURE_GPU)}

    def _temperature_before_cuda_13(self) -> Values:
        return {"temperature_c": self._nvml.nvmlDeviceGetTemperature(self._handle, self._nvml.NVML_TEMPERATURE_GPU)}

    def _event_reasons(self) -> Values:
        return {"event_reasons": self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle)}

    def _throttle_reasons(self) -> Values:
        """The same mask under its name before driver 535."""
        return {"event_reasons": self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)}

    def _utilization(self) -> Values:
        rates = self._nvml.nvmlDeviceGetUtilizationRates(self._handle)
        return {"gpu_utilization_percent": rates.gpu, "memory_utilization_percent": rates.memory}

    def _memory_v2(self) -> Values:
        """Without what the driver reserves for itself."""
        version = self._nvml.nvmlMemory_v2
        return {"memory_used_bytes": self._nvml.nvmlDeviceGetMemoryInfo(self._handle, version=version).used}

    def _memory_v1(self) -> Values:
        return {"memory_used_bytes": self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used}


def _number(nvml: Any, value: Any) -> float:
    """The member of a field value's union that its type says is set."""
    members = {
        nvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
        nvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    }
    return getattr(value.value, members.get(value.valueType, "uiVal"))  # type: ignore[no-any-return]


def _drawn(reading: float) -> float:
    """The reading, where it is one. Raises ReadsZero."""
    if not reading:
        raise ReadsZero("reads 0")
    return reading


def find_gpus(nvml: Any, wanted: str, log: Log) -> List[str]:
    """UUIDs of the GPUs to read. wanted: `all` that CUDA_VISIBLE_DEVICES allows, or UUIDs or indices, comma-separated.

    Raises LookupError, in one line, for a GPU that does not exist or may not be used, and for a slice of one (MIG), since
    power is known of whole boards only.
    """
    handles = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handles[index] = str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index)))
        except nvml.NVMLError as error:  # noqa: PERF203 (each GPU may fail alone)
            log(f"GPU {index} does not answer: {describe(error)}")
    allowed = visible([(index, uuid, _product(nvml, index)) for index, uuid in handles.items()], os.environ)
    if allowed is not None:
        handles = {index: handles[index] for index in allowed}
    if wanted == "all":
        return list(handles.values())
    found = []
    for name in dict.fromkeys(part.strip() for part in wanted.split(",") if part.strip()):
        if name in handles.values():
            found.append(name)
        elif name.isdigit() and int(name) in handles:
            found.append(handles[int(name)])
        elif name.startswith("MIG-"):
            raise LookupError(f"{name} is a slice of a GPU, and power is known of whole GPUs only")
        else:
            existing = ", ".join(f"{index} ({uuid})" for index, uuid in handles.items()) or "none"
            raise LookupError(f"no GPU '{name}'; there is {existing}")
    return list(dict.fromkeys(found))


def _product(nvml: Any, index: int) -> str:
    try:
        return str(nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(index)))
    except probe_errors(nvml):
        return ""
