"""Holds the records of CUPTI against the frameworks' own profilers on a GPU: the same cell, each in a process of its own.

    python3 -m common.harness.tracing.agreement MODEL_DIR --variant torch --precision fp16 --batch-size 32
    python3 -m common.harness.tracing.agreement MODEL_DIR --variant tensorrt --precision fp16 --batch-size 32 --batch-sizes 1,32

In the interpreter that has the framework and cupti-python, from the project's root. Compared is the time on the GPU of an
inference: with torch.profiler's kernels and copies, and with the sum that TensorRT's IProfiler tells of its layers (kernels
alone, without a graph). IProfiler times a layer from event to event, so its sum has the pauses between kernels in it and lies
between the kernels' own time and that from the first kernel to the last, which is printed too: a large batch makes them alike.

--batch-sizes: all of the sweep whose engine is to be taken; without it TensorRT builds one for this size, in minutes.

Each process makes an adapter of its own, which at the level `tuned` may choose other kernels than the other's did: then the
numbers of pieces differ, which is said, and `--tuning stock`, where nothing is tried, compares the instruments. Exit code 1
where they differ by more than 3 %, 2 where a side could not run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from common.cell import Cell
from common.harness.adapter import Adapter, DeviceOutOfMemory, Unsupported
from common.harness.reference import Reference
from common.harness.rows import one_line
from common.harness.tracing import CannotTrace, Record, Wall, inference_of
from common.harness.worker import expect, import_adapter, tune
from common.model_files import ModelFiles
from common.typed_json import last_object

RUNS = 20
LIMIT = 0.03
#: of the number of pieces: beyond it the two sides ran other kernels
SAME_PIECES = 0.005
#: messages of our own and of files and imports, which say all
_REASONS = (Unsupported, CannotTrace, ImportError, OSError, ValueError)
#: what memory and the driver end a side with; CUDA's errors are RuntimeErrors in PyTorch and TensorRT
_FAILURES = (DeviceOutOfMemory, MemoryError, RuntimeError)
IMAGES = {"torch": "torch", "torchcompile": "torch", "tensorrt": "tensorrt"}


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("--variant", choices=sorted(IMAGES), default="torch")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--batch-sizes", help="comma list of the sweep whose TensorRT engine to take: FRAMEWATT_BATCH_SIZES"
    )
    parser.add_argument("--io", choices=["host", "device"], default="host")
    parser.add_argument("--tuning", choices=["stock", "tuned"], default="tuned")
    parser.add_argument(
        "--cache", help="default: data/framework-cache/processes/IMAGE, where sweeps keep their engines"
    )
    parser.add_argument("--side", choices=["cupti", "own"], help="for the processes that this one starts")
    given = parser.parse_args(arguments)
    if given.batch_sizes:
        os.environ["FRAMEWATT_BATCH_SIZES"] = given.batch_sizes
    try:
        if given.side:
            print(json.dumps(_side(given)))
            return 0
        found = {side: _measured(side, arguments) for side in ("cupti", "own")}
    except Exception as error:
        if not _cannot_run(error):
            raise
        name = type(error).__name__
        message = str(error) if isinstance(error, _REASONS) else f"{name}: {error}" if str(error) else ""
        print(f"error: {one_line(message) or name}", file=sys.stderr)
        return 2
    return _compare(given, found["cupti"], found["own"])


def _cannot_run(error: Exception) -> bool:
    """Whether it is this machine, model or framework, not a mistake of this program, that ends a side.

    A library's own exceptions are such, too: PyCUDA's derive from Exception alone.
    """
    return isinstance(error, (*_REASONS, *_FAILURES)) or type(error).__module__ != "builtins"


def _measured(side: str, arguments: List[str]) -> Dict[str, Any]:
    """Figures of one side, of a process of its own. Raises CannotTrace where it ends without any."""
    command = [sys.executable, "-m", "common.harness.tracing.agreement", *arguments, "--side", side]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    figures = last_object(done.stdout)
    if done.returncode:
        raise CannotTrace(f"the side '{side}' ended with exit code {done.returncode}; what it printed stands above")
    if not figures:
        raise CannotTrace(f"the side '{side}' ended without figures; its last line is '{done.stdout.strip()[-200:]}'")
    us, pieces = figures["us"], figures["pieces"]
    print(f"{side}: {us:.1f} us an inference on the GPU, {pieces:.1f} pieces ({figures['what']})", flush=True)
    return figures


def _compare(given: Any, cupti: Dict[str, Any], own: Dict[str, Any]) -> int:
    """Prints the ratio; 1 where it is beyond the limit, 2 where one side saw nothing, else 0."""
    if not cupti["us"] or not own["us"]:
        print("error: one side saw nothing on the GPU, so there is nothing to compare", file=sys.stderr)
        return 2
    ratio = cupti["us"] / own["us"]
    cell = f"{given.variant} {given.precision} {given.tuning} batch {given.batch_size} io={given.io}"
    print(f"{cell}: CUPTI / own profiler = {ratio:.4f}")
    same = abs(cupti["pieces"] / own["pieces"] - 1) <= SAME_PIECES
    if IMAGES[given.variant] == "tensorrt" and cupti.get("span_us"):
        print(
            f"From the first kernel to the last CUPTI tells {cupti['span_us']:.1f} us; IProfiler's sum has these pauses in it"
        )
    if IMAGES[given.variant] == "torch" and not same:
        cure = "" if given.tuning == "stock" else "; --tuning stock tries none"
        print(f"The numbers of pieces differ, so the two processes ran other kernels: this compares kernels, too{cure}")
    return int(abs(ratio - 1) > LIMIT)


def _side(given: Any) -> Dict[str, Any]:
    if given.side == "cupti":
        return _by_cupti(given)
    return _by_torch(given) if IMAGES[given.variant] == "torch" else _by_tensorrt(given)


def cache_of(given: Any) -> Path:
    """Where a sweep by processes of this machine keeps what it compiled."""
    data = Path(os.environ.get("FRAMEWATT_DATA") or "data")
    return Path(given.cache or data / "framework-cache" / "processes" / IMAGES[given.variant]).resolve()


@contextmanager
def _adapter(given: Any) -> Iterator[Any]:
    """Loaded and prepared, and warm; closed at the end, whatever happens: PyCUDA aborts a process that ends with a context open.

    The error of a failure is kept, although closing fails too, as it may on a GPU that has failed.
    """
    cache = str(cache_of(given))
    os.environ.setdefault("FRAMEWATT_CACHE_DIR", cache)  # read while a framework is imported
    adapter = import_adapter(Path(f"images/{IMAGES[given.variant]}/adapter.py"))(given.variant)
    try:
        _prepare(adapter, given, cache)
        yield adapter
    except BaseException:
        with suppress(Exception):
            adapter.close()
        raise
    adapter.close()


def _prepare(adapter: Adapter, given: Any, cache: str) -> None:
    model = ModelFiles.read(Path(given.model_dir))
    cell = Cell(
        model=model.name, variant=given.variant, precision=given.precision, batch_size=given.batch_size, io=given.io,
        device="gpu0", tuning=given.tuning,
    )  # fmt: skip
    tune(adapter, given.tuning)
    why_not = adapter.supports(cell)
    if why_not is not None:
        raise Unsupported(why_not)
    adapter.load(model, given.precision, "cuda:0", cache, None)
    expect(adapter, cell)
    adapter.prepare(Reference.read(model).batches(given.batch_size)[0], given.io)
    for _ in range(RUNS):
        adapter.run()


def _by_cupti(given: Any) -> Dict[str, Any]:
    from common.harness import tracing
    from common.harness.tracing import cupti_activity

    if IMAGES[given.variant] == "torch":
        _torch_on_gpu().cuda.init()
    recorder = cupti_activity.attach()
    with _adapter(given) as adapter:
        recorder.run = adapter.run if IMAGES[given.variant] == "torch" else _without_graph(adapter)
        trace = tracing.trace(adapter.run, recorder, RUNS, 30.0)
    kinds = ("kernel", "memcpy", "memset") if IMAGES[given.variant] == "torch" else ("kernel",)
    records = [record for record in trace.recording.records if record.kind in kinds]
    what = f"{', '.join(kinds)}; dropped {trace.recording.dropped}; {trace.recording.message or 'nothing amiss'}"
    figures = _figures(sum(record.end_ns - record.start_ns for record in records), len(records), len(trace.walls), what)
    return {**figures, "span_us": _span_us(records, trace.walls, trace.recording.clock_error_ns or 0)}


def _span_us(records: Sequence[Record], walls: Sequence[Wall], slack_ns: int) -> float:
    """From the first record of an inference to its last, on average."""
    spans: Dict[int, Wall] = {}
    for record, inference in zip(records, inference_of([one.start_ns for one in records], walls, slack_ns)):
        if inference is not None:
            start_ns, end_ns = spans.get(inference, (record.start_ns, record.end_ns))
            spans[inference] = (min(start_ns, record.start_ns), max(end_ns, record.end_ns))
    return sum(end_ns - start_ns for start_ns, end_ns in spans.values()) / 1e3 / max(len(spans), 1)


def _torch_on_gpu() -> Any:
    import torch  # type: ignore[import-not-found,unused-ignore]

    if not torch.cuda.is_available():
        raise Unsupported(f"torch {torch.__version__} finds no GPU that it can use")
    return torch


def _by_torch(given: Any) -> Dict[str, Any]:
    torch = _torch_on_gpu()
    from torch.profiler import ProfilerActivity, profile  # type: ignore[import-not-found,unused-ignore]

    with profile(activities=[ProfilerActivity.CUDA]):  # Kineto must have been there before a graph is captured
        torch.cuda.init()
    with _adapter(given) as adapter, profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
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
        slot._execute(slot.stream)
        slot.stream.synchronize()

    return run


def _by_tensorrt(given: Any) -> Dict[str, Any]:
    layers: List[Tuple[str, float]] = []
    with _adapter(given) as adapter:
        # not imported here: TensorRT 8.6 has to be loaded in the way that the adapter does it
        base: Any = adapter._trt.IProfiler

        class Profiler(base):  # type: ignore[misc]
            def __init__(self) -> None:
                base.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                layers.append((layer_name, ms))

        run = _without_graph(adapter)
        adapter._slots[0]._context.profiler = profiler = Profiler()
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
