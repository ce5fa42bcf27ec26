"""What cells lose when all GPUs are busy: simulated runs whose loss is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.comparisons.gpus_together import lines, main, measure
from analysis.database.open_runs import open_runs
from common.errors import UserError
from common.host.runs.archive import seal
from tests.analysis.conftest import Build

MS = 10**6
GPUS = 8


def run_of(build: Build, name: str, gpus: range, slower: dict[str, float], seconds: int, workers: int = 3) -> Path:
    """slower: io -> factor of the durations."""
    run = build(name)
    run.run_json(
        devices=[{"device": f"gpu{gpu}", "uuid": f"GPU-{gpu}", "name": "H100", "processes": []} for gpu in gpus],
        created_utc="2026-01-02T03:00:00+00:00", finished_utc=f"2026-01-02T03:{seconds // 60:02d}:{seconds % 60:02d}+00:00",
    )  # fmt: skip
    for gpu in gpus:
        run.device, run.uuid = f"gpu{gpu}", f"GPU-{gpu}"
        for io, factor in slower.items():
            for replicate in range(workers):
                rng = np.random.default_rng([gpu, replicate, len(name), len(io)])
                level = 10 * factor * (1 + 0.002 * rng.standard_normal())
                durations = (rng.normal(level, 0.05, 300) * MS).astype(int)
                run.cell("torch", 32, durations_ns=durations, io=io, replicate=replicate, device_uuid=f"GPU-{gpu}")
    return Path(run.folder)


@pytest.fixture
def runs(build: Build) -> tuple[list[Path], Path]:
    alone = [run_of(build, f"alone{gpu}", range(gpu, gpu + 1), {"device": 1.0, "host": 1.0}, 60) for gpu in range(GPUS)]
    return alone, run_of(build, "together", range(GPUS), {"device": 1.0, "host": 1.25}, 80)


def test_the_loss_of_each_configuration_is_found(runs: tuple[list[Path], Path]) -> None:
    found = measure(*runs)
    shared = {one.row["io"]: one for one in found.configurations}
    assert shared["device"].verdict == "within" and shared["host"].verdict == "outside"
    for io, truth in (("device", 1.0), ("host", 0.8)):
        one = shared[io]
        assert one.low <= truth <= one.high and one.high / one.low < 1.01
        assert list(one.gpus) == [f"gpu{gpu}" for gpu in range(GPUS)]
        assert all(ratio == pytest.approx(truth, rel=0.02) for ratio in one.gpus.values())
    assert (found.wall_s, found.alone_s, found.unpaired) == (80, 480, [])
    text = "\n".join(lines(found))
    assert "outside |" in text and "within |" in text and "6.00 times as long" in text


def test_a_gpu_without_a_run_alone_is_named_and_left_out(runs: tuple[list[Path], Path]) -> None:
    found = measure(runs[0][:6], runs[1])
    assert found.unpaired == ["gpu6", "gpu7"]
    assert all(len(one.gpus) == 6 for one in found.configurations)
    text = "\n".join(lines(found))
    assert "No run alone of gpu6, gpu7" in text
    assert "times as long" not in text, "six runs alone are not eight GPUs one after the other"
    assert "360 s for gpu0, gpu1, gpu2, gpu3, gpu4, gpu5 alone" in text and "not known without gpu6, gpu7" in text


def test_a_run_of_a_gpu_that_is_not_among_them_adds_no_time(runs: tuple[list[Path], Path], build: Build) -> None:
    elsewhere = run_of(build, "elsewhere", range(9, 10), {"device": 1.0, "host": 1.0}, 50)
    assert measure([*runs[0], elsewhere], runs[1]).alone_s == 480


def test_sealed_runs_are_taken_too(runs: tuple[list[Path], Path], capsys: pytest.CaptureFixture[str]) -> None:
    alone, together = seal(runs[0][0]), seal(runs[1])
    assert main([str(alone), "--together", str(together)]) == 0
    assert "No run alone of gpu1, gpu2" in capsys.readouterr().out


def test_one_worker_a_side_has_no_interval(build: Build) -> None:
    alone = run_of(build, "alone", range(1), {"device": 1.0}, 60, workers=1)
    (one,) = measure([alone], run_of(build, "together", range(1), {"device": 1.0}, 60, workers=1)).configurations
    assert one.verdict == "unknown: one worker a side"


def test_a_cell_of_one_inference_tells_nothing(build: Build) -> None:
    alone = run_of(build, "alone", range(1), {"device": 1.0}, 60)
    together = run_of(build, "together", range(1), {"device": 1.0}, 60)
    for folder in (alone, together):
        for cell in folder.glob("cells/*/samples.csv"):
            cell.write_text("".join(cell.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(UserError, match="was measured with its GPU alone"):
        measure([alone], together)


def test_other_gpus_are_no_pair(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    alone = run_of(build, "alone", range(3, 4), {"device": 1.0}, 60)
    together = run_of(build, "together", range(1), {"device": 1.0}, 60)
    with pytest.raises(UserError, match="was measured with its GPU alone"):
        measure([alone], together)
    assert main([str(alone), "--together", str(together)]) == 2
    assert capsys.readouterr().err.startswith("error: no cell of together")


def test_a_machine_with_few_cores_marks_its_cells(build: Build) -> None:
    run = build("few")
    run.cell("torch", 1, durations_ns=[MS] * 100)
    document = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**document, "placement": {"short": "8 GPUs at once on 9 cores"}}))
    with open_runs([run.folder]) as database:
        (mark,) = database.query("FROM marks WHERE mark = 'cores'")
    assert mark["why"] == "8 GPUs at once on 9 cores"
