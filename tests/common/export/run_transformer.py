"""Run with the TensorFlow environment: `run_transformer.py OUT NAME[:AXIS=SIZE] ...`, registered transformers, but small.

A BERT of one layer, a ViT of two: both are made of the same ones. One with a size of its own comes into OUT/AXIS=SIZE and has
no TFLite form. The code is that of the real ones, the configuration smaller.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from common import models
from common.export import axes, forms, registered
from common.export.progress import Progress

SMALL: dict[str, dict[str, Any]] = {
    "BERT-base": {"vocabulary_size": 100, "num_layers": 1, "num_heads": 2, "hidden_dim": 32, "intermediate_dim": 64},
    "ViT-B16": {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64},
}


def make(name: str, out: Path, shape: str) -> None:
    entry = models.find(name)
    small = dataclasses.replace(entry, config={**entry.config, **SMALL[name]}, size=min(entry.size, 32))
    progress = Progress(sys.stderr, registered.STEPS)
    out.mkdir(exist_ok=True)
    folder = registered.export(small, out, "auto", "float64", progress, axes.sizes(shape))
    if not shape:
        forms.add(out / folder, ["tflite"])


def main(out: str, *words: str) -> None:
    for word in words:
        name, _, shape = word.partition(":")
        make(name, Path(out) / shape, shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
