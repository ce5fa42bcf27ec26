"""The same model without framewatt, for `invoke verify`: `native_loop.py REQUEST.json`, see common/alternation.py.

It shares no code with the adapter: whoever knows the framework but not framewatt would write this. What a real framework
puts in its place stands in a comment beginning with "Yours:".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np  # noqa: E402

from common.interleaving import Refusal, plain_loop, serve  # noqa: E402


class Loop:
    """facts and block() are what common/interleaving.py asks for."""

    def __init__(self, request: Dict[str, Any]) -> None:
        # Yours: the framework's own calls. request["settings"] is what the adapter's settings() said for this shape;
        # device, threads, precision, io, onnx, keras, and model_file (what settings() names so) are there too.
        if not request["onnx"].endswith(".npz"):
            raise Refusal("this loop knows toy models (.npz) only")
        with np.load(request["onnx"]) as arrays:
            self._weights = arrays["weights"]
        self._batch = np.load(request["input"])
        self._infer()
        np.save(request["output"], self._result)
        self.facts: Dict[str, Any] = {"loop": "numpy", "clock": "perf_counter"}

    def _infer(self) -> None:
        # Yours: one inference, complete when this returns; with io "host" from host memory and back.
        logits = self._batch.reshape(len(self._batch), -1) @ self._weights
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        self._result = powers / powers.sum(axis=1, keepdims=True)

    def block(self, seconds: float) -> List[int]:
        return plain_loop(self._infer, seconds)


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    serve(lambda: Loop(asked))
