"""Which axes of a model's inputs are the batch, which are bound by `--shape`, and one line for each that nobody bound.

The batch is the axis whose name says batch, in whichever input and on whichever axis: (T, batch, 80). N, B and bs say so on axis 0,
and beside an axis 0 that has the name of a sequence; of several of these it is bs, else N. Of several that say batch it is the one
that says nothing else (batch, batch_size), and where that does not leave one, `--shape` has to say. Where no name says it, it is the
first axis 0 that is open. Every other axis of the same name is the batch too, and an input that has none of that name is not batched.
`--shape height=320,width=320` binds axes by name, `--shape input=N,3,320,320` the axes of one input, N being the batch; a number
for the axis that is the batch by its name fixes the batch. The user's arrays bind what is left, where they tell. One axis of an
input is the batch, at the most. Nothing is bound silently.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import AbstractSet, Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple, Union

from common.errors import UserError, unknown
from common.text import brief, counted, visible

#: what stands for the batch in --shape
BATCH_WORD = "N"
#: an axis as a file has it: a size, a name, or None for one that is open and has no name
Axis = Union[int, str, None]
#: what a line to copy proposes
_PIXELS = 224
LENGTH = 128
#: characters of a name that a line to copy says, where it has the choice
_MOST_TO_COPY = 60
#: proposals that are followed to one that leaves nothing open
_MOST_TRIES = 8
#: an axis 0 that is most likely a batch too: tf2onnx names every open axis anew, unk__1, unk__2, ...
_NAMED_ANEW = re.compile(r"^unk__\d+$", re.IGNORECASE)
#: a name that says batch, whichever axis it is of
_SAYS_BATCH = re.compile(r"(^|[_.\- ])batch([_-]?(size|dim))?$", re.IGNORECASE)
#: one that says nothing else
_SAYS_ONLY_BATCH = re.compile(r"^batch([_\- ]?(size|dim))?$", re.IGNORECASE)
#: one that says so on axis 0, and beside an axis 0 that is a sequence; elsewhere it may be a number of boxes
_MAY_SAY_BATCH = re.compile(r"^(n|bs?)$", re.IGNORECASE)
#: the surest of them first: n may be a number of anything, b of boxes or bins
_SUREST = ("bs", "n", "b")
#: a name that counts with another, as torch.onnx writes it: `s + 1`, `s0*2`; `2*s0` is turned round first
_COUNTED = re.compile(r"^(?:(?P<symbol>[A-Za-z_]\w*)\s*(?P<sign>[-+*])\s*(?P<number>\d{1,9}))$")
_SEQUENCE = re.compile(
    r"^[tls]$|(^|[_.\- ])(time(_?steps?)?|steps?|frames?|tokens?|seq(uence)?|(seq(uence)?_?)?len(gth)?)$", re.IGNORECASE
)


#: a control character may stand as it is: a shell's $'...' puts it there
_QUOTED = json.JSONDecoder(strict=False)


@dataclass(frozen=True)
class Bound:
    """Input -> sizes of its axes, None at the batch; fixed: the batch size where the graph or --shape fixes it.

    open_axes: input -> numbers of the axes that the file leaves open and --shape bound, the batch not among them. named: the file's
    names of the axes that are the batch where --shape fixes it by such a name; fixed_axes: input -> number of its batch axis then,
    and an input without one is not batched. symbols: the file's names of all axes of inputs. is_said: whether a name of the file, or
    --shape, says which axis is the batch.
    """

    shapes: Mapping[str, Tuple[Optional[int], ...]]
    fixed: Optional[int]
    open_axes: Mapping[str, Tuple[int, ...]]
    named: FrozenSet[str] = frozenset()
    fixed_axes: Mapping[str, int] = field(default_factory=dict)
    symbols: FrozenSet[str] = frozenset()
    is_said: bool = False


@dataclass(frozen=True)
class Arrays:
    """Shapes of the user's own arrays, an input each, and the file that they come from, for messages."""

    path: str
    shapes: Mapping[str, Tuple[int, ...]]


def axes_of(value: Any) -> Tuple[Axis, ...]:
    """The axes of an ONNX ValueInfoProto; sizes below 1 are open ones, as some exporters write them (see empty_axes)."""
    found: List[Axis] = []
    for axis in value.type.tensor_type.shape.dim:
        if axis.HasField("dim_value"):
            found.append(axis.dim_value if axis.dim_value > 0 else None)
        else:
            found.append(axis.dim_param if axis.dim_param not in ("", "?") else None)
    return tuple(found)


def empty_axes(value: Any) -> List[int]:
    """Numbers of the axes of an ONNX ValueInfoProto whose size is 0: they hold no values, or the exporter meant open ones."""
    dims = value.type.tensor_type.shape.dim
    return [number for number, axis in enumerate(dims) if axis.HasField("dim_value") and axis.dim_value == 0]


def parse(text: str) -> Dict[str, List[str]]:
    """`a=1,b=N,3` as {"a": ["1"], "b": ["N", "3"]}; names as `spelled` writes them. Raises UserError for anything else."""
    asked: Dict[str, List[str]] = {}
    name: Optional[str] = None
    rest: Optional[str] = text
    while rest is not None:
        named, value, rest = _next_word(rest)
        if named is not None:
            name = named
            if name in asked:
                raise UserError(f"--shape names '{brief(name)}' twice")
            asked[name] = []
        if name is None or not (value == BATCH_WORD or (value.isascii() and value.isdigit())):
            raise _not_taken(value if named is None else f"{named}={value}")
        # int() raises ValueError for thousands of digits
        if value != BATCH_WORD and not (len(value) <= 10 and 0 < int(value) < 2**31):
            whole = ",".join([*asked[name], value])
            raise UserError(f"--shape {brief(name)}={brief(whole)}: a size is at least 1 and below 2^31")
        asked[name].append(value)
    return asked


def _not_taken(word: str) -> UserError:
    return UserError(
        f"--shape has '{brief(word)}'; it takes NAME=SIZE for a dynamic axis or INPUT={BATCH_WORD},3,320,320 for an "
        'input, comma list; a name with a comma or a quote stands in double quotes, as in "a,b"=3'
    )


def _next_word(text: str) -> Tuple[Optional[str], str, Optional[str]]:
    """(name, value, what follows its comma) of the first word of --shape; the name is None where it has none."""
    begun = text.lstrip()
    if not begun.startswith('"'):
        word, comma, rest = text.partition(",")
        before, equals, value = word.rpartition("=")
        if equals and not before.strip():
            raise _not_taken(word)
        return before.strip() if equals else None, value.strip(), rest if comma else None
    try:
        name, end = _QUOTED.raw_decode(begun)
    except ValueError:
        raise UserError(
            f'--shape has {brief(begun)}; a name in double quotes ends with one, and a quote within it is \\"'
        ) from None
    value, comma, rest = begun[end:].partition(",")
    if not value.lstrip().startswith("="):
        raise UserError(f"--shape has {brief(begun)}; after a name in double quotes comes =SIZE")
    return name, value.strip()[1:].strip(), rest if comma else None


def spelled(name: str) -> str:
    """The name as --shape takes it: itself, or in double quotes with the escapes of JSON.

    It has no single quote then and nothing that acts, so that it stands between single quotes in any shell.
    """
    plain = name and name.strip() == name and visible(name, "") == name and not name.startswith("-")
    if plain and not set(name) & set(",\"'"):
        return name
    inner = (json.dumps(one, ensure_ascii=visible(one, "") != one)[1:-1] for one in name)
    return '"' + "".join("\\u0027" if one == "'" else one for one in inner) + '"'


def sizes(text: str) -> Dict[str, int]:
    """`sequence=64` as {"sequence": 64}, for a registered model. Raises UserError for anything but one size an axis."""
    found: Dict[str, int] = {}
    for name, words in (parse(text) if text else {}).items():
        if len(words) != 1 or words[0] == BATCH_WORD:
            raise UserError(f"--shape {brief(name)}={','.join(words)}: of a registered model an axis has one size")
        found[name] = int(words[0])
    return found


class _Unbound(Exception):
    """Something is not bound. args: what, in words; a whole --shape that may bind it, as parse() gives it."""


def bind(inputs: Mapping[str, Tuple[Axis, ...]], shape: str, source: str, arrays: Optional[Arrays] = None) -> Bound:
    """The axes of all inputs at a given --shape. source: the file, for messages. arrays: they have as many axes as the inputs.

    Raises UserError that names symbol, input and a --shape to copy for what is not bound, and for what --shape gets wrong.
    """
    asked = parse(shape) if shape else {}
    try:
        return _bound(inputs, asked, source, arrays)
    except _Unbound as error:
        what, line = error.args
    for _ in range(_MOST_TRIES):  # what is to be copied shall end in no other such line
        following = _proposed(inputs, line, source, arrays)
        if following is None:
            break
        line = following
    raise UserError(f"{what} --shape '{line_of(line)}'")


def _proposed(
    inputs: Mapping[str, Tuple[Axis, ...]], asked: Mapping[str, List[str]], source: str, arrays: Optional[Arrays]
) -> Optional[Mapping[str, List[str]]]:
    """The --shape that may bind what this one leaves open; None where it leaves nothing open, or is wrong."""
    try:
        _bound(inputs, asked, source, arrays)
    except _Unbound as error:
        proposed: Mapping[str, List[str]] = error.args[1]
        return proposed
    except UserError:
        pass
    return None


def line_of(asked: Mapping[str, Sequence[str]]) -> str:
    """The --shape that parse() takes for this."""
    return ",".join(f"{spelled(name)}={','.join(words)}" for name, words in asked.items())


def _bound(
    inputs: Mapping[str, Tuple[Axis, ...]], asked: Mapping[str, List[str]], source: str, arrays: Optional[Arrays]
) -> Bound:
    """As bind(). Raises _Unbound for what is not bound."""
    symbols = {axis for axes in inputs.values() for axis in axes if isinstance(axis, str)}
    of_axes = {name for name in asked if _is_of_axis(name, inputs, asked, symbols)}
    _check_asked(inputs, asked, symbols, of_axes)
    by_symbol = {name: asked[name][0] for name in asked if name in of_axes}
    by_input = {name: sizes for name, sizes in asked.items() if name not in by_symbol}
    batch = _batch_of(inputs, by_symbol, by_input)
    shapes: Dict[str, List[Optional[int]]] = {}
    open_axes: List[Tuple[str, int, Axis]] = []
    for name, axes in inputs.items():
        shapes[name] = []
        # a nameless axis 0 beside one that has a name is not the batch
        of_input = batch.names.intersection(axes) or batch.names
        for number, axis in enumerate(axes):
            size = _size(source, name, number, axis, by_symbol, by_input, of_input)
            if size is _OPEN:
                open_axes.append((name, number, axis))
                size = None
            shapes[name].append(size)  # type: ignore[arg-type]
    _refuse_two_sizes(inputs, shapes, by_symbol)
    unsaid = {(name, number) for name, number, _ in open_axes}
    if arrays is not None:
        open_axes = _bind_by_arrays(inputs, shapes, open_axes, batch, arrays)
    if open_axes:
        line = _line_to_copy(inputs, shapes, open_axes, batch, arrays)
        if batch.rivals:
            raise _Unbound(_undecided(source, batch.rivals), {**asked, **line})
        raise _Unbound(_unbound(source, inputs, open_axes), {**asked, **line})
    _refuse_two_batches(source, inputs, shapes, asked, arrays)
    dynamic = any(None in sizes for sizes in shapes.values())
    fixed_axes = {} if dynamic else _fixed_axes(inputs, shapes, batch)
    left_open = {
        name: tuple(
            number
            for number, axis in enumerate(axes)
            if not isinstance(axis, int)
            and shapes[name][number]
            and number != fixed_axes.get(name)
            and (name, number) not in unsaid
        )
        for name, axes in inputs.items()
    }
    whole = {name: tuple(sizes) for name, sizes in shapes.items()}
    fixed = None if dynamic else batch.size or fixed_size(whole)
    is_said = any(BATCH_WORD in sizes for sizes in asked.values()) or any(map(_by_name, inputs.values()))
    sized = frozenset(() if dynamic else batch.sized)
    return Bound(whole, fixed, left_open, sized, fixed_axes, frozenset(symbols), is_said)


def _is_of_axis(
    name: str, inputs: Mapping[str, Tuple[Axis, ...]], asked: Mapping[str, Sequence[str]], symbols: AbstractSet[str]
) -> bool:
    """Whether --shape speaks of an axis by this name, and not of an input.

    One size is of the axis of that name, if there is one. It is of the input where that has one axis, without a name, and each input
    that has an axis of that name is said whole: else nothing could be said of such an input.
    """
    if name not in symbols or len(asked[name]) != 1:
        return False
    if inputs.get(name) != (None,):
        return True
    others = [other for other, axes in inputs.items() if name in axes]
    return any(other not in asked or (len(inputs[other]) == 1 and other in symbols) for other in others)


def _check_asked(
    inputs: Mapping[str, Tuple[Axis, ...]],
    asked: Mapping[str, Sequence[str]],
    symbols: AbstractSet[str],
    of_axes: AbstractSet[str],
) -> None:
    """Raises UserError for what --shape names and the model has not, or has with another number of axes."""
    for name, sizes in asked.items():
        if name not in inputs and name not in symbols:
            names = [*sorted(symbols), *inputs]
            raise unknown("axis or input in --shape:", name, names)
        if name in inputs and name not in of_axes and len(sizes) != len(inputs[name]):
            raise UserError(
                f"--shape {brief(name)}={','.join(sizes)} has {counted(len(sizes), 'axis', 'axes')}, "
                f"input '{brief(name)}' has {len(inputs[name])}: "
                f"{written(inputs[name])}"
            )
        if name in symbols and len(sizes) != 1 and name not in inputs:
            raise UserError(f"--shape {brief(name)}={','.join(sizes)}: an axis has one size")


def _fixed_axes(
    inputs: Mapping[str, Tuple[Axis, ...]], shapes: Mapping[str, Sequence[Optional[int]]], batch: _Batch
) -> Dict[str, int]:
    """Input -> its batch axis, where --shape gives the batch its size by name.

    An axis 0 that is open and has no name, or one of tf2onnx's, is the batch too where --shape gives it the same size.
    """
    found: Dict[str, int] = {}
    for name, axes in inputs.items() if batch.sized else ():
        named = [number for number, axis in enumerate(axes) if axis in batch.sized]
        if named:
            found[name] = named[0]
        elif axes and _is_nameless(axes[0]) and shapes[name][0] == batch.size:
            found[name] = 0
    return found


def _bind_by_arrays(
    inputs: Mapping[str, Tuple[Axis, ...]],
    shapes: Dict[str, List[Optional[int]]],
    open_axes: Sequence[Tuple[str, int, Axis]],
    batch: _Batch,
    arrays: Arrays,
) -> List[Tuple[str, int, Axis]]:
    """Gives axes that nobody bound the sizes that the arrays have there; those that it leaves open, as they may be the batch.

    Raises UserError for an axis that has two sizes.
    """
    sizes: Dict[str, Tuple[int, str]] = {}
    for name, axes in inputs.items():
        for axis, size in zip(axes, shapes[name]):
            if isinstance(axis, str) and size is not None:
                sizes.setdefault(axis, (size, name))
    names = {*batch.names, *batch.sized}
    samples = {
        arrays.shapes[name][number]
        for name, axes in inputs.items()
        for number, axis in enumerate(axes)
        if axis in names or (axis is None and number == 0 and _UNNAMED in names)
    }
    beside = {axis for axes in inputs.values() if names.intersection(axes) for axis in axes if isinstance(axis, str)}
    left: List[Tuple[str, int, Axis]] = []
    for name, number, axis in open_axes:
        size = arrays.shapes[name][number]
        is_settled = number > 0 or axis in beside or bool(names.intersection(inputs[name]))
        may_be = _is_nameless(axis) or _says_batch(axis) or (size in samples and not _SEQUENCE.search(str(axis)))
        if axis in batch.rivals or (may_be and not is_settled):
            left.append((name, number, axis))
            continue
        if isinstance(axis, str):
            known, first = sizes.setdefault(axis, (size, name))
            if known != size:
                raise UserError(
                    f"{arrays.path}: axis '{brief(axis)}' is {known} in '{brief(first)}' and {size} in '{brief(name)}'"
                )
        shapes[name][number] = size
    return left


def _refuse_two_sizes(
    inputs: Mapping[str, Tuple[Axis, ...]],
    shapes: Mapping[str, Sequence[Optional[int]]],
    by_symbol: Mapping[str, str],
) -> None:
    """Raises UserError for an axis to which --shape gives one size by its name, or in one input, and another in an input."""
    known = {name: (int(size), "by its name") for name, size in by_symbol.items() if size != BATCH_WORD}
    for name, axes in inputs.items():
        for axis, size in zip(axes, shapes[name]):
            if isinstance(axis, str) and size is not None:
                first, where = known.setdefault(axis, (size, f"in '{brief(name)}'"))
                if first != size:
                    raise UserError(
                        f"--shape gives axis '{brief(axis)}' two sizes: {first} {where} and {size} in '{brief(name)}'"
                    )


def _refuse_two_batches(
    source: str,
    inputs: Mapping[str, Tuple[Axis, ...]],
    shapes: Mapping[str, Sequence[Optional[int]]],
    asked: Mapping[str, List[str]],
    arrays: Optional[Arrays],
) -> None:
    """Raises _Unbound for an input of which two axes would be the batch, with a --shape by which its first one is."""
    several = {name: [i for i, size in enumerate(sizes) if size is None] for name, sizes in shapes.items()}
    several = {name: numbers for name, numbers in several.items() if len(numbers) > 1}
    rewritten = {axis for name in several for axis in inputs[name]}
    line = {name: words for name, words in asked.items() if name not in rewritten or words != [BATCH_WORD]}
    guessed: Dict[Axis, int] = {}  # an axis that stands in two of them has one size
    for name, numbers in several.items():
        words = [size or _guess(inputs, name, i, arrays) for i, size in enumerate(shapes[name])]
        line[name] = [
            str(guessed.setdefault(axis, word) if isinstance(axis, str) else word)
            for axis, word in zip(inputs[name], words)
        ]
        line[name][numbers[0]] = BATCH_WORD
    for name, numbers in several.items():
        raise _Unbound(
            f"{source}: axes {numbers[0]} and {numbers[1]} of input '{brief(name)}' {written(inputs[name])} cannot both be the "
            "batch; give the others their sizes, for example",
            line,
        )


class _Open:
    pass


_OPEN = _Open()


class _Unnamed:
    """Stands for the batch where axis 0 is open and has no name."""


_UNNAMED = _Unnamed()


@dataclass(frozen=True)
class _Batch:
    """names: of the axes that are the batch, _UNNAMED among them where it has none; empty where --shape gives it its size.

    sized: names that are the batch then; size: that size. rivals: names that say batch alike, where --shape does not name all of
    them: none is.
    """

    names: FrozenSet[Any] = frozenset()
    sized: FrozenSet[str] = frozenset()
    size: Optional[int] = None
    rivals: FrozenSet[str] = frozenset()


def _says_batch(axis: Axis) -> bool:
    return isinstance(axis, str) and _SAYS_BATCH.search(axis) is not None


def _is_nameless(axis: Axis) -> bool:
    return axis is None or (isinstance(axis, str) and _NAMED_ANEW.search(axis) is not None)


def _by_name(axes: Sequence[Axis]) -> Optional[str]:
    """The axis of an input that is the batch by its name, None where none is."""
    named = [axis for axis in axes if isinstance(axis, str)]
    of_batch = sorted((axis for axis in named if _says_batch(axis)), key=lambda axis: not _SAYS_ONLY_BATCH.search(axis))
    if of_batch or not named or named[0] != axes[0]:
        return of_batch[0] if of_batch else None
    if _MAY_SAY_BATCH.search(named[0]):
        return named[0]
    return next((axis for axis in named if _SEQUENCE.search(named[0]) and _MAY_SAY_BATCH.search(axis)), None)


def _candidates(inputs: Mapping[str, Tuple[Axis, ...]]) -> List[Tuple[str, Any]]:
    """What may be the batch where --shape does not say: inputs and names of axes, _UNNAMED for one without, the likeliest first.

    A name that tells, if there is one, and nothing else, whatever input it is in; else each axis 0 that is open. A name that stands
    beside another that tells comes after it, as the B of boxes (B, 4) beside (N, B, 4).
    """
    by_name = {name: _by_name(axes) for name, axes in inputs.items()}
    sure = [(name, axis) for name, axis in by_name.items() if axis is not None]
    if not sure:
        return [(name, axes[0] or _UNNAMED) for name, axes in inputs.items() if axes and not isinstance(axes[0], int)]
    beside = {axis for name, axes in inputs.items() for axis in axes if by_name[name] not in (None, axis)}
    return [min(sure, key=lambda one: (*_sureness(one[1])[:1], one[1] in beside, *_sureness(one[1])[1:]))]


def _sureness(axis: str) -> Tuple[int, int, str]:
    """Sorts the names that say batch, or may, the surest first."""
    if _says_batch(axis):
        return (0 if _SAYS_ONLY_BATCH.search(axis) else 1), 0, axis
    return 2, _SUREST.index(axis.casefold()), axis


def _rivals(inputs: Mapping[str, Tuple[Axis, ...]]) -> FrozenSet[str]:
    """The names that say batch, those alone that say nothing else where there are any; the batch is one of them if there is one."""
    said = {axis for axes in inputs.values() for axis in axes if isinstance(axis, str) and _says_batch(axis)}
    return frozenset({axis for axis in said if _SAYS_ONLY_BATCH.search(axis)} or said)


def _among_rivals(rivals: FrozenSet[str], given: Mapping[str, str], found: Set[Any]) -> Optional[_Batch]:
    """Of several names that say batch alike: what --shape says. None where it calls an axis the batch and leaves no name open.

    given: axis -> word of --shape. found: those that it calls the batch. Raises UserError where it gives them different sizes.
    """
    sizes = {axis: given[axis] for axis in sorted(rivals) if axis in given}
    if found:
        return None if len(sizes) == len(rivals) else _Batch(frozenset(found))
    if len(sizes) < len(rivals):
        return _Batch(rivals=rivals)
    if len(set(sizes.values())) > 1:
        first, second = list(sizes)[:2]
        words = " and ".join(f"'{brief(axis)}' the size {size}" for axis, size in sizes.items())
        raise UserError(
            f"--shape gives {words}: these names say batch alike, and a model has one batch; give them one size, or say {BATCH_WORD} "
            f"for the one that is the batch, as in "
            f"--shape '{line_of({first: [BATCH_WORD], second: [sizes[second]]})}'"
        )
    return _Batch(sized=frozenset(sizes), size=int(next(iter(sizes.values()))))


def _batch_of(
    inputs: Mapping[str, Tuple[Axis, ...]], by_symbol: Mapping[str, str], by_input: Mapping[str, Sequence[str]]
) -> _Batch:
    """Which axes are the batch: those that --shape calls so, and the first of the candidates that --shape does not speak of.

    The latter is none where it stands beside the former. A number for a name that says batch is the size of the batch.
    """
    given = {
        axis: size
        for name, sizes in by_input.items()
        for axis, size in zip(inputs[name], sizes)
        if isinstance(axis, str)
    }
    given.update(by_symbol)
    found: Set[Any] = {name for name, size in by_symbol.items() if size == BATCH_WORD}
    for name, axes in inputs.items():
        sizes = by_input.get(name, ())
        if BATCH_WORD in sizes:
            found.add(axes[sizes.index(BATCH_WORD)] or _UNNAMED)
    rivals = _rivals(inputs)
    decided = _among_rivals(rivals, given, found) if len(rivals) > 1 else None
    if decided is not None:
        return decided
    batched = [axes for axes in inputs.values() if found.intersection(axes)]
    others = {axis for axes in batched for axis in axes if isinstance(axis, str)} - found
    for name, candidate in _candidates(inputs):
        is_bound = candidate in given or (candidate is _UNNAMED and name in by_input)
        if not is_bound and candidate not in others and not found.intersection(inputs[name]):
            return _Batch(frozenset({*found, candidate}))
        if found:
            break
        if is_bound and candidate == _by_name(inputs[name]):
            more = {axis for axis, size in given.items() if size == given[candidate] and _says_batch(axis)}
            sized = {axis for axis in more if not _beside(axis, inputs, {candidate})}
            return _Batch(sized=frozenset({*sized, candidate}), size=int(given[candidate]))
    return _Batch(frozenset(found))


def _size(
    source: str,
    name: str,
    number: int,
    axis: Axis,
    by_symbol: Mapping[str, str],
    by_input: Mapping[str, Sequence[str]],
    batch: FrozenSet[Any],
) -> Union[int, _Open, None]:
    if name in by_input:
        word = by_input[name][number]
        if word == BATCH_WORD:
            if isinstance(axis, int):
                raise UserError(
                    f"{source}: axis {number} of input '{brief(name)}' {written((axis,))} is fixed at {axis}, so it cannot be "
                    f"the batch; --rebatch tries to make it dynamic"
                )
            return None
        if isinstance(axis, int) and axis != int(word):
            raise UserError(f"{source}: axis {number} of input '{brief(name)}' is fixed at {axis}, --shape says {word}")
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


def output_axis(declared: Sequence[Axis], shape: Sequence[int], bound: Bound) -> Optional[int]:
    """The batch axis of an output where --shape gives the batch its size by name: an axis of such a name.

    Else the only one of that size of which the file tells neither the size nor a name that an input's axis has. None where neither
    is. declared: as the file has it, empty where it does not tell; shape: as it came out.
    """
    axes = declared or (None,) * len(shape)
    of_size = [number for number, size in enumerate(shape[: len(axes)]) if size == bound.fixed]
    named = [number for number in of_size if axes[number] in bound.named]
    if named:
        return named[0]
    untold = [number for number in of_size if not isinstance(axes[number], int) and axes[number] not in bound.symbols]
    return untold[0] if len(untold) == 1 else None


def written(axes: Sequence[Axis]) -> str:
    return "(" + ", ".join("?" if axis is None else brief(str(axis)) for axis in axes) + ")"


def _unbound(source: str, inputs: Mapping[str, Tuple[Axis, ...]], open_axes: Sequence[Tuple[str, int, Axis]]) -> str:
    name, number, axis = open_axes[0]
    what = f"('{brief(str(axis))}') " if axis is not None else ""
    more = f" (and {len(open_axes) - 1} more)" if len(open_axes) > 1 else ""
    return (
        f"{source}: axis {number} {what}of input '{brief(name)}' {written(inputs[name])} is dynamic and not bound{more}; "
        "give for example"
    )


def _undecided(source: str, rivals: FrozenSet[str]) -> str:
    names = " and ".join(f"'{brief(axis)}'" for axis in sorted(rivals))
    return (
        f"{source}: the axes {names} all say batch, and no order of the inputs decides: name each of them in --shape, "
        f"{BATCH_WORD} for the batch, else a size; give for example"
    )


def _line_to_copy(
    inputs: Mapping[str, Tuple[Axis, ...]],
    shapes: Mapping[str, Sequence[Optional[int]]],
    open_axes: Sequence[Tuple[str, int, Axis]],
    batch: _Batch,
    arrays: Optional[Arrays],
) -> Dict[str, List[str]]:
    """What to add to --shape, as parse() gives it: it binds all open axes, and one axis of an input is the batch at the most."""
    proposal = _Proposal(inputs, shapes, batch, arrays)
    symbols = {axis for axes in inputs.values() for axis in axes}
    of_inputs = [
        name
        for name, number, axis in open_axes
        if _by_input(axis, number, inputs[name])
        # one size for a name is that of an axis, if there is one of that name
        and (axis is None or len(inputs[name]) > 1 or name not in symbols)
    ]
    of_inputs += [name for name, axes in inputs.items() if sum(axis in batch.names for axis in axes) > 1]
    # an axis of the same name as one of these inputs cannot be said by its name
    of_inputs += [name for name, axes in inputs.items() if any(axis in of_inputs for axis in axes if axis != name)]
    items = {name: proposal.of_input(name) for name in dict.fromkeys(of_inputs)}
    for name, number, axis in open_axes:
        if isinstance(axis, str) and name not in of_inputs and axis not in items and not proposal.is_batch(axis):
            items[axis] = [proposal.of_axis(name, number, axis)]
    return items


class _Proposal:
    """Sizes to propose. An axis has one size in all inputs, so the first one that is proposed for a name stays."""

    def __init__(
        self,
        inputs: Mapping[str, Tuple[Axis, ...]],
        shapes: Mapping[str, Sequence[Optional[int]]],
        batch: _Batch,
        arrays: Optional[Arrays],
    ) -> None:
        self._inputs, self._shapes, self._arrays = inputs, shapes, arrays
        self._batch_size = str(batch.size or BATCH_WORD)
        self._batch_names: Set[Any] = {*batch.names, *batch.sized}
        #: of axes that have the batch's name and stand behind it
        self._beside_batch: Dict[str, str] = {}
        self._sizes: Dict[str, str] = {
            axis: str(size)
            for name, axes in inputs.items()
            for axis, size in zip(axes, shapes[name])
            if isinstance(axis, str) and size is not None and axis not in batch.names
        }

    def is_batch(self, axis: str) -> bool:
        return self._sizes.get(axis) == BATCH_WORD

    def of_input(self, name: str) -> List[str]:
        """All sizes of an input: N, 3, 224, 224."""
        axes = self._inputs[name]
        batch = _likely_batch(self._inputs, self._shapes, name, self._batch_names)
        sizes: List[str] = []
        for number, axis in enumerate(axes):
            size = self._batch_size if number == batch else self._bound_or_guessed(name, number)
            # of two axes of the batch's name, (N, N), the first is the batch and the other has a size
            repeats = batch not in (None, number) and axis == axes[batch or 0] and BATCH_WORD in sizes
            if isinstance(axis, str):
                size = (self._beside_batch if repeats else self._sizes).setdefault(axis, size)
            sizes.append(size)
        if batch is not None and isinstance(axes[batch], str):
            self._batch_names.add(axes[batch])
        return sizes

    def of_axis(self, name: str, number: int, axis: str) -> str:
        """The size of an axis by its name: `N` or `224`."""
        if axis not in self._sizes:
            may_be_batch = _says_batch(axis) or (not self._batch_names and _MAY_SAY_BATCH.search(axis) is not None)
            if may_be_batch and not _beside(axis, self._inputs, self._batch_names):
                self._sizes[axis] = self._batch_size
                self._batch_names.add(axis)
            else:
                self._sizes[axis] = self._bound_or_guessed(name, number)
        return self._sizes[axis]

    def _bound_or_guessed(self, name: str, number: int) -> str:
        size = self._shapes[name][number] or self._computed(self._inputs[name][number])
        return str(size or _guess(self._inputs, name, number, self._arrays))

    def _computed(self, axis: Axis) -> Optional[int]:
        """The size of an axis whose name counts with another's, as `s + 1` does; None where it does not."""
        turned = re.sub(r"^(\d+)\s*\*\s*(\w+)$", r"\2*\1", axis) if isinstance(axis, str) else ""
        found = _COUNTED.match(turned)
        if found is None:
            return None
        symbol, sign, number = found["symbol"], found["sign"], int(found["number"])
        place = next(((name, axes.index(symbol)) for name, axes in self._inputs.items() if symbol in axes), None)
        word = self.of_axis(*place, symbol) if place is not None else self._sizes.get(symbol, "")
        if not word.isdigit():
            return None
        size = {"+": int(word) + number, "-": int(word) - number, "*": int(word) * number}[sign]
        return size if 0 < size < 2**31 else None


def _beside(axis: Axis, inputs: Mapping[str, Tuple[Axis, ...]], names: Set[Any]) -> bool:
    """Whether another axis of an input that has this one is the batch."""
    if axis is None:
        return False
    return any(
        axis in axes and (bool((names - {axis}).intersection(axes)) or (_UNNAMED in names and axes[0] is None))
        for axes in inputs.values()
    )


def _by_input(axis: Axis, number: int, axes: Sequence[Axis]) -> bool:
    """Whether a line to copy says the sizes of the whole input.

    It does where an axis has no name, one that is long or takes quotes, one that stands there twice, or one of a batch in front.
    """
    if not isinstance(axis, str) or axes.count(axis) > 1 or spelled(axis) != axis or len(axis) > _MOST_TO_COPY:
        return True
    return number == 0 and (_is_nameless(axis) or _says_batch(axis))


def _likely_batch(
    inputs: Mapping[str, Tuple[Axis, ...]],
    shapes: Mapping[str, Sequence[Optional[int]]],
    name: str,
    names: Set[Any],
) -> Optional[int]:
    """Number of the axis of an input that a line to copy calls the batch. names: of the axes that are."""
    axes = inputs[name]
    batch = [number for number, axis in enumerate(axes) if axis in names]
    if batch:
        return batch[0]
    unbound = [number for number, axis in enumerate(axes) if not isinstance(axis, int) and shapes[name][number] is None]
    likely = [number for number in unbound if _says_batch(axes[number])]
    likely += [number for number in unbound if number == 0 and _is_nameless(axes[0])]
    if isinstance(axes[0], int) and len(unbound) == 1 and axes[unbound[0]] is None:
        likely += unbound  # most often the batch of a state: (2, ?, 128)
    return next((number for number in likely if not _beside(axes[number], inputs, names)), None)


def _guess(inputs: Mapping[str, Tuple[Axis, ...]], name: str, number: int, arrays: Optional[Arrays]) -> int:
    """A size to propose: what the user's array has there, else pixels for what has four axes and 1 or 3 channels."""
    if arrays is not None:
        return arrays.shapes[name][number]
    axes = inputs[name]
    if len(axes) == 4 and (axes[1] in (1, 3) or axes[3] in (1, 3)):
        return _PIXELS
    return LENGTH
