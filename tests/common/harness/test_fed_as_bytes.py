"""Images fed as bytes: rounded where the model takes numbers from 0 to 255, refused where it takes anything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.cell import Cell
from common.harness.adapter import Unsupported
from common.harness.interleaved_side import HarnessSide
from common.harness.reference import as_fed
from common.model_files import ModelFiles, Tensor
from tests.common.harness.conftest import ADAPTERS, Bench


def model(layout: str = "NHWC", kind: str = "float32") -> ModelFiles:
    """Described only: no file of it is read."""
    return ModelFiles(
        root=Path("nowhere"), name="toy", hash="0", onnx=None, keras=None, saved_model=None, reference="reference.npz",
        input_shape=(), layout=layout, onnx_input="images", onnx_output="y", output_kind="raw", classes=0, weights="user",
        weights_note="", inputs=(Tensor("images", kind, (1,)), Tensor("n", "int64", (), None)),
        outputs=(Tensor("y", "float32", (1,)),),
    )  # fmt: skip


def batch(*values: float) -> dict[str, np.ndarray]:
    return {"images": np.array(values, np.float32), "n": np.array([3], np.int64)}


def test_images_are_rounded_and_nothing_else_changes() -> None:
    fed = as_fed(batch(0, 0.6, 254.5, 255), "uint8", model())
    assert fed["images"].dtype == np.uint8
    assert fed["images"].tolist() == [0, 1, 254, 255]
    assert fed["n"].tolist() == [3]
    given = batch(0.5)
    assert as_fed(given, "float32", model()) is given


def test_a_model_that_takes_bytes_itself_is_fed_them() -> None:
    """It was refused: "takes no images as numbers"."""
    given = {"images": np.array([0, 255], np.uint8)}
    for asked in ("uint8", "float32"):
        assert as_fed(given, asked, model(kind="uint8")) is given


@pytest.mark.parametrize(
    ("values", "layout", "words"),
    [((-1.0, 1.0), "NHWC", "normalised"), ((0.0, 256.0), "NHWC", "normalised"), ((0.0,), "", "no images")],
)
def test_what_is_no_picture_of_bytes_is_refused(values: tuple[float, ...], layout: str, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        as_fed(batch(*values), "uint8", model(layout))


def test_keys_of_the_usual_level_and_type_are_what_they_were() -> None:
    usual = Cell("m", "torch", "fp16", 8)
    assert usual.key == "m_torch_fp16_b0008_host_single-stream_script_cpu_r0"
    other = Cell("m", "torch", "fp16", 8, tuning="stock", input="uint8")
    assert other.key == "m_torch_fp16-stock_b0008_host-uint8_single-stream_script_cpu_r0"
    assert Cell.from_dict(other.to_dict()) == other


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_the_side_that_verify_times_feeds_the_type_of_its_cell(bench: Bench, kind: str) -> None:
    """Its output does not tell: images that hold whole numbers give the same one."""
    job = bench.job("keeps-types", (3,), adapter=str(ADAPTERS / "keeps_types.py"))
    bench.run_dir.mkdir()
    side = HarnessSide(replace(job, cells=[replace(job.cells[0], input=kind)]))
    assert side.facts["settings"] == {"given": kind}
