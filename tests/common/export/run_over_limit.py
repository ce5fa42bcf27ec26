"""Run with the ONNX Runtime environment: makes a model whose weights lie in a sparse file beside it, and exports it.

run_over_limit.py FOLDER ROWS LIMIT [float64]: a table of ROWS rows of 256 zeros, its last one of ones, from which the model takes
rows; in float32 unless said. LIMIT: bytes of weights from which on they do not go into one message; 0 for the real one. Prints, as
JSON, the model's folder, its files with their sizes, and what rows 0 and the last give there.

With ROWS = 2200000 (2.25 GB) and LIMIT = 0 it is the real case; it needs some 9 GB of memory, and no more disk than that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from common.export import onnx_reading, user_onnx
from common.export.progress import Progress
from common.export.reference_work import ExportOptions

WIDTH = 256


def make(folder: Path, rows: int, dtype: str) -> Path:
    kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[dtype]
    row = np.dtype(dtype).itemsize * WIDTH
    with (folder / "table.data").open("wb") as file:
        file.truncate(rows * row)
        file.seek((rows - 1) * row)
        file.write(np.ones(WIDTH, dtype).tobytes())
    table = TensorProto(name="table", data_type=kind, dims=[rows, WIDTH], data_location=TensorProto.EXTERNAL)
    table.external_data.add(key="location", value="table.data")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["b", 2])],
        [helper.make_tensor_value_info("y", kind, ["b", 2, WIDTH])],
        [table],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, str(folder / "model.onnx"))
    return folder / "model.onnx"


def main(folder: Path, rows: int, limit: int, dtype: str) -> None:
    if limit:
        onnx_reading.INLINE_BYTES = limit
    file = make(folder, rows, dtype)
    with (folder / "progress").open("w") as progress:
        name = user_onnx.export(file, folder / "models", ExportOptions(), Progress(progress, user_onnx.STEPS))
    made = folder / "models" / name
    session = onnxruntime.InferenceSession(str(made / "model.onnx"), providers=["CPUExecutionProvider"])
    (taken,) = session.run(None, {"ids": np.array([[0, rows - 1]])})
    files = {path.name: path.stat().st_size for path in made.iterdir()}
    print(json.dumps({"folder": name, "files": files, "rows": [float(one.mean()) for one in taken[0]]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), (*sys.argv[4:], "float32")[0])
