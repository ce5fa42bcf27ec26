"""Options that measure a run again, to be explained."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from common.cell import Cell
from common.errors import UserError
from common.host.bench import traced_again
from common.host.bench.traced_again import OF_CELLS, OF_WINDOWS, TAKEN_OVER, options_of_run
from common.host.devices import Device
from common.host.models import stem
from common.host.plan.options import Options
from common.host.plan.plan_file import options_given

TRIAL = "FRAMEWATT_ONNXRT_TRIAL_SECONDS"
CPU = Cell("MobileNetV3L", "torch", "fp32", 1, "host", device="cpu")


def run_of(folder, *cells, options=None, **facts):
    document = {"model": {"name": "MobileNetV3L", "hash": "abc"}, "runner": "local", **facts}
    if options is not None:
        document["options"] = options_given(options)
    (folder / "run.json").write_text(json.dumps(document))
    for cell in cells:
        (folder / "cells" / cell.key).mkdir(parents=True)
    return folder


def again_of(run, typed, cell_key=""):
    """Of a run of the data folder's own."""
    return options_of_run(run, typed, run.parent, cell_key)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs."""
    here = [Device(f"gpu{i}", "gpu", "Test GPU", f"GPU-{i}") for i in (0, 1)]
    monkeypatch.setattr(traced_again, "usable_gpus", lambda: here)
    monkeypatch.setattr("common.host.devices.usable_gpus", lambda: here)


def test_levels_inputs_and_versions_of_the_run_are_asked_for_again(tmp_path, gpus):
    run = run_of(
        tmp_path,
        replace(CPU, device="gpu0", tuning="stock", input="uint8", version="2.11.0"),
        replace(CPU, variant="onnxrt", precision="fp16", batch_size=32, device="gpu1", tuning="stock", input="uint8"),
    )
    options = again_of(run, {}).options
    assert set(options.framework.split(",")) == {"torch", "onnxrt"}
    assert (options.tuning, options.input, options.version) == ("stock", "uint8", "torch@2.11.0")
    assert set(options.precision.split(",")) == {"fp32", "fp16"}
    assert (options.io, options.device, options.gpu) == ("host", "gpu", "0,1")
    assert set(options.batch_sizes.split(",")) == {"1", "32"}


@pytest.mark.parametrize(
    ("then", "now", "says"),
    [({TRIAL: "15"}, None, [f"{TRIAL} was 15 then and is not set now"]),
     ({}, "0", [f"{TRIAL} was not set then and is 0 now"]),
     ({TRIAL: "15", "LD_PRELOAD": "/x.so", "FRAMEWATT_TRT_PROFILES": "each"}, "15", []), (None, "0", []), ([], "0", [])],
)  # fmt: skip
def test_variables_that_are_other_ones_now_are_a_line_and_never_taken_over(tmp_path, monkeypatch, then, now, says):
    monkeypatch.delenv(TRIAL, raising=False)
    if now is not None:
        monkeypatch.setenv(TRIAL, now)
    facts = {} if then is None else {"environment": then}
    run = run_of(tmp_path, replace(CPU, variant="onnxrt"), options=Options(), **facts)
    before = dict(os.environ)
    assert list(again_of(run, {}).notes) == says
    assert dict(os.environ) == before


def test_a_run_of_before_the_levels_is_tuned_and_float32(tmp_path):
    options = again_of(run_of(tmp_path, CPU), {}).options
    assert (options.tuning, options.input, options.version) == ("tuned", "float32", "")
    assert options.device == "cpu"


def test_all_that_the_run_asked_for_is_asked_for_again(tmp_path):
    picture, python = tmp_path / "cat.jpg", tmp_path / "python"
    picture.touch(), python.touch()
    asked = Options(
        model="BERT-base", shape="sequence=64", threads=3, python=str(python), image=str(picture), cpus="0-1", cell_timeout=77.0,
        item="token", items_per_sample=64, gpu_driver="cdi", memory="8g", seed=5, replicates=3, min_seconds=9.0, quick=True,
    )  # fmt: skip
    again = again_of(run_of(tmp_path, replace(CPU, model="BERT-base"), options=asked), {})
    same = [name for name in TAKEN_OVER if name != "runner"]
    assert {name: getattr(again.options, name) for name in same} == {name: getattr(asked, name) for name in same}
    assert again.options.runner == "local"
    (note,) = again.notes
    assert note.startswith("not taken over: --quick, --replicates 3, --min-seconds 9.0: ")
    assert again.options.replicates == 0


def test_every_option_is_taken_over_or_of_the_cells_or_said(tmp_path):
    scenarios = {
        "scenario",
        "streams",
        "rate",
        "batch_window_ms",
        "frontend",
    }  # cells of another one are left out, and said
    known = {*TAKEN_OVER, *OF_CELLS, *OF_WINDOWS, *scenarios, "settings", "only"}
    assert known == set(Options.__dataclass_fields__)


def test_what_auto_found_is_asked_for_by_name(tmp_path):
    facts = {"model": {"name": "MobileNetV3L", "weights": "seeded"}}
    assert again_of(run_of(tmp_path, CPU, options=Options(), **facts), {}).options.weights == "seeded"


def test_the_cells_of_the_run_alone_are_planned(tmp_path):
    other = replace(CPU, variant="onnxrt", batch_size=32)
    run = run_of(tmp_path, CPU, replace(CPU, replicate=1), other)
    assert again_of(run, {}).options.only == (other.key, CPU.key)
    alone = again_of(run, {}, replace(CPU, replicate=1).key).options
    assert (alone.framework, alone.batch_sizes, alone.only) == ("torch", "1", (CPU.key,))


def test_what_is_typed_beside_the_run_holds(tmp_path):
    run = run_of(tmp_path, replace(CPU, tuning="stock"))
    options = again_of(run, {"tuning": "rewritten", "threads": 2}).options
    assert (options.tuning, options.threads, options.only) == ("rewritten", 2, ())


def test_the_version_of_the_lock_beside_others_is_asked_for_again_too(tmp_path):
    cells = [replace(CPU, variant="onnxrt", version=version) for version in (None, "1.30.0")]
    assert again_of(run_of(tmp_path, *cells, CPU), {}).options.version == "onnxrt@1.30.0,onnxrt@locked"


def test_a_precision_with_a_dash_is_no_level(tmp_path):
    run = run_of(tmp_path, replace(CPU, variant="litert", precision="int8-dynamic", tuning="stock"))
    options = again_of(run, {}).options
    assert (options.precision, options.tuning) == ("int8-dynamic", "stock")


def test_cells_that_are_never_recorded_are_counted(tmp_path):
    run = run_of(tmp_path, CPU, replace(CPU, frontend="notebook"), replace(CPU, scenario="offline"), options=Options())
    again = again_of(run, {})
    assert again.notes == ("2 of 3 cells are of another scenario or front end and are left out",)
    with pytest.raises(UserError, match=r"_offline_.* is of the scenario"):
        again_of(run, {}, replace(CPU, scenario="offline").key)


def test_a_user_s_own_model_is_found_by_its_path(tmp_path):
    file = tmp_path / "my net.onnx"
    run = run_of(tmp_path, replace(CPU, model="my-net"), options=Options(model=str(file)))
    with pytest.raises(UserError, match=r"my net\.onnx does not exist; --model says where it is now"):
        again_of(run, {})
    file.touch()
    again = again_of(run, {})
    assert again.options.model == str(file)
    assert again.note_on_model("abc") == ""
    assert "def was measured now, abc then" in again.note_on_model("def")


def test_a_user_s_own_model_of_before_options_were_kept_is_asked_for(tmp_path):
    run = run_of(tmp_path, CPU, model={"name": "my-net", "weights": "user"})
    with pytest.raises(UserError, match="does not say which file its model my-net was; --model FILE does"):
        again_of(run, {})


def test_files_that_are_gone_are_said(tmp_path):
    asked = Options(python="/gone/python", image="/gone/cat.jpg")
    again = again_of(run_of(tmp_path, CPU, options=asked), {})
    assert (again.options.python, again.options.image) == ("", "")
    assert [note.split(" is ")[0] for note in again.notes] == ["--python /gone/python", "--image /gone/cat.jpg"]


@pytest.mark.parametrize("typed", [{}, {"device": "cpu"}])
def test_a_run_of_a_gpu_where_none_is_here_says_so(tmp_path, monkeypatch, typed):
    def none():
        raise UserError("no NVIDIA GPU can be used here; --device cpu runs on the processor")

    monkeypatch.setattr(traced_again, "usable_gpus", none)
    devices = [{"device": "gpu0", "name": "NVIDIA H200"}]
    run = run_of(tmp_path, replace(CPU, device="gpu0"), devices=devices)
    with pytest.raises(
        UserError, match=r"was measured on gpu0 \(NVIDIA H200\), a GPU, and none can be used here"
    ) as caught:
        again_of(run, typed)
    assert "--device" not in str(caught.value)


def test_the_other_kind_of_device_is_refused_and_another_gpu_is_said(tmp_path, gpus):
    (tmp_path / "cpu").mkdir()
    with pytest.raises(UserError, match="leave --gpu and --device out"):
        again_of(run_of(tmp_path / "cpu", CPU), {"gpu": "0"})
    run = run_of(tmp_path, replace(CPU, device="gpu5"), options=Options(), devices=[{"device": "gpu5", "name": "A2"}])
    with pytest.raises(UserError, match="leave --device out"):
        again_of(run, {"device": "cpu"})
    with pytest.raises(UserError, match=r"no GPU '5'.*--gpu says which one else"):
        again_of(run, {})
    again = again_of(run, {"gpu": "1"})
    assert again.options.gpu == "1"
    assert again.notes == (f"run {Path(run).name} was measured on gpu5 (A2); now it is Test GPU",)


#: a run that may be somebody else's: in another folder, unpacked, or made by a host of a fleet
ELSEWHERE = pytest.mark.parametrize(("results", "facts"), [("other", {}), (".", {"fleet": {"sweep": "s"}})])


def elsewhere(tmp_path, results, facts, **options):
    run = run_of(tmp_path, CPU, options=Options(**options), **facts)
    return lambda **typed: options_of_run(run, typed, tmp_path.parent / results)


@ELSEWHERE
@pytest.mark.parametrize(
    ("name", "file", "advice"),
    [
        ("python", "tool", r"type --python FILE \(or --runner local, for the frameworks' own environments\) beside it"),
        ("inputs", "values.npz", r"type --inputs FILE\.npz beside it"),
        ("model", "net.onnx", "type --model MODEL beside it"),
        ("model", "net.py:build", "type --model MODEL beside it"),
        ("model", "timm:resnet18", "type --model MODEL beside it"),
    ],
)
def test_no_file_that_a_run_of_somebody_else_names_is_opened_or_started(tmp_path, results, facts, name, file, advice):
    """`python` of a sealed run was once started: any program of this machine, with `runner: local`."""
    path = tmp_path / file
    (tmp_path / file.removesuffix(":build")).touch()
    named = file if file.startswith("timm") else str(path)
    explain = elsewhere(tmp_path, results, facts, **{name: named})
    with pytest.raises(UserError, match=f"comes from elsewhere .*--{name} .*{advice}"):
        explain()
    own = tmp_path / "mine.onnx"
    own.touch()
    assert getattr(explain(**{name: str(own)}).options, name) == str(own)


@ELSEWHERE
def test_of_a_run_of_somebody_else_numbers_and_known_names_alone_are_taken_over(tmp_path, results, facts):
    picture = tmp_path / "cat.jpg"
    picture.touch()
    explain = elsewhere(
        tmp_path,
        results,
        facts,
        threads=3,
        model="MobileNetV3L",
        seed=5,
        image=str(picture),
        cpus="0-1",
        weights="seeded",
    )
    again = explain()
    assert again.options.only == (CPU.key,)
    assert (again.options.threads, again.options.seed, again.options.weights) == (3, 5, "seeded")
    assert (again.options.image, again.options.cpus, again.options.runner) == ("", "", "")
    assert again.notes == (f"not taken over from a run that comes from elsewhere: --image {picture}, --cpus 0-1",)


@ELSEWHERE
def test_a_typed_runner_stands_for_the_interpreter_of_somebody_else(tmp_path, results, facts):
    again = elsewhere(tmp_path, results, facts, python="/bin/sh")(runner="local")
    assert (again.options.python, again.options.runner) == ("", "local")


def test_a_model_of_before_options_were_kept_is_a_registered_one(tmp_path):
    file = tmp_path / "net.py"
    file.touch()
    with pytest.raises(UserError, match="does not say which file its model"):
        again_of(run_of(tmp_path, CPU, model={"name": f"{file}:build"}), {})


def test_a_run_json_of_odd_types_is_no_traceback(tmp_path, gpus):
    devices = [{"device": ["gpu0"], "name": {}}, {"device": "gpu0", "name": "A2"}, 7]
    odd = {"threads": True, "cell_timeout": 10**400, "seed": 10**30, "memory": 8, "replicates": []}
    run = run_of(tmp_path, replace(CPU, device="gpu0"), devices=devices)
    (run / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), "options": odd}))
    again = again_of(run, {})
    assert again.notes == (f"run {run.name} was measured on gpu0 (A2); now it is Test GPU",)
    defaults = Options()
    assert all(getattr(again.options, name) == getattr(defaults, name) for name in odd)
    for devices in (5, "gpu0", {"gpu0": 1}):
        (run / "run.json").write_text(json.dumps({"model": {"name": "MobileNetV3L"}, "devices": devices}))
        assert "was measured on gpu0 (unknown)" in again_of(run, {}).notes[-1]


@pytest.mark.parametrize("batch", ["b0000", "b\u00b2", "b9999999999"])
def test_a_folder_that_is_no_cell_s_is_left_out(tmp_path, batch):
    run = run_of(tmp_path, CPU, options=Options())
    (run / "cells" / CPU.key.replace("b0001", batch)).mkdir()
    assert again_of(run, {}).notes == ("1 of 2 cells are of another scenario or front end and are left out",)


def test_a_long_name_of_a_model_is_meant_as_runs_of_today_shorten_it(tmp_path):
    file = tmp_path / f"{'n' * 90}.onnx"
    file.touch()
    old = replace(CPU, model="n" * 90)
    now = replace(CPU, model=stem(file))
    assert old.key != now.key
    assert again_of(run_of(tmp_path, old, options=Options(model=str(file))), {}).options.only == (now.key,)
