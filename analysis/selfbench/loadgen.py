"""framewatt against MLPerf's LoadGen: the same ONNX Runtime adapter, on the CPU, driven by both in turn.

    python3 -m venv loadgen && loadgen/bin/pip install -r images/onnxrt/requirements-cpu.txt mlcommons-loadgen
    loadgen/bin/python -m analysis.selfbench.loadgen data/models/MobileNetV3L-* [--server-rate 50]

One process, one adapter, rounds in turn (ours, LoadGen's, LoadGen's, ours, ...), so that a drift of the machine meets both. LoadGen's
median and p99 are read from the summary that it writes itself. They agree when LoadGen's figure lies within our 95 %
interval, whose outer level are the rounds. Exit code 1 when one does not. LoadGen is no part of framewatt's environments.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import queue
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from common.harness import loop
from common.harness.reference import Reference
from common.harness.scenarios import server
from common.host.devices import cpu_model
from common.model_files import ModelFiles
from common.stats.intervals import Interval, percentile_draws
from common.stats.pairs import alternate

ADAPTER = Path(__file__).resolve().parents[2] / "images/onnxrt/adapter.py"
PERCENTILES = (50, 99)
WARM_UP_RUNS = 50


def our_single_stream(run: Callable[[], None], queries: int, number: int) -> np.ndarray:
    """Latencies in ns of one round by the harness's own timed path."""
    starts, ends = [0] * queries, [0] * queries
    loop.time_block(run, starts, ends, queries, time.monotonic_ns)
    return np.subtract(ends, starts, dtype=np.int64)


def our_server(run: Callable[[], None], queries: int, number: int, rate: float) -> np.ndarray:
    """Latencies in ns of one round by the harness's own server, from when each query was due."""
    arrivals = server.Arrivals(rate, seed=1, replicate=number)
    seconds = arrivals.due(queries - 1) / 1e9
    done = server.serve(run, arrivals, 1, 0, seconds, lambda _: None)
    return np.subtract(done.ends_ns, done.scheduled_ns, dtype=np.int64)


class LoadGen:
    """The system under test as LoadGen sees it: one queue, one thread that runs the adapter."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._lib: Any = importlib.import_module("mlperf_loadgen")
        self._run = run
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def measure(self, queries: int, number: int, rate: float | None) -> dict[int, float]:
        """Percentile -> latency in ns of one round; rate: arrivals per second of the server scenario, None: single-stream."""
        lib = self._lib
        settings = lib.TestSettings()
        settings.mode = lib.TestMode.PerformanceOnly
        settings.min_duration_ms = 0
        settings.min_query_count = settings.max_query_count = queries
        if rate is None:
            settings.scenario = lib.TestScenario.SingleStream
            settings.single_stream_expected_latency_ns = 5_000_000
        else:
            settings.scenario = lib.TestScenario.Server
            settings.server_target_qps = rate
            settings.server_target_latency_ns = 10**10
            settings.schedule_rng_seed = 1 + number
        with tempfile.TemporaryDirectory() as folder:
            log = lib.LogSettings()
            log.log_output.outdir = folder
            log.log_output.copy_summary_to_stdout = False
            log.enable_trace = False
            # In the server scenario the thread that issues queries must not be kept from issuing the next.
            serving = None if rate is None else threading.Thread(target=self._serve, daemon=True)
            if serving is not None:
                serving.start()
            sut = lib.ConstructSUT(self._answer if rate is None else self._enqueue, lambda: None)
            library = lib.ConstructQSL(8, 8, lambda _: None, lambda _: None)
            lib.StartTestWithLogSettings(sut, library, settings, log)
            if serving is not None:
                self._queue.put(None)
                serving.join()
            lib.DestroyQSL(library)
            lib.DestroySUT(sut)
            summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
        return {percentile: reported(summary, percentile) for percentile in PERCENTILES}

    def _complete(self, identity: int) -> None:
        self._run()
        self._lib.QuerySamplesComplete([self._lib.QuerySampleResponse(identity, 0, 0)])

    def _answer(self, samples: Sequence[Any]) -> None:
        for sample in samples:
            self._complete(sample.id)

    def _enqueue(self, samples: Sequence[Any]) -> None:
        for sample in samples:
            self._queue.put(sample.id)

    def _serve(self) -> None:
        while (identity := self._queue.get()) is not None:
            self._complete(identity)


def reported(summary: str, percentile: int) -> float:
    """A percentile in ns from LoadGen's summary. Raises ValueError where it is not there."""
    found = re.search(rf"^{percentile}\.00 percentile latency \(ns\)\s*:\s*(\d+)", summary, re.MULTILINE)
    if found is None:
        raise ValueError(f"LoadGen's summary has no {percentile}th percentile:\n{summary}")
    return float(found[1])


def open_adapter(model: ModelFiles, threads: int | None, cache: str) -> Any:
    """The ONNX Runtime adapter with one image in place, warmed up."""
    spec = importlib.util.spec_from_file_location("framewatt_adapter", ADAPTER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    adapter = module.create("onnxrt")
    adapter.load(model, "fp32", "cpu", cache, threads)
    adapter.prepare(Reference.read(model).batch(1), "host")
    for _ in range(WARM_UP_RUNS):
        adapter.run()
    return adapter


def compare(adapter: Any, queries: int, rounds: int, rate: float | None) -> bool:
    """Prints a line for each percentile; whether all agree."""
    loadgen = LoadGen(adapter.run)
    numbers = {"ours": count(), "theirs": count()}

    def our_round() -> Any:
        number = next(numbers["ours"])
        if rate is None:
            return our_single_stream(adapter.run, queries, number)
        return our_server(adapter.run, queries, number, rate)

    # who comes first changes, so that what one leaves behind meets both
    measured = alternate(our_round, lambda: loadgen.measure(queries, next(numbers["theirs"]), rate), rounds)
    ours: list[np.ndarray] = [one for one, _ in measured]
    theirs: list[dict[int, float]] = [other for _, other in measured]
    agree = True
    print("single-stream" if rate is None else f"server, {rate:g} queries/s")
    for percentile in PERCENTILES:
        draws = percentile_draws(ours, percentile)
        if draws is None:
            raise SystemExit(f"{queries} queries are too few for the {percentile}th percentile")
        interval = draws.interval()
        figure = float(np.mean([one[percentile] for one in theirs]))
        inside = interval.low <= figure <= interval.high
        agree &= inside
        print(f"  {line(percentile, interval, figure)}  {'within' if inside else 'OUTSIDE'}", flush=True)
    return agree


def line(percentile: int, interval: Interval, figure: float) -> str:
    ours = f"{interval.estimate / 1e6:7.3f} ms [{interval.low / 1e6:.3f}, {interval.high / 1e6:.3f}]"
    return f"p{percentile}: ours {ours}, LoadGen {figure / 1e6:7.3f} ms, ratio {figure / interval.estimate:.3f}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.selfbench.loadgen")
    parser.add_argument("model", type=Path, help="folder under data/models")
    parser.add_argument("--queries", type=int, default=1000, help="of each round and side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="intra-op threads; default: ONNX Runtime's choice")
    parser.add_argument(
        "--server-rate", type=float, default=None, help="also the server scenario, at so many queries a second"
    )
    options = parser.parse_args(arguments)
    from importlib.metadata import version

    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {cpu_model()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"onnxruntime {version('onnxruntime')}, LoadGen {version('mlcommons-loadgen')}, Python {platform.python_version()}, "
        f"{options.rounds} rounds of {options.queries} queries"
    )
    with tempfile.TemporaryDirectory() as cache:
        adapter = open_adapter(ModelFiles.read(options.model), options.threads, cache)
        agree = compare(adapter, options.queries, options.rounds, None)
        if options.server_rate is not None:
            agree &= compare(adapter, options.queries, options.rounds, options.server_rate)
        adapter.close()
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
