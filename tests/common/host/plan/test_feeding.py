"""In what type pictures are fed: what was asked for, unless the model takes bytes itself."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from common.host.plan.feeding import inputs_of
from common.model_files import ModelFiles, Tensor


def model(*kinds: str) -> ModelFiles:
    inputs = tuple(Tensor(f"p[{number}]", kind, (1, 3, 8, 8)) for number, kind in enumerate(kinds))
    return ModelFiles(
        root=Path(), name="m", hash="0", onnx=None, keras=None, saved_model=None, reference="r", input_shape=(3, 8, 8),
        layout="NCHW", onnx_input="p", onnx_output="y", output_kind="raw", classes=0, weights="user", weights_note="",
        inputs=inputs, outputs=(Tensor("y", "float32", (1, 4)),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "asked", "fed", "words"),
    [
        (("float32",), ("float32", "uint8"), ("float32", "uint8"), ""),
        # rows of it said float32
        (("uint8",), ("float32",), ("uint8",), "m takes pictures of bytes: it is fed uint8"),
        (("uint8",), ("uint8",), ("uint8",), ""),
        (("float32", "float16"), ("float32",), ("float32",), ""),
        (("float32", "float16"), ("uint8",), ("uint8",), "feeds 'p[0]' as bytes; 'p[1]' as the numbers"),
    ],
)
def test_inputs(kinds: tuple[str, ...], asked: tuple[str, ...], fed: tuple[str, ...], words: str) -> None:
    out = io.StringIO()
    assert inputs_of(asked, model(*kinds), Console(file=out, width=300)) == fed
    assert words in out.getvalue()
    assert bool(out.getvalue()) is bool(words)
