"""The fastest of several algorithms for one shape: tried on the device, and remembered.

For adapters whose level of tuning leaves a choice (common/schema.py, TUNINGS). The algorithms of the level below are among the
candidates, so that no level is slower than the one below it. What won is kept in the cache folder: the next worker builds
that algorithm alone.
"""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Protocol, Sequence

from common.harness.adapter import DeviceOutOfMemory
from common.harness.memory import names_out_of_memory
from common.text import first_line
from common.whole_writes import write_whole

#: an algorithm is timed for so long, and with at least so many runs
SECONDS, RUNS = 0.3, 5
#: but it starts no further run after so long: one that takes seconds is told from another by a single run
MOST_SECONDS = 2.0
#: of an error's text, in the row's settings
_REASON_LENGTH = 160


class Inference(Protocol):
    """A shape that has been built."""

    def run(self) -> None: ...

    def close(self) -> None: ...


class Algorithm(NamedTuple):
    """name: of the algorithm, unique among the candidates, for the row's settings. build: makes the inference, warm."""

    name: str
    build: Callable[[], Any]


class Chosen(NamedTuple):
    """tried: algorithm -> milliseconds of an inference, or why it does not work here; empty where there was one alone.

    trial_of: when that was tried and by whom. A trial of an earlier worker may have met another load than this worker does.
    """

    name: str
    inference: Any
    tried: Dict[str, str]
    trial_of: str = ""

    def settings(self) -> Dict[str, str]:
        """For the row: what was chosen among which, and when."""
        if not self.tried:
            return {}
        tried = "; ".join(f"{name}: {result}" for name, result in self.tried.items())
        return {"chosen": self.name, "trial": tried, "trial_of": self.trial_of}


def fastest(
    algorithms: Sequence[Algorithm],
    memory: Optional[AlgorithmCache] = None,
    key: str = "",
    seconds_per_run: Optional[Callable[[Callable[[], None]], float]] = None,
) -> Chosen:
    """Builds them one after the other and keeps the fastest; the others are closed. Raises the last failure where none works.

    memory, key: what won for this key before is built alone, if it is among the algorithms and still works.
    seconds_per_run: for tests; by default the median of a third of a second of runs.
    """
    if not algorithms:
        raise ValueError("there is no algorithm to choose from")
    measure = seconds_per_run or median_seconds
    if len(algorithms) == 1:
        return Chosen(algorithms[0].name, algorithms[0].build(), {})
    known = memory.get(key) if memory is not None else None
    for algorithm in algorithms:
        if known is not None and algorithm.name == known.name:
            try:
                return Chosen(algorithm.name, algorithm.build(), known.tried, by_an_earlier_worker(known.utc))
            except Exception:
                break  # another driver, less memory: tried anew
    best: Optional[Chosen] = None
    best_seconds = 0.0
    failure: Optional[Exception] = None
    exhausted = False
    tried: Dict[str, str] = {}
    utc = now_utc()
    for algorithm in algorithms:
        inference: Any = None
        try:
            inference = algorithm.build()
            seconds = measure(inference.run)
        except Exception as raised:
            failure = raised
            exhausted |= ran_out(raised)
            tried[algorithm.name] = first_line(raised)[:_REASON_LENGTH]
            if inference is not None:
                inference.close()
            forget_frames(raised)
            continue
        tried[algorithm.name] = f"{1000 * seconds:.3f} ms"
        if best is not None and seconds >= best_seconds:
            inference.close()
            continue
        if best is not None:
            best.inference.close()
        best, best_seconds = Chosen(algorithm.name, inference, tried, by_this_worker(utc)), seconds
    if best is None:
        assert failure is not None
        raise failure
    if memory is not None and not exhausted:
        memory.put(key, best.name, tried, utc)
    return best


def ran_out(raised: BaseException) -> bool:
    """Whether it says that memory ran out, be it by a framework's own class of error."""
    if isinstance(raised, (MemoryError, DeviceOutOfMemory)):
        return True
    return names_out_of_memory(f"{type(raised).__name__}: {raised}")


def forget_frames(raised: BaseException) -> None:
    """Lets go of what the functions held that raised it, a session or buffers on the device: the next way needs their memory."""
    seen: List[BaseException] = []
    one: Optional[BaseException] = raised
    while one is not None and one not in seen:
        seen.append(one)
        traceback.clear_frames(one.__traceback__)
        one = one.__cause__ or one.__context__


def now_utc() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def by_this_worker(utc: str) -> str:
    return f"{utc}, by this worker"


def by_an_earlier_worker(utc: str) -> str:
    """utc: "" where the cache folder does not say, as it did not until 29 November 2026."""
    return f"{utc or 'at an unknown time'}, by an earlier worker"


def median_seconds(run: Callable[[], None]) -> float:
    """Median time of a run: of RUNS and SECONDS of them, of fewer where they take more than MOST_SECONDS."""
    taken: List[float] = []
    begin = time.perf_counter()
    while True:
        start = time.perf_counter()
        run()
        end = time.perf_counter()
        taken.append(end - start)
        if end - begin >= (SECONDS if len(taken) >= RUNS else MOST_SECONDS):
            return sorted(taken)[len(taken) // 2]


class EarlierTrial(NamedTuple):
    """What the cache folder knows of an earlier trial."""

    name: str
    tried: Dict[str, str]
    #: when, "" where that was not written down
    utc: str = ""


class CacheFile:
    """What won, key by key, in one small JSON file; one that cannot be read or written is no reason to stop."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Dict[str, Any]:
        """Empty where nothing is known of the key."""
        value = self._read().get(key)
        return value if isinstance(value, dict) else {}

    def put(self, key: str, value: Dict[str, Any]) -> None:
        values = {**self._read(), key: value}
        with contextlib.suppress(OSError):  # two workers may write at once: the last one's stays, whole
            write_whole(self._path, (json.dumps(values, indent=1, sort_keys=True) + "\n").encode())

    def _read(self) -> Dict[str, Any]:
        try:
            values = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}


class AlgorithmCache:
    """Which algorithm won for a key."""

    def __init__(self, path: Path) -> None:
        self._file = CacheFile(path)

    def get(self, key: str) -> Optional[EarlierTrial]:
        value = self._file.get(key)
        chosen, tried = value.get("chosen"), value.get("tried")
        if not isinstance(chosen, str) or not isinstance(tried, dict):
            return None
        utc = value.get("utc")
        known = EarlierTrial(chosen, tried, utc if isinstance(utc, str) else "")
        return known if all(isinstance(one, str) for one in tried.values()) else None

    def put(self, key: str, name: str, tried: Dict[str, str], utc: str = "") -> None:
        self._file.put(key, {"chosen": name, "tried": tried, "utc": utc})
