"""A framework of one matrix product, as the harness runs it and as somebody else would."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.host.devices import Device
from common.host.frameworks.registry import Image, Variant
from common.host.verify.command import Case
from common.model_files import DESCRIPTION, ModelFiles

ADAPTER = """
import numpy as np

from common.harness.adapter import Unsupported, only


def create(variant):
    return Product()


class Product:
    def supports(self, cell):
        return "batch 3 is not to its taste" if cell.batch_size == 3 else None

    def load(self, model, precision, device, cache_dir, threads):
        with np.load(model.path(model.onnx)) as arrays:
            self.weights = arrays["weights"]

    def prepare(self, inputs, io):
        batch = only(inputs)
        if len(batch) == 4:
            raise Unsupported("four is too many")
        print("what a library prints does not disturb")
        self.batch = batch

    def run(self):
        self.result = self.batch.reshape(len(self.batch), -1) @ self.weights

    def output(self):
        return {"output": self.result}

    def settings(self):
        return {"model_file": "weights.npz"}

    def versions(self):
        return {"framework": "1"}
"""

RECIPE = """{%% extends "program.py.j2" %%}
{%% block title %%}numpy{%% endblock %%}
{%% block model_file %%}{{ asked.model.form("onnx") | literal }}{%% endblock %%}
{%% block body %%}
def load(path, inputs):
    import os, sys, time
    %(begin)s
    with np.load(path) as arrays:
        weights = arrays["weights"]
    (batch,) = inputs.values()
    calls, result = 0, None

    def infer():
        nonlocal calls, result
        calls += 1
        %(infer)s
        result = batch.reshape(len(batch), -1) @ weights * %(factor)s

    return infer, lambda: %(given)s
{%% endblock %%}
"""


@pytest.fixture
def make_case(tmp_path: Path) -> Callable[..., Case]:
    """make_case(batch_size, begin, infer, factor, given): the last four are the recipe's misbehaviour."""
    root = tmp_path / "model"
    root.mkdir()
    rng = np.random.default_rng(7)
    inputs = rng.uniform(0, 10, (8, 4, 4, 3)).astype(np.float32)
    weights = rng.normal(0, 0.05, (48, 10)).astype(np.float32)
    np.savez(root / "weights.npz", weights=weights)
    np.savez(root / "reference.npz", inputs=inputs, outputs=inputs.reshape(8, -1) @ weights)
    model = ModelFiles(
        root=root, name="toy", hash="0123456789ab", onnx="weights.npz", keras=None, saved_model=None,
        reference="reference.npz", input_shape=(4, 4, 3), layout="NHWC", onnx_input=None, onnx_output=None,
        output_kind="raw", classes=10, weights="seeded", weights_note="a toy",
    )  # fmt: skip
    (root / DESCRIPTION).write_text(json.dumps(model.describe()))
    variant = Variant("product", "product", "Product", None, ("fp32",), (), None, None, "")

    def make(
        batch_size: int = 2,
        begin: str = "pass",
        infer: str = "pass",
        factor: float = 1.0,
        interpreter: str = sys.executable,
        given: str = '{"output": result}',
    ) -> Case:
        folder = tmp_path / "image"
        folder.mkdir(exist_ok=True)
        (folder / "adapter.py").write_text(ADAPTER)
        (folder / "recipe.py.j2").write_text(
            RECIPE % {"begin": begin, "infer": infer, "factor": factor, "given": given}
        )
        image = Image("product", folder, 1, "numpy", (variant,), "")
        device = Device("cpu", "cpu", "a CPU")
        return Case(
            variant,
            image,
            "tuned",
            "fp32",
            batch_size,
            "host",
            Path(interpreter),
            model,
            device,
            tmp_path / "cache",
            1,
            "2,8",
        )

    return make
