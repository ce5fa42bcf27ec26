"""OpenVINO without framewatt, for `invoke verify`: `native_loop.py REQUEST.json`, see common/alternation.py.

As OpenVINO's own documentation has it: the ONNX file, a static shape, a performance hint, and a compiled model that is called
with a numpy array.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np  # noqa: E402
import openvino as ov  # noqa: E402
import openvino.properties as props  # noqa: E402
import openvino.properties.hint as hints  # noqa: E402

from common.interleaving import plain_loop, serve  # noqa: E402


class Loop:
    def __init__(self, request: Dict[str, Any]) -> None:
        core = ov.Core()
        batch = np.load(request["input"])
        model = core.read_model(request["onnx"])
        model.reshape(list(batch.shape))
        element = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16}[request["precision"]]
        config = {hints.performance_mode: hints.PerformanceMode.LATENCY, hints.inference_precision: element}
        if request["threads"]:
            config[props.inference_num_threads] = request["threads"]
        self._compiled = core.compile_model(model, "CPU", config)
        self._request = self._compiled.create_infer_request()
        self._batch = batch
        for _ in range(3):
            self._infer()
        np.save(request["output"], self._result.reshape(len(batch), -1))
        self.facts: Dict[str, Any] = {"loop": "request.infer(batch, share_inputs=True)", "clock": "perf_counter"}

    def _infer(self) -> None:
        results = self._request.infer(self._batch, share_inputs=True, share_outputs=True)
        self._result = results[self._compiled.output(0)]

    def block(self, seconds: float) -> List[int]:
        return plain_loop(self._infer, seconds)


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    serve(lambda: Loop(asked))
