"""What an exception of torch becomes, and that looking for the operator that fails does not fail itself. No torch is needed."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from common.harness.adapter import DeviceOutOfMemory, Unsupported
from common.harness.causes import raise_as
from images.torch import failing_node
from images.torch.failures import explain
from images.torch.onnx_import import OPERATOR

MODULE = SimpleNamespace(graph=[], get_submodule=lambda _: SimpleNamespace(**{OPERATOR: "Pad of opset 13"}))


class Interpreter:
    """Of a module of one node, which fails."""

    def __init__(self, module: Any) -> None:
        pass

    def run(self, *inputs: Any) -> None:
        self.run_node(SimpleNamespace(op="call_module", target="pad"))

    def run_node(self, node: Any) -> None:
        raise ValueError("too few axes")


TORCH = SimpleNamespace(fx=SimpleNamespace(Interpreter=Interpreter), inference_mode=nullcontext)


def no_inputs() -> list[Any]:
    raise RuntimeError("CUDA out of memory")


def test_the_operator_that_fails_is_named() -> None:
    known = failing_node.explained(TORCH, MODULE, list, ValueError("too few axes"))
    assert isinstance(known, Unsupported)
    assert str(known) == "PyTorch cannot run Pad of opset 13 (node 'pad') as onnx2torch converts it: too few axes"


def test_inputs_that_cannot_be_made_leave_the_error_as_it_is() -> None:
    error = ValueError("too few axes")
    assert failing_node.explained(TORCH, MODULE, no_inputs, error) is error


def test_an_error_is_not_its_own_cause() -> None:
    error = ValueError("too few axes")
    with pytest.raises(ValueError, match="too few axes") as same:
        raise_as(explain(error), error)
    assert same.value is error
    assert error.__cause__ is None
    full = RuntimeError("CUDA out of memory")
    with pytest.raises(DeviceOutOfMemory) as other:
        raise_as(explain(full), full)
    assert other.value.__cause__ is full


@pytest.mark.parametrize(("prefix", "is_named"), [("/a folder/.envs", True), ("/folder/.envs", False)])
def test_a_path_with_a_space_is_named_where_inductor_links_nothing(
    monkeypatch: pytest.MonkeyPatch, prefix: str, is_named: bool
) -> None:
    monkeypatch.setattr("images.torch.failures.__file__", "/folder/failures.py")
    monkeypatch.setattr("sys.prefix", prefix)
    error = type("InductorError", (Exception,), {"__module__": "torch._inductor.exc"})(
        "CppCompileError: C++ compile error"
    )
    assert ("takes no path with a space" in str(explain(error))) == is_named


@pytest.mark.parametrize("call", ['getattr(self, "a/Expand")(reshape, sizes)', "self.Expand_1(reshape, sizes)"])
def test_the_operator_at_which_the_compiler_stops_is_named(call: str) -> None:
    class InternalTorchDynamoError(Exception):
        pass

    InternalTorchDynamoError.__module__ = "torch._dynamo.exc"
    expand, other = (SimpleNamespace(**{OPERATOR: f"{name} of opset 13"}) for name in ("Expand", "Relu"))
    names = {"": SimpleNamespace(), "Relu": other, "a/Expand": expand, "Expand_1": expand}
    module = SimpleNamespace(graph=[], named_modules=names.items)
    text = (
        f'TypeError: no int\n\nfrom user code:\n   File "<eval_with_key>.1", line 13, in forward\n    made = {call}\n'
    )
    known = failing_node.explained(TORCH, module, list, InternalTorchDynamoError(text))
    assert isinstance(known, Unsupported)
    assert "TypeError: no int, at Expand of opset 13 (node '" in str(known)
    Relu = type("Relu", (SimpleNamespace,), {"__module__": "onnx2torch.node_converters.activations"})
    names["Relu"] = Relu(**{OPERATOR: "Relu of opset 14"})
    text = 'no int\n\nfrom user code:\n   File "/x/onnx2torch/node_converters/activations.py", line 2, in resumed\n    return 1\n'
    assert str(failing_node.explained(TORCH, module, list, InternalTorchDynamoError(text))).endswith(
        "at Relu of opset 14"
    )
    plain = failing_node.explained(TORCH, module, list, InternalTorchDynamoError("no int"))
    assert str(plain).endswith("no int")
