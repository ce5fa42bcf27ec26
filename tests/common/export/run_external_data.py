"""Says, as JSON, what `external_data.check` finds wrong with models whose weights lie where the arguments say; needs onnx.

run_external_data.py FOLDER: a folder that may hold files for such weights. Reads [[location, offset, length], ...] from stdin.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from common.errors import UserError
from common.export import external_data


def outside(location: str, offset: str, length: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=value)
    return tensor


def in_a_graph(tensor: TensorProto, depth: int) -> onnx.GraphProto:
    if depth == 0:
        return helper.make_graph([], "inner", [], [], [tensor])
    node = helper.make_node("If", ["c"], ["y"], then_branch=in_a_graph(tensor, depth - 1))
    return helper.make_graph([node], "outer", [], [])


def main() -> None:
    found = []
    for depth, place in enumerate(json.load(sys.stdin)):
        model = helper.make_model(in_a_graph(outside(*place), depth % 3))
        try:
            external_data.check(Path(sys.argv[1]) / "model.onnx", model, 1000)
            found.append("")
        except UserError as error:
            found.append(str(error))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
