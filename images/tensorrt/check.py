"""Checks this image's adapter without the harness and without pytest, for a GPU host whose Python has neither.

    python images/tensorrt/check.py --imports
    python images/tensorrt/check.py --model data/models/MobileNetV3L-... --cache data/cache \
        --precision fp16 --batch-sizes 1,8,512

The first says which libraries are there; it exits with 1 where no variant could run. The second builds (or reads)
the engines and prints, for each batch size and io, parity against the stored reference and images/s of a plain loop:
one inference at a time, and several in flight. It exits with 1 where the output is not the reference's.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, List

_ROOT = Path(__file__).resolve().parents[2]
# Run as a script: this folder goes, whose modules would be found under top-level names such as `profile`.
sys.path[0] = str(_ROOT)

from common.harness import parity  # noqa: E402
from common.harness.reference import Reference  # noqa: E402
from common.model_files import ModelFiles  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="checks the TensorRT adapter on this machine")
    add = parser.add_argument
    add("--imports", action="store_true", help="only say which libraries are there")
    add("--model", type=Path, help="a folder below data/models")
    add("--variant", default="tensorrt", choices=("tensorrt", "tensorrt-rtx"), help="default: tensorrt")
    add("--precision", default="fp16", help="fp32, tf32, fp16, bf16 or int8; default: fp16")
    add("--batch-sizes", default="1,8,512", help="comma list, also the range of the engine; default: 1,8,512")
    add("--cache", default="data/cache", help="folder for engines and timing caches; default: data/cache")
    add("--seconds", type=float, default=2.0, help="length of each timed loop in s; default: 2")
    arguments = parser.parse_args()
    if arguments.imports:
        return _imports()
    if arguments.model is None:
        parser.error("--model is needed")
    os.environ.setdefault("FRAMEWATT_BATCH_SIZES", arguments.batch_sizes)
    return _run(arguments)


def _imports() -> int:
    found = 0
    for library in ("tensorrt", "tensorrt_rtx"):
        if importlib.util.find_spec(library) is None:
            print(f"{library}: not here")
            continue
        print(f"{library} {_import(library).__version__}")
        found += 1
    print("pycuda: " + ("here" if importlib.util.find_spec("pycuda") else "not here, so nothing can run"))
    return 0 if found else 1


def _import(library: str) -> Any:
    from images.tensorrt.adapter import import_library

    return import_library(library)


def _run(arguments: argparse.Namespace) -> int:
    from images.tensorrt.adapter import create

    model = ModelFiles.read(arguments.model)
    adapter = create(arguments.variant)
    try:
        adapter.load(model, arguments.precision, "cuda:0", arguments.cache, None)
        return _measure(adapter, arguments, Reference.read(model))
    finally:
        adapter.close()


def _measure(adapter: Any, arguments: argparse.Namespace, reference: Reference) -> int:
    print(adapter.versions())
    failed = 0
    for size in (int(word) for word in arguments.batch_sizes.split(",")):
        batches = reference.batches(size)
        for io in ("device", "host"):
            made = []
            for batch in batches:
                adapter.prepare(batch, io)
                adapter.run()
                made.append(adapter.output())
            verdict = parity.compare_all(made, reference, size, arguments.precision)
            failed += not verdict.passed
            device_ns = adapter.run_timed()
            alone = _rate(adapter.run, lambda: None, size, arguments.seconds)
            in_flight = _rate(adapter.enqueue, adapter.synchronize, size, arguments.seconds)
            print(
                f"batch {size} {io}: {alone:.0f} images/s, {in_flight:.0f} in flight, device {device_ns} ns, "
                f"{verdict.metric} error {verdict.rel_l2:.2e} ({'ok' if verdict.passed else verdict.reason}), "
                f"{adapter.device_peak_bytes()} bytes"
            )
            print("   ", adapter.settings())
    return 1 if failed else 0


def _rate(start: Callable[[], None], wait: Callable[[], None], size: int, seconds: float) -> float:
    """Images/s of a plain loop over at least `seconds`, in groups of 12 inferences, after one group to warm up."""
    elapsed: List[float] = []
    while sum(elapsed[1:]) < seconds:
        begin = time.monotonic()
        for _ in range(12):
            start()
        wait()
        elapsed.append(time.monotonic() - begin)
    return 12 * size * len(elapsed[1:]) / sum(elapsed[1:])


if __name__ == "__main__":
    sys.exit(main())
