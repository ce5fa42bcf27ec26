"""What a command or a plan would measure, before it does."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import tasks
from common.errors import UserError
from common.host.bench.dry_run import dry_run, dry_run_of_plan
from common.host.frameworks.scaffold import new_image
from common.host.paths import DataFolder
from common.host.plan import plan_file
from common.host.plan.jobs import Size
from common.host.plan.options import Options
from tests.common.host.bench.test_command import bytes_model, data, images

__all__ = ["data", "images"]


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def output(where: Console) -> str:
    return str(where.file.getvalue())  # type: ignore[attr-defined]


def test_cells_workers_and_the_least_time_of_a_command(images: Path, console: Console) -> None:
    options = Options(
        framework="abacus", device="cpu", batch_sizes="1,8", precision="fp32", io="host,device", replicates=3,
        min_seconds=2.0, idle_seconds=1.0,
    )  # fmt: skip
    # 2 batch sizes in 2 kinds of io by 3 workers, each a window of 2 s between two idle spells of 1 s
    assert dry_run(options, console, images) == Size(4, 1, 4 * 3 * (2.0 + 2 * 1.0))
    assert "framework abacus" in output(console)
    assert "48 s" in output(console)
    assert "Nothing was measured" in output(console)


def test_a_plan_is_reported_run_by_run_and_as_a_whole(images: Path, tmp_path: Path, console: Console) -> None:
    file = tmp_path / "two.toml"
    file.write_text(
        'device = "gpu"\nframework = "abacus"\nmin_seconds = 10\nidle_seconds = 0\nreplicates = 1\n'
        "[[sweep]]\nbatch_sizes = [1, 8]\n[[sweep]]\nbatch_sizes = 32\n"
    )
    with pytest.raises(UserError, match=r"two.toml line 6: abacus does not run on a GPU"):
        dry_run_of_plan(plan_file.read(file), console, images)
    file.write_text(file.read_text().replace("gpu", "cpu"))
    assert dry_run_of_plan(plan_file.read(file), console, images) == Size(3, 2, 30.0)
    lines = output(console).splitlines()
    assert [line.split()[-2:] for line in lines[1:4]] == [["20", "s"], ["10", "s"], ["30", "s"]]
    assert "2 runs" in lines[3]


def test_a_model_that_is_here_decides_as_in_the_real_run(
    images: Path, data: DataFolder, tmp_path: Path, console: Console
) -> None:
    bytes_model(data, fixed_batch=8)
    options = Options(framework="abacus", device="cpu", precision="fp32", input="float32,uint8")
    assert dry_run(options, console, images, data).cells == 1
    assert "MobileNetV3L takes batches of 8 alone" in output(console)
    assert "MobileNetV3L takes pictures of bytes: it is fed uint8" in output(console)
    assert dry_run(options, console, images, DataFolder(tmp_path / "nothing")).cells == 7 * 2


def test_what_cannot_run_is_said(images: Path, console: Console) -> None:
    with pytest.raises(UserError, match="unknown framework"):
        dry_run(Options(framework="abacuss", device="cpu"), console, images)
    with pytest.raises(UserError, match="tensorrt has no versions to choose from"):
        dry_run(Options(version="tensorrt@10.1", device="gpu"), console)
    with pytest.raises(UserError, match="unknown device"):
        dry_run(Options(framework="abacus", device="tpu"), console, images)
    with pytest.raises(UserError, match="--items-per-sample 4 needs a name"):
        dry_run(Options(framework="abacus", device="cpu", items_per_sample=4), console, images)
    with pytest.raises(UserError, match="no name of an item"):
        dry_run(Options(framework="abacus", device="cpu", item="a,b", items_per_sample=4), console, images)
    assert output(console) == ""


@pytest.mark.parametrize("runs", ["", ",", " "])
def test_missing_of_no_runs_is_refused_and_measures_nothing(
    runs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tasks, "_run_plan", lambda *_: pytest.fail("it measures"))
    with pytest.raises(SystemExit) as ended:
        tasks.bench_task.body(None, plan="reference", missing=runs)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: --missing names no runs; give names")


def test_what_the_real_run_leaves_out_is_said_once(images: Path, tmp_path: Path, console: Console) -> None:
    new_image("bare", images)
    dockerfile = images / "bare" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + 'LABEL framewatt.variant.bare.tuning="tuned"\n')
    with (images / "abacus" / "Dockerfile").open("a") as other:
        other.write('LABEL framewatt.variant.abacus.tuning="stock tuned"\n')
    options = Options(framework="abacus,bare", device="cpu", tuning="stock", batch_sizes="1")
    assert dry_run(options, console, images).cells == 1
    assert "not measured stock: bare" in output(console)
    plan = tmp_path / "two.toml"
    plan.write_text(
        'device = "cpu"\ntuning = "stock"\nframework = ["abacus", "bare"]\n[[sweep]]\nbatch_sizes = 1\n[[sweep]]\n'
    )
    of_plan = Console(file=io.StringIO(), width=200)
    dry_run_of_plan(plan_file.read(plan), of_plan, images)
    assert output(of_plan).count("not measured stock: bare") == 1


@pytest.mark.parametrize("option", ["tuning", "precision"])
def test_all_stands_alone(images: Path, console: Console, option: str) -> None:
    with pytest.raises(UserError, match=f"^--{option} all means every one: it stands alone, not beside x$"):
        dry_run(Options(framework="abacus", device="cpu", **{option: "all,x"}), console, images)
