"""The harness's side of `invoke verify`: `python -m common.harness.interleaved_side JOB.json`, see common/interleaving.py.

A block is a measured window of the single-stream scenario as a cell has it, adapter, loop and stopping rule included,
only short. It is that of the job's last cell; cells before it are prepared, warmed up and measured for a moment, as a worker that
takes several has done (`invoke selfbench --order`). The output is written to the job's run folder, for comparison.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import List, Sequence

import numpy as np

from common.harness import loop, scenarios
from common.harness.adapter import Adapter, Arrays, Unsupported
from common.harness.reference import Reference, as_fed
from common.harness.worker import expect, import_adapter, tune
from common.interleaving import Refusal, serve
from common.job import Job, Settings
from common.model_files import ModelFiles, Tensor

OUTPUT = "harness"
INPUT = "batch"
#: how long a cell before the measured one runs
_EARLIER_SECONDS = 1.0


def save(stem: Path, arrays: Arrays, tensors: Sequence[Tensor]) -> None:
    """As `stem`.npz: array_0, array_1, ... in the tensors' order, for a name may be anything."""
    values = {f"array_{number}": arrays[tensor.name] for number, tensor in enumerate(tensors)}
    np.savez(f"{stem}.npz", **values)  # type: ignore[arg-type]


class HarnessSide:
    """One prepared cell. Raises Refusal where the adapter does not support it."""

    def __init__(self, job: Job) -> None:
        *earlier, cell = job.cells
        self._cell = cell
        scenario = scenarios.find(cell.scenario)
        if scenario is None:
            raise Refusal(f"this harness has no scenario {cell.scenario}")
        self._scenario = scenario
        model = ModelFiles.read(Path(job.model_dir))
        reference = Reference.read(model)
        batch = as_fed(reference.batch(cell.batch_size), cell.input, model)
        create = import_adapter(Path(job.adapter))
        try:
            adapter = create(cell.variant)
            tune(adapter, cell.tuning)
            why_not = adapter.supports(cell)
            if why_not is not None:
                raise Refusal(why_not)
            if hasattr(adapter, "convert"):
                adapter.convert(model, cell.precision, job.device, job.cache_dir)
            adapter.load(model, cell.precision, job.device, job.cache_dir, job.threads)
            for one in earlier:
                expect(adapter, one)
                adapter.prepare(as_fed(reference.batch(one.batch_size), one.input, model), one.io)
                self._run_for_a_moment(adapter)
            expect(adapter, cell)
            adapter.prepare(batch, cell.io)
        except Unsupported as error:
            raise Refusal(str(error)) from error
        adapter.run()
        outputs = scenarios.held(adapter.output())

        def another() -> Adapter:
            raise Refusal(f"{cell.scenario} needs more than one adapter")

        self._stage = scenarios.Stage(adapter, outputs, cell.precision, another, job.seed)
        self._warmup = scenario.warm_up(self._stage, cell, job.settings, _ignore)
        run = Path(job.run_dir)
        save(run / INPUT, batch, model.inputs)
        save(run / OUTPUT, outputs, model.outputs)
        #: CPU time of the process, all its threads, in the last block
        self.cpu_ns = 0
        self.facts = {"settings": adapter.settings(), "versions": adapter.versions()}

    @staticmethod
    def _run_for_a_moment(adapter: Adapter) -> None:
        until = time.monotonic() + _EARLIER_SECONDS
        adapter.run()
        while time.monotonic() < until:
            adapter.run()

    def block(self, seconds: float) -> List[int]:
        settings = Settings(min_seconds=seconds, max_seconds=seconds, min_samples=1, min_images=1)
        with loop.collector_held() as collector_off:
            collector_off()
            began = time.process_time_ns()
            done = self._scenario.measure(self._stage, self._cell, settings, self._warmup, _ignore)
            self.cpu_ns = time.process_time_ns() - began
        return [int(duration) for duration in done.ends_ns - done.starts_ns]


def _ignore(images: int, runs: int, share: float, elapsed: float) -> None:
    """Nobody watches the progress of a block."""


if __name__ == "__main__":
    serve(lambda: HarnessSide(Job.read_here(Path(sys.argv[1]))))
