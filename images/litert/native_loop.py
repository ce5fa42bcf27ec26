"""LiteRT without framewatt, for `invoke verify`: `native_loop.py REQUEST.json`, see common/alternation.py.

The interpreter as LiteRT's own documentation calls it, through the model's default signature, which takes and gives numpy arrays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402

from common.interleaving import Refusal, plain_loop, serve  # noqa: E402

_FORMS = {"fp32": "tflite", "int8-dynamic": "tflite-int8-dynamic"}


class Loop:
    def __init__(self, request: Dict[str, Any]) -> None:
        if request["io"] != "host":
            raise Refusal("a signature copies its arrays in and out: --io host")
        path = request["forms"][_FORMS[request["precision"]]]
        interpreter = Interpreter(model_path=path, num_threads=int(request["settings"]["threads"]))
        signature = interpreter.get_signature_runner()
        (name,) = signature.get_input_details()
        (self._output,) = signature.get_output_details()
        self._given = {name: np.load(request["input"])}
        self._signature = signature
        for _ in range(3):
            self._infer()
        np.save(request["output"], self._result.reshape(len(self._result), -1))
        self.facts: Dict[str, Any] = {"loop": "signature(images)", "clock": "perf_counter"}

    def _infer(self) -> None:
        self._result = self._signature(**self._given)[self._output]

    def block(self, seconds: float) -> List[int]:
        return plain_loop(self._infer, seconds)


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    serve(lambda: Loop(asked))
