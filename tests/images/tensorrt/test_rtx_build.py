"""Parsing and building for real, without a GPU: TensorRT-RTX from the package index, in its own environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from common.model_files import ModelFiles

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".envs" / "tensorrt-cpu" / "bin" / "python"

pytestmark = [
    pytest.mark.framework,
    pytest.mark.skipif(not PYTHON.exists(), reason="no .envs/tensorrt-cpu: ./invoke test makes it"),
]


def probe(*arguments: object) -> dict[str, Any]:
    command = [str(PYTHON), str(Path(__file__).with_name("rtx_probe.py")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, "TensorRT's messages belong into the log, not on the screen"
    answer: dict[str, Any] = json.loads(lines[0])
    return answer


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    probe("toy", folder)
    return folder / "toy.onnx"


def test_half_the_precision_is_about_half_the_engine(exported_model: ModelFiles) -> None:
    onnx = exported_model.path(exported_model.onnx)
    sizes = {precision: probe("build", onnx, "probabilities", precision)["bytes"] for precision in ("fp32", "fp16")}
    assert 0.4 < sizes["fp16"] / sizes["fp32"] < 0.7


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_every_precision_builds_with_a_range_of_batch_sizes_and_either_output(
    toy: Path, precision: str, output: str
) -> None:
    built = probe("build", toy, output, precision)
    assert built["bytes"] > 0
    assert built["timing_cache"] == "none"


def test_int8_needs_a_typed_file_here(toy: Path) -> None:
    assert "no int8 calibration" in probe("build", toy, "probabilities", "int8")["unsupported"]


def test_a_model_that_cannot_be_parsed_is_unsupported_with_the_parsers_own_words(toy: Path) -> None:
    answer = probe("build", toy.with_name("broken.onnx"), "probabilities", "fp32")
    assert "TensorRT cannot parse the model" in answer["Unsupported"]
    assert "NoSuchOperator" in answer["Unsupported"]


def test_a_file_that_is_no_model_is_unsupported(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"this is not a model")
    assert "cannot parse" in probe("build", tmp_path / "model.onnx", "x", "fp32")["Unsupported"]


def test_an_output_that_is_not_there_is_unsupported(toy: Path) -> None:
    assert "no output 'scores'" in probe("build", toy, "scores", "fp32")["Unsupported"]


def test_a_retyped_model_keeps_its_float32_faces_and_computes_the_same(toy: Path) -> None:
    answer = probe("retype", toy, "fp16")
    assert answer["inputs"] == [["images", 1]]
    assert answer["outputs"] == [["probabilities", 1], ["logits", 1]]
    assert answer["initializers"] == {"filters": "FLOAT16", "scales": "FLOAT", "dense": "FLOAT16"}
    assert answer["type"] == "float32"
    assert answer["difference"] < 2e-3


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_outputs_of_every_kind_keep_their_names_types_and_values(tmp_path: Path, precision: str) -> None:
    """Outputs that are an input or a constant, are read inside, or come of one node; and constants that are listed as inputs."""
    answer = probe("outputs", tmp_path, precision)
    assert len(answer) == 14
    for kind, facts in answer.items():
        assert facts["outputs"] == facts["asked"], kind
        assert facts["float32"], kind
        assert facts["rtx"] == "", (kind, "TensorRT refuses the graph")
        assert all(facts.get("same", [True])), kind
        for name, exact in zip(facts["outputs"], facts.get("exact", []), strict=False):
            assert exact or name not in ("w", "x", "sizes", "s", "n"), (kind, "what is only handed on is not rounded")


def test_a_mask_of_1e9_and_an_epsilon_are_brought_into_the_range_of_float16_and_a_weight_is_refused(
    tmp_path: Path,
) -> None:
    """-1e9 would be minus infinity, and 0 times that no number; 1e-12 would be 0, and 0 / 0 no number."""
    answer = probe("masked", tmp_path, "fp16")
    whole, half = answer["y"]
    assert whole == [[1.0], [2.0]]
    assert half == whole
    assert answer["refused"] == "weight dense, which MatMul reads, reaches 1e+09, beyond float16's 65504"
    assert probe("build", tmp_path / "masked.onnx", "y", "bf16")["bytes"] > 0


def test_bfloat16_is_rounded_to_nearest_even(toy: Path) -> None:
    answer = probe("retype", toy, "bf16")
    assert answer["initializers"]["dense"] == "BFLOAT16"
    assert answer["bits"] == [0x3F80, 0xC000, 0x4049, 0x7F80, 0x7FC0, 0x3F80]
