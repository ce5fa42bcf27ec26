"""Run with the ONNX Runtime environment: `run_onnx.py MODEL_FOLDER`, all reference images at once and one by one.

Prints a JSON object: the largest relative L2 error of both ways against the reference, axes of input and output, ops.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime


def main(folder: Path) -> None:
    reference = np.load(str(folder / "reference.npz"))
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    together = session.run(None, {source.name: reference["inputs"]})[0]
    singly = np.concatenate([session.run(None, {source.name: image[None]})[0] for image in reference["inputs"]])
    size = np.linalg.norm(reference["outputs"])
    proto = onnx.load(str(folder / "model.onnx"))
    result = {
        "errors": [float(np.linalg.norm(outputs - reference["outputs"]) / size) for outputs in (together, singly)],
        "input": [source.name, source.type, source.shape],
        "output": [target.name, target.type, target.shape],
        "counts": Counter(node.op_type for node in proto.graph.node),
        "opset": [[entry.domain, entry.version] for entry in proto.opset_import],
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
