"""The loop: which source is read when, and what happens when one disappears."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional

from common.sidecar.csv_file import PowerFile
from common.sidecar.gpu import Gpu, GpuLost
from common.sidecar.lifetime import Lifetime
from common.sidecar.nvml import NvmlUnavailable, open_nvml
from common.sidecar.rapl import Rapl
from common.window_edges import Watch

MS = 1_000_000
#: rows wait at most this long for the disk; a kill loses no more (the promise is 200 ms)
FLUSH_NS = 150 * MS
#: reads of an energy counter may take this share of a core: H100 and H200 drivers spin for about 3 ms each, so ten
#: reads a second would cost 3 %; between reads the analysis lets the counter follow the power
ENERGY_READ_SHARE = 0.004
#: but the counter is read at least so often, whatever that costs: the analysis does without a counter that was not read
#: within 2 s around a window's edge (on an H100 readings came to lie up to 3 s apart)
LONGEST_ENERGY_INTERVAL_NS = 900 * MS
#: a read of the counter waits so long for the power reading to change. Boards renew both every 100 ms at fixed instants: read at
#: one distance from them, the counter is late by about the same each time, which cancels in differences, and not by 0 to 100 ms
LONGEST_WAIT_NS = 110 * MS
#: no sleep is longer, so that a signal or the parent's death ends a slow sidecar soon
LONGEST_SLEEP_NS = 100 * MS


@dataclass(frozen=True)
class Intervals:
    """Nanoseconds between readings: of power, clocks and temperature; of energy; of utilisation and memory."""

    fast_ns: int
    energy_ns: int
    slow_ns: int
    #: a lost GPU is asked again this often
    retry_ns: int = 5000 * MS


class _Clockwork:
    """One kind of reading's absolute deadlines: no drift, and a late round does not cause a burst after it."""

    def __init__(self, first_ns: int, interval_ns: int) -> None:
        self.next_ns = first_ns
        self._interval = interval_ns

    @property
    def interval_ns(self) -> int:
        return self._interval

    def due(self, now: int) -> bool:
        if now < self.next_ns:
            return False
        self.next_ns += self._interval * ((now - self.next_ns) // self._interval + 1)
        return True

    def stretch(self, interval_ns: int) -> None:
        """A new interval, from the next deadline on."""
        self._interval = interval_ns


class NothingLeft(Exception):
    """No GPU and no RAPL domain can be read any more; the message says why."""


class _Source:
    """A GPU, present or lost, with the deadlines of its readings."""

    def __init__(self, gpu: Gpu, order: int, of: int, intervals: Intervals) -> None:
        self.gpu = gpu
        self.uuid = gpu.uuid
        self.lost = False
        now = time.monotonic_ns()
        self.retry = _Clockwork(now + intervals.retry_ns, intervals.retry_ns)
        self.slow = _Clockwork(now + intervals.slow_ns, intervals.slow_ns)
        # Reads of the counter take milliseconds: those of several GPUs are spread over the interval.
        self.energy = _Clockwork(now + intervals.energy_ns * (order + 1) // of, intervals.energy_ns)
        self._requested_energy_ns = intervals.energy_ns
        self._sharing = of
        self._waiting_since: Optional[int] = None
        self._power_mw: Any = None
        self._renewed = False

    def energy_due(self, now: int, edge: bool) -> bool:
        """Whether the counter is to be read now: where it is due or a window's edge asks for it; where reads are rare, in the round
        after a renewal of the power, unless it is not renewed for long."""
        if (self.energy.due(now) or edge) and self._waiting_since is None:
            self._waiting_since = now
        if self._waiting_since is None:
            return False
        # read often, it needs no such care: many readings tell the same
        rare = self.energy.interval_ns > LONGEST_WAIT_NS
        if rare and not self._renewed and now - self._waiting_since < LONGEST_WAIT_NS:
            return False
        self._waiting_since = None
        return True

    def saw(self, power_mw: Any) -> None:
        """Takes the power of each round, None where it was not reported."""
        self._renewed = power_mw is not None and self._power_mw is not None and power_mw != self._power_mw
        self._power_mw = power_mw

    def pace_energy(self) -> None:
        """Stretches the interval of the energy counter so that all GPUs' reads stay within their share of a core, if they can."""
        took = self.gpu.energy_read_ns[-9:]
        if took:
            typical = sorted(took)[len(took) // 2]
            affordable = min(round(typical * self._sharing / ENERGY_READ_SHARE), LONGEST_ENERGY_INTERVAL_NS)
            self.energy.stretch(max(self._requested_energy_ns, affordable))


class Sampler:
    """Reads all sources into the file until the lifetime is over.

    nvml: the initialised pynvml module, or None where no GPU is to be read. gpus: what was found at the start.
    edges: where workers tell that a window begins or ends; None reads at the intervals alone.
    """

    def __init__(
        self,
        nvml: Any,
        gpus: List[Gpu],
        rapl: Rapl,
        file: PowerFile,
        intervals: Intervals,
        log: Callable[[str], None],
        edges: Optional[Watch] = None,
    ) -> None:
        self._nvml = nvml
        self._sources = [_Source(gpu, order, len(gpus), intervals) for order, gpu in enumerate(gpus)]
        self._rapl = rapl
        self._file = file
        self._intervals = intervals
        self._log = log
        self._edges = edges
        self._rapl_clock = _Clockwork(0, intervals.energy_ns)
        self._last_loss = ""
        self.missed_rounds = 0

    def once(self) -> None:
        """One reading of everything, on disk when it returns. Raises NothingLeft, OSError."""
        for row in self._rapl.read():
            self._file.add(row)
        for source in self._sources:
            self._read(source, energy=True, slow=True)
        if self._file.oldest_ns is None:
            raise NothingLeft(self._last_loss or self._rapl.unavailable or "nothing to read")
        self._file.flush()

    def run(self, lifetime: Lifetime) -> str:
        """Reads until the lifetime is over; returns why it is. Raises NothingLeft, OSError (the file)."""
        interval = self._intervals.fast_ns
        start = time.monotonic_ns() + interval
        rounds = _Clockwork(start, interval)
        self._rapl_clock = _Clockwork(start, self._intervals.energy_ns)
        check_parent = _Clockwork(start - interval, LONGEST_SLEEP_NS)
        expected = start
        while True:
            now = time.monotonic_ns()
            if rounds.due(now):
                self.missed_rounds += (now - expected) // interval
                expected = rounds.next_ns
                self._round(now)
                oldest = self._file.oldest_ns
                if oldest is not None and rounds.next_ns - oldest > FLUSH_NS:
                    self._file.flush()
            if lifetime.signalled() or check_parent.due(now):
                reason = lifetime.over()
                if reason is not None:
                    self._last_round()
                    return reason
            wait = min(rounds.next_ns - time.monotonic_ns(), LONGEST_SLEEP_NS)
            if wait > 0:
                time.sleep(wait / 1e9)

    def _round(self, now: int) -> None:
        # a window begins or ends: its energy wants a reading of the counter there
        edge = self._edges is not None and self._edges.touched(now)
        if self._rapl.domains and (self._rapl_clock.due(now) or edge):
            for row in self._rapl.read():
                self._file.add(row)
        for source in self._sources:
            if not source.lost:
                energy = source.energy_due(now, edge)
                self._read(source, energy, source.slow.due(now))
                if energy:
                    source.pace_energy()
        if not self._rapl.domains and all(source.lost for source in self._sources):
            raise NothingLeft(self._last_loss or "nothing to read")
        for source in self._sources:
            if source.lost and source.retry.due(now):
                self._retry(source)

    def _last_round(self) -> None:
        """Everything once more: the last window's energy needs a reading of the counter behind its end."""
        for row in self._rapl.read():
            self._file.add(row)
        for source in self._sources:
            if not source.lost:
                self._read(source, energy=True, slow=True)

    def _read(self, source: _Source, energy: bool, slow: bool) -> None:
        try:
            row = source.gpu.read(energy, slow)
            source.saw(row.get("power_mw"))
            self._file.add(row)
        except GpuLost as error:
            source.lost = True
            source.retry = _Clockwork(time.monotonic_ns() + self._intervals.retry_ns, self._intervals.retry_ns)
            self._last_loss = f"GPU {source.gpu.index} ({source.uuid}) is lost: {error}"
            self._log(self._last_loss)

    def _retry(self, source: _Source) -> None:
        """A quiet attempt; where no GPU is left, NVML itself is opened anew, since a reloaded driver needs that."""
        if all(other.lost for other in self._sources):
            try:
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError:
                pass
            try:
                self._nvml = open_nvml()
            except NvmlUnavailable:
                return
        spent_ns, spent_cpu = source.gpu.energy_read_ns, source.gpu.energy_cpu_ns
        try:
            source.gpu = Gpu(self._nvml, source.uuid, self._log)
        except GpuLost:
            return
        source.gpu.energy_read_ns[:0] = spent_ns
        source.gpu.energy_cpu_ns += spent_cpu
        source.lost = False
        self._log(f"GPU {source.gpu.index} ({source.uuid}) is back")

    def energy_read_cost(self) -> Optional[Dict[str, float]]:
        """Cost of the reads of the energy counter, the dearest call: median and worst in us, CPU seconds."""
        took = sorted(ns for source in self._sources for ns in source.gpu.energy_read_ns)
        if not took:
            return None
        cpu_ns = sum(source.gpu.energy_cpu_ns for source in self._sources)
        return {"median_us": took[len(took) // 2] / 1e3, "worst_us": took[-1] / 1e3, "cpu_seconds": cpu_ns / 1e9}
