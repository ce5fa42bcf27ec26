"""Run with an interpreter that has torch: modules that torch.onnx cannot export, and that refuse float64 or give other outputs in it.

A line of JSON: case -> [number of outputs, dtype of their reference, whether the batch is dynamic], or the error's kind and words.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

OWN = '''
import torch


class Bessel(torch.nn.Module):
    """An operator that ONNX has not. given: what is made of its result."""

    def __init__(self, kind, given=lambda x: x):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 3).to(kind)
        self.given = given

    def forward(self, x):
        return self.given(torch.special.bessel_j1(self.linear(x)))


class Firm(Bessel):
    def _apply(self, change, recurse=True):
        raise RuntimeError("its weights stay as they are")


def example(kind):
    return (torch.rand(2, 4, dtype=kind),)


def single():
    return Bessel(torch.float32), example(torch.float32)


def double():
    return Bessel(torch.float64), example(torch.float64)


def firm():
    return Firm(torch.float32), example(torch.float32)


def firm_double():
    return Firm(torch.float64), example(torch.float64)


def twice_in_single():
    return Bessel(torch.float32, lambda x: (x, x) if x.dtype == torch.float32 else x), example(torch.float32)


def one_a_sample():
    return Bessel(torch.float64, lambda x: tuple(x.unbind(0))), example(torch.float64)


def by_the_batch():
    return Bessel(torch.float64, lambda x: (x, x) if len(x) == 1 else x), example(torch.float64)


def by_values():
    module = Bessel(torch.float64, lambda x: (x, x) if x.sum().item() < 0.2 else x)
    with torch.no_grad():
        module.linear.weight.fill_(1)
        module.linear.bias.zero_()
    return module, (torch.tensor([[0.5] * 4, [0.0] * 4], dtype=torch.float64),)
'''
CASES = ("single", "double", "firm", "firm_double", "twice_in_single", "one_a_sample", "by_the_batch", "by_values")


def outcome(place: Path, case: str) -> list[object]:
    out = place / case
    try:
        name = torch_onnx.export(
            f"{place}/own.py:{case}", out, "auto", pixels.parse("", "", ""), Progress(io.StringIO(), torch_onnx.STEPS)
        )
    except Exception as error:
        return [type(error).__name__, str(error), [path.name for path in out.iterdir()]]
    born = json.loads((out / name / "born.json").read_text())
    model = ModelFiles.of(out / name, born["model"])
    with np.load(out / name / model.reference) as arrays:
        kinds = {arrays[one].dtype.name for one in arrays.files if one.startswith("output")}
    return [len(model.outputs), sorted(kinds), model.fixed_batch is None]


if __name__ == "__main__":
    from common import pixels
    from common.export import torch_onnx
    from common.export.progress import Progress
    from common.model_files import ModelFiles

    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "own.py").write_text(OWN)
        print(json.dumps({case: outcome(Path(made), case) for case in CASES}))
    sys.stdout.flush()
