"""A recipe's side of `invoke verify`: `python -m common.recipe_side REQUEST.json`, see common/interleaving.py.

The recipe is imported from its file as it was written for a user, loads the model and runs in its own loop; all that is added is
that it takes turns. No harness, supervisor or sidecar is in this process. The request has these keys:

    recipe, model   paths; model null: the recipe's own default
    inputs          .npz to read: array_0, array_1, ... in the order of the recipe's INPUTS
    outputs         .npz to write before the first block, likewise, of its OUTPUTS
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from common.interleaving import serve

WARM_UP_SECONDS = 1.0


class RecipeSide:
    def __init__(self, request: Dict[str, Any]) -> None:
        spec = importlib.util.spec_from_file_location("recipe", request["recipe"])
        assert spec is not None
        assert spec.loader is not None
        self._recipe = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = self._recipe
        spec.loader.exec_module(self._recipe)
        with np.load(request["inputs"]) as arrays:
            inputs = {name: arrays[f"array_{number}"] for number, name in enumerate(self._recipe.INPUTS)}
        self._infer, outputs = self._recipe.load(request["model"] or self._recipe.MODEL, inputs)
        self._infer()
        made = outputs()
        # what is missing is for the host to find, which names it
        values = {f"array_{number}": made[name] for number, name in enumerate(self._recipe.OUTPUTS) if name in made}
        np.savez(request["outputs"], **values)
        self._recipe.measure(self._infer, WARM_UP_SECONDS)
        self.facts: Dict[str, Any] = {"recipe": request["recipe"]}

    def block(self, seconds: float) -> List[int]:
        durations: List[int] = self._recipe.measure(self._infer, seconds)
        return durations


if __name__ == "__main__":
    request = json.loads(Path(sys.argv[1]).read_text())
    serve(lambda: RecipeSide(request))
    sys.stderr.flush()
    os._exit(0)  # pycuda would complain about a context that is still there, loudly
