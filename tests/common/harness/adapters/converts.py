"""The toy with both optional methods: convert() writes what load() reads, expect() keeps what it was told."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from toy import Toy


def create(variant):
    return Converting(variant)


class Converting(Toy):
    reported = "nothing"

    def convert(self, model, precision, device, cache_dir):
        Path(cache_dir).mkdir(exist_ok=True)
        self.converted = Path(cache_dir) / f"{model.hash}-{precision}-{device}.npz"
        shutil.copyfile(model.form("onnx"), self.converted)

    def load(self, model, precision, device, cache_dir, threads):
        with np.load(self.converted) as arrays:
            self.weights = arrays["weights"]

    def expect(self, cell):
        self.reported = f"{cell.scenario} x{cell.streams}"

    def prepare(self, batch, io):
        super().prepare(batch, io)
        self.prepared_for = self.reported

    def settings(self):
        return {"prepared_for": self.prepared_for}
