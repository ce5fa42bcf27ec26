"""All scenarios with every framework variant that runs on the CPU: a quick cell each, on a small network."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from common.cell import Cell
from common.host.frameworks.registry import Image, Variant, load_images
from common.host.paths import IMAGES, ROOT
from common.job import Job, Settings

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


@pytest.mark.framework
@pytest.mark.parametrize(
    ("image", "variant", "level"), LEVELS, ids=[f"{variant.name}-{level}" for _, variant, level in LEVELS]
)
def test_every_scenario_on_the_cpu(
    tmp_path: Path,
    small_keras: Path,
    torch_compiled: Callable[[Path], Path],
    image: Image,
    variant: Variant,
    level: str,
) -> None:
    python, cache = interpreter(image.name), torch_compiled(tmp_path / "cache")
    base = {"model": "Small", "variant": variant.name, "precision": "fp32", "tuning": level}
    cells = [
        Cell(**base, batch_size=BATCH_SIZE),
        Cell(**base, batch_size=BATCH_SIZE, scenario="offline"),
        Cell(**base, batch_size=BATCH_SIZE, scenario="multi-stream", streams=2),
        Cell(**base, batch_size=BATCH_SIZE, scenario="server", target_rate_per_s=20.0),
        Cell(**base, batch_size=BATCH_SIZE, scenario="server", target_rate_per_s=1e9),
    ]
    job = Job(
        run_dir=str(tmp_path / "run"), model_dir=str(small_keras), adapter=str(image.adapter), image=image.name, device="cpu",
        device_name="a CPU", device_uuid="", cache_dir=str(cache), runner="local", cells=cells, settings=QUICK,
        threads=1,
    )  # fmt: skip
    job.write(tmp_path / "job.json")
    done = subprocess.run(
        [python, "-m", "common.harness", tmp_path / "job.json"],
        capture_output=True, text=True, cwd=ROOT, timeout=280, check=False, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = []
    for cell in cells:
        with (tmp_path / "run/cells" / cell.key / "cell.csv").open(newline="") as file:
            rows += list(csv.DictReader(file))
    assert [(row["status"], row["message"]) for row in rows[:4]] == [("ok", "")] * 4
    assert all(int(row["samples"]) > 0 for row in rows[:4])
    assert rows[4]["status"] == "timeout" and "more than it can serve" in rows[4]["message"]
    assert len({row["worker"] for row in rows}) == 1
