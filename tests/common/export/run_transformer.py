"""Run with the TensorFlow environment: `run_transformer.py NAME OUT [AXIS=SIZE]`, a registered transformer of two layers.

Prints the folder within OUT. The code is that of the real one, the configuration smaller.
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
    "BERT-base": {"vocabulary_size": 100, "num_layers": 2, "num_heads": 2, "hidden_dim": 32, "intermediate_dim": 64},
    "ViT-B16": {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64},
}


def main(name: str, out: str, shape: str = "") -> None:
    entry = models.find(name)
    small = dataclasses.replace(entry, config={**entry.config, **SMALL[name]}, size=min(entry.size, 32))
    progress = Progress(sys.stderr, registered.STEPS)
    folder = registered.export(small, Path(out), "auto", "float64", progress, axes.sizes(shape))
    forms.add(Path(out) / folder, ["tflite"])
    print(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
