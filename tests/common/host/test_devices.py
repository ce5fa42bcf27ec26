"""Which device a run is for, and what is said of one that does not exist or cannot be measured: NVML is the stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.host.paths import ROOT
from tests.fake_nvml import build

NO_LIBRARY = "no NVIDIA GPU can be used here"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if build.compiler() is None:
        pytest.skip("no C compiler for the NVML stand-in")
    return build.build(tmp_path_factory.mktemp("nvml"))


def chosen(library: Path, device: str, gpu: str, **fake: str) -> list[tuple[str, str]]:
    """(name, uuid) of the devices that the options name."""
    program = (
        "import json, sys; from common.host.devices import choose_devices\n"
        "print(json.dumps([(d.name, d.uuid) for d in choose_devices(*sys.argv[1:])]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, device, gpu], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, **build.library_path(library), **fake},
    )  # fmt: skip
    return [(name, uuid) for name, uuid in json.loads(done.stdout)]


def gpus(*indices: int) -> list[tuple[str, str]]:
    return [(f"gpu{i}", build.uuid(i)) for i in indices]


def test_gpus_by_index_by_uuid_and_all_of_them(library: Path) -> None:
    assert chosen(library, "", "1", FAKE_NVML_GPUS="3") == gpus(1)
    assert chosen(library, "", f"2,{build.uuid(0)},2", FAKE_NVML_GPUS="3") == gpus(2, 0)
    assert chosen(library, "gpu", "all", FAKE_NVML_GPUS="2") == gpus(0, 1)
    assert chosen(library, "", "") == gpus(0)
    assert chosen(library, "", "", FAKE_NVML_INIT_ERROR="9") == [("cpu", "")]


@pytest.mark.parametrize(
    ("options", "fake", "words"),
    [
        (["--gpu", "2"], {"FAKE_NVML_GPUS": "2"}, ["no GPU '2'; there is 0 (", f"{build.uuid(1)})"]),
        (["--gpu", "0,-1"], {}, ["no GPU '-1'; there is 0 ("]),
        (["--gpu", "GPU-0000"], {"FAKE_NVML_GPUS": "2"}, ["no GPU 'GPU-0000'; there is 0 ("]),  # of both
        (["--gpu", "0"], {"FAKE_NVML_INIT_ERROR": "9"}, [NO_LIBRARY, "--device cpu"]),
        (["--gpu", "0"], {"FAKE_NVML_GPUS": "0"}, ["shows no GPU", "--device cpu"]),
        (["--gpu", "0"], {"FAKE_NVML_MIG": "1"}, ["GPU 0 (", "is in MIG mode", "choose another one"]),
        (["--device", "cpu", "--gpu", "0"], {}, ["--device cpu and --gpu exclude each other"]),
        (["--device", "tpu"], {}, ["unknown device 'tpu'; there is cpu, or gpu"]),
    ],
)
def test_a_device_that_is_not_there_is_one_line_and_nothing_is_made(
    library: Path, tmp_path: Path, options: list[str], fake: dict[str, str], words: list[str]
) -> None:
    environment = {**os.environ, **build.library_path(library), "FRAMEWATT_DATA": str(tmp_path / "data"), **fake}
    command = [str(ROOT / "invoke"), "bench", "--framework", "onnxrt", "--runner", "local", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert not (tmp_path / "data").exists()
