"""The toy that tells, in its settings, the types of all that it was ever given, by any of its instances."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from toy import Toy

from common.harness.adapter import only

#: of each prepare(), in order
GIVEN = []


def create(variant):
    return KeepsTypes(variant)


class KeepsTypes(Toy):
    def prepare(self, inputs, io):
        GIVEN.append(only(inputs).dtype.name)
        super().prepare({name: values.astype(np.float32) for name, values in inputs.items()}, io)

    def settings(self):
        return {"given": " ".join(GIVEN)}
