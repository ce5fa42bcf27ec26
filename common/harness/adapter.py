"""What an adapter is: the only thing that a framework has to bring to be measured.

`images/<image>/adapter.py` defines `create(variant: str) -> Adapter`. The worker imports it by path and calls, in
this order: create, supports, load, then for each batch size prepare (and prepare again with other values of the
same shapes), run / enqueue + synchronize / run_timed, output; close at the end. The framework is imported in `create`, not at the
top of the file, so that the `import` phase can be timed and `unsupported` can be said without it.

An adapter may have three methods more, which are called where they are there:

    convert(model: ModelFiles, precision: str, device: str, cache_dir: str) -> None
        Before load(): translates a form of the model into what load() reads, below cache_dir, and finds it there the next
        time. Timed as a phase of its own, `convert`, so that it is no part of load.
    tune(level: str) -> None
        Right after create(): stock, tuned or rewritten (common/schema.py, TUNINGS), of those that the labels of its variant
        name. Raises Unsupported for another. An adapter without it is tuned.
    expect(cell: Cell) -> None
        Before prepare(): the cell as it will be run, its scenario and streams included, for a framework that is compiled
        otherwise for many inferences at once. An adapter that is told of another scenario may compile anew in prepare().

run() and enqueue() may use different compiled objects, buffers and streams; both must have been made by the end of prepare() or by
their own first call, which is never timed. After enqueue() and synchronize(), output() is that of the inference enqueued
last. The adapter bounds its queue: enqueue() waits where all its buffers are in flight, and two at the least must fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Mapping, Optional, Protocol, Sequence

from common.cell import Cell
from common.model_files import ModelFiles
from common.text import brief

if (
    TYPE_CHECKING
):  # checks of the host (images/*/host_check.py) need the errors below, and numpy takes longer to import than they
    import numpy as np

#: name of an input or output -> its values
Arrays = Mapping[str, "np.ndarray"]


class Adapter(Protocol):
    """One framework variant. Methods raise DeviceOutOfMemory when memory runs out, Unsupported when it cannot be done."""

    def supports(self, cell: Cell) -> Optional[str]:
        """None, or why this cell cannot run here: it becomes the message of an `unsupported` row."""

    def load(self, model: ModelFiles, precision: str, device: str, cache_dir: str, threads: Optional[int]) -> None:
        """Reads the model; nothing batch-specific. device: "cpu" or "cuda:<ordinal>"."""

    def prepare(self, inputs: Arrays, io: str) -> None:
        """Compiles for these shapes, allocates, and places the inputs.

        inputs: one array for each of model.inputs, by name and in that order; of that dtype, C-contiguous, of the shape
        that the batch size makes of it; values as the model file expects them. only() gives the array of a single one.
        io: "host" leaves them in (pinned) host memory, so that run() copies them; "device" makes them resident.
        Called again with the same shapes and io it must only replace the values: no compilation, no allocation.
        """

    def run(self) -> None:
        """One inference; returns when its output is readable where `io` says."""

    def enqueue(self) -> None:
        """One inference without waiting for it (offline scenario); two or more may be in flight."""

    def synchronize(self) -> None:
        """Waits for everything enqueued."""

    def run_timed(self) -> Optional[int]:
        """One inference; its time on the device in ns by the framework's own events, None where it cannot tell."""

    def output(self) -> Arrays:
        """All model.outputs of the last run by name, on the host; floats as float32, others in their own dtype.

        An output of one sample may be flattened: only the order of its values counts.
        """

    def versions(self) -> Dict[str, str]:
        """Package -> version; the framework itself under the key "framework"."""

    def settings(self) -> Dict[str, str]:
        """The choices that matter for speed (graphs, layout, algorithm search, threads, TF32, ...)."""

    def device_peak_bytes(self) -> Optional[int]:
        """Peak device memory of this process since prepare() of this shape, None where the framework cannot tell."""

    def close(self) -> None:
        """Frees everything."""


# An adapter may also have `operator_profiler() -> Optional[tracing.Recorder]` (common/harness/tracing): the framework's own
# profiler of its inference on the CPU, for `invoke explain`. It is called on a fresh adapter before load(), and the recorder
# runs that adapter. Without it a cell is measured as ever, and its trace says that there is no profiler.


class Unsupported(Exception):
    """This cell cannot run on this device, version or model: an `unsupported` row with this message."""


class DeviceOutOfMemory(Exception):
    """The device ran out of memory: an `oom` row; the next batch size runs in a fresh worker."""


def only(inputs: Arrays) -> np.ndarray:
    """The array of a model that has one input. Raises Unsupported, naming them, for more."""
    if len(inputs) != 1:
        raise Unsupported(f"this adapter feeds models with one input, not {len(inputs)} ({', '.join(inputs)})")
    return next(iter(inputs.values()))


def refuse_bytes_that_come_out(model: ModelFiles, fed_as_bytes: Sequence[str]) -> None:
    """Raises Unsupported where an input that is fed as bytes is an output too: the model's numbers would come out as bytes."""
    for one in model.outputs:
        if one.name in fed_as_bytes:
            raise Unsupported(
                f"'{brief(one.name)}' is an input and an output of the model, so it cannot be fed as bytes"
            )


def batch_size_of(model: ModelFiles, inputs: Arrays) -> int:
    """Samples in a batch, by the first input that has a batch axis."""
    if model.fixed_batch is not None:
        return model.fixed_batch
    return next((inputs[one.name].shape[one.batch_axis] for one in model.inputs if one.batch_axis is not None), 1)
