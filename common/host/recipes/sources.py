"""Code of framewatt's own that a recipe takes along: what was done to the model or its kernels, word for word.

Two conversions would be two models, so a recipe does not have its own: it has the adapter's.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Sequence

from common.host.paths import ROOT

#: modules that a recipe does without: what they give stands in its frame
_IN_FRAME = "common.harness.adapter"
_IMPORT = re.compile(r"^( *)from ((?:common|images)[\w.]*) import (.+)$", re.MULTILINE)


def _body(path: str) -> tuple[str, ast.Module]:
    text = (ROOT / path).read_text()
    return text, ast.parse(text)


def whole(path: str, name: str) -> str:
    """A module of the project as one function that returns its names as attributes, so that modules keep to themselves.

    Its imports of the project's own modules become names of the recipe: `from images.torch.convolutions import way` is
    `way = convolutions.way`.
    """
    text, tree = _body(path)
    lines = text.splitlines()
    first = tree.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):  # the module's docstring
        lines = lines[first.end_lineno :]
    source = "\n".join(line for line in lines if line != "from __future__ import annotations")
    source = _IMPORT.sub(_as_names, source)
    inside = textwrap.indent(source.strip("\n"), "    ")
    head = f'def _{name}():\n    """{path} of framewatt."""\n'
    return f"{head}{inside}\n    return types.SimpleNamespace(**locals())\n\n\n{name} = _{name}()"


def _as_names(found: re.Match[str]) -> str:
    indent, module, names = found.groups()
    names = names.partition("  #")[0].strip()
    # a module, or what the frame has: nothing to do
    if module == _IN_FRAME or (ROOT / module.replace(".", "/")).is_dir():
        return f"{indent}pass" if indent else ""
    owner = module.rpartition(".")[2]
    listed = [name.strip() for name in names.strip("()").split(",") if name.strip()]
    return f"{indent}{', '.join(listed)} = {', '.join(f'{owner}.{name}' for name in listed)}"


def functions(path: str, names: Sequence[str]) -> str:
    """Functions, classes and constants of a module of the project, in its order. Raises KeyError for one that it has not."""
    text, tree = _body(path)
    found = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = ast.get_source_segment(text, node) or ""
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.get_source_segment(text, node) or ""
    missing = [name for name in names if name not in found]
    if missing:
        raise KeyError(f"{path} has no {', '.join(missing)}")
    return "\n\n\n".join(source for name, source in found.items() if name in names)
