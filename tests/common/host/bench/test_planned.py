"""A plan from its file to its runs: the same request as by options, on until done, and complaints of what no run can take."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import UserError
from common.host.bench import planned
from common.host.bench.command import bench
from common.host.bench.planned import plan_of_run, run_plan
from common.host.devices import Device
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, DataFolder
from common.host.plan import plan_file
from common.host.plan.jobs import make_plan
from common.host.plan.options import Options
from common.host.plan.plan_file import options_given, read_plan, title_of
from common.host.plan.request import Request, request_of
from common.host.runs.keep import keep
from tests.common.host.bench.test_command import OPTIONS, data, images

__all__ = ["data", "images"]

PLAN = f"""
device = "cpu"
runner = "local"
python = "{sys.executable}"
framework = "abacus"
replicates = 1
min_seconds = 0.05
max_seconds = 0.2
warmup_seconds = 0.05
idle_seconds = 0.0
cell_timeout = 60
images = 1
[settings]
min_samples = 5
precision_of_median = 0.5
"""
TWO = """
[[sweep]]
batch_sizes = 1
[[sweep]]
batch_sizes = 8
"""


def console() -> Console:
    return Console(file=io.StringIO(), width=300)


def output(where: Console) -> str:
    return str(where.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.toml"
    path.write_text(PLAN + TWO)
    return path


def test_a_plan_reproduces_a_runs_request_exactly(images: Path, data: DataFolder, tmp_path: Path) -> None:
    first = bench(OPTIONS, console(), data, images).run
    file = tmp_path / "again.toml"
    file.write_text(plan_of_run(first.folder, {}))
    (second,) = run_plan(read_plan(str(file), {}, console()), console(), data, images).runs
    assert second.folder != first.folder
    for name in ("request", "settings", "seed", "plan"):
        assert second.description[name] == first.description[name], name
    assert second.description["plan_file"]["name"] == "again"
    assert second.description["plan_file"]["hash"] == plan_file.read(file).hash
    # and of what is committed of it
    (kept,) = keep([first.folder], tmp_path / "kept")
    assert 'framework = ["abacus"]' in plan_of_run(kept, {})
    assert sys.executable not in plan_of_run(kept, {"seed": 3})


def test_a_repeated_command_goes_on_until_all_runs_are_done(
    images: Path, data: DataFolder, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = read_plan(str(file), {}, console())
    calls: list[Options] = []

    def failing(options: Options, *arguments: object, **more: object) -> object:
        calls.append(options)
        if options.batch_sizes == "8" and len(calls) == 2:
            raise UserError("the machine was taken away")
        return bench(options, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(planned, "bench", failing)
    first = run_plan(plan, console(), data, images)
    assert [run.description["plan_file"]["sweep"] for run in first.runs] == [1]
    assert list(first.missing.values()) == ["the machine was taken away"]
    out = console()
    second = run_plan(plan, out, data, images)
    assert "2 runs, 1 of them done before" in output(out)
    assert [options.batch_sizes for options in calls] == ["1", "8", "8"]
    assert [run.description["plan_file"]["sweep"] for run in second.runs] == [1, 2]
    assert second.runs[0].folder == first.runs[0].folder
    assert not second.missing
    # all is there: once more means anew
    third = run_plan(plan, console(), data, images)
    assert {run.description["plan_file"]["round"] for run in third.runs} == {2}
    assert len(third.runs) == 2


def test_a_run_that_was_cut_short_is_continued(images: Path, data: DataFolder, file: Path) -> None:
    plan = read_plan(str(file), {}, console())
    first = run_plan(plan, console(), data, images).runs[1]
    (key,) = first.existing_cells()
    shutil.rmtree(first.folder / "cells" / key)
    first.description["finished_utc"] = None
    first.save()
    again = run_plan(plan, console(), data, images)
    assert again.runs[1].folder == first.folder
    assert again.runs[1].existing_cells() == {key}


def test_what_was_typed_beside_wins_and_is_said(file: Path) -> None:
    out = console()
    plan = read_plan(str(file), {"batch_sizes": "32", "io": "device"}, out)
    assert [one.options.batch_sizes for one in plan.sweeps] == ["32"]
    assert "--batch-sizes 32 overrides two.toml, which says 1 and 8" in output(out)
    assert "--io device overrides two.toml\n" in output(out)


def test_what_was_typed_as_the_plan_has_it_overrides_nothing(file: Path) -> None:
    (value,) = {one.options.framework for one in read_plan(str(file), {}, console()).sweeps}
    out = console()
    plan = read_plan(str(file), {"framework": value, "io": "host", "tuning": "stock"}, out)
    assert {(one.options.framework, one.options.io) for one in plan.sweeps} == {(value, "host")}
    assert output(out) == "--tuning stock overrides two.toml\n"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("framework = 'abacuss'", r"line 3, framework: unknown framework 'abacuss'.*Did you mean abacus\?"),
        ("framework = 'abacus'\n\nprecision = 'fp61'", "line 5, precision: unknown precision 'fp61'"),
        ("framework = 'abacus'\nbatch_sizes = [1, 0]", "line 4, batch_sizes: batch size 0 is not possible"),
        ("framework = 'abacus'\nrate = 5", "line 4, rate: --rate is for --scenario server"),
        ("framework = 'abacus'\nscenario = 'server'", "line 4, scenario: .*needs --rate"),
        ("framework = 'abacus'\nmodel = 'MobilNet'", "line 4, model: .*MobilNet"),
        ("framework = 'abacus'\nmin_seconds = 5\nmax_seconds = 2", "line 5, max_seconds: --max-seconds 2 is less"),
        ("framework = 'abacus'\nmin_seconds = -5", "line 4, min_seconds: --min-seconds must be more than zero"),
        ("framework = 'abacus'\nrunner = 'dokcer'", "line 4, runner: unknown runner 'dokcer'"),
        ("framework = 'abacus'\npython = 'no/such/python'", "line 4, python: --python no/such/python is not"),
        ("framework = 'abacus'\n[[sweep]]\nio = 'host'\n[[sweep]]\nio = 'hots'", "line 7, io: unknown io 'hots'"),
    ],
)  # fmt: skip
def test_what_no_run_can_take_is_said_with_line_and_key_before_anything_is_made(
    lines: str, words: str, images: Path, data: DataFolder, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(f"# a plan\ndevice = 'cpu'\n{lines}\n")
    with pytest.raises(UserError, match=words):
        run_plan(read_plan(str(file), {}, console()), console(), data, images)
    assert not data.results.exists()


def test_a_run_that_does_not_say_its_options(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"command": "invoke bench --quick"}))
    with pytest.raises(UserError, match="does not say its options; its command was: invoke bench --quick"):
        plan_of_run(tmp_path, {})
    (tmp_path / "run.json").write_text(json.dumps({"options": {"framework": 3}}))
    with pytest.raises(UserError, match="framework is 3, not text"):
        plan_of_run(tmp_path, {})
    (tmp_path / "run.json").write_text(json.dumps({"options": {"colour": "red"}}))
    with pytest.raises(UserError, match="was asked for colour, which is no option here"):
        plan_of_run(tmp_path, {})


GPU = Device("gpu0", "gpu", "NVIDIA H100 80GB HBM3", "GPU-0", {"compute_capability": "9.0"})
CPU = Device("cpu", "cpu", "a processor")


@pytest.mark.parametrize("path", sorted(plan_file.PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_plan_of_the_project_can_be_taken(path: Path) -> None:
    plan = plan_file.read(path)
    assert plan.name == path.stem
    titles = [title_of(one.options) for one in plan.sweeps]
    assert len(set(titles)) == len(titles), "two of its runs are the same"
    for one in plan.sweeps:
        device = CPU if one.options.device == "cpu" else GPU
        request = request_of(one.options, load_images(IMAGES), [device], console())
        assert [variant.name for variant in request.variants] == one.options.framework.split(",")


@pytest.mark.parametrize("path", sorted(plan_file.PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_run_of_every_plan_of_the_project_is_asked_for_again_exactly(path: Path, tmp_path: Path) -> None:
    """What run.json keeps of each of its runs, written as a plan and read again, is the same request."""
    known = load_images(IMAGES)

    def request(options: Options) -> Request:
        return request_of(options, known, [CPU if options.device == "cpu" else GPU], console())

    def again(requested: dict[str, object]) -> Options:
        (tmp_path / "run.json").write_text(json.dumps({"options": requested}))
        (tmp_path / "again.toml").write_text(plan_of_run(tmp_path, {}))
        (one,) = plan_file.read(tmp_path / "again.toml").sweeps
        return one.options

    for sweep in plan_file.read(path).sweeps:
        requested, wanted = options_given(sweep.options), request(sweep.options)
        repeated = again(requested)
        assert repeated == sweep.options
        assert request(repeated) == wanted
        assert request(repeated).fingerprint() == wanted.fingerprint()
        for changed in (
            {"batch_sizes": "3"},
            {"min_seconds": 1.75},
            {"threads": 7},
            {"io": "device", "input": "uint8"},
        ):
            assert request(again({**requested, **changed})).fingerprint() != wanted.fingerprint(), "it is no tautology"


def test_the_reference_plan_has_what_a_reader_is_promised() -> None:
    found, order = set(), []
    for sweep in plan_file.read(plan_file.find("reference")).sweeps:
        request = request_of(sweep.options, load_images(IMAGES), [GPU], console())
        assert request.replicates == 3
        assert [load.scenario for load in request.loads] in (["single-stream"], ["offline"])
        order.append((request.model, *request.tunings, *request.io_modes))
        for job in make_plan(request, 0):
            found |= {
                (c.model, c.variant, c.precision, c.tuning, c.io, c.scenario, c.input, c.batch_size) for c in job.cells
            }
    assert order[0] == ("MobileNetV3L", "stock", "tuned", "host"), "TensorRT is first; it has two levels"
    assert list(dict.fromkeys(model for model, *_ in order))[:3] == ["MobileNetV3L", "BERT-base", "ViT-B16"]
    nine = ["tensorrt", "onnxrt", "torch", "torchcompile", "tf", "tfxla", "keras", "kerasxla", "jax"]
    rewritten = {("MobileNetV3L", "torch"), ("MobileNetV3L", "onnxrt"), ("ResNet50", "torch")}
    wanted = set()
    for model, precision, framework in itertools.product(
        ("MobileNetV3L", "ResNet50", "BERT-base", "ViT-B16"), ("fp32", "tf32", "fp16"), nine
    ):
        images = model in ("MobileNetV3L", "ResNet50")
        sizes = (1, 8, 32, 128, 512) if images else (1, 8, 32, 128)
        levels = ("stock", "tuned", "rewritten") if (model, framework) in rewritten else ("stock", "tuned")
        cell = (model, framework, precision)
        for level, io_mode, size in itertools.product(levels, ("host", "device"), sizes):
            wanted.add((*cell, level, io_mode, "single-stream", "float32", size))
        if images:
            wanted |= {(*cell, "tuned", "host", "single-stream", "uint8", size) for size in sizes}
        if framework in ("tensorrt", "torch", "onnxrt"):
            wanted |= {
                (*cell, "tuned", io_mode, "offline", "float32", size)
                for io_mode in ("host", "device") for size in (32, sizes[-1])
            }  # fmt: skip
    assert found == wanted


def test_the_demo_asks_for_what_it_always_did() -> None:
    """Windows of a second, as README's figures were measured, and a cap that no compiler meets."""
    (sweep,) = plan_file.read(plan_file.find("demo")).sweeps
    wanted = Options(
        framework="tf,tfxla,keras,kerasxla,onnxrt,openvino,torch", device="cpu", batch_sizes="1,8,32", quick=True,
        runner="local",
        settings={
            "min_seconds": 1.0, "max_seconds": 3.0, "warmup_max_seconds": 1.0, "idle_seconds": 0.2,
            "cell_timeout_s": 240.0, "min_samples": 5,
        },
    )  # fmt: skip
    requests = [request_of(options, load_images(IMAGES), [CPU], console()) for options in (wanted, sweep.options)]
    assert requests[0] == requests[1]
    assert requests[0].fingerprint() == replace(requests[1]).fingerprint()
