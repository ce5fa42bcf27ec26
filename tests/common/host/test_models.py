"""Finding exported models, and running an exporter, here a small script in its place."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common import pixels
from common.errors import UserError
from common.export.born import Born, finish_refused
from common.export.progress import Progress
from common.host import children, models
from common.host.paths import ROOT
from common.host.plan.options import Options
from common.model_files import ModelFiles
from tests import scripts


def make(folder: Path, weights: str = "seeded", name: str = "MobileNetV3L", age_s: float = 0.0) -> ModelFiles:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_text("")
    (folder / "reference.npz").write_text("")
    model = ModelFiles(
        root=folder, name=name, hash=folder.name[-12:], onnx="model.onnx", keras=None, saved_model=None,
        reference="reference.npz", input_shape=(4, 4, 3), layout="NHWC", onnx_input="x", onnx_output="y",
        output_kind="raw", classes=5, weights=weights, weights_note="A toy.",
    )  # fmt: skip
    (folder / "model.json").write_text(json.dumps(model.describe()))
    moment = folder.stat().st_mtime - age_s
    os.utime(folder / "model.json", (moment, moment))
    return model


@pytest.fixture(autouse=True)
def _logs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of an export that fails is kept where temporary files are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("logs")))


def test_newest_of_the_wanted_origin(tmp_path: Path) -> None:
    make(tmp_path / "MobileNetV3L-aaaaaaaaaaaa", age_s=100)
    seeded = make(tmp_path / "MobileNetV3L-bbbbbbbbbbbb", age_s=50)
    make(tmp_path / "MobileNetV3S-cccccccccccc", name="MobileNetV3S")
    assert models.find_model(tmp_path, "MobileNetV3L") == seeded
    imagenet = make(tmp_path / "MobileNetV3L-dddddddddddd", "imagenet", age_s=200)
    assert models.find_model(tmp_path, "MobileNetV3L") == imagenet
    assert models.find_model(tmp_path, "MobileNetV3L", "seeded") == seeded
    assert models.find_model(tmp_path, "ResNet50") is None


def test_broken_folders_are_no_models(tmp_path: Path) -> None:
    assert models.find_model(tmp_path / "missing", "MobileNetV3L") is None
    make(tmp_path / "MobileNetV3L-aaaaaaaaaaaa")
    (tmp_path / "MobileNetV3L-aaaaaaaaaaaa" / "model.onnx").unlink()
    make(tmp_path / "MobileNetV3L-bbbbbbbbbbbb")
    (tmp_path / "MobileNetV3L-bbbbbbbbbbbb" / "model.json").write_text('{"name": ')
    make(tmp_path / ".tmp-MobileNetV3L")
    assert models.find_model(tmp_path, "MobileNetV3L") is None


def test_source() -> None:
    assert models.source("ResNet50").image == "tensorflow"
    with pytest.raises(UserError, match="Did you mean ResNet50"):
        models.source("ResNet5")
    with pytest.raises(UserError, match=r"nowhere\.onnx does not exist"):
        models.source("nowhere.onnx")


def test_folder_is_no_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        models.source(str(tmp_path))


def test_arguments_for_other_runners(tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    file.write_text("")
    wanted = models.source(str(file))
    assert wanted.image == "onnxrt"
    assert models.exporter_arguments(wanted, Path("/models"), models.ExportOptions(input_range="-1,1")) == [
        "common.export", "--onnx", str(file), "--out", "/models", "--time-limit", "1830", "--input-range=-1,1", "--name=own",
    ]  # fmt: skip
    export_options = models.ExportOptions(shape="h=3,x=N,4", rebatch=True, inputs=tmp_path / "v.npz")
    assert models.exporter_arguments(wanted, Path("/models"), export_options)[-4:] == [
        "--shape=h=3,x=N,4", "--rebatch", "--inputs", str(tmp_path / "v.npz"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("模型.onnx", "模型"),
        ("my model_v1 (final).onnx", "my-model-v1-final"),
        ("a:b.onnx", "a-b"),
        ("---.onnx", "model"),
        # was exported under 200 letters, which then no cell could be named by
        ("n" * 200 + ".onnx", "n" * 71 + "-1be63cc0"),
    ],
)
def test_a_model_is_called_what_its_file_is(tmp_path: Path, typed: str, name: str) -> None:
    (tmp_path / typed).write_text("")
    assert models.source(str(tmp_path / typed)).name == name


def test_a_link_is_taken_as_it_was_named(tmp_path: Path) -> None:
    """As caches of model hubs have it: what it leads to is called by its sum, and holds no weights by their names beside it."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for name, blob in (("mine.onnx", "5f1d"), ("own.py", "77aa"), ("x.npz", "a0b1")):
        (blobs / blob).write_text("")
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    wanted = models.source(str(snapshot / "mine.onnx"))
    assert (wanted.name, wanted.onnx) == ("mine", snapshot / "mine.onnx")
    assert models.source(f"{snapshot / 'own.py'}:build").file == snapshot / "own.py"
    options = models.ExportOptions(inputs=snapshot / "x.npz")
    assert models.exporter_arguments(wanted, tmp_path, options)[-1] == str(snapshot / "x.npz")


def test_files_of_weights_beside_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"... location m.data ... link.data ... out.data ... folder.data")
    for name in ("m.data", "other.data", "out.data"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.data").mkdir()
    (tmp_path / "link.data").symlink_to("other.data")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "m.onnx").symlink_to("../m.onnx")
    (inner / "out.data").symlink_to("/etc/passwd")
    assert models.files_beside(tmp_path / "m.onnx") == [tmp_path / one for one in ("link.data", "m.data", "out.data")]
    assert models.files_beside(inner / "m.onnx") == [tmp_path / one for one in ("link.data", "m.data")]


@pytest.mark.parametrize("listed", [True, False])
def test_a_folder_that_cannot_be_listed_holds_no_files_beside(
    listed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link may lead through a folder with mode 711: the model can be read there, by its name."""
    blobs, own = tmp_path / "blobs", tmp_path / "own"
    for folder in (blobs, own):
        folder.mkdir()
    (blobs / "5f1d").write_bytes(b"... location m.data ... far.data")
    (own / "m.onnx").symlink_to("../blobs/5f1d")
    for file in (own / "m.data", blobs / "far.data"):
        file.write_text("")
    real = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder == blobs and not listed:  # as for anyone but root
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = [own / "m.data", *([blobs / "far.data"] if listed else [])]
    assert sorted(models.files_beside(own / "m.onnx")) == sorted(found)


@pytest.mark.parametrize("text", ["1", "2,1", "a,b", "0,inf", "nan,1", "1,2,3"])
def test_a_range_that_is_none_is_said(text: str) -> None:
    with pytest.raises(UserError, match="--input-range takes LOW,HIGH"):
        models.export_options_of(Options(input_range=text))


def test_options_of_onnx_files_are_not_for_registered_models(tmp_path: Path) -> None:
    wanted = models.source("ResNet50")
    for options in (Options(shape="h=3"), Options(rebatch=True), Options(inputs="v.npz")):
        with pytest.raises(UserError, match="is for ONNX files"):
            models.check(wanted, models.export_options_of(options))
    (tmp_path / "m.onnx").write_text("")
    with pytest.raises(UserError, match="does not exist"):
        models.check(models.source(str(tmp_path / "m.onnx")), models.ExportOptions(inputs=tmp_path / "none.npz"))
    with pytest.raises(UserError, match="is no file; it takes an "):
        models.check(models.source(str(tmp_path / "m.onnx")), models.ExportOptions(inputs=tmp_path))


def exporter(tmp_path: Path, body: str) -> Path:
    """An interpreter's double: an executable that gets the exporter's arguments."""
    return scripts.put(tmp_path / "python", f"import json, os, sys\n{body}\n")


def test_export_reports_steps_and_returns_the_model(tmp_path: Path) -> None:
    ready = make(tmp_path / "models" / "MobileNetV3L-aaaaaaaaaaaa", "seeded")
    python = exporter(
        tmp_path,
        "print('a banner'); print(json.dumps({'step': 1, 'steps': 2, 'name': 'one'}))\n"
        "assert sys.argv[1:5] == ['-m', 'common.export', '--model', 'MobileNetV3L'], sys.argv\n"
        "assert os.path.isfile(os.path.join(os.environ['PYTHONPATH'], 'common', 'schema.py'))\n"
        "print(json.dumps({'folder': 'MobileNetV3L-aaaaaaaaaaaa'}))",
    )
    steps: list[tuple[int, int, str]] = []

    def on_step(*step: int | str) -> None:
        steps.append(step)  # type: ignore[arg-type]

    # imagenet is wanted and seeded exists: an exporter is asked
    assert (
        models.ensure_model(
            "MobileNetV3L", tmp_path / "models", lambda _: python, on_step, models.ExportOptions("imagenet")
        )
        == ready
    )
    assert steps == [(1, 2, "one")]


def test_users_error_is_one_line_without_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    python = exporter(tmp_path, "sys.stderr.write('noise\\nerror: no such weights\\nmore noise\\n'); sys.exit(2)")
    with pytest.raises(UserError) as raised:
        models.ensure_model("MobileNetV3L", tmp_path / "models", lambda _: python, lambda *step: None)
    assert str(raised.value) == "no such weights"
    assert not list(tmp_path.glob("*.log"))


def test_crash_names_a_log_with_all_that_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    python = exporter(tmp_path, "sys.stderr.write('Traceback ...\\n'); sys.stderr.flush(); os.kill(os.getpid(), 9)")
    with pytest.raises(UserError, match="the exporter of MobileNetV3L was ended by SIGKILL") as raised:
        models.ensure_model("MobileNetV3L", tmp_path / "models", lambda _: python, lambda *step: None)
    (log,) = tmp_path.glob("*.log")
    assert str(log) in str(raised.value)
    assert log.read_text() == "Traceback ...\n"


def test_interpreter_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be started"):
        models.ensure_model("MobileNetV3L", tmp_path, lambda _: tmp_path / "none", lambda *step: None)


def test_an_export_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(models.EXPORT_LIMIT, "0.5")
    monkeypatch.setattr(children, "GRACE_SECONDS", 0.5)
    # deaf to SIGTERM, as a library that computes without end is
    python = exporter(tmp_path, "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)")
    with pytest.raises(UserError, match=r"took longer than 0\.5 s and was ended"):
        models.ensure_model("MobileNetV3L", tmp_path / "models", lambda _: python, lambda *step: None)


DEAF = """
import signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from common.held_folders import held_folder
signal.signal(15, signal.SIG_IGN)
with held_folder(Path({out!r})) as folder:
    (folder / "model.onnx").write_text("half")
    print('{{"step": 1, "steps": 3, "name": "ONNX by torch.onnx"}}', flush=True)
    time.sleep(600)
"""


def test_an_interrupted_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter within a library hears of no signal, and is killed: its folder stayed for 10 minutes."""
    monkeypatch.setattr(children, "GRACE_SECONDS", 0.2)
    out = tmp_path / "models"
    out.mkdir()
    (out / ".tmp-anothers").mkdir()
    python = exporter(tmp_path, DEAF.format(root=str(ROOT), out=str(out)))
    seen: list[str] = []

    def interrupt(*step: object) -> None:
        seen.extend(path.name for path in out.glob(".tmp-*/model.onnx"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.ensure_model("MobileNetV3L", out, lambda _: python, interrupt)
    assert seen == ["model.onnx"]
    assert [path.name for path in out.iterdir()] == [".tmp-anothers"]


def test_a_limit_that_is_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("soon", "-1", "nan", "0"):
        monkeypatch.setenv(models.EXPORT_LIMIT, text)
        with pytest.raises(UserError, match="is a positive number of seconds"):
            models.export_limit_s()


def test_the_exporter_ends_itself_when_nobody_else_does(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv[0] = 'export'; from common.export import __main__ as it\n"
        "it._export = lambda *arguments: exec('while True: pass')\n"
        "it.main(sys.argv[1:])"
    )
    words = [sys.executable, "-c", code, "--model", "MobileNetV3L", "--out", str(tmp_path), "--time-limit", "0.3"]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, timeout=60).returncode == 1


@pytest.mark.parametrize("lost", ["reference.npz", "model.onnx", "labels/classes.txt"])
def test_a_folder_that_lacks_a_file_is_exported_anew(tmp_path: Path, lost: str) -> None:
    folder = tmp_path / "MobileNetV3L-aaaaaaaaaaaa"
    make(folder)
    (folder / "labels").mkdir()
    (folder / "labels" / "classes.txt").write_text("cat")
    description = json.loads((folder / "model.json").read_text())
    description["files"] = {"labels/classes.txt": {"sha256": "", "bytes": 3}}
    (folder / "model.json").write_text(json.dumps(description))
    assert models.find_model(tmp_path, "MobileNetV3L") is not None
    (folder / lost).unlink()
    assert models.find_model(tmp_path, "MobileNetV3L") is None


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan of many sweeps looks for its model once for each of them."""
    read: list[Path] = []
    real = models._read_sha256
    monkeypatch.setattr(models, "_read_sha256", lambda file: read.append(file) or real(file))
    file = tmp_path / "m.onnx"
    file.write_text("one")
    written = file.stat().st_ctime_ns
    monkeypatch.setattr(models.time, "time_ns", lambda: written + models._YOUNG_NS - 1)
    first = [models._sha256(file) for _ in range(2)]
    assert read == [file, file], "it may change again in the same tick"
    monkeypatch.setattr(models.time, "time_ns", lambda: written + models._YOUNG_NS)
    assert [models._sha256(file) for _ in range(3)] == [*first, first[0]]
    assert len(read) == 3
    os.utime(file, ns=(1, 1))
    file.write_text("two")
    assert models._sha256(file) != first[0]


def test_models_born_in_torch(tmp_path: Path) -> None:
    file = tmp_path / "my_net.py"
    file.write_text("")
    named = models.source("timm:mobilenetv3_large_100")
    assert (named.name, named.image, named.file) == ("mobilenetv3-large-100", "torch", None)
    own, other = models.source(f"{file}:build"), models.source(f"{file}:other_one")
    assert (own.name, own.file, other.name) == ("my-net", file, "my-net-other-one")
    assert models.exporter_arguments(own, Path("/m"), models.ExportOptions())[:3] == [
        "common.export",
        "--module",
        f"{file}:build",
    ]
    second = models.second_half_arguments(named, Path("/m"), ".tmp-born-x", models.ExportOptions(mean="0.5", std="0.5"))
    assert second == [
        "common.export", "--born", "/m/.tmp-born-x", "--out", "/m", "--mean=0.5", "--std=0.5", "--name=mobilenetv3-large-100",
    ]  # fmt: skip
    with pytest.raises(UserError, match="which function builds the model"):
        models.source(str(file))
    with pytest.raises(UserError, match="does not exist"):
        models.source("nowhere.py:build")
    assert models.source("TIMM: mobilenetv3_large_100 ") == named
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "loud.PY").write_text("")
    for typed, words in (
        (f"{file}::build", "':build' is no name of a function"),
        (f"{file}:build()", "'build()' is no name of a function"),
        (f"{file}:Net.build", "'Net.build' is no name of a function"),
        (f"{file}:a:b", "'a:b' is no name of a function"),
        (f"{file}:b.py", f"'b.py' is no name of a function; write {file}:FUNCTION"),
        ("net.py:b.py", "'b.py' is no name of a function; write net.py:FUNCTION"),
        (f"{file}:v1/model.onnx", "the ONNX file"),
        (f"{tmp_path}/folder.py:build", "is a folder"),
        (f"{tmp_path}/loud.PY:build", "ends with .py"),
        ("timm:", "--model timm: names no model of timm; write timm:NAME"),
        ("resnet.pt", "timm:NAME, and FILE.py:FUNCTION"),
    ):
        with pytest.raises(UserError) as raised:
            models.source(typed)
        assert words in str(raised.value)
    with pytest.raises(UserError, match="--shape is for ONNX files"):
        models.check(named, models.ExportOptions(shape="h=3"))


def test_an_onnx_file_below_a_folder_that_reads_like_a_function(tmp_path: Path) -> None:
    folder = tmp_path / "exp.py:v1"
    folder.mkdir()
    for name in ("model.onnx", "model", "net.py"):
        (folder / name).write_text("")
    assert models.source(str(folder / "model.onnx")) == models.Source("model", folder / "model.onnx")
    assert models.source(str(folder / "model")).onnx == folder / "model"
    assert models.source(f"{folder}/net.py:build") == models.Source("net", None, f"{folder}/net.py:build")
    (tmp_path / "exp.py").write_text("")
    assert models.source(str(folder / "model.onnx")).onnx == folder / "model.onnx", "a file that exists is meant"


def born(tmp_path: Path, input_range: str = "", torch: str = "2.13.0+cpu") -> ModelFiles:
    """What the second half makes of a module that torch.onnx refused, whose function gave the inputs."""
    folder = tmp_path / "half"
    (folder / "torch").mkdir(parents=True, exist_ok=True)
    for name in ("build.json", "weights.pt", "module.py"):
        (folder / "torch" / name).write_text("")
    np.savez(folder / "reference.npz", input_0_x=np.zeros((1, 3)), output_0_y=np.zeros((1, 2)))
    model = replace(
        make(tmp_path / "other" / torch / f"x{input_range}-aaaaaaaaaaaa"), onnx=None, onnx_input=None,
        forms={"torch": "torch"},
    )  # fmt: skip
    facts = {
        "module": "my_net.py:build", "source_sha256": hashlib.sha256(b"").hexdigest(), "born": "PyTorch", "exporter": "",
        "weights": "user", "weights_note": "", "values": {}, "refused": "torch.onnx cannot", "model": model.describe(),
        "reference_by": "itself", "versions": {"torch": torch, "onnx": "1.23.2", "onnxscript": "0.7.2"},
        **pixels.parse(input_range).described(),
    }  # fmt: skip
    (folder / "born.json").write_text(json.dumps(facts))
    name = finish_refused(Born.read(folder), tmp_path / "models", "my-net", Progress(io.StringIO(), 1))
    return ModelFiles.read(tmp_path / "models" / name)


def test_a_refused_module_with_other_pixel_values_is_another_model(tmp_path: Path) -> None:
    file = tmp_path / "my_net.py"
    file.write_text("")
    wanted, out = models.source(f"{file}:build"), tmp_path / "models"
    made = {values: born(tmp_path, values) for values in ("0,1", "-1,1")}
    for values, model in made.items():
        assert models.find_module(out, wanted, models.ExportOptions(input_range=values)) == model
    assert models.find_module(out, wanted, models.ExportOptions(input_range="0,255")) is None
    assert len({model.hash for model in made.values()} | {born(tmp_path).hash}) == 3


def test_a_refusal_holds_for_the_exporter_that_refused(tmp_path: Path) -> None:
    file = tmp_path / "my_net.py"
    file.write_text("")
    wanted, out, options = models.source(f"{file}:build"), tmp_path / "models", models.ExportOptions()
    newer, older = born(tmp_path, torch="2.14.0"), born(tmp_path)
    environment = tmp_path / "python"

    def with_torch(version: str) -> Path:
        body = f"import sys\nif sys.argv[1] != '-c': sys.exit(9)\nprint({version!r})\n"
        return scripts.put(environment, body)

    def ensured(version: str) -> ModelFiles:
        return models.ensure_model(str(wanted.module), out, lambda _: with_torch(version), lambda *step: None, options)

    assert ensured("2.13.0+cpu 1.23.2 0.7.2") == older
    assert ensured("2.14.0 1.23.2 0.7.2") == newer
    for other in ("2.15.0 1.23.2 0.7.2", "2.14.0 1.24.0 0.7.2", "2.14.0 1.23.2 0.8.0"):
        with pytest.raises(UserError, match="exit code 9"):
            ensured(other)

    def nothing(image: str) -> Path:
        raise UserError("there is no environment, and none can be made")

    assert models.ensure_model(str(wanted.module), out, nothing, lambda *step: None, options) in (older, newer)
