"""Which operator of an imported model it is that PyTorch cannot run, where the module was made but its first inference fails."""

from __future__ import annotations

import re
from typing import Any, Callable, Optional, Sequence

from common.harness.adapter import Unsupported
from common.text import first_line
from images.torch.failures import explain, is_of_device
from images.torch.onnx_import import OPERATOR


def explained(torch: Any, module: Any, inputs: Callable[[], Sequence[Any]], error: BaseException) -> Exception:
    """The exception as the harness knows it; what is no matter of memory or device is Unsupported, and names the operator.

    module: as imported, a torch.fx.GraphModule, else nothing is looked for. inputs: makes tensors where the module is.
    """
    known = explain(error)
    traced = _traced(module, str(error)) if isinstance(known, Unsupported) else ""
    if traced:
        return Unsupported(f"{known}, at {traced}")
    # after an error of the device any node would fail
    if isinstance(known, Unsupported) or not hasattr(module, "graph") or is_of_device(error):
        return known
    operator = _failing(torch, module, inputs)
    if operator is None:
        return known
    return Unsupported(f"PyTorch cannot run {operator} as onnx2torch converts it: {first_line(error)}")


def _traced(module: Any, text: str) -> str:
    """The operator at which torch.compile stopped, by the line of the module's own code that its message quotes; "" without one."""
    lines = iter(text.splitlines())
    quoted = next((next(lines, "") for line in lines if "<eval_with_key>" in line), "")
    for name, of_onnx in module.named_modules() if quoted and hasattr(module, "graph") else ():
        called = name.rpartition(".")[2]
        if getattr(of_onnx, OPERATOR, "") and any(call in quoted for call in (f'"{called}")(', f".{called}(")):
            return f"{getattr(of_onnx, OPERATOR)} (node '{name}')"
    # compiled in parts, a module of onnx2torch's may begin one: its file tells which
    files = re.findall(r'onnx2torch[/\\]node_converters[/\\](\w+)\.py"', text)
    ending = f"node_converters.{files[-1]}" if files and hasattr(module, "graph") else "none"
    made = (one for _, one in (module.named_modules() if files else ()) if type(one).__module__.endswith(ending))
    return " or ".join(sorted({getattr(one, OPERATOR, "") for one in made} - {""}))


def _failing(torch: Any, module: Any, inputs: Callable[[], Sequence[Any]]) -> Optional[str]:
    """Runs it node by node and names the one that fails; None where it runs, or not even its inputs can be made."""
    at = [""]

    class Watching(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: Any) -> Any:
            of_onnx = module.get_submodule(node.target) if node.op == "call_module" else None
            operator = getattr(of_onnx, OPERATOR, "")
            at[0] = f"{operator} (node '{node.target}')" if operator else f"{node.op} {node.target}"
            return super().run_node(node)

    try:
        with torch.inference_mode():
            Watching(module).run(*inputs())
    except Exception:
        return at[0] or None
    return None
