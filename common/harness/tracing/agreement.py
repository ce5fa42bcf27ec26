"""Holds the records of CUPTI against the frameworks' own profilers on a GPU: the same cell, each in a process of its own.

    python3 -m common.harness.tracing.agreement MODEL_DIR --variant torch --precision fp16 --batch-size 32
    python3 -m common.harness.tracing.agreement MODEL_DIR --variant tensorrt --precision fp16 --batch-size 32

In the interpreter that has the framework and cupti-python, from the project's root. Compared is the time on the GPU of an
inference: with torch.profiler's kernels and copies, and with the sum that TensorRT's IProfiler tells of its layers (kernels
alone, without a graph). Exit code 1 where they differ by more than 3 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from common.harness.adapter import Adapter
from common.harness.reference import Reference
from common.harness.worker import import_adapter
from common.model_files import ModelFiles

RUNS = 20
LIMIT = 0.03
IMAGES = {"torch": "torch", "torchcompile": "torch", "tensorrt": "tensorrt"}


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("--variant", choices=sorted(IMAGES), default="torch")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--io", default="host")
    parser.add_argument("--cache", default="data/cache")
    parser.add_argument("--side", choices=["cupti", "own"], help="for the processes that this one starts")
    given = parser.parse_args(arguments)
    if given.side:
        print(json.dumps(_side(given)))
        return 0
    found = {}
    for side in ("cupti", "own"):
        command = [sys.executable, "-m", "common.harness.tracing.agreement", *arguments, "--side", side]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        found[side] = json.loads(output.strip().splitlines()[-1])
        print(
            f"{side}: {found[side]['us']:.1f} us an inference on the GPU, {found[side]['pieces']:.1f} pieces ({found[side]['what']})"
        )
    ratio = found["cupti"]["us"] / found["own"]["us"]
    print(
        f"{given.variant} {given.precision} batch {given.batch_size} io={given.io}: CUPTI / own profiler = {ratio:.4f}"
    )
    return int(abs(ratio - 1) > LIMIT)


def _side(given: Any) -> Dict[str, Any]:
    if given.side == "cupti":
        return _by_cupti(given)
    return _by_torch(given) if IMAGES[given.variant] == "torch" else _by_tensorrt(given)


def _adapter(given: Any) -> Adapter:
    """Loaded and prepared, and warm."""
    adapter = import_adapter(Path(f"images/{IMAGES[given.variant]}/adapter.py"))(given.variant)
    model = ModelFiles.read(Path(given.model_dir))
    adapter.load(model, given.precision, "cuda:0", str(Path(given.cache).resolve()), None)
    adapter.prepare(Reference.read(model).batches(given.batch_size)[0], given.io)
    for _ in range(RUNS):
        adapter.run()
    return adapter


def _by_cupti(given: Any) -> Dict[str, Any]:
    from common.harness import tracing
    from common.harness.tracing import cupti_activity

    if IMAGES[given.variant] == "torch":
        import torch  # type: ignore[import-not-found,unused-ignore]

        torch.cuda.init()
    recorder = cupti_activity.attach()
    adapter = _adapter(given)
    recorder.run = adapter.run if IMAGES[given.variant] == "torch" else _without_graph(adapter)
    trace = tracing.trace(adapter.run, recorder, RUNS, 30.0)
    kinds = ("kernel", "memcpy", "memset") if IMAGES[given.variant] == "torch" else ("kernel",)
    records = [record for record in trace.recording.records if record.kind in kinds]
    what = f"{', '.join(kinds)}; dropped {trace.recording.dropped}; {trace.recording.message or 'nothing amiss'}"
    return _figures(sum(record.end_ns - record.start_ns for record in records), len(records), len(trace.walls), what)


def _by_torch(given: Any) -> Dict[str, Any]:
    import torch
    from torch.profiler import ProfilerActivity, profile  # type: ignore[import-not-found,unused-ignore]

    with profile(activities=[ProfilerActivity.CUDA]):  # Kineto must have been there before a graph is captured
        torch.cuda.init()
    adapter = _adapter(given)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        for _ in range(RUNS):
            adapter.run()
        adapter.synchronize()
    on_gpu = [event for event in profiled.profiler.kineto_results.events() if "CUDA" in str(event.device_type())]
    on_gpu = [event for event in on_gpu if not getattr(event, "is_user_annotation", lambda: False)()]
    return _figures(sum(event.duration_ns() for event in on_gpu), len(on_gpu), RUNS, "torch.profiler")


def _without_graph(adapter: Any) -> Any:
    """TensorRT's layers are reported only where they are enqueued one by one."""
    slot = adapter._slots[0]

    def run() -> None:
        slot._context.execute_async_v3(slot.stream.handle)
        slot.stream.synchronize()

    return run


def _by_tensorrt(given: Any) -> Dict[str, Any]:
    import tensorrt as trt  # type: ignore[import-not-found,unused-ignore]

    adapter = _adapter(given)
    layers: List[Tuple[str, float]] = []

    class Profiler(trt.IProfiler):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            layers.append((layer_name, ms))

    run = _without_graph(adapter)
    adapter._slots[0]._context.profiler = profiler = Profiler()  # type: ignore[attr-defined]
    run()
    layers.clear()
    for _ in range(RUNS):
        run()
    assert profiler is not None  # TensorRT holds no reference of its own
    return _figures(float(np.sum([ms for _, ms in layers])) * 1e6, len(layers), RUNS, "TensorRT's IProfiler, layers")


def _figures(ns: float, pieces: int, runs: int, what: str) -> Dict[str, Any]:
    return {"us": ns / runs / 1e3, "pieces": pieces / runs, "what": what}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
