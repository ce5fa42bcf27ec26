"""A sweep of a toy framework as a process: `sweep.py DATA IMAGES [device [runner]]`, ending as `invoke sweep` would.

SWEEP_GPU: as `--gpu`. SWEEP_BATCHES: as `--batch-sizes`. SWEEP_SHARES: "0 1 0": CPUs of the workers of gpu0 and gpu1, and of
the sidecars, in place of what this machine's cores would give. With the docker runner its
containers see the NVML stand-in that this process sees, in place of a GPU.

Exit codes: 0 done, 2 one line says what a person can mend, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from common.errors import UserError
from common.host.bench.command import bench
from common.host.paths import DataFolder
from common.host.plan.options import Options

SETTINGS = {
    "min_seconds": 0.05, "max_seconds": 0.2, "min_samples": 16, "min_images": 16, "precision_of_median": 0.5,
    "warmup_max_seconds": 0.05, "idle_seconds": 0.02, "cell_timeout_s": 30.0, "device_time_runs": 3,
}  # fmt: skip


def pretend_gpus() -> None:
    """A container that asks for a GPU gets the stand-in's library, which FRAMEWATT_CONTAINER_MOUNTS shows it."""
    from common.host.runners.containers.runner import DockerRunner

    library = {"LD_LIBRARY_PATH": os.environ["LD_LIBRARY_PATH"]}
    DockerRunner._device_arguments = lambda self, device: {"environment": library}  # type: ignore[method-assign]


def share_out(cpus: str) -> None:
    """Workers of gpu0, gpu1, ... and the sidecars get one CPU each."""
    from common.host.bench import opening
    from common.host.placement import Placement, Share

    *workers, sidecars = map(int, cpus.split())
    shares = {f"gpu{number}": Share((cpu,), True, 0) for number, cpu in enumerate(workers)}
    opening.placement_of = lambda devices, cpus="": Placement(shares, (sidecars,))  # type: ignore[assignment]


def main(data: str, images: str, device: str = "gpu", runner: str = "local") -> int:
    options = Options(
        device=device, gpu=os.environ.get("SWEEP_GPU", ""), model="MobileNetV3S", weights="seeded", replicates=2,
        batch_sizes=os.environ.get("SWEEP_BATCHES", "1,2,3,4"), runner=runner, threads=1, settings=SETTINGS,
    )  # fmt: skip
    if "SWEEP_SHARES" in os.environ:
        share_out(os.environ["SWEEP_SHARES"])
    if runner == "local":
        options = replace(options, python=sys.executable)
    else:
        options = replace(options, gpu_driver="cdi")
        pretend_gpus()
    try:
        outcome = bench(options, Console(width=200), DataFolder(Path(data)), Path(images))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for message in outcome.errors:
        print(f"error: {message}", file=sys.stderr)
    return 130 if outcome.interrupted else 2 if outcome.errors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
