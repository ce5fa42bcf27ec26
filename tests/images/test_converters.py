"""Every converter that is added to onnx2torch gives what ONNX Runtime gives; what is refused names operator and version."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = Path(__file__).with_name("converter_cases.py")


def interpreter(image: str) -> Path:
    python = REPOSITORY / ".envs" / f"{image}-cpu" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no .envs/{image}-cpu: ./invoke test makes it")
    return python


@pytest.mark.framework
def test_converters_agree_with_onnx_runtime(tmp_path: Path) -> None:
    reported = ""
    for image, action in (("onnxrt", "make"), ("torch", "check")):
        command = [str(interpreter(image)), str(CASES), action, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        reported = done.stdout
    found, replaced, plain = json.loads(reported.splitlines()[-1])
    assert len(found) > 60
    refused = {name: words for name, words in found.items() if name.startswith("!")}
    wrong = {
        name: off for name, off in found.items() if name not in refused and not (isinstance(off, float) and off < 1e-4)
    }
    assert not wrong
    # where ours did it: Pad-18 and Slice-1 onnx2torch does not have at all
    assert replaced == {
        "Pad-13 reflect rank 2": "Pad",
        "Pad-13 edge rank 4": "Pad",
        "Clip-13 whole": "Clip",
        "Clip-13 computed": "Clip",
        "Clip-13 above": "Clip",
        "Cast of opset 17 to bfloat16 and back": "Cast",
        # which is torch's own layer at axis 1 of several
        **{name: "Flatten" for name in found if name.startswith("Flatten") and not name.endswith("at 1")},
        **{name: "NonZero" for name in found if name.startswith("NonZero of opset 17")},
    }
    # what reads a constant's values while it runs is not traced by torch.compile
    reading = {name for name in plain if name.startswith(("Expand", "Tile", "Squeeze-13", "Resize"))}
    assert {name for name in reading if plain[name] == "none"} == {"Squeeze-13 computed"}
    assert len(reading) == 18
    for name, words in refused.items():
        operator, version = name[1:].split(" ")[0].split("-")
        assert str(words).startswith("refused: onnx2torch")
        assert operator in words
        assert version in words
