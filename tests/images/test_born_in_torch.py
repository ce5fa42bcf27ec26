"""Models born in PyTorch: native in torch, by torch.onnx to the others; a user's own module, and three of timm."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.frameworks import environments
from common.host.models import Asked, ensure_model, existing_model, source
from common.model_files import ModelFiles

DRIVER = Path(__file__).with_name("parity_driver.py")
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

def raises():
    raise ValueError("no such weights\\nsecond line")

def nothing():
    return None
"""
TIMM = ("mobilenetv3_large_100", "resnet50", "vit_base_patch16_224")


def python_for(image: str) -> Path:
    if not environments.is_ready(image, "cpu"):
        pytest.skip(f"no .envs/{image}-cpu: ./invoke test makes it")
    if image != "torch":
        return environments.interpreter(image, "cpu")
    try:
        return environments.ensure_extra("torch", "cpu", environments.TIMM)
    except UserError as error:
        pytest.skip(f"what timm needs cannot be installed: {error}")


def export(text: str, out: Path, **asked: str) -> ModelFiles:
    return ensure_model(text, out, python_for, lambda *step: None, Asked(**asked))  # type: ignore[arg-type]


def judged(model: ModelFiles, image: str, variant: str, sizes: str) -> list[dict[str, object]]:
    command = [str(python_for(image)), str(DRIVER), image, variant, sizes, str(model.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("own") / "my_net.py"
    file.write_text(OWN)
    return file


@pytest.mark.framework
def test_a_users_own_module(own: Path, tmp_path: Path) -> None:
    model = export(f"{own}:build", tmp_path)
    assert (model.name, model.weights, model.fixed_batch) == ("my-net", "user", None)
    assert [(one.name, one.dtype) for one in model.inputs] == [("words", "int64"), ("weights", "float32")]
    assert len(model.outputs) == 2
    assert "my_net.py:build" in model.born
    assert "torch: itself" in model.origin
    assert "torch.onnx" in model.origin
    for image in ("onnxrt", "torch"):
        rows = judged(model, image, image, "1,3")
        assert [row.get("passed") for row in rows] == [True, True], rows
    assert existing_model(source(f"{own}:build"), tmp_path, Asked()) == model
    assert existing_model(source(f"{own}:raises"), tmp_path, Asked()) is None
    assert not list(tmp_path.glob(".tmp-*")), "the first half's folder is gone"


@pytest.mark.framework
@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("raises", "my_net.py:raises raises ValueError: no such weights"),
        ("nothing", "returns no torch.nn.Module"),
        ("missing", "has no function missing; it has build, raises, nothing"),
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
def test_models_of_timm(name: str, tmp_path: Path) -> None:
    model = export(f"timm:{name}", tmp_path, weights="seeded")
    assert model.layout == "NCHW"
    assert (model.fixed_batch, model.weights) == (None, "seeded")
    for image in ("onnxrt", "torch"):
        # exported with a batch of two: batches of three, and the two units that are left
        rows = judged(model, image, image, "3")
        assert [row.get("passed") for row in rows] == [True], rows
