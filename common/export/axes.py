"""Which axes of a model's inputs are the batch, which are bound by `--shape`, and one line for each that nobody bound.

The batch is axis 0 where an input leaves it open, unless another of its axes has a name that says batch, as in (T, batch, 80): then
that one; and every other axis of the same name. An input that has none of that name is not batched. `--shape height=320,width=320`
binds axes by name, `--shape input=N,3,320,320` the axes of one input, N being the batch; a number for an axis whose name says batch
fixes the batch. One axis of an input is the batch, at the most. Nothing is bound silently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple, Union

from common.errors import UserError, unknown

#: what stands for the batch in --shape
BATCH_WORD = "N"
#: an axis as a file has it: a size, a name, or None for one that is open and has no name
Axis = Union[int, str, None]
#: what a line to copy proposes
_PIXELS = 224
LENGTH = 128
#: an axis 0 that is most likely a batch too, though of another name: tf2onnx names every open axis anew, unk__1, unk__2, ...
_ANOTHER_BATCH = re.compile(r"^unk__\d+$|batch", re.IGNORECASE)
#: a name that says batch, whichever axis it is of
_SAYS_BATCH = re.compile(r"batch(?!_?norm)|^bs?$", re.IGNORECASE)


@dataclass(frozen=True)
class Bound:
    """Input -> sizes of its axes, None at the batch; fixed: the batch size where the graph or --shape fixes it.

    open_axes: input -> numbers of the axes that the file leaves open and that are not the batch. named: the file's names of the
    axes that are the batch where --shape fixes it by such a name; fixed_axes: input -> number of the axis that has one of them.
    """

    shapes: Mapping[str, Tuple[Optional[int], ...]]
    fixed: Optional[int]
    open_axes: Mapping[str, Tuple[int, ...]]
    named: FrozenSet[str] = frozenset()
    fixed_axes: Mapping[str, int] = field(default_factory=dict)


def axes_of(value: Any) -> Tuple[Axis, ...]:
    """The axes of an ONNX ValueInfoProto; sizes below 1 are open ones, as some exporters write them."""
    found: List[Axis] = []
    for axis in value.type.tensor_type.shape.dim:
        if axis.HasField("dim_value"):
            found.append(axis.dim_value if axis.dim_value > 0 else None)
        else:
            found.append(axis.dim_param if axis.dim_param not in ("", "?") else None)
    return tuple(found)


def parse(text: str) -> Dict[str, List[str]]:
    """`a=1,b=N,3` as {"a": ["1"], "b": ["N", "3"]}. Raises UserError for anything else."""
    asked: Dict[str, List[str]] = {}
    name = ""
    for word in text.split(","):
        before, equals, value = word.rpartition("=")
        if equals:
            name = before.strip()
            if name in asked:
                raise UserError(f"--shape names '{name}' twice")
            asked[name] = []
        if not name or not (value.strip() == BATCH_WORD or (value.strip().isascii() and value.strip().isdigit())):
            raise UserError(
                f"--shape has '{word.strip()}'; it takes NAME=SIZE for a dynamic axis or INPUT={BATCH_WORD},3,320,320 for an "
                "input, comma list"
            )
        if value.strip() != BATCH_WORD and not 0 < int(value) < 2**31:
            raise UserError(f"--shape {name}={value.strip()}: a size is at least 1 and below 2^31")
        asked[name].append(value.strip())
    return asked


def sizes(text: str) -> Dict[str, int]:
    """`sequence=64` as {"sequence": 64}, for a registered model. Raises UserError for anything but one size an axis."""
    found: Dict[str, int] = {}
    for name, words in (parse(text) if text else {}).items():
        if len(words) != 1 or words[0] == BATCH_WORD:
            raise UserError(f"--shape {name}={','.join(words)}: of a registered model an axis has one size")
        found[name] = int(words[0])
    return found


def bind(inputs: Mapping[str, Tuple[Axis, ...]], shape: str, source: str) -> Bound:
    """The axes of all inputs at a given --shape. source: the file, for messages.

    Raises UserError that names symbol, input and a line to copy for what is not bound, and for what --shape gets wrong.
    """
    asked = parse(shape) if shape else {}
    symbols = {axis for axes in inputs.values() for axis in axes if isinstance(axis, str)}
    for name, sizes in asked.items():
        if name not in inputs and name not in symbols:
            names = [*sorted(symbols), *inputs]
            raise unknown("axis or input in --shape:", name, names)
        if name not in symbols and len(sizes) != len(inputs[name]):
            raise UserError(
                f"--shape {name}={','.join(sizes)} has {len(sizes)} axes, input '{name}' has {len(inputs[name])}: "
                f"{written(inputs[name])}"
            )
        if name in symbols and len(sizes) != 1 and name not in inputs:
            raise UserError(f"--shape {name}={','.join(sizes)}: an axis has one size")
    by_symbol = {name: sizes[0] for name, sizes in asked.items() if name in symbols and len(sizes) == 1}
    by_input = {name: sizes for name, sizes in asked.items() if name not in by_symbol}
    sized = _sized_batch(inputs, by_symbol, by_input)
    batch = _batch_of(inputs, by_symbol, by_input, bool(sized))
    shapes: Dict[str, Tuple[Optional[int], ...]] = {}
    open_axes: List[Tuple[str, int, Axis]] = []
    for name, axes in inputs.items():
        bound: List[Optional[int]] = []
        for number, axis in enumerate(axes):
            size = _size(source, name, number, axis, by_symbol, by_input, batch)
            if size is _OPEN:
                open_axes.append((name, number, axis))
                size = None
            bound.append(size)  # type: ignore[arg-type]
        shapes[name] = tuple(bound)
    _refuse_two_sizes(inputs, shapes, by_symbol)
    if open_axes:
        raise UserError(_unbound(source, inputs, open_axes, batch, sized))
    _refuse_two_batches(source, inputs, shapes)
    dynamic = any(None in sizes for sizes in shapes.values())
    named = frozenset(() if dynamic else sized)
    fixed_axes = {name: axes.index(axis) for name, axes in inputs.items() for axis in axes if axis in named}
    left_open = {
        name: tuple(
            number
            for number, axis in enumerate(axes)
            if not isinstance(axis, int) and shapes[name][number] and number != fixed_axes.get(name)
        )
        for name, axes in inputs.items()
    }
    fixed = None if dynamic else next(iter(sized.values()), None) or fixed_size(shapes)
    return Bound(shapes, fixed, left_open, named, fixed_axes)


def _refuse_two_sizes(
    inputs: Mapping[str, Tuple[Axis, ...]],
    shapes: Mapping[str, Tuple[Optional[int], ...]],
    by_symbol: Mapping[str, str],
) -> None:
    """Raises UserError for an axis to which --shape gives one size by its name, or in one input, and another in an input."""
    known = {name: (int(size), "by its name") for name, size in by_symbol.items() if size != BATCH_WORD}
    for name, axes in inputs.items():
        for axis, size in zip(axes, shapes[name]):
            if isinstance(axis, str) and size is not None:
                first, where = known.setdefault(axis, (size, f"in '{name}'"))
                if first != size:
                    raise UserError(f"--shape gives axis '{axis}' two sizes: {first} {where} and {size} in '{name}'")


def _refuse_two_batches(
    source: str, inputs: Mapping[str, Tuple[Axis, ...]], shapes: Mapping[str, Tuple[Optional[int], ...]]
) -> None:
    """Raises UserError for an input of which two axes would be the batch, with a line to copy where its first one is."""
    for name, sizes in shapes.items():
        both = [number for number, size in enumerate(sizes) if size is None]
        if len(both) > 1:
            words = [BATCH_WORD if i == both[0] else str(size or _guess(inputs[name])) for i, size in enumerate(sizes)]
            raise UserError(
                f"{source}: axes {both[0]} and {both[1]} of input '{name}' {written(inputs[name])} cannot both be the batch; "
                f"give the others their sizes, for example --shape '{name}={','.join(words)}'"
            )


class _Open:
    pass


_OPEN = _Open()


class _Unnamed:
    """Stands for the batch where axis 0 is open and has no name."""


_UNNAMED = _Unnamed()


def _sized_batch(
    inputs: Mapping[str, Tuple[Axis, ...]], by_symbol: Mapping[str, str], by_input: Mapping[str, Sequence[str]]
) -> Dict[str, int]:
    """Names of axes that say batch -> the one size that --shape gives them; empty where it gives none, or several.

    Empty too where it says by N what the batch is.
    """
    words = {axis: size for axis, size in by_symbol.items() if _SAYS_BATCH.search(axis)}
    for name, sizes in by_input.items():
        words.update(
            {
                axis: size
                for axis, size in zip(inputs[name], sizes)
                if isinstance(axis, str) and _SAYS_BATCH.search(axis)
            }
        )
    said = {size for one in (by_input.values(), [by_symbol.values()]) for sizes in one for size in sizes}
    if BATCH_WORD in said or len(set(words.values())) != 1:
        return {}
    return {axis: int(size) for axis, size in words.items()}


def _batch_of(
    inputs: Mapping[str, Tuple[Axis, ...]],
    by_symbol: Mapping[str, str],
    by_input: Mapping[str, Sequence[str]],
    is_sized: bool,
) -> Set[Any]:
    """Names of axes that are the batch, _UNNAMED among them where it has none; empty where no input leaves its axis 0 open.

    Those that --shape calls so, and the first axis 0 that is open unless --shape says what it is, or that another axis of the
    same input is the batch; where there is none, those whose names say so. Empty where --shape gives the batch a size (is_sized).
    """
    if is_sized:
        return set()
    found: Set[Any] = {name for name, size in by_symbol.items() if size == BATCH_WORD}
    for name, axes in inputs.items():
        sizes = by_input.get(name, ())
        if BATCH_WORD in sizes:
            found.add(axes[sizes.index(BATCH_WORD)] or _UNNAMED)
    if not found:
        found = beside_axis_0(inputs)
    batched = [axes for axes in inputs.values() if found.intersection(axes)]
    others = {axis for axes in batched for axis in axes if isinstance(axis, str)} - found
    for name, axes in inputs.items():
        if not axes or isinstance(axes[0], int):
            continue
        other = axes[0] in others or bool(found.intersection(axes[1:]))
        if name not in by_input and axes[0] not in by_symbol and not other:
            return {*found, axes[0] or _UNNAMED}
        if found:
            break
    return found or {
        axis for axes in inputs.values() for axis in axes if isinstance(axis, str) and _SAYS_BATCH.search(axis)
    }


def beside_axis_0(inputs: Mapping[str, Tuple[Axis, ...]]) -> Set[Any]:
    """Names that say batch of axes in inputs whose axis 0 is open too, and does not say it: a sequence's (T, batch, 80)."""
    return {
        axis
        for axes in inputs.values()
        if axes and not isinstance(axes[0], int) and not _SAYS_BATCH.search(axes[0] or "")
        for axis in axes[1:]
        if isinstance(axis, str) and _SAYS_BATCH.search(axis)
    }


def _size(
    source: str,
    name: str,
    number: int,
    axis: Axis,
    by_symbol: Mapping[str, str],
    by_input: Mapping[str, Sequence[str]],
    batch: Set[Any],
) -> Union[int, _Open, None]:
    if name in by_input:
        word = by_input[name][number]
        if word == BATCH_WORD:
            if isinstance(axis, int):
                raise UserError(
                    f"{source}: axis {number} of input '{name}' {written((axis,))} is fixed at {axis}, so it cannot be "
                    f"the batch; --rebatch tries to make it dynamic"
                )
            return None
        if isinstance(axis, int) and axis != int(word):
            raise UserError(f"{source}: axis {number} of input '{name}' is fixed at {axis}, --shape says {word}")
        return int(word)
    if isinstance(axis, int):
        return axis
    if isinstance(axis, str) and axis in by_symbol:
        return None if by_symbol[axis] == BATCH_WORD else int(by_symbol[axis])
    if axis is not None and axis in batch:
        return None
    if axis is None and number == 0 and _UNNAMED in batch:
        return None
    return _OPEN


def fixed_size(
    shapes: Mapping[str, Tuple[Optional[int], ...]], outputs: Sequence[Sequence[Union[int, str, None]]] = ()
) -> int:
    """The batch size of a model without an open axis: axis 0 of its inputs of two axes or more where all agree.

    What no output has as its axis 0 is no batch, but a spectrogram's 80 bands, say. Where the inputs differ it is the size that
    an output has there, too; where several are, as of a state of two layers, the one that every input has on some axis. Else 1.
    """
    wide = [sizes for sizes in shapes.values() if len(sizes) > 1]
    first = {sizes[0] or 1 for sizes in wide}
    made = [shape[0] for shape in outputs if shape]
    if len(first) == 1:
        size = first.pop()
        return 1 if made and all(isinstance(one, int) and one != size for one in made) else size
    likely = first.intersection(made)
    if len(likely) > 1:
        likely = {size for size in likely if all(size in sizes for sizes in wide)}
    return likely.pop() if len(likely) == 1 else 1


def written(axes: Sequence[Axis]) -> str:
    return "(" + ", ".join("?" if axis is None else str(axis) for axis in axes) + ")"


def _unbound(
    source: str,
    inputs: Mapping[str, Tuple[Axis, ...]],
    open_axes: Sequence[Tuple[str, int, Axis]],
    batch: Set[Any],
    sized: Mapping[str, int],
) -> str:
    word = str(next(iter(sized.values()), BATCH_WORD))  # the batch, as a line to copy says it
    name, number, axis = open_axes[0]
    what = f"('{axis}') " if axis is not None else ""
    more = f" (and {len(open_axes) - 1} more)" if len(open_axes) > 1 else ""
    words: List[str] = []
    whole = dict.fromkeys(one for one, number, axis in open_axes if _by_input(axis, number))
    for one in whole:
        axes = inputs[one]
        sizes = [
            str(size)
            if isinstance(size, int)
            else word
            if _is_batch(size, i, axes, {*batch, *sized}, inputs)
            else str(_guess(axes))
            for i, size in enumerate(axes)
        ]
        words.append(f"{one}={','.join(sizes)}")
    for symbol in dict.fromkeys(axis for one, _, axis in open_axes if axis is not None and one not in whole):
        owner = next(one for one, _, axis in open_axes if axis == symbol)
        words.append(f"{symbol}={word if _SAYS_BATCH.search(str(symbol)) else _guess(inputs[owner])}")
    return (
        f"{source}: axis {number} {what}of input '{name}' {written(inputs[name])} is dynamic and not bound{more}; "
        f"add for example --shape '{','.join(words)}'"
    )


def _by_input(axis: Axis, number: int) -> bool:
    """Whether a line to copy says the sizes of the whole input: where an axis has no name that --shape can say, or one of a batch."""
    if axis is None:
        return True
    return isinstance(axis, str) and (
        bool(set(axis) & set(",=")) or (number == 0 and _ANOTHER_BATCH.search(axis) is not None)
    )


def _is_batch(
    size: Axis, number: int, axes: Sequence[Axis], batch: Set[Any], inputs: Mapping[str, Tuple[Axis, ...]]
) -> bool:
    if batch.intersection(axes):
        return size in batch
    if size is not None:
        return number == 0 and _ANOTHER_BATCH.search(str(size)) is not None
    # a lone open axis behind fixed ones is most often the batch of a state: (2, ?, 128)
    return number == 0 or (isinstance(axes[0], int) and sum(not isinstance(axis, int) for axis in axes) == 1)


def _guess(axes: Sequence[Axis]) -> int:
    """A size to propose: pixels for what has four axes and 1 or 3 channels."""
    if len(axes) == 4 and (axes[1] in (1, 3) or axes[3] in (1, 3)):
        return _PIXELS
    return LENGTH
