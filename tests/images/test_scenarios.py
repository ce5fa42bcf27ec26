"""All scenarios with every framework variant that runs on the CPU: a quick cell each, on a small network."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from common.cell import Cell
from common.harness.environment import worker_environment
from common.host.frameworks.registry import Image, Variant, load_images
from common.host.paths import IMAGES, ROOT
from common.job import Job, Settings
from tests.images.workshop import Once

CPU_VARIANTS = [
    (image, variant) for image in load_images(IMAGES) for variant in image.variants if variant.precisions_cpu
]

#: that of test_recipes.py, and its one thread: torch.compile then finds the kernels of whichever came first
BATCH_SIZE = 4

QUICK = Settings(
    min_seconds=0.1,
    max_seconds=0.4,
    min_samples=8,
    min_images=16,
    precision_of_median=0.5,
    warmup_max_seconds=0.2,
    idle_seconds=0.0,
    cell_timeout_s=120.0,
    batch_window_ms=5.0,
)


def interpreter(image: str) -> Path:
    python = ROOT / f".envs/{image}-cpu/bin/python"
    if not python.exists():
        pytest.skip(f"no .envs/{image}-cpu: ./invoke test makes it")
    return python


#: (image, variant, level): each variant at the level that people measure, those of other conversions or kernels at each
LEVELS = [
    (image, variant, level)
    for image, variant in CPU_VARIANTS
    for level in variant.tunings
    if level != "stock" or variant.name == "torchcompile"
]


#: image -> the variant of it that has a process of its own, as users have it; its other levels share one: a framework takes longer
#: to import than to run these cells. Other images have one variant, and each level of it such a process.
ALONE = {"torch": ("torchcompile", "tuned"), "tensorflow": ("tfxla", "tuned")}


def is_alone(image: str, variant: str, level: str) -> bool:
    return ALONE.get(image, (variant, level)) == (variant, level)


def job_of(folder: Path, model: Path, cache: Path, image: Image, variant: Variant, level: str) -> Job:
    """Writes FOLDER/job.json: a cell of each scenario, and one of a rate that nothing can serve."""
    base = {"model": "Small", "variant": variant.name, "precision": "fp32", "tuning": level}
    cells = [
        Cell(**base, batch_size=BATCH_SIZE),
        Cell(**base, batch_size=BATCH_SIZE, scenario="offline"),
        Cell(**base, batch_size=BATCH_SIZE, scenario="multi-stream", streams=2),
        Cell(**base, batch_size=BATCH_SIZE, scenario="server", target_rate_per_s=20.0),
        Cell(**base, batch_size=BATCH_SIZE, scenario="server", target_rate_per_s=1e9),
    ]
    job = Job(
        run_dir=str(folder / "run"), model_dir=str(model), adapter=str(image.adapter), image=image.name, device="cpu",
        device_name="a CPU", device_uuid="", cache_dir=str(cache), runner="local", cells=cells, settings=QUICK,
        threads=1,
    )  # fmt: skip
    folder.mkdir()
    job.write(folder / "job.json")
    return job


@pytest.fixture(scope="module")
def measured(
    small_keras: Path, torch_compiled: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Image, Variant, str], Job]:
    """measured(image, variant, level): the job of these, after it has been run."""
    once = Once()

    def measured_group(image: Image, group: list[tuple[Variant, str]], alone: bool) -> dict[tuple[str, str], Job]:
        folder = tmp_path_factory.mktemp(image.name)
        cache = torch_compiled(folder / "cache")
        made = {
            (one.name, its): job_of(folder / f"{one.name}-{its}", small_keras, cache, image, one, its)
            for one, its in group
        }
        measure(list(made.values()), alone)
        return made

    def run(image: Image, variant: Variant, level: str) -> Job:
        alone = is_alone(image.name, variant.name, level)
        group = [
            (one, its) for of, one, its in LEVELS if of.name == image.name and not is_alone(of.name, one.name, its)
        ]
        if alone:
            group = [(variant, level)]
        key = (image.name, *((one.name, its) for one, its in group))
        job: Job = once(key, lambda: measured_group(image, group, alone))[variant.name, level]
        return job

    return run


def test_what_failed_once_is_not_made_again() -> None:
    once, calls = Once(), []

    def fails() -> None:
        calls.append("fails")
        raise subprocess.TimeoutExpired("a driver", 500)

    def works() -> int:
        calls.append("works")
        return 7

    with pytest.raises(subprocess.TimeoutExpired):
        once("torch", fails)
    with pytest.raises(AssertionError, match=r"as before: .*a driver.* timed out after 500"):
        once("torch", fails)
    assert [once("jax", works), once("jax", works)] == [7, 7]
    assert calls == ["fails", "works"]


def measure(jobs: list[Job], alone: bool) -> None:
    """By the harness as it is, or by one process of the image for all jobs."""
    files = [str(Path(job.run_dir).with_name("job.json")) for job in jobs]
    program = ["-m", "common.harness"] if alone else [str(Path(__file__).with_name("workers_driver.py"))]
    environment = dict(os.environ) if alone else worker_environment(jobs[0])
    done = subprocess.run(
        [interpreter(jobs[0].image), *program, *files], capture_output=True, text=True, cwd=ROOT, timeout=500,
        check=False, env={**environment, "HOME": str(Path(files[0]).parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.framework
@pytest.mark.parametrize(
    ("image", "variant", "level"), LEVELS, ids=[f"{variant.name}-{level}" for _, variant, level in LEVELS]
)
def test_every_scenario_on_the_cpu(
    measured: Callable[[Image, Variant, str], Job], image: Image, variant: Variant, level: str
) -> None:
    interpreter(image.name)
    job = measured(image, variant, level)
    rows, imports = [], set()
    for cell in job.cells:
        folder = Path(job.run_dir) / "cells" / cell.key
        with (folder / "cell.csv").open(newline="") as file:
            rows += list(csv.DictReader(file))
        with (folder / "phases.csv").open(newline="") as file:
            imports |= {phase["start_ns"] for phase in csv.DictReader(file) if phase["phase"] == "import"}
    assert [(row["status"], row["message"]) for row in rows[:4]] == [("ok", "")] * 4
    assert all(int(row["samples"]) > 0 for row in rows[:4])
    assert rows[4]["status"] == "timeout" and "more than it can serve" in rows[4]["message"]
    assert len(imports) == 1, "a cell has imported the framework anew"
