"""Which device a run is for, and what is said of one that does not exist or cannot be measured: NVML is the stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.host.paths import ROOT
from common.sidecar.visible import visible
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
    ("allowed", "device", "gpu", "taken"),
    [
        ("2", "", "", gpus(2)),
        ("2,0", "", "", gpus(2)),
        ("2,0", "gpu", "", gpus(2)),
        ("2,0", "", "all", gpus(2, 0)),
        ("2,0", "", "0", gpus(0)),
        ("1,1,0", "", "all", gpus(1, 0)),
        (f" {build.uuid(1)} ,0", "", "all", gpus(1, 0)),
        ("1,-1,2", "", "all", gpus(1)),
        ("1,7,2", "", "all", gpus(1)),
        ("1,NoDevFiles,2", "", "all", gpus(1)),
        ("", "", "", [("cpu", "")]),
        ("-1", "", "", [("cpu", "")]),
        ("-1,0", "", "", [("cpu", "")]),
        ("NoDevFiles", "", "", [("cpu", "")]),
        ("2", "cpu", "", [("cpu", "")]),
    ],
)
def test_every_option_stays_within_what_is_visible(
    library: Path, allowed: str, device: str, gpu: str, taken: list[tuple[str, str]]
) -> None:
    assert chosen(library, device, gpu, FAKE_NVML_GPUS="3", CUDA_VISIBLE_DEVICES=allowed) == taken


DIFFERENT = [(0, "GPU-aa11", "A2"), (1, "GPU-ab22", "V100")]


def test_indices_of_different_gpus_need_an_order() -> None:
    assert visible(DIFFERENT, {}) is None
    assert visible(DIFFERENT, {"CUDA_VISIBLE_DEVICES": "GPU-ab"}) == [1]
    assert visible(DIFFERENT, {"CUDA_VISIBLE_DEVICES": "1,0"}) == [1, 0]  # all of them, whichever is which
    assert visible(DIFFERENT, {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == [1]
    assert visible([(0, "GPU-aa", "A2"), (1, "GPU-ab", "A2")], {"CUDA_VISIBLE_DEVICES": "1"}) == [1]
    assert visible(DIFFERENT, {"CUDA_VISIBLE_DEVICES": "GPU-a"}) == []  # of both
    for order in ({}, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}):
        with pytest.raises(LookupError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
            visible(DIFFERENT, {"CUDA_VISIBLE_DEVICES": "1", **order})


@pytest.mark.parametrize(
    ("options", "fake", "words"),
    [
        (
            ["--gpu", "0"],
            {"FAKE_NVML_GPUS": "3", "CUDA_VISIBLE_DEVICES": "2"},
            ["no GPU '0' that CUDA_VISIBLE_DEVICES=2 allows; there is 2 ("],
        ),
        (
            ["--gpu", build.uuid(0)],
            {"FAKE_NVML_GPUS": "3", "CUDA_VISIBLE_DEVICES": "2"},
            ["CUDA_VISIBLE_DEVICES=2 allows"],
        ),
        (["--gpu", "all"], {"CUDA_VISIBLE_DEVICES": ""}, ["CUDA_VISIBLE_DEVICES= leaves no GPU", "--device cpu"]),
        (["--device", "gpu"], {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ["leaves no GPU"]),
        ([], {"CUDA_VISIBLE_DEVICES": "7"}, ["CUDA_VISIBLE_DEVICES=7 leaves no GPU", "there is 0 ("]),
        ([], {"CUDA_VISIBLE_DEVICES": "MIG-1234"}, ["names a slice of a GPU"]),
        (["--gpu", "0"], {"CUDA_VISIBLE_DEVICES": "MIG-GPU-1234/1/0"}, ["names a slice of a GPU"]),
        (["--gpu", "MIG-1234"], {}, ["MIG-1234 is a slice of a GPU"]),
        ([], {"FAKE_NVML_MIG": "1"}, ["GPU 0 (", "is in MIG mode"]),
        (["--device", "gpu"], {"FAKE_NVML_MIG": "1"}, ["is in MIG mode"]),
        (["--gpu", "all"], {"FAKE_NVML_MIG": "1"}, ["is in MIG mode"]),
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
