"""Models born in PyTorch: native in torch, by torch.onnx to the others; a user's own module, and three small ones of timm."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.harness.reference import Reference
from common.host.frameworks import environments
from common.host.models import (
    ExportOptions,
    ensure_model,
    existing_model,
    exporter_arguments,
    second_half_arguments,
    source,
)
from common.model_files import ModelFiles

DRIVER = Path(__file__).with_name("parity_driver.py")
EXPORTER = Path(__file__).with_name("export_driver.py")
OWN = """
import torch

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(50, 8)
        self.scores = torch.nn.Linear(8, 4)

    def forward(self, words, weights):
        summed = (self.table(words) * weights[..., None]).sum(1)
        return {"scores": self.scores(summed), "size": summed.abs().sum(-1)}

def build():
    return Two(), (torch.arange(12).reshape(3, 4), torch.linspace(0, 1, 12).reshape(3, 4))

class InPlace(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = torch.nn.Linear(6, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, pictures):
        self.calls += 1
        pictures.sub_(128).div_(255)
        return self.scores(pictures)

def in_place():
    return InPlace(), torch.linspace(0, 255, 12).reshape(2, 6)

class Tables(torch.nn.Linear):
    # values that no state_dict has, and one that is no tensor

    def __init__(self):
        super().__init__(6, 4)
        self.register_buffer("table", torch.linspace(-1, 1, 6 * 2000).reshape(2000, 6), persistent=False)
        self.rows = torch.linspace(0, 1, 4)

    def get_extra_state(self):
        return {"version": 2}

    def set_extra_state(self, state):
        self.version = state["version"]

    def forward(self, values):
        return super().forward(values + self.table.mean(0)) * self.rows

def tables():
    return Tables(), torch.linspace(-2, 2, 12).reshape(2, 6)

class Branching(torch.nn.Module):
    # a branch that depends on values: torch.onnx does not export it

    def __init__(self, rows=None):
        super().__init__()
        self.scores = torch.nn.Linear(6, 4)
        self.rows = rows

    def forward(self, values):
        if values.abs().max().item() > 1e6:
            values = values / 2
        scores = self.scores(values)
        if self.rows:
            scores = scores.reshape(self.rows, 4)
        return {"best": scores.argmax(1), "more": [scores, values > 0]}

def branching():
    return Branching(), {"values": torch.linspace(-2, 2, 30).reshape(5, 6)}

def branching_at_two():
    return Branching(2), torch.linspace(-2, 2, 12).reshape(2, 6)

class InSingle(Branching):
    # its numbers are float32 whatever its weights are

    def forward(self, values):
        return torch.nn.functional.linear(super().forward(values)["more"][0], torch.ones(3, 4))

def in_single():
    return InSingle(), torch.linspace(-2, 2, 12).reshape(2, 6)

class Full(torch.nn.Linear):
    def forward(self, values):
        if torch.compiler.is_compiling():
            raise OSError(28, "No space left on device")
        return super().forward(values)

def full():
    return Full(6, 4), torch.linspace(-2, 2, 12).reshape(2, 6)

class InDouble(torch.nn.Module):
    # its code names float64, which stays whatever the type of the weights

    def __init__(self):
        super().__init__()
        self.scores = torch.nn.Linear(6, 4, dtype=torch.float64)

    def forward(self, values):
        return self.scores(values.double()).float()

def in_double():
    return InDouble(), torch.linspace(-2, 2, 12).reshape(2, 6)

def in_double_by_weights():
    return torch.nn.Linear(6, 4, dtype=torch.float64), torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(2, 6)

def raises():
    raise ValueError("no such weights\\nsecond line")

def nothing():
    return None
"""
#: a mobile network, residual blocks, a vision transformer: of each family a member that exports in seconds
TIMM = ("mobilenetv3_small_050", "test_resnet", "test_vit")
#: functions of the file whose modules torch.onnx refuses
REFUSED = ("branching", "branching_at_two", "in_single")

#: those with float64 -> whether it is gone with their weights in float32
DOUBLE = {"in_double": False, "in_double_by_weights": True}


def python_for(image: str) -> Path:
    if not environments.is_ready(image, "cpu"):
        pytest.skip(f"no .envs/{image}-cpu: ./invoke test makes it")
    if image != "torch":
        return environments.interpreter(image, "cpu")
    try:
        return environments.ensure_extra("torch", "cpu", environments.TIMM)
    except UserError as error:
        pytest.skip(f"what timm needs cannot be installed: {error}")


def export(text: str, out: Path, **requested: str) -> ModelFiles:
    return ensure_model(text, out, python_for, lambda *step: None, ExportOptions(**requested))  # type: ignore[arg-type]


def by_one_process(image: str, commands: list[list[str]], folder: Path) -> list[str]:
    """Runs what the host would start a process each for; the names of the folders that the exporter made."""
    request = folder / f"{image}.json"
    request.write_text(json.dumps([arguments[1:] for arguments in commands]))
    done = subprocess.run(
        [str(python_for(image)), str(EXPORTER), str(request)], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    folders: list[str] = json.loads(done.stdout.splitlines()[-1])
    return folders


@pytest.fixture(scope="module")
def models(own: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFiles]:
    """The user's own module and those of timm, exported each once.

    `build` as users do it; the others by one process of each image: PyTorch and its exporter take as long to import as these
    models take to export.
    """
    out = tmp_path_factory.mktemp("born")
    options = {f"{own}:{name}": ExportOptions() for name in ("in_place", "tables", *DOUBLE, *REFUSED)}
    options |= {f"timm:{name}": ExportOptions("seeded") for name in TIMM}
    wanted = {text: source(text) for text in options}
    halves = by_one_process(
        "torch", [exporter_arguments(one, out, options[text]) for text, one in wanted.items()], out.parent
    )
    folders = by_one_process(
        "onnxrt",
        [
            second_half_arguments(wanted[text], out, half, options[text])
            for text, half in zip(options, halves, strict=True)
        ],
        out.parent,
    )
    found = {text: existing_model(wanted[text], out, options[text]) for text in options}
    assert [one and one.root.name for one in found.values()] == folders
    made = {text.rpartition(":")[2]: one for text, one in found.items() if one is not None}
    return {**made, "build": export(f"{own}:build", out)}


@pytest.fixture(scope="module")
def judged(models: dict[str, ModelFiles]) -> list[dict[str, Any]]:
    """Parity of every model in both frameworks, each of which judges all of them in one process.

    Exported with a batch of two: a batch of one, batches of three, and the two units that are left.
    """
    rows = []
    for image in ("onnxrt", "torch"):
        folders = [str(model.root) for model in models.values()]
        command = [str(python_for(image)), str(DRIVER), image, image, "1,3", *folders]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        rows += [json.loads(line) for line in done.stdout.splitlines()]
    return rows


@pytest.fixture(scope="module")
def compiled(models: dict[str, ModelFiles], torch_compiled: Callable[[Path], Path]) -> list[dict[str, Any]]:
    """Parity in torch.compile of those that torch.onnx refuses."""
    for name in REFUSED:
        torch_compiled(models[name].root / "cache")
    folders = [str(models[name].root) for name in REFUSED]
    command = [str(python_for("torch")), str(DRIVER), "torch", "torchcompile", "3", *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("own") / "my_net.py"
    file.write_text(OWN)
    return file


#: (framework, batch size) -> whether it computes the reference
EVERYWHERE = {(image, size): True for image in ("onnxrt", "torch") for size in (1, 3)}


def passed(rows: list[dict[str, Any]], model: ModelFiles) -> dict[tuple[str, int], bool]:
    return {(row["variant"], row["size"]): row.get("passed", False) for row in rows if row["model"] == model.root.name}


@pytest.mark.framework
def test_a_users_own_module(own: Path, models: dict[str, ModelFiles], judged: list[dict[str, Any]]) -> None:
    model, out = models["build"], models["build"].root.parent
    assert (model.name, model.weights, model.fixed_batch) == ("my-net", "user", None)
    assert [(one.name, one.dtype) for one in model.inputs] == [("words", "int64"), ("weights", "float32")]
    assert [one.name for one in model.outputs] == ["scores", "size"], "what its dict calls them"
    assert "inputs: the 3 samples of its example inputs" in model.notes
    assert "my_net.py:build" in model.born
    assert "torch: itself" in model.origin
    assert "torch.onnx" in model.origin
    assert passed(judged, model) == EVERYWHERE
    assert existing_model(source(f"{own}:build"), out, ExportOptions()) == model
    assert existing_model(source(f"{own}:raises"), out, ExportOptions()) is None
    assert not list(out.glob(".tmp-*")), "the first half's folder is gone"


@pytest.mark.framework
def test_a_module_that_writes_to_its_input_and_counts_its_calls(
    models: dict[str, ModelFiles], judged: list[dict[str, Any]]
) -> None:
    model = models["in_place"]
    assert passed(judged, model) == EVERYWHERE, "the second inference has the same input as the first"
    fed = [unit["pictures"] for unit in Reference.read(model).inputs]
    assert max(float(one.max()) for one in fed) == 255, "what the function returned, not what forward made of it"


@pytest.mark.framework
def test_a_module_with_more_than_its_state_dict_tells(
    models: dict[str, ModelFiles], judged: list[dict[str, Any]]
) -> None:
    model = models["tables"]
    assert model.refused is None
    assert passed(judged, model) == EVERYWHERE


@pytest.mark.framework
@pytest.mark.parametrize(("function", "is_single"), DOUBLE.items())
def test_a_module_with_float64_is_float32_everywhere(
    function: str, is_single: bool, own: Path, models: dict[str, ModelFiles], judged: list[dict[str, Any]]
) -> None:
    """The module itself crashed: "mat1 and mat2 must have the same dtype"; its export said that all frameworks had float32."""
    model = models[function]
    assert "its float64 is float32 for every framework" in model.notes[0]
    assert (model.forms, set(model.exporters or {})) == (
        ({"onnx": "model.onnx", "torch": "torch"}, {"onnx", "torch"})
        if is_single
        else ({"onnx": "model.onnx"}, {"onnx"})
    )
    assert model.notes[1].startswith("PyTorch gets the ONNX file, too") != is_single
    assert passed(judged, model) == EVERYWHERE
    assert existing_model(source(f"{own}:{function}"), model.root.parent, ExportOptions()) == model


@pytest.mark.framework
@pytest.mark.parametrize(
    ("function", "fixed", "precision"),
    [("branching", None, "float64"), ("branching_at_two", 2, "float64"), ("in_single", None, "float32")],
)
def test_what_torch_onnx_refuses_runs_in_torch_and_is_a_row_elsewhere(
    function: str,
    fixed: int | None,
    precision: str,
    own: Path,
    models: dict[str, ModelFiles],
    judged: list[dict[str, Any]],
) -> None:
    model = models[function]
    assert (model.onnx, model.forms, model.fixed_batch) == (None, {"torch": "torch"}, fixed)
    assert model.lacking() == []
    assert model.origin.endswith("(torch: itself; no onnx)")
    described = json.loads((model.root / "model.json").read_text())
    assert described["reference_by"].startswith("the module itself, eager PyTorch")
    assert described["reference_by"].endswith(f"on the CPU in {precision}")
    reason = (model.refused or {})["onnx"]
    assert f"cannot export my_net.py:{function}: " in reason
    assert "data-dependent" in reason
    assert any(reason in note and described["reference_by"] in note for note in model.notes)
    rows = [row for row in judged if row["model"] == model.root.name]
    assert {row["variant"]: row.get("passed", row.get("unsupported")) for row in rows} == {
        "torch": True,
        "onnxrt": f"model {model.name} has no onnx form, only torch: {reason}",
    }
    assert existing_model(source(f"{own}:{function}"), model.root.parent, ExportOptions()) == model


@pytest.mark.framework
@pytest.mark.parametrize("function", REFUSED)
def test_what_torch_onnx_refuses_runs_in_torch_compile(
    function: str, models: dict[str, ModelFiles], compiled: list[dict[str, Any]]
) -> None:
    (row,) = [row for row in compiled if row["model"] == models[function].root.name]
    assert row.get("passed"), row


@pytest.mark.framework
def test_the_reference_of_a_refused_module_is_what_it_gives(
    own: Path, models: dict[str, ModelFiles], tmp_path: Path
) -> None:
    model = models["branching"]
    assert [(one.name, one.dtype, one.shape, one.batch_axis) for one in model.outputs] == [
        ("best", "int64", (1,), 0), ("more.0", "float32", (1, 4), 0), ("more.1", "bool", (1, 6), 0),
    ]  # fmt: skip
    reference = Reference.read(model)
    assert len(reference.inputs) == 5, "a unit a sample of the example"
    for given, made in zip(reference.inputs, reference.outputs, strict=True):
        assert made["best"] == made["more.0"].argmax(1)
        assert made["more.0"].dtype == "float64"
        assert (made["more.1"] == (given["values"] > 0)).all()
    assert export(f"{own}:branching", tmp_path).hash == model.hash, "the same in another process"


@pytest.mark.framework
@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("raises", "my_net.py:raises fails: ValueError: no such weights"),
        ("nothing", "returns no torch.nn.Module"),
        ("full", "cannot write models to "),
        ("full", ": No space left on device"),
        (
            "missing",
            "has no function missing; it has build, in_place, tables, branching, branching_at_two, in_single, full, in_double, "
            "in_double_by_weights, raises",
        ),
    ],
)
def test_a_file_that_gives_no_module_is_one_line(own: Path, tmp_path: Path, function: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        export(f"{own}:{function}", tmp_path)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.framework
def test_a_model_that_timm_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="timm has no model 'resnet5'; did you mean resnet50"):
        export("timm:resnet5", tmp_path, weights="seeded")


@pytest.mark.framework
@pytest.mark.parametrize("name", TIMM)
def test_models_of_timm(name: str, models: dict[str, ModelFiles], judged: list[dict[str, Any]]) -> None:
    model = models[name]
    assert model.layout == "NCHW"
    assert (model.fixed_batch, model.weights) == (None, "seeded")
    assert passed(judged, model) == EVERYWHERE
