"""Code of framewatt's own that a recipe takes along: what was done to the model or its kernels, word for word.

Two conversions would be two models, so a recipe does not have its own: it has the adapter's, and of that what this cell needs.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from common.host.paths import ROOT

#: modules that are imported by the frame of every recipe
_IN_FRAME = frozenset({"numpy"})
_FOR_LINTERS = re.compile(r"  # (?:type: ignore|noqa)\b[^\n]*")


@dataclass(frozen=True)
class Taken:
    """text: definitions, in the order of their modules. standard, others: imports that they need, beside numpy, a line each."""

    text: str
    standard: str
    others: str


@dataclass(frozen=True)
class _Definition:
    """Lines of a module, what they name, attributes that they read, and modules of the project that they import when called."""

    first: int
    last: int
    names: frozenset[str]
    attributes: frozenset[str]
    imports_when_called: str


def _is_our_own(module: str) -> bool:
    return module.split(".")[0] in ("common", "images")


class _Module:
    """Top-level definitions of a module of the project, and methods of its classes, by name."""

    def __init__(self, path: str, tables: Mapping[str, Sequence[str]]) -> None:
        self.path = path
        text = (ROOT / path).read_text()
        tree = ast.parse(text)
        self.lines = text.splitlines()
        self.definitions: dict[str, _Definition] = {}
        self.methods: dict[tuple[str, str], _Definition] = {}
        #: bound name -> (module, name there, "" for the module itself)
        self.imports: dict[str, tuple[str, str]] = {}
        #: numbers of the lines of tables that do not stay
        self.dropped: set[int] = set()
        for node in tree.body:
            self._add(node, tables)

    def _add(self, node: ast.stmt, tables: Mapping[str, Sequence[str]]) -> None:
        if isinstance(node, ast.Import):
            for module in node.names:
                self.imports[module.asname or module.name] = (module.name, "")
        elif isinstance(node, ast.ImportFrom):
            for taken in node.names:
                self.imports[taken.asname or taken.name] = (str(node.module), taken.name)
        elif isinstance(node, ast.ClassDef):
            # what overrides a method of another's class is called from there
            own = [] if node.bases else [one for one in node.body if isinstance(one, ast.FunctionDef)]
            methods = [one for one in own if not one.name.startswith("__")]
            for method in methods:
                self.methods[node.name, method.name] = self._definition(method, [method])
            rest: list[ast.AST] = [one for one in ast.iter_child_nodes(node) if one not in methods]
            self.definitions[node.name] = self._definition(node, rest)
        elif isinstance(node, ast.FunctionDef):
            self.definitions[node.name] = self._definition(node, [node])
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            parts: list[ast.AST] = [node]
            if isinstance(target, ast.Name) and target.id in tables and isinstance(node.value, ast.Dict):
                parts = self._rows(node.value, tables[target.id])
                parts += [node.annotation] if isinstance(node, ast.AnnAssign) else []
            for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(one, ast.Name):
                    self.definitions[one.id] = self._definition(node, parts)

    def _rows(self, table: ast.Dict, keys: Sequence[str]) -> list[ast.AST]:
        """Values of the rows that stay. Every row of such a table has lines of its own."""
        pairs = zip(table.keys, table.values, strict=True)
        rows = {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}
        missing = [key for key in keys if key not in rows]
        if missing:
            raise KeyError(f"{self.path} has no {', '.join(missing)}")
        for name, value in rows.items():
            if name not in keys:
                self.dropped.update(range(value.lineno, (value.end_lineno or value.lineno) + 1))
        return [rows[key] for key in keys]

    def _definition(self, node: ast.stmt, parts: Iterable[ast.AST]) -> _Definition:
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(one.lineno for one in decorators)])
        while first > 1 and self.lines[first - 2].lstrip().startswith("#"):
            first -= 1
        inside = [one for part in parts for one in ast.walk(part)]
        names = frozenset(one.id for one in inside if isinstance(one, ast.Name))
        attributes = frozenset(one.attr for one in inside if isinstance(one, ast.Attribute))
        own = [str(one.module) for one in inside if isinstance(one, ast.ImportFrom) and _is_our_own(str(one.module))]
        return _Definition(first, node.end_lineno or node.lineno, names, attributes, ", ".join(own))

    def text(self, name: str, methods: set[tuple[str, str]]) -> str:
        """Of a definition, without rows of tables and methods that are not among those given."""
        one = self.definitions[name]
        left_out = set(self.dropped)
        for key, method in self.methods.items():
            if key[0] == name and key not in methods:
                left_out.update(range(method.first, method.last + 1))
        kept = [self.lines[number - 1] for number in range(one.first, one.last + 1) if number not in left_out]
        return re.sub(r"\n{3,}", "\n\n", _FOR_LINTERS.sub("", "\n".join(kept))).rstrip()


def needed(
    wanted: Mapping[str, Sequence[str]],
    tables: Mapping[str, Sequence[str]] | None = None,
    having: Sequence[str] = (),
) -> Taken:
    """Those definitions of modules of the project that these names reach, directly or through each other.

    wanted: path of a module -> names; what one of them imports of another is found there. tables: name of a constant that is a
    dict -> those of its keys that stay. having: names and modules that the recipe has anyway. Raises KeyError for a name that
    is not there, ValueError where two modules mean different things by one name and where a module of the project is missing.
    """
    modules = {path: _Module(path, tables or {}) for path in wanted}
    reach = _Reach(modules, frozenset(having))
    for path, names in wanted.items():
        for name in names:
            if name not in modules[path].definitions:
                raise KeyError(f"{path} has no {name}")
            reach.add(path, name)
    texts = [
        module.text(name, reach.methods[path])
        for path, module in modules.items()
        for name in module.definitions
        if name in reach.definitions[path]
    ]
    return Taken("\n\n\n".join(dict.fromkeys(texts)), *_import_lines(reach.imports, {*_IN_FRAME, *having}))


class _Reach:
    """What is reached from names, in sets that only grow."""

    def __init__(self, modules: Mapping[str, _Module], having: frozenset[str]) -> None:
        self._modules, self._having = modules, having
        self._attributes: set[str] = set()
        #: path -> names, and path -> (class, method)
        self.definitions: dict[str, set[str]] = {path: set() for path in modules}
        self.methods: dict[str, set[tuple[str, str]]] = {path: set() for path in modules}
        #: bound name -> (module, name there, "" for the module itself)
        self.imports: dict[str, tuple[str, str]] = {}

    def add(self, path: str, name: str) -> None:
        """A name as a module has it: defined there, imported, or neither, as locals and builtins are."""
        module = self._modules[path]
        if name in self._having or name in self.definitions[path]:
            return
        if name in module.definitions:
            if any(name in names for names in self.definitions.values()):
                raise ValueError(f"{name} of {path} is another thing elsewhere: a recipe has one name for one thing")
            self.definitions[path].add(name)
            self._follow(path, module.definitions[name])
        elif name in module.imports:
            source, original = module.imports[name]
            if not _is_our_own(source):
                self.imports[name] = (source, original)
                return
            other = f"{source.replace('.', '/')}.py"
            if other not in self._modules:
                raise ValueError(f"{path} takes {name} from {source}, which this recipe does not have")
            self.add(other, original)

    def _follow(self, path: str, definition: _Definition) -> None:
        if definition.imports_when_called:
            raise ValueError(f"{path}:{definition.first} imports {definition.imports_when_called}, which no recipe has")
        for name in definition.names:
            self.add(path, name)
        self._attributes |= definition.attributes
        for there, module in self._modules.items():
            for key, method in module.methods.items():
                known = self.methods[there]
                if key not in known and key[0] in self.definitions[there] and key[1] in self._attributes:
                    known.add(key)
                    self._follow(there, method)


def _import_lines(imports: Mapping[str, tuple[str, str]], having: set[str]) -> tuple[str, str]:
    """Of the standard library and of others, a module a line, without modules that are there anyway."""
    plain, of_names = [], {}  # type: list[str], dict[str, list[str]]
    for bound, (source, original) in imports.items():
        renamed = "" if bound in (original, source) else f" as {bound}"
        if original:
            of_names.setdefault(source, []).append(original + renamed)
        elif source not in having:
            plain.append(f"import {source}{renamed}")
    lines = [
        *sorted(plain),
        *sorted(f"from {source} import {', '.join(sorted(of_names[source]))}" for source in of_names),
    ]
    standard = [line for line in lines if line.split()[1].split(".")[0] in sys.stdlib_module_names]
    return "\n".join(standard), "\n".join(line for line in lines if line not in standard)
