"""Several streams at once on one device, each one inference after the other: what several clients of one model see.

    main thread     adapter 0   | run | run | run | ...
    thread 1        adapter 1   | run | run | ...            all begin together at a barrier; when the rule has finished,
    thread n-1      adapter n-1 | run | run | run | ...      each ends the inference that it is in
    referee         asleep, and four times a second the stopping rule

Threads of one process, not processes: on a GPU they share one CUDA context, so their kernels run side by side, as in a
model server's instance groups. Processes would take turns on the device (there is no MPS to count on) and pay for a
context each. The price is Python's lock, which a framework holds while it is in Python: frameworks that do little there
(a replayed graph, a bound session) do not feel it, and one that does much is served as its users are served.

Each stream has an adapter of its own, made, warmed up and closed in its thread: contexts and current streams belong to
threads. They are made one after the other, since a graph cannot be captured while another thread allocates.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Callable, List, Optional, Tuple

import numpy as np

from common.cell import Cell
from common.harness.adapter import Adapter
from common.harness.loop import BLOCK_SECONDS
from common.harness.scenarios import Measurement, Progress, Stage, Warmup
from common.harness.stopping import StoppingRule, WarmupRule
from common.job import Settings

#: how long a stream that is told to end may take for its last inference and for freeing its memory
_JOIN_SECONDS = 120.0


def unsupported(cell: Cell) -> Optional[str]:
    return None if cell.streams >= 1 else f"{cell.streams} streams are none"


class Stream:
    """One stream's adapter and the times of its inferences."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.starts: List[int] = []
        self.ends: List[int] = []

    def play(self, ended: List[bool], clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Runs until `ended` has something in it, at least once."""
        started, done, run = self.starts.append, self.ends.append, self.adapter.run
        while True:
            started(clock())
            run()
            done(clock())
            if ended:
                return


class Streams:
    """All streams of a cell. Number 0 plays in the thread that calls play(), the others in threads of their own."""

    def __init__(self, stage: Stage, count: int) -> None:
        """Makes the other adapters, one after the other. Raises what the first of them that fails raises."""
        self._stage = stage
        self._streams: List[Stream] = [Stream(stage.adapter)]
        self._threads: List[threading.Thread] = []
        self._errors: List[BaseException] = []
        self._ended: List[bool] = []
        self._closing = False
        self._gate = threading.Barrier(count)
        self._finish = threading.Barrier(count)
        for number in range(1, count):
            ready = threading.Event()
            thread = threading.Thread(target=self._live, args=(number, ready), name=f"stream {number}", daemon=True)
            self._threads.append(thread)
            thread.start()
            ready.wait()
            if self._errors:
                self.close()
                raise self._errors[0]

    def _live(self, number: int, ready: threading.Event) -> None:
        """A stream's whole life: make its adapter, play as often as asked, close it."""
        adapter: Optional[Adapter] = None
        try:
            adapter = self._stage.another()
            adapter.run()
            self._stage.check(adapter, f"the output of stream {number}")
            stream = Stream(adapter)
            self._streams.append(stream)
            ready.set()
            while True:
                self._gate.wait()
                if self._closing:
                    return
                stream.play(self._ended)
                self._finish.wait()
        except threading.BrokenBarrierError:
            return  # another stream failed, or the cell ends early
        except BaseException as error:  # told to whoever waits for this stream
            self._fail(error)
        finally:
            ready.set()
            if adapter is not None:
                # What cannot be freed any more changes nothing about what was measured.
                with suppress(Exception):
                    adapter.close()

    def _fail(self, error: BaseException) -> None:
        self._errors.append(error)
        self._ended.append(True)
        self._gate.abort()
        self._finish.abort()

    def play(
        self, look: Callable[[np.ndarray, float], bool], every_s: float
    ) -> Tuple[np.ndarray, np.ndarray, int, int]:
        """Runs all streams until look(durations in ns since the last look, seconds since the begin) says so.

        Returns starts and ends of all inferences, sorted by end, and begin and end of the window.
        Raises what a stream raised.
        """
        self._ended.clear()
        for stream in self._streams:
            stream.starts.clear()
            stream.ends.clear()
        referee = threading.Thread(target=self._referee, args=(look, every_s), name="referee", daemon=True)
        try:
            self._gate.wait()
            begin_ns = time.monotonic_ns()
            referee.start()
            self._streams[0].play(self._ended)
            self._finish.wait(_JOIN_SECONDS)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            self._fail(error)
        end_ns = time.monotonic_ns()
        if referee.ident is not None:
            referee.join()
        if self._errors:
            raise self._errors[0]
        if self._finish.broken:
            raise RuntimeError(f"a stream did not end its inference within {_JOIN_SECONDS:g} s")
        starts = np.concatenate([np.array(stream.starts, dtype=np.int64) for stream in self._streams])
        ends = np.concatenate([np.array(stream.ends, dtype=np.int64) for stream in self._streams])
        order = np.argsort(ends, kind="stable")
        # another stream may pass the gate before this thread reads its clock
        return starts[order], ends[order], min(begin_ns, int(starts.min())), end_ns

    def _referee(self, look: Callable[[np.ndarray, float], bool], every_s: float) -> None:
        began = time.monotonic()
        seen = [0] * len(self._streams)
        try:
            while not self._ended:
                time.sleep(every_s)
                fresh = []
                for number, stream in enumerate(self._streams):
                    known = len(stream.ends)  # the start of an inference is stored before its end
                    ends = np.array(stream.ends[seen[number] : known], dtype=np.int64)
                    fresh.append((ends, ends - np.array(stream.starts[seen[number] : known], dtype=np.int64)))
                    seen[number] = known
                order = np.argsort(np.concatenate([ends for ends, _ in fresh]), kind="stable")
                durations = np.concatenate([taken for _, taken in fresh])[order]
                if look(durations, time.monotonic() - began):
                    break
        except BaseException as error:  # raised where play() returns
            self._errors.append(error)
        finally:
            self._ended.append(True)

    def close(self) -> None:
        """Ends the threads and frees their adapters; adapter 0 belongs to the caller."""
        self._closing = True
        if self._errors or len(self._streams) <= len(self._threads):
            self._gate.abort()
        else:
            with suppress(threading.BrokenBarrierError):
                self._gate.wait(_JOIN_SECONDS)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)


def warm_up(stage: Stage, cell: Cell, settings: Settings, progress: Progress) -> Warmup:
    """Makes the other streams, then runs all at once until the median duration of all is steady or the budget ends.

    Raises what an adapter may raise, DeviceOutOfMemory first of all, and OutputDiffers.
    """
    streams = Streams(stage, cell.streams)
    rule = WarmupRule()
    budget = settings.warmup_max_seconds
    runs = 0
    median = float("nan")

    def look(durations: np.ndarray, elapsed: float) -> bool:
        nonlocal runs, median
        runs += len(durations)
        progress(runs * cell.batch_size, runs, min(1.0, elapsed / max(budget, 1e-9)), elapsed)
        if len(durations):
            median = float(np.median(durations))
            rule.add(median)
        return rule.steady or elapsed >= budget

    try:
        _, ends, _, _ = streams.play(look, min(BLOCK_SECONDS, max(budget, 0.01) / 8))
    except BaseException:
        streams.close()
        raise
    return Warmup(len(ends) + cell.streams, "steady" if rule.steady else "budget", median, streams)


def measure(stage: Stage, cell: Cell, settings: Settings, warmup: Warmup, progress: Progress) -> Measurement:
    streams: Streams = warmup.carried
    least = max(settings.min_samples, int(np.ceil(settings.min_images / cell.batch_size)))
    rule = StoppingRule(settings.min_seconds, least, settings.max_seconds, settings.precision_of_median)
    runs = 0

    def look(durations: np.ndarray, elapsed: float) -> bool:
        nonlocal runs
        runs += len(durations)
        rule.add(durations, elapsed)
        progress(runs * cell.batch_size, runs, min(1.0, elapsed / settings.max_seconds), elapsed)
        return rule.finished() is not None

    try:
        starts, ends, begin_ns, end_ns = streams.play(look, min(BLOCK_SECONDS, settings.max_seconds / 16))
    finally:
        streams.close()
    reason = rule.finished()
    assert reason is not None
    notes = {"streams": f"{cell.streams} threads, each with an instance of its own"}
    return Measurement(starts, ends, None, begin_ns, end_ns, reason, notes)
