"""What labels, key and model's description refuse: no worker is started for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.cell import Cell
from common.host.frameworks.registry import Variant, all_variants, forms_of, load_images
from common.host.paths import IMAGES, ROOT
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


FIXED = "the model's batch size is fixed at 4; --batch-sizes 4 measures it, and --rebatch tries to make it dynamic"
OF_MODULE = "the module takes batches of 4 alone, as its example inputs are; --batch-sizes 4 measures it"
SCALAR = "no input of the model has a batch axis, which counts as a batch of 1; --batch-sizes 1 measures it"
REFUSED = "the model takes batches of 1 alone: a batch of 2 fails: no; --batch-sizes 1 measures it"


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
        # each framework says itself what it stumbles over
        ({}, replace(MODEL, onnx="m.onnx", unmeasurable="far.away::Operator"), None),
        ({}, replace(MODEL, fixed_batch=4), FIXED),
        ({}, replace(MODEL, fixed_batch=4, forms={"torch": "torch"}), OF_MODULE),
        ({"batch_size": 2}, replace(MODEL, fixed_batch=1, inputs=(Tensor("rate", "int64", (), None),)), SCALAR),
        ({"batch_size": 2}, replace(MODEL, fixed_batch=1, refused_batch="a batch of 2 fails: no"), REFUSED),
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


@pytest.mark.parametrize(
    ("variant", "precision", "reason"),
    [
        ("onnxrt", "fp32", None),
        ("torch", "fp32", None),
        ("tf", "fp32", "tf reads the form saved_model: model m has no saved_model form, only onnx"),
        ("jax", "fp32", "jax reads the form keras: model m has no keras form, only onnx"),
        (
            "litert",
            "int8-dynamic",
            "litert reads the form tflite-int8-dynamic: model m has no tflite-int8-dynamic form, only onnx",
        ),
    ],
)
def test_a_users_own_file_is_in_one_form(variant: str, precision: str, reason: str | None) -> None:
    found = all_variants(load_images(IMAGES))[variant]
    assert refusal(Cell("m", variant, precision, 1), found, replace(MODEL, onnx="m.onnx")) == reason


def test_to_refuse_takes_no_numpy() -> None:
    """It is what most of the time of importing went to."""
    code = "import sys, common.host.plan.refusals; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_variant_has_what_a_registered_model_gives_it() -> None:
    """Forms that are made on demand are made before a run; torch decides itself whether it reads ONNX or the module."""
    model = replace(MODEL, onnx="m.onnx", keras="m.keras", saved_model="saved_model")
    for variant in all_variants(load_images(IMAGES)).values():
        for kind, device in (("cpu", "cpu"), ("gpu", "gpu0")):
            for precision in variant.precisions(kind):
                given = replace(
                    model, forms={**(model.forms or {}), **dict.fromkeys(forms_of([variant], [precision]), "f")}
                )
                for level in variant.tunings:
                    cell = Cell("m", variant.name, precision, 1, tuning=level, device=device)
                    assert refusal(cell, variant, given) == variant.without.get((precision, level))
        assert bool(variant.form("fp32")) is (variant.name not in ("torch", "torchcompile"))


def test_half_precision_is_not_in_a_saved_models_signature() -> None:
    """Every worker of `stock` once imported TensorFlow to say so."""
    variants = all_variants(load_images(IMAGES))
    exported = replace(MODEL, keras="m.keras", saved_model="saved_model")
    for variant in ("tf", "tfxla", "keras", "kerasxla"):
        for level in ("stock", "tuned"):
            for precision in ("fp32", "tf32", "fp16"):
                cell = Cell("m", variant, precision, 1, tuning=level, device="gpu0")
                refused = variant in ("tf", "tfxla") and (precision, level) == ("fp16", "stock")
                assert (refusal(cell, variants[variant], exported) is not None) is refused
