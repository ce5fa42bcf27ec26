"""Models born in PyTorch, built, exported and measured in containers: `./invoke test --engine-all`."""

from __future__ import annotations

from pathlib import Path

import pytest
from docker import DockerClient

from common.errors import UserError
from common.host.paths import DataFolder
from tests.engine.conftest import Bench, build, rows
from tests.engine.test_every_framework import reachable_wheels

pytestmark = [pytest.mark.every_image, pytest.mark.framework, pytest.mark.timeout(900, func_only=True)]

OWN = """
import pathlib, socket, torch

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = torch.nn.Linear(8, 4)

    def forward(self, left, right):
        return self.scores(left * right)

def build():
    return Two(), (torch.rand(3, 8), torch.rand(3, 8))

def connects():
    socket.create_connection(("192.0.2.1", 80), timeout=5)

def reads_its_neighbour():
    return torch.load(pathlib.Path(__file__).with_name("weights.pt"))
"""


@pytest.fixture(scope="module")
def torch_image(client: DockerClient) -> None:
    with reachable_wheels():
        build(client, "torch")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "weights.pt").write_bytes(b"")
    file = folder / "my net.py"
    file.write_text(OWN)
    return file


def check(bench: Bench, born: str) -> None:
    outcome = bench(framework="torch,onnxrt", batch_sizes="1,3", cell_timeout=300.0)
    found = rows(outcome.run.folder)
    assert len(found) == 4, bench.output.getvalue()
    for row in found.values():
        assert (row["status"], row["message"], row["runner"]) == ("ok", "", "docker"), row
        assert float(row["parity_rel_l2"]) <= float(row["parity_tolerance"])
        assert born in row["model_born"]
        assert "torch.onnx" in row["model_born"]
    assert not list(bench.data.models.glob(".tmp-*"))


def test_a_users_own_module(torch_image: None, own: Path, tmp_path: Path) -> None:
    check(Bench(DataFolder(tmp_path / "data"), Path(f"{own}:build")), "my net.py:build")


def test_a_model_of_timm(torch_image: None, tmp_path: Path) -> None:
    check(Bench(DataFolder(tmp_path / "data"), Path("timm:test_resnet")), "timm 1.")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("connects", "raises OSError"),
        ("reads_its_neighbour", "raises FileNotFoundError"),
        ("none", "has no function none"),
    ],
)
def test_a_file_reaches_neither_network_nor_neighbours(
    function: str, words: str, torch_image: None, own: Path, tmp_path: Path
) -> None:
    bench = Bench(DataFolder(tmp_path / "data"), Path(f"{own}:{function}"))
    with pytest.raises(UserError) as raised:
        bench(framework="torch")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not [path for path in bench.data.models.iterdir() if path.name != ".keras"]
