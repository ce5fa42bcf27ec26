"""What labels, key and model's description refuse: no worker is started for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.cell import Cell
from common.host.frameworks.registry import Variant, all_variants, load_images
from common.host.paths import IMAGES
from common.host.plan.refusals import refusal
from common.model_files import ModelFiles, Tensor

FAST = Variant(
    "fast", "fast", "Fast", None, ("fp32",), ("fp32", "fp16"), None, None, "", tunings=("stock", "tuned"),
    without={("fp16", "stock"): "its tutorial knows one type"},
)  # fmt: skip
MODEL = ModelFiles(
    root=Path(), name="m", hash="0", onnx=None, keras=None, saved_model=None, reference="r", input_shape=(3, 8, 8),
    layout="NCHW", onnx_input="p", onnx_output="y", output_kind="raw", classes=0, weights="user", weights_note="",
)  # fmt: skip
TOKENS = replace(MODEL, layout="", inputs=(Tensor("ids", "int64", (1, 128)),))


@pytest.mark.parametrize(
    ("changes", "model", "reason"),
    [
        ({}, MODEL, None),
        ({"device": "gpu3", "precision": "fp16"}, MODEL, None),
        ({"precision": "fp16"}, MODEL, "fast runs in fp32 on a CPU, not in fp16"),
        ({"device": "gpu0", "precision": "int8"}, MODEL, "fast runs in fp32, fp16 on a GPU, not in int8"),
        ({"tuning": "rewritten"}, MODEL, "fast is measured stock and tuned, not rewritten"),
        ({"device": "gpu0", "precision": "fp16", "tuning": "stock"}, MODEL, "its tutorial knows one type"),
        ({"device": "gpu0", "precision": "fp32", "tuning": "stock"}, MODEL, None),
        ({"batch_size": 4}, replace(MODEL, fixed_batch=4), None),
        ({}, replace(MODEL, fixed_batch=4), "the model's batch size is fixed at 4; --rebatch tries to make it dynamic"),
        ({"input": "uint8"}, MODEL, None),
        ({"input": "uint8"}, replace(MODEL, inputs=(Tensor("p", "uint8", (1, 3, 8, 8)),)), None),
        ({"input": "uint8"}, TOKENS, "m takes no images as numbers, so that none can be fed as uint8"),
        # each framework says itself what it stumbles over
        ({"input": "uint8"}, replace(TOKENS, fixed_batch=4, unmeasurable="far.away::Operator"), None),
    ],
)
def test_refusals(changes: dict[str, str | int], model: ModelFiles, reason: str | None) -> None:
    cell = Cell(**{"model": "m", "variant": "fast", "precision": "fp32", "batch_size": 1, **changes})  # type: ignore[arg-type]
    assert refusal(cell, FAST, model) == reason


def test_half_precision_is_not_in_a_saved_models_signature() -> None:
    """Every worker of `stock` once imported TensorFlow to say so."""
    variants = all_variants(load_images(IMAGES))
    for variant in ("tf", "tfxla", "keras", "kerasxla"):
        for level in ("stock", "tuned"):
            for precision in ("fp32", "tf32", "fp16"):
                cell = Cell("m", variant, precision, 1, tuning=level, device="gpu0")
                refused = variant in ("tf", "tfxla") and (precision, level) == ("fp16", "stock")
                assert (refusal(cell, variants[variant], MODEL) is not None) is refused
