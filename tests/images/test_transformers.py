"""BERT and ViT of the registry in every framework: small ones, made by the exporter of the real ones."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import models
from common.errors import UserError
from common.host.frameworks import environments
from common.host.models import ExportOptions, check, exporter_arguments, find_model, source
from common.model_files import ModelFiles
from tests.images.workshop import QUICKLY_COMPILED, python_of

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("parity_driver.py")
NAMES = ("BERT-base", "ViT-B16")
#: image -> its variants that compute the registry's transformers on a CPU, in the processes that they may share.
#: A compiler takes long for each batch size: it gets one, of more than one sample.
GROUPS = [
    ("tensorflow", "tf,tfxla:3,keras,kerasxla:3"),
    ("torch", "torch,keras-torch"),
    ("torch", "torchcompile:3"),
    ("jax", "jax:3"),
    *[(name, name) for name in ("onnxrt", "openvino", "litert")],
]
#: (image, variants of its group, variant, batch sizes)
VARIANTS = [
    (image, group, word.split(":")[0], (3,) if ":" in word else (1, 3))
    for image, group in GROUPS
    for word in group.split(",")
]


def judge(image: str, group: str, sizes: str, *folders: Path) -> list[dict[str, Any]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environment.update(QUICKLY_COMPILED.get(image, {}))
    done = subprocess.run(
        [python_of(image), DRIVER, image, group, sizes, *folders],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def folder(small_transformers: Path, torch_compiled: Callable[[Path], Path]) -> Path:
    """Both models, and a BERT for shorter sequences in a folder of its own."""
    for root in small_transformers.glob("*-*"):
        if not (root / "cache").exists():
            torch_compiled(root / "cache")
    return small_transformers


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest, folder: Path) -> ModelFiles:
    found = find_model(folder, request.param)
    assert found is not None
    return found


@cache
def judged(folder: Path, image: str, group: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(model, variant) -> parity at each batch size; one process for a group and both models, however many tests ask."""
    roots = [find_model(folder, name) for name in NAMES]
    assert None not in roots
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in judge(image, group, "1,3", *(one.root for one in roots if one)):
        found.setdefault((row["model"], row["variant"]), []).append(row)
    return found


@pytest.mark.framework
@pytest.mark.timeout(1200)  # compilers, on a machine that does other things too
@pytest.mark.parametrize(
    ("image", "group", "variant", "sizes"), VARIANTS, ids=[variant for _, _, variant, _ in VARIANTS]
)
def test_every_framework_computes_the_reference(
    folder: Path, model: ModelFiles, image: str, group: str, variant: str, sizes: tuple[int, ...]
) -> None:
    rows = judged(folder, image, group)[model.root.name, variant]
    assert [(row["size"], row.get("passed")) for row in rows] == [(size, True) for size in sizes], rows
    assert all(set(row["by_output"]) == {tensor.name for tensor in model.outputs} for row in rows), rows


@pytest.mark.framework
def test_descriptions(folder: Path) -> None:
    bert, vit = (find_model(folder, name) for name in NAMES)
    assert bert is not None
    assert vit is not None
    assert [(one.name, one.dtype, one.shape) for one in bert.inputs] == [
        (name, "int32", (1, 128)) for name in ("token_ids", "padding_mask", "segment_ids")
    ]
    assert [one.name for one in bert.outputs] == ["sequence_output", "pooled_output"]
    assert (bert.item, vit.item) == ("sequence", "image")
    assert (bert.layout, vit.layout) == ("", "NHWC")
    assert bert.needs == vit.needs == ("keras_hub",)
    for found in (bert, vit):
        # half precision is judged by the outputs' tolerance: no class is looked for
        assert {tensor.kind for tensor in found.outputs} == {"raw"}
        assert "keras-hub" in found.born
        facts = json.loads((found.root / "model.json").read_text())
        assert "Shape" not in facts["onnx_node_counts"]
        assert facts["onnx_check_rel_l2"] < 1e-5
        assert facts["reference_by"].endswith("float64")


@pytest.mark.framework
def test_a_shorter_sequence_is_another_model(folder: Path) -> None:
    short = find_model(folder / "sequence=16", "BERT-base", shape="sequence=16")
    assert short is not None
    assert short.inputs[0].shape == (1, 16)
    assert find_model(short.root.parent, "BERT-base") is None
    assert find_model(folder, "BERT-base", shape="sequence=16") is None
    (row,) = judge("onnxrt", "onnxrt", "2", short.root)
    assert row["passed"]


@pytest.mark.framework
def test_the_samples_differ_and_their_ends_are_hidden(folder: Path) -> None:
    found = find_model(folder, "BERT-base")
    assert found is not None
    values = np.load(found.path(found.reference))
    masks = [values[f"input_1_{unit}"][0] for unit in range(8)]
    assert masks[0].all()
    assert len({int(mask.sum()) for mask in masks}) > 3
    assert not np.allclose(values["output_1_0"], values["output_1_1"], atol=0.1)


def test_the_shape_of_a_registered_model() -> None:
    bert = source("BERT-base")
    check(bert, ExportOptions(shape="sequence=64"))
    assert "--shape=sequence=64" in exporter_arguments(bert, Path("out"), ExportOptions(shape="sequence=64"))
    for shape, words in (
        ("height=3", "axis in --shape: 'height'|sequence"),
        ("sequence=513", "takes 2 to 512"),
        ("sequence=1", "takes 2 to 512"),
        ("sequence=N", "has one size"),
        ("sequence=2,3", "has one size"),
    ):
        with pytest.raises(UserError, match=words):
            check(bert, ExportOptions(shape=shape))
    with pytest.raises(UserError, match="is for ONNX files"):
        check(source("ViT-B16"), ExportOptions(shape="sequence=64"))
    with pytest.raises(UserError, match="is for ONNX files"):
        check(bert, ExportOptions(inputs=Path("values.npz")))
    assert models.find("BERT-base").sized({}) == {"sequence": 128}


def test_only_images_that_read_keras_files_get_keras_hub() -> None:
    having = {image for image, *_ in VARIANTS if environments.KERAS_HUB.of(image)}
    assert having == {"tensorflow", "torch", "jax"}
