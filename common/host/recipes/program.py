"""The recipe of a cell: a Python program that loads the model, applies the cell's settings, runs and prints items/s.

Each image owns how its recipe is made: `images/<image>/recipe.py.j2`, a template that fills the blocks of
templates/program.py.j2. `invoke recipe` writes it for a cell that was measured, `invoke verify` for one that it is about to
compare, so the loop that the harness is held against is the loop that a user takes home.

`load()` of a recipe returns `infer` and `outputs`. infer alone keeps alive all that it uses: weights, graphs, and memory that a
library knows by its address. A caller may drop the rest at once, as common/recipe_side.py does.

Settings may come from a stranger's CSV file, and a recipe is code. So a value stands in code only through the filter `literal`, and
all other text is made one line of plain characters before it stands in a comment or a docstring.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import numpy as np

from common.errors import UserError
from common.host.frameworks.registry import Image
from common.host.recipes import made_up, sources
from common.model_files import ModelFiles
from common.text import visible

TEMPLATE = "recipe.py.j2"
#: stands in every recipe's head
SIGN = "A recipe of framewatt"
#: of a text in a comment
_MOST_CHARACTERS = 1000
#: packages that do nothing beside reading a model, or running one that is theirs
_READERS = ("keras", "onnx", "onnx2torch")
_LINE = 116


class Code(str):
    """Text that is code already."""


@dataclass(frozen=True)
class RecipeRequest:
    """The cell whose recipe is wanted. settings: as its row has them. measured: sentences on what came out, and on which machine.

    model.root: the folder that the recipe names by default. threads: of the CPU, None for the framework's own choice.
    """

    key: str
    variant: str
    tuning: str
    precision: str
    batch_size: int
    io: str
    gpu: bool
    settings: Mapping[str, str]
    model: ModelFiles
    input: str = "float32"
    threads: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    measured: Sequence[str] = ()
    items_per_sample: int = 1
    item: str = ""

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name -> shape and numpy's name of the type that is fed."""
        fed = {one.name: (one.sized(self.batch_size), one.dtype) for one in self.model.inputs}
        for name in self.casts:
            fed[name] = (fed[name][0], self.input)
        return fed

    @property
    def outputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {one.name: (one.sized(self.batch_size), one.dtype) for one in self.model.outputs}

    @property
    def batch_axes(self) -> dict[str, int | None]:
        return {one.name: one.batch_axis for one in self.model.inputs}

    @property
    def ranges(self) -> dict[str, tuple[Any, Any]]:
        """Name -> lowest and highest value that is fed where no reference is at hand."""
        ranges = {one.name: made_up.range_of(one, self.model) for one in self.model.inputs}
        return {**ranges, **dict.fromkeys(self.casts, (0, 255))}

    @property
    def casts(self) -> list[str]:
        """Inputs that are fed as bytes where the model takes numbers: the first, which is the image."""
        first = self.model.inputs[0]
        return [] if self.input in ("float32", first.dtype) else [first.name]

    @property
    def trials(self) -> list[tuple[str, list[str]]]:
        """(what the lines are and when that was, what each way that was tried took, a line each)."""
        found = []
        for name in ("ways_tried", "trial"):
            if self.settings.get(name):
                when = _in_a_program(
                    self.settings.get(f"{name}_of") or "at an unknown time, perhaps by an earlier worker"
                )
                heading = f"Time of one inference in a short trial, {when}; not the measurement, and perhaps under another load:"
                found.append((heading, self.settings[name].split("; ")))
        return found


def _in_a_program(when: str) -> str:
    """What a row's settings say of the worker that made a trial (common/harness/choices.py), where no worker is at hand."""
    stem = when.removesuffix("by this worker")
    if stem != when:
        return f"{stem}by the worker that measured this cell"
    stem = when.removesuffix(", by an earlier worker")
    return when if stem == when else f"{stem}, by an earlier worker than the one that measured this cell"


def has_recipe(image: Image) -> bool:
    return (image.folder / TEMPLATE).is_file()


def packages(request: RecipeRequest, image: Image) -> dict[str, str]:
    """Name -> version of what it was measured with, by the names that people know.

    The framework's own version stands under the variant's name, unless the variant's package, or the module that its image
    imports (Keras on PyTorch tells PyTorch's version), has it already. Another package may have the same number by chance.
    """
    named = {name: version for name, version in request.versions.items() if name != "framework"}
    own = request.versions.get("framework")
    names = {image.imports, *(name for one in image.variants if one.name == request.variant for name in one.packages)}
    return named if own is None or own in {named.get(name) for name in names} else {request.variant: own, **named}


def write(request: RecipeRequest, image: Image, file: str = "") -> str:
    """The program. file: name of the file that it will be, by default the key's.

    Raises UserError, in one line, where this cell has none: no template, or what the template refuses.
    """
    if not has_recipe(image):
        raise UserError(f"{request.variant} has no recipe: images/{image.name} has no {TEMPLATE}")

    def refuse(reason: str) -> NoReturn:
        raise UserError(f"there is no recipe for {request.key}: {reason}")

    def whole(text: Any) -> int:
        """The whole number that a setting is, from 1: jinja's own `int` makes 0 of anything else."""
        if not re.fullmatch(r"[1-9][0-9]{0,17}", str(text)):
            refuse(f"its settings are damaged: '{visible(str(text))[:40]}' stands where a whole number from 1 belongs")
        return int(text)

    folders = [str(image.folder), str(Path(__file__).with_name("templates"))]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, finalize=_plain,
    )  # fmt: skip
    environment.filters.update(
        literal=literal,
        code=Code,
        names=_names,
        wrapped=_wrapped,
        number_before=_number_before,
        import_lines=_import_lines,
        guarded=_guarded,
        whole=whole,
    )
    environment.globals.update(refuse=refuse, needed=sources.needed)
    template_of = environment.get_template(TEMPLATE).render
    known = packages(request, image)
    # a name that would not fit into the program's own text is left out
    named = shlex.quote(file if file and re.fullmatch(r"[\w .@+-]+", file) else file_name(request.key))

    def render(versions: Mapping[str, str]) -> str:
        return template_of(asked=request, settings=request.settings, file=named, packages=versions)

    try:
        text = render(known)
        strangers = [
            one for one in _READERS if one in known and not re.search(rf"^ *import {one}\b", text, re.MULTILINE)
        ]
        if strangers:  # installed where it was measured, and no part of this program
            text = render({name: version for name, version in known.items() if name not in strangers})
    except jinja2.UndefinedError as error:
        refuse(f"its settings do not say enough ({error.message})")
    except KeyError as error:
        refuse(f"its settings name what framewatt does not know: {error.args[0]}")
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n{4,}", "\n\n\n", text).rstrip() + "\n"
    compile(text, TEMPLATE, "exec")
    return text


def file_name(key: str) -> str:
    """Of a cell's recipe."""
    stem = re.sub(r"[^A-Za-z0-9_.@-]", "_", key)
    if stem != key or len(stem) > 200:
        stem = f"{stem[:180]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return f"{stem}.py"


def literal(value: Any) -> Code:
    """A value as Python writes it: text, numbers, and lists, tuples and dicts of them."""
    if isinstance(value, Mapping):
        return Code("{" + ", ".join(f"{literal(name)}: {literal(one)}" for name, one in value.items()) + "}")
    if isinstance(value, (list, tuple)):
        inside = ", ".join(literal(one) for one in value)
        return Code(f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})")
    if value is None or isinstance(value, (bool, int, float, np.integer)):
        return Code(repr(value))
    text = str(value)
    return Code('"' + text + '"' if text.isprintable() and not set(text) & set('"\\') else ascii(text))


def _plain(value: Any) -> Any:
    """What stands in comments and docstrings: one line, nothing that could end either."""
    if isinstance(value, (Code, int, float)):
        return value
    text = visible(str(value)).replace("\\", "/").replace('"""', "'''")
    words = " ".join(text.split())[:_MOST_CHARACTERS]
    # a space at an end stays one: a template joins words with it
    return f"{' ' if text[:1].isspace() else ''}{words}{' ' if words and text[-1:].isspace() else ''}"


def _names(values: Sequence[str]) -> str:
    return ", ".join(values)


def _number_before(text: str, words: str) -> int:
    """The whole number that stands before these words, 0 where they do not."""
    found = re.search(rf"\b(\d+) {re.escape(words)}", text)
    return int(found[1]) if found else 0


def _import_lines(block: str) -> Code:
    """Each once, modules before names of modules."""
    lines = sorted({line for line in block.splitlines() if line}, key=lambda line: (line.split()[0] != "import", line))
    return Code("\n".join(lines) + "\n")


def _guarded(block: str) -> Code:
    """Imports, of which one that is missing ends the program in one line; whoever imports the program gets the error itself."""
    import textwrap

    ending = (
        "except ImportError as error:",
        '    if __name__ != "__main__":',
        "        raise",
        '    stop(f"{error}; {NEEDS}")',
    )
    return Code("\n".join(["try:", textwrap.indent(block.strip("\n"), "    "), *ending, ""]))


def _wrapped(lines: Sequence[str], begin: str = "# ") -> Code:
    """Lines as comments, those that are too long on several."""
    import textwrap

    found = []
    for line in lines:
        found += textwrap.wrap(_plain(line).strip(), _LINE, initial_indent=begin, subsequent_indent=begin + "  ") or [
            begin.rstrip()
        ]
    return Code("\n".join(found))
