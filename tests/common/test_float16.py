"""Which operators are said to read a weight; the graphs are stand-ins with the fields of ONNX's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from common.float16 import weights_of


def graph(nodes: list[Any], outputs: list[str], weights: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(
        node=nodes,
        output=[SimpleNamespace(name=name) for name in outputs],
        initializer=[SimpleNamespace(name=name) for name in weights],
    )


def node(kind: str, reads: list[str], makes: list[str], *bodies: Any) -> Any:
    attributes = [SimpleNamespace(g=body, graphs=[], HasField=lambda name: True) for body in bodies]
    return SimpleNamespace(op_type=kind, input=reads, output=makes, attribute=attributes)


def test_an_optional_input_that_is_left_out_is_no_tensor_and_gives_a_loop_no_reader() -> None:
    body = graph([node("Identity", ["w"], ["state"])], ["state"], ("w",))
    whole = graph(
        [node("Loop", ["n", "", "x"], ["looped"], body), node("Resize", ["looped", "", "scales"], ["y"])],
        ["y"],
        ("scales",),
    )
    found = weights_of(whole)
    assert "" not in found
    assert found["w"] == set(), "what a Loop hands on may come round again; a Resize elsewhere does not read it"
    assert found["looped"] == {"Resize"}
