"""A row's precision is what the framework computes in, also of a model whose file is in float64."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from common.host.models import ExportOptions, ensure_model
from common.model_files import ModelFiles
from tests.images.test_converters import REPOSITORY, interpreter

pytestmark = pytest.mark.framework

DRIVER = Path(__file__).with_name("parity_driver.py")
MODELS = ("double", "double-within")


@pytest.fixture(scope="module")
def doubles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFiles]:
    folder, python = tmp_path_factory.mktemp("doubles"), interpreter("onnxrt")
    maker = REPOSITORY / "tests/common/export/tiny_onnx.py"
    subprocess.run([str(python), str(maker), str(folder)], check=True, cwd=REPOSITORY)
    return {
        name: ensure_model(
            str(folder / f"{name}.onnx"), folder / "models", lambda image: python, lambda *step: None, ExportOptions()
        )
        for name in MODELS
    }


@pytest.mark.parametrize("image", ["onnxrt", "torch", "openvino"])
def test_a_file_in_float64_is_as_near_to_its_reference_as_float32_can_be(
    image: str, doubles: dict[str, ModelFiles]
) -> None:
    """Nearer than that, and it would be float64, as ONNX Runtime's rows were that said fp32. OpenVINO may join the two sums."""
    folders = [str(model.root) for model in doubles.values()]
    command = [str(interpreter(image)), str(DRIVER), image, image, "1,3", *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == 4
    for row in rows:
        if image == "torch" and "within" in row["model"]:
            assert row["unsupported"] == "onnx2torch has no converter for If-16"
            continue
        assert row.get("passed"), row
        if "within" not in row["model"] and image != "openvino":
            assert 1e-6 < row["by_output"]["y"] < 1e-3, row


HALF = """
import sys
from pathlib import Path
import numpy as np, onnx, onnxruntime
from images.onnxrt.model_cache import rewritten
path, words = rewritten(Path(sys.argv[1]), Path(sys.argv[2]), "k", True)
kinds = {tensor.data_type for tensor in onnx.load(str(path)).graph.initializer}
made = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["y"], {"x": np.ones((2, 7), np.float32)})
print(words, kinds, made[0].dtype, float(made[0].sum()))
"""


def test_fp16_of_a_file_in_float64_is_float16(doubles: dict[str, ModelFiles], tmp_path: Path) -> None:
    """The converter to float16 knows float32 alone: such rows were computed in float64."""
    file = doubles["double"].form("onnx")
    command = [str(interpreter("onnxrt")), "-c", HALF, str(file), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-3000:]
    words, _, rest = done.stdout.strip().partition(" {")
    assert words == "as exported, float16 inside, float32 input and output"
    kinds, dtype, total = rest.replace("}", "").split()
    assert (kinds, dtype) == ("10", "float32")
    assert float(total) == pytest.approx(2, rel=1e-2)
