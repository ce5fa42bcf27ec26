"""The user replaces files while they are exported: run_changing.py onnx|torch FOLDER, in the environment of that half of the export.

Prints, as JSON, case -> what came of it: the folder and what it says of its sources, or the error and what it left.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from common.errors import UserError
from common.pixels import PixelValues

PROGRESS: Any = SimpleNamespace(step=lambda text: None)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def first(action: Callable[[], None], call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, before which something happens."""

    def both(*given: Any, **named: Any) -> Any:
        action()
        return call(*given, **named)

    return both


def then(call: Callable[..., Any], action: Callable[[], None]) -> Callable[..., Any]:
    def both(*given: Any, **named: Any) -> Any:
        made = call(*given, **named)
        action()
        return made

    return both


def outcome(folder: Path, export: Callable[[Path], str], description: str) -> dict[str, Any]:
    out = folder / "models"
    try:
        made = export(out)
    except UserError as error:
        return {"error": str(error), "left": [path.name for path in out.glob("*")]}
    return {"folder": made, **json.loads((out / made / description).read_text())}


def write_onnx(folder: Path, version: int) -> None:
    """x @ w + b, w in a file beside the model, and values of x; all differ by the version."""
    import onnx
    from onnx import TensorProto, helper

    (folder / "w.data").write_bytes(np.full((4, 4), version, np.float32).tobytes())
    np.savez(folder / "x.npz", x=np.full((2, 4), version, np.float32))
    beside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    beside.external_data.add(key="location", value="w.data")
    inside = helper.make_tensor("b", TensorProto.FLOAT, [4], [float(version)] * 4)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], [beside, inside])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, str(folder / "model.onnx"))


def of_onnx(place: Path) -> dict[str, Any]:
    from common.export import external_data, given_values, user_onnx
    from common.export.reference_work import ExportOptions

    def export(folder: Path) -> dict[str, Any]:
        asked = ExportOptions(inputs=folder / "x.npz")
        return outcome(folder, lambda out: user_onnx.export(folder / "model.onnx", out, asked, PROGRESS), "model.json")

    def prepared(name: str) -> Path:
        folder = place / name
        folder.mkdir()
        write_onnx(folder, 1)
        return folder

    folder = prepared("later")
    sums = {name: sha256(folder / name) for name in ("model.onnx", "w.data", "x.npz")}
    with mock.patch.object(user_onnx, "Work", first(lambda: write_onnx(folder, 2), user_onnx.Work)):
        found: dict[str, Any] = {"sums": sums, "later": export(folder)}
    found["again"] = export(folder)
    for name, module, function in (
        ("model.onnx", external_data, "load"),
        ("w.data", external_data, "load"),
        ("x.npz", given_values, "read"),
    ):
        for what, change in (
            ("written", lambda path: path.write_bytes(path.read_bytes() + b" ")),
            ("gone", Path.unlink),
        ):
            folder = prepared(f"{what} {name}")
            changing = then(getattr(module, function), lambda path=folder / name, change=change: change(path))  # type: ignore[misc]
            with mock.patch.object(module, function, changing):
                found[f"{what} {name}"] = export(folder)
    return found


OWN = """
import torch

def build():
    return torch.nn.Linear(4, {width}), torch.rand(2, 4)
"""


def of_torch(place: Path) -> dict[str, Any]:
    from common.export import module_checks, torch_onnx

    def to_onnx(built: Any, form: Path, path: Path) -> Any:
        path.touch()
        return "dynamic", ""

    def export(folder: Path) -> dict[str, Any]:
        return outcome(
            folder,
            lambda out: torch_onnx.export(f"{folder}/own.py:build", out, "auto", PixelValues(), PROGRESS),
            torch_onnx.BORN,
        )

    found: dict[str, Any] = {}
    for name, module, function in (("before", module_checks, "check_forward"), ("later", torch_onnx, "_to_onnx")):
        folder = place / name
        folder.mkdir()
        own = folder / "own.py"
        own.write_text(OWN.format(width=2))
        found["sum"] = sha256(own)
        with mock.patch.object(torch_onnx, "_to_onnx", to_onnx):
            changing = first(lambda own=own: own.write_text(OWN.format(width=33)), getattr(module, function))  # type: ignore[misc]
            with mock.patch.object(module, function, changing):
                found[name] = export(folder)
    found["copy"] = sha256(place / "later" / "models" / found["later"]["folder"] / "torch" / "module.py")
    found["no file"] = outcome(
        place, lambda out: torch_onnx.export(f"{place}/no.py:build", out, "auto", PixelValues(), PROGRESS), ""
    )
    return found


if __name__ == "__main__":
    print(json.dumps({"onnx": of_onnx, "torch": of_torch}[sys.argv[1]](Path(sys.argv[2]))))
