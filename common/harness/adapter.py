"""What an adapter is: the only thing that a framework has to bring to be measured.

`images/<image>/adapter.py` defines `create(variant: str) -> Adapter`. The worker imports it by path and calls, in
this order: create, supports, load, then for each batch size prepare (and prepare again with other images of the
same shape), run / enqueue + synchronize / run_timed, output; close at the end. The framework is imported in `create`, not at the
top of the file, so that the `import` phase can be timed and `unsupported` can be said without it.
"""

from __future__ import annotations

from typing import Dict, Optional, Protocol

import numpy as np

from common.cell import Cell
from common.model_files import ModelFiles


class Adapter(Protocol):
    """One framework variant. Methods raise DeviceOutOfMemory when memory runs out, Unsupported when it cannot be done."""

    def supports(self, cell: Cell) -> Optional[str]:
        """None, or why this cell cannot run here: it becomes the message of an `unsupported` row."""

    def load(self, model: ModelFiles, precision: str, device: str, cache_dir: str, threads: Optional[int]) -> None:
        """Reads the model; nothing batch-specific. device: "cpu" or "cuda:<ordinal>"."""

    def prepare(self, batch: np.ndarray, io: str) -> None:
        """Compiles for this shape, allocates, and places the input.

        batch: float32, (batch_size, *model.input_shape), C-contiguous, values as the model file expects them.
        io: "host" leaves it in (pinned) host memory, so that run() copies it; "device" makes it resident.
        Called again with the same shape and io it must only replace the input: no compilation, no allocation.
        """

    def run(self) -> None:
        """One inference; returns when its output is readable where `io` says."""

    def enqueue(self) -> None:
        """One inference without waiting for it (offline scenario); two or more may be in flight."""

    def synchronize(self) -> None:
        """Waits for everything enqueued."""

    def run_timed(self) -> Optional[int]:
        """One inference; its time on the device in ns by the framework's own events, None where it cannot tell."""

    def output(self) -> np.ndarray:
        """Output of the last run: float32, (batch_size, classes), on the host."""

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
