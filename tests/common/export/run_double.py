"""Run with ONNX Runtime's environment: `run_double.py FILE.onnx`, outputs in float64 beside those of ONNX Runtime.

Prints a JSON object: whether they are taken, how far apart they are, and what comes after no time and beside other outputs.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import onnxruntime

from common.export import double


def main(path: str) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in given.shape]
    inputs = [{given.name: np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)}]
    name = session.get_outputs()[0].name
    single = [{name: session.run([name], inputs[0])[0]}]
    proto = onnx.load(path)
    exact = double.outputs(proto, inputs, single, 60)
    apart = float(np.abs(exact[0][name] - single[0][name]).max()) if exact else None
    late = double.outputs(proto, inputs, single, -1)
    another = double.outputs(proto, inputs, [{name: single[0][name] + 0.5}], 60)
    json.dump({"taken": exact is not None, "apart": apart, "late": late, "another": another}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
