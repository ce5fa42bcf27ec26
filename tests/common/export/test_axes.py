"""Axes of inputs: the batch, --shape, and one line for what nobody bound. No framework is needed."""

from __future__ import annotations

import itertools
import shlex

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.export.axes import Arrays, Axis, Bound, bind, fixed_size, line_of, output_axis, parse
from common.text import visible

Inputs = dict[str, tuple[Axis, ...]]
PICTURE: Inputs = {"images": ("batch", 3, "height", "width")}
STATE: Inputs = {"input": (None, None), "state": (2, None, 128), "sr": ()}
BOXES: Inputs = {"x": ("N", 3, 224, 224), "boxes": ("N", "B", 4)}


def words_of(shape: str) -> list[str]:
    return [word for words in (parse(shape) if shape else {}).values() for word in words]


#: inputs, --shape, what comes of them, and the batch that --shape or the file fixes
BOUND: list[tuple[Inputs, str, Inputs, int | None]] = [
    (PICTURE, "height=320,width=256", {"images": (None, 3, 320, 256)}, None),
    (PICTURE, "images=N,3,320,256", {"images": (None, 3, 320, 256)}, None),
    (PICTURE, "images=4,3,8,8", {"images": (4, 3, 8, 8)}, 4),
    (PICTURE, "batch=2,height=8,width=8", {"images": (2, 3, 8, 8)}, 2),
    (STATE, "input=N,512,state=2,N,128", {"input": (None, 512), "state": (2, None, 128), "sr": ()}, None),
    ({"x": (1, 3, 8, 8)}, "", {"x": (1, 3, 8, 8)}, 1),
    ({"x": (1, 3, 8, 8), "h": (2, 1, 4)}, "", {"x": (1, 3, 8, 8), "h": (2, 1, 4)}, 1),
    ({"ids": ("n", "seq"), "mask": ("n", "seq")}, "seq=7", {"ids": (None, 7), "mask": (None, 7)}, None),
    # a batch's name binds every axis that has it, wherever it is
    ({"x": ("b", 4), "h": (2, "b", 4)}, "", {"x": (None, 4), "h": (2, None, 4)}, None),
    # an input that does not share the batch is bound by --shape and fed once
    ({"x": ("b", 4), "table": ("rows", 4)}, "rows=9", {"x": (None, 4), "table": (9, 4)}, None),
    ({"x": (5,)}, "", {"x": (5,)}, 1),
    # an input that is called as one of its axes: one size is the axis'
    ({"x": ("x", 3)}, "x=5", {"x": (5, 3)}, 5),
    ({"x": ("x", 3)}, "x=N,3", {"x": (None, 3)}, None),
    # the one that is said to be the batch, and the first
    ({"x": ("unk__1", 4), "y": ("unk__2", 6)}, "y=N,6", {"x": (None, 4), "y": (None, 6)}, None),
    # the batch is where --shape says, with a size in front of it
    ({"x": ("T", "batch", 80)}, "batch=N,T=50", {"x": (50, None, 80)}, None),
    (
        {"x": ("T", "batch", "F"), "h": (2, "batch", 128)},
        "batch=N,T=50,F=80",
        {"x": (50, None, 80), "h": (2, None, 128)},
        None,
    ),
    # a name that says batch is the batch, and the sequence in front of it is none
    ({"x": ("T", "batch", 80)}, "T=50", {"x": (50, None, 80)}, None),
    ({"mask": ("T",), "x": ("T", "batch", 80)}, "T=50", {"mask": (50,), "x": (50, None, 80)}, None),
    ({"x": (50, "batch", 80), "h": (2, "batch", 8)}, "", {"x": (50, None, 80), "h": (2, None, 8)}, None),
    ({"x": ("T", 80), "h": (2, "batch", 8)}, "T=5", {"x": (5, 80), "h": (2, None, 8)}, None),
    # and a number for it fixes the batch, whatever stands at axis 0
    ({"x": ("T", "batch", 80)}, "batch=4,T=50", {"x": (50, 4, 80)}, 4),
    ({"x": ("T", "batch", 80)}, "T=50,batch=4", {"x": (50, 4, 80)}, 4),
    ({"x": ("T", "batch", 80)}, "x=50,4,80", {"x": (50, 4, 80)}, 4),
    ({"x": ("T", "B", 80), "h": (2, "B", 128)}, "B=1,T=50", {"x": (50, 1, 80), "h": (2, 1, 128)}, 1),
    ({"x": (None, "batch_size", 80)}, "x=50,4,80", {"x": (50, 4, 80)}, 4),
    ({"x": ("batch", "T", 80), "h": (2, "batch", 8)}, "batch=4,T=50", {"x": (4, 50, 80), "h": (2, 4, 8)}, 4),
    (
        {"samples": ("samples", 1), "x": ("T", "batch")},
        "samples=9,T=5,batch=3",
        {"samples": (9, 1), "x": (5, 3)},
        3,
    ),
    ({"table": (4, 80), "x": ("T", "batch", 80)}, "T=4,batch=4", {"table": (4, 80), "x": (4, 4, 80)}, 4),
    # whichever input it is in
    ({"h": (2, "batch", 8), "x": ("T", 80)}, "T=5", {"h": (2, None, 8), "x": (5, 80)}, None),
    ({"y": ("rows", 6), "x": ("decoder_batch_size", 4)}, "rows=9", {"y": (9, 6), "x": (None, 4)}, None),
    ({"x": ("n", "batch", 4)}, "n=5", {"x": (5, None, 4)}, None),
    # N, B and bs say so in front and beside a sequence; elsewhere they are boxes, bins or whatever
    (BOXES, "B=10", {"x": (None, 3, 224, 224), "boxes": (None, 10, 4)}, None),
    (BOXES, "N=2,B=10", {"x": (2, 3, 224, 224), "boxes": (2, 10, 4)}, 2),
    ({"boxes": ("B", 4), "more": ("N", "B", 4)}, "B=10", {"boxes": (10, 4), "more": (None, 10, 4)}, None),
    ({"x": ("n", "b")}, "b=7", {"x": (None, 7)}, None),
    ({"x": ("batch", "B", 80)}, "B=7", {"x": (None, 7, 80)}, None),
    ({"x": (None, "B", 80)}, "B=7", {"x": (None, 7, 80)}, None),
    # and come before an axis 0 that has another name or none
    ({"x": ("images", 3, 8, 8), "boxes": ("n", 4)}, "images=5,n=10", {"x": (5, 3, 8, 8), "boxes": (10, 4)}, 10),
    ({"x": ("images", 3, 8, 8), "boxes": ("n", 4)}, "images=N,n=10", {"x": (None, 3, 8, 8), "boxes": (10, 4)}, None),
    ({"h": ("layers", "N", 8), "x": ("N", "T")}, "T=5,layers=2", {"h": (2, None, 8), "x": (None, 5)}, None),
    ({"h": ("layers", "N", 8), "x": ("N", "T")}, "T=5,layers=2,N=4", {"h": (2, 4, 8), "x": (4, 5)}, 4),
    ({"r": ("rows", 4), "x": ("T", "B", 80)}, "rows=9,T=5,B=3", {"r": (9, 4), "x": (5, 3, 80)}, 3),
    (
        {"r": ("rows", 4), "x": ("N", "B"), "y": ("B", "N")},
        "rows=9,B=3",
        {"r": (9, 4), "x": (None, 3), "y": (3, None)},
        None,
    ),
    # of two it is the surer one, unless --shape says otherwise
    ({"boxes": ("B", 4), "x": ("N", 3, 8, 8)}, "B=7", {"boxes": (7, 4), "x": (None, 3, 8, 8)}, None),
    ({"boxes": ("B", 4), "x": ("N", 3, 8, 8)}, "B=7,N=2", {"boxes": (7, 4), "x": (2, 3, 8, 8)}, 2),
    ({"nodes": ("N", 8), "x": ("BS", 4)}, "N=7", {"nodes": (7, 8), "x": (None, 4)}, None),
    ({"nodes": ("N", 8), "x": ("B", 4)}, "N=7,B=N", {"nodes": (7, 8), "x": (None, 4)}, None),
    ({"mask": ("T",), "x": ("T", "B", 80)}, "T=50", {"mask": (50,), "x": (50, None, 80)}, None),
    ({"x": ("seq_len", "N", 80)}, "seq_len=50", {"x": (50, None, 80)}, None),
    ({"x": ("seq_len", "bs", 80)}, "seq_len=50,bs=4", {"x": (50, 4, 80)}, 4),
    # a name with more in it says something else: a table of statistics, a count, a beam
    ({"x": ("n", 4), "s": ("batch_norm", 4)}, "batch_norm=7", {"x": (None, 4), "s": (7, 4)}, None),
    ({"x": ("n", 4), "s": ("batch-norm", 4)}, "batch-norm=7", {"x": (None, 4), "s": (7, 4)}, None),
    ({"x": ("n", 4), "s": ("num_batches", 4)}, "num_batches=7", {"x": (None, 4), "s": (7, 4)}, None),
    ({"x": ("n", "num_batches_seen")}, "num_batches_seen=7", {"x": (None, 7)}, None),
    ({"x": ("n", "batch_beam")}, "batch_beam=7", {"x": (None, 7)}, None),
    # two that begin with different sizes: neither is a batch
    ({"h": (2, 1, 4), "x": (3, 8)}, "", {"h": (2, 1, 4), "x": (3, 8)}, 1),
]


@pytest.mark.parametrize(("inputs", "shape", "expected", "fixed"), BOUND)
def test_axes_are_bound(inputs: Inputs, shape: str, expected: Inputs, fixed: int | None) -> None:
    bound = bind(inputs, shape, "m.onnx")
    assert dict(bound.shapes) == expected
    assert bound.fixed == fixed


def arrays_of(sizes: Inputs) -> Arrays:
    """Six samples, whose number no other axis has, where the batch is None."""
    shapes = {name: tuple(one if isinstance(one, int) else 6 for one in axes) for name, axes in sizes.items()}
    return Arrays("v.npz", shapes)


@pytest.mark.parametrize(("inputs", "shape", "expected", "fixed"), BOUND)
def test_arrays_move_nothing_that_shape_says(inputs: Inputs, shape: str, expected: Inputs, fixed: int | None) -> None:
    bound = bind(inputs, shape, "m.onnx", arrays_of(expected))
    assert (dict(bound.shapes), bound.fixed) == (expected, fixed)
    assert bound == bind(inputs, shape, "m.onnx")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [(inputs, expected) for inputs, shape, expected, fixed in BOUND if fixed is None and "N" not in words_of(shape)],
)
def test_arrays_say_what_shape_would(inputs: Inputs, expected: Inputs) -> None:
    """The batch is where it is without them, and every other axis has their size."""
    bound = bind(inputs, "", "m.onnx", arrays_of(expected))
    assert (dict(bound.shapes), bound.fixed) == (expected, None)
    assert not any(bound.open_axes.values()), "no other size of --shape would do"


@pytest.mark.parametrize(
    ("inputs", "sizes", "part"),
    [
        # whose axis 0 may be the batch as well: it is asked, with a line to copy
        ({"x": (None, 4), "y": ("batch", 6)}, {"x": (3, 4), "y": (3, 6)}, "--shape 'x=N,4'"),
        ({"x": ("unk__1", 4), "y": ("unk__2", 6)}, {"x": (3, 4), "y": (3, 6)}, "--shape 'y=N,6'"),
        ({"x": ("b", 4), "y": ("rows", 6)}, {"x": (3, 4), "y": (3, 6)}, "--shape 'rows=3'"),
        (
            {"x": ("b", "seq"), "y": ("b", "seq")},
            {"x": (3, 4), "y": (3, 6)},
            "v.npz: axis 'seq' is 4 in 'x' and 6 in 'y'",
        ),
    ],
)
def test_what_arrays_do_not_tell_is_one_line(inputs: Inputs, sizes: dict[str, tuple[int, ...]], part: str) -> None:
    with pytest.raises(UserError) as raised:
        bind(inputs, "", "m.onnx", Arrays("v.npz", sizes))
    assert "\n" not in str(raised.value)
    assert part in str(raised.value)


def test_open_axes_that_were_bound_are_known() -> None:
    assert bind(PICTURE, "height=320,width=256", "m.onnx").open_axes == {"images": (2, 3)}
    assert bind(STATE, "input=N,512,state=2,N,128", "m.onnx").open_axes == {"input": (1,), "state": (), "sr": ()}


@pytest.mark.parametrize(
    ("inputs", "shape", "parts"),
    [
        (PICTURE, "", ["'height'", "'images'", "(batch, 3, height, width)", "--shape 'height=224,width=224'"]),
        (PICTURE, "height=8", ["'width'", "--shape 'height=8,width=224'"]),
        (STATE, "", ["axis 1", "'input'", "--shape 'input=N,128,state=2,N,128'"]),
        (PICTURE, "hight=8", ["'hight'", "height, width, images", "Did you mean height?"]),
        (PICTURE, "images=N,3,8", ["3 axes", "has 4"]),
        # of an input that is called as one of its axes
        ({"x": ("x", 3, 4)}, "x=2,3", ["has 2 axes, input 'x' has 3"]),
        ({"x": ("x", 3)}, "x=1,3,N", ["has 3 axes, input 'x' has 2"]),
        (PICTURE, "images=N,1,8,8", ["axis 1", "fixed at 3", "says 1"]),
        ({"x": (1, 4)}, "x=N,4", ["axis 0", "fixed at 1", "--rebatch"]),
        ({"x": ("b", 4), "table": ("rows", 4)}, "", ["'rows'", "'table'", "--shape 'rows=128'"]),
        ({"x": ("b", 4), "table": ("rows", 4)}, "x=N,4", ["'rows'", "'table'", "--shape 'x=N,4,rows=128'"]),
        (PICTURE, "images=N,3,8,8,height=9", ["axis 'height' two sizes", "9 by its name", "8 in 'images'"]),
        (
            {"ids": ("n", "seq"), "mask": ("n", "seq")},
            "ids=N,7,mask=N,5",
            ["axis 'seq' two sizes: 7 in 'ids' and 5 in 'mask'"],
        ),
        # tf2onnx gives every open axis a name of its own
        ({"x": ("unk__1", 4), "y": ("unk__2", 6)}, "", ["'unk__2'", "--shape 'y=N,6'"]),
        # an axis beside the batch is not the batch, in whatever input and whatever order
        ({"x": ("T", "batch", 80)}, "batch=N", ["axis 0 ('T')", "not bound", "--shape 'batch=N,T=128'"]),
        (
            {"x": ("T", "batch", "F"), "h": (2, "batch", 128)},
            "batch=N,F=80",
            ["axis 0 ('T')", "--shape 'batch=N,F=80,T=128'"],
        ),
        ({"x": ("T", "B", 80), "len": ("B",)}, "B=N", ["axis 0 ('T') of input 'x'", "--shape 'B=N,T=128'"]),
        (
            {"mask": ("T",), "x": ("T", "batch", 80)},
            "batch=N",
            ["axis 0 ('T') of input 'mask'", "--shape 'batch=N,T=128'"],
        ),
        ({"audio": ("samples", "ch")}, "ch=N", ["axis 0 ('samples')", "--shape 'ch=N,samples=128'"]),
        ({"x": (None, "batch", 80)}, "batch=N", ["axis 0 of input 'x'", "--shape 'batch=N,x=128,N,80'"]),
        (
            {"x": ("T", "batch", 80)},
            "T=N,batch=N",
            ["axes 0 and 1 of input 'x' (T, batch, 80)", "--shape 'x=N,128,80'"],
        ),
        ({"x": ("T", "batch", 80)}, "x=N,N,80", ["axes 0 and 1", "cannot both be the batch", "--shape 'x=N,128,80'"]),
        ({"x": ("n", "n")}, "", ["axes 0 and 1 of input 'x' (n, n)", "--shape 'x=N,128'"]),
        # the batch has a size, so that nothing else is the batch
        ({"x": ("T", "batch", 80)}, "batch=4", ["axis 0 ('T')", "--shape 'batch=4,T=128'"]),
        ({"x": ("T", "batch", 80)}, "", ["axis 0 ('T')", "--shape 'T=128'"]),
        ({"x": (None, "batch", 80)}, "batch=4", ["axis 0 of input 'x'", "--shape 'batch=4,x=128,4,80'"]),
        ({"x": ("batch", 4), "y": ("unk__2", 6)}, "batch=3", ["'unk__2'", "--shape 'batch=3,y=3,6'"]),
        ({"x": ("batch", 4), "y": ("T", 6)}, "batch=3", ["axis 0 ('T') of input 'y'", "--shape 'batch=3,T=128'"]),
        ({"x": ("T", 80), "h": (2, "batch", 8)}, "", ["axis 0 ('T')", "--shape 'T=128'"]),
        ({"x": ("T", 80), "h": (2, "batch", 8)}, "batch=N", ["axis 0 ('T')", "--shape 'batch=N,T=128'"]),
        ({"x": ("batch", 4), "y": ("decoder_batch", 6)}, "", ["'decoder_batch'", "--shape 'y=N,6'"]),
        (BOXES, "", ["axis 1 ('B') of input 'boxes'", "--shape 'B=128'"]),
        (BOXES, "N=224", ["axis 1 ('B') of input 'boxes'", "--shape 'N=224,B=128'"]),
        ({"x": ("batch", "B", 80)}, "", ["axis 1 ('B')", "--shape 'B=128'"]),
        ({"x": (50, "B", 80), "h": (2, "B", 8)}, "", ["axis 1 ('B')", "--shape 'B=N'"]),
        ({"x": (None, "w", 80), "y": ("batch", 4)}, "w=7", ["axis 0 of input 'x'", "--shape 'w=7,x=N,7,80'"]),
        # a size for a name that says batch does not make the neighbour's axis 0 the batch
        ({"boxes": ("boxes", 4), "x": ("N", 3, 8, 8)}, "N=4", ["axis 0 ('boxes')", "--shape 'N=4,boxes=128'"]),
        ({"boxes": (None, 4), "x": ("N", 3, 8, 8)}, "N=4", ["axis 0 of input 'boxes'", "--shape 'N=4,boxes=4,4'"]),
        ({"x": ("images", 3, 8, 8), "boxes": ("n", 4)}, "n=10", ["axis 0 ('images')", "--shape 'n=10,images=224'"]),
        ({"h": ("layers", "N", 8), "x": ("N", "T")}, "T=5,N=4", ["axis 0 ('layers')", "--shape 'T=5,N=4,layers=128'"]),
        ({"boxes": ("B", 4), "x": ("N", 3, 8, 8)}, "N=4", ["axis 0 ('B') of input 'boxes'", "--shape 'N=4,B=128'"]),
        # a name that --shape cannot say
        ({"x": ("b", "max(1, h)")}, "", ["'max(1, h)'", "--shape 'x=N,128'"]),
    ],
)
def test_what_is_not_bound_or_wrong_is_one_line(inputs: Inputs, shape: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        bind(inputs, shape, "m.onnx")
    assert "\n" not in str(raised.value)
    for part in parts:
        assert part in str(raised.value)


def proposed_by(error: UserError) -> str:
    """The --shape to copy, as a shell gives it to the program."""
    words = shlex.split(visible(str(error)).rpartition(" --shape ")[2])
    assert len(words) == 1
    return words[0]


def every_shape(inputs: Inputs) -> list[str]:
    """None, and one for each name, as a size and as the batch."""
    names = sorted({axis for axes in inputs.values() for axis in axes if isinstance(axis, str)})
    return ["", *(f"{name}={word}" for name in names for word in ("5", "N"))]


AXES: tuple[Axis, ...] = (3, None, "batch", "their_batch", "my_batch", "B", "T", "rows", "unk__1")
#: any three axes of one input, and any two of each of two
ANY: list[Inputs] = [
    *({"x": axes} for axes in itertools.product(AXES, repeat=3)),
    *({"x": axes[:2], "y": axes[2:]} for axes in itertools.product(AXES, repeat=4)),
]


def test_the_line_to_copy_binds_what_it_was_reported_for() -> None:
    """Added to what was asked: it ends in no other line, and in no input with two batches."""
    seen = 0
    for inputs in (PICTURE, STATE, BOXES, *ANY):
        for shape in every_shape(inputs):
            try:
                bind(inputs, shape, "m.onnx")
            except UserError as error:
                bound = bind(inputs, proposed_by(error), "m.onnx")
                assert all(sizes.count(None) <= 1 for sizes in bound.shapes.values()), (inputs, shape)
                seen += 1
    assert seen > 10_000


#: of axes and inputs alike; an exporter writes what it likes
_ODD = ["batch", "B", "T", "s", "s + 1", "a,b", "it's", "a=b", "=", '"', " x", "-x", "two\nlines", "\\", "模"]
_CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from(",='\"\\ \n\t-@\x1b\u202e")
NAMES = (st.sampled_from(_ODD) | st.text(_CHARACTERS, min_size=1, max_size=8)).filter(lambda name: name != "?")
ANY_INPUTS = st.dictionaries(
    NAMES, st.lists(NAMES | st.none() | st.integers(1, 3), min_size=1, max_size=4).map(tuple), min_size=1, max_size=3
)


@given(ANY_INPUTS, st.dictionaries(NAMES, st.sampled_from([["N"], ["5"]]), max_size=2))
@example({"x": ("n", "n"), "y": ("T", 4)}, {"x": ["N", "128"]})
@example({"a,b": ("c,d", 3), "it's": ("two\nlines", 4)}, {})
@example({"x": ("batch", "batch"), "y": ("batch", 1, "batch", "batch")}, {})
@settings(max_examples=200)
def test_the_line_to_copy_works_whatever_the_names(inputs: Inputs, asked: dict[str, list[str]]) -> None:
    """Where an input has the name of another one's axis a name may be said once alone: see the test below."""
    if any(axis in inputs and axis != name for name, axes in inputs.items() for axis in axes):
        return
    try:
        bind(inputs, line_of(asked), "m.onnx")
    except UserError as error:
        if "for example --shape" in str(error):
            bind(inputs, proposed_by(error), "m.onnx")


def test_the_line_to_copy_binds_inputs_that_have_the_name_of_an_axis() -> None:
    seen = 0
    for axes in itertools.product((3, None, "batch", "T"), repeat=4):
        inputs: Inputs = {"x": axes[:2], "T": axes[2:]}
        try:
            bind(inputs, "", "m.onnx")
        except UserError as error:
            bind(inputs, proposed_by(error), "m.onnx")
            seen += 1
    assert seen > 100


def test_the_line_to_copy_binds_an_input_of_one_axis_that_has_the_name_of_an_axis() -> None:
    """`x=N` was of the axis alone, so that nothing could be said of such an input."""
    seen = 0
    kinds = (3, None, "batch", "x", "T", "N")
    systems: list[Inputs] = [
        {"x": (first,), "h": others} for first in kinds for others in itertools.product(kinds, repeat=3)
    ]
    systems += [{"h": inputs["h"][:2], "x": inputs["x"]} for inputs in systems]
    for inputs in systems:
        try:
            bind(inputs, "", "m.onnx")
        except UserError as error:
            bound = bind(inputs, proposed_by(error), "m.onnx")
            assert all(sizes.count(None) <= 1 for sizes in bound.shapes.values()), inputs
            seen += 1
    assert seen > 2000
    inputs = {"x": (None,), "h": ("x", "N", "batch_size")}
    assert bind(inputs, "x=5,h=128,128,N", "m.onnx").shapes == {"x": (5,), "h": (128, 128, None)}
    assert bind({**inputs, "x": (3,)}, "x=5,h=5,128,N", "m.onnx").shapes == {"x": (3,), "h": (5, 128, None)}


@given(st.dictionaries(NAMES | st.text(), st.lists(st.sampled_from(["N", "1", "224"]), min_size=1)))
@example({"": ["N", "3"], "a": ["1"]})
def test_any_name_can_be_said(asked: dict[str, list[str]]) -> None:
    line = line_of(asked)
    assert visible(line, "") == line and "'" not in line
    assert (parse(line) if line else {}) == asked


@pytest.mark.parametrize("text", ['"a=3', '"a"b=3', '"a"', '"a",3', '"\\x"=3'])
def test_a_quoted_name_that_is_none_is_said(text: str) -> None:
    with pytest.raises(UserError, match="--shape has"):
        parse(text)


def test_a_long_name_is_not_printed_whole() -> None:
    with pytest.raises(UserError) as raised:
        bind({"x": ("N", "a" * 3000)}, "", "m.onnx")
    assert len(str(raised.value)) < 300
    bind({"x": ("N", "a" * 3000)}, proposed_by(raised.value), "m.onnx")


def test_the_line_to_copy_fits_the_arrays() -> None:
    sizes = {3: 3, None: 6, "batch": 4, "their_batch": 4, "my_batch": 4, "B": 5, "T": 7, "rows": 9, "unk__1": 4}
    seen = 0
    for inputs in ANY:
        arrays = Arrays("v.npz", {name: tuple(sizes[axis] for axis in axes) for name, axes in inputs.items()})
        try:
            bound = bind(inputs, "", "m.onnx", arrays)
        except UserError as error:
            bound = bind(inputs, proposed_by(error), "m.onnx", arrays)
            seen += 1
        for name, shape in bound.shapes.items():
            assert all(size in (None, own) for size, own in zip(shape, arrays.shapes[name], strict=True)), (
                inputs,
                shape,
            )
    assert seen > 100


def test_a_name_that_says_batch_is_the_batch_whatever_the_order_of_the_inputs() -> None:
    for inputs in ANY:
        names = {axis for axes in inputs.values() for axis in axes}
        if "batch" in names and names.isdisjoint({"their_batch", "my_batch"}):
            bound = bind_or_none(inputs), bind_or_none(dict(reversed(inputs.items())))
            assert bound[0] == bound[1]
            for name, axes in inputs.items() if bound[0] is not None else ():
                assert [size is None for size in bound[0].shapes[name]] == [axis == "batch" for axis in axes]


#: two names that say batch alike, in two inputs, in one, and behind a sequence
RIVALS: list[Inputs] = [
    {"x": ("encoder_batch", 4), "y": ("decoder_batch", 6)},
    {"x": ("batch_size", 4), "y": ("batch", 6), "z": ("decoder_batch", 6)},
    {"x": ("encoder_batch", "decoder_batch")},
    {"x": ("T", "encoder_batch", 80), "y": ("S", "decoder_batch")},
]


@pytest.mark.parametrize("known", ["batch", "batch_size", "BatchSize", "batch-dim"])
def test_a_name_that_says_batch_and_nothing_else_comes_first_whatever_the_order(known: str) -> None:
    inputs: Inputs = {"y": ("decoder_batch", 6), "x": (known, 4), "z": ("encoder_batch", "their_batch")}
    others = "decoder_batch=2,encoder_batch=3,their_batch=5"
    for ordered in itertools.permutations(inputs.items()):
        bound = bind(dict(ordered), others, "m.onnx")
        assert bound.shapes == {"y": (2, 6), "x": (None, 4), "z": (3, 5)}
        assert bind(dict(ordered), f"{others},{known}=7", "m.onnx").fixed == 7
        with pytest.raises(UserError, match=r"'(de|en)coder_batch'\) of input .* is dynamic and not bound"):
            bind(dict(ordered), "", "m.onnx")


@pytest.mark.parametrize("inputs", RIVALS)
def test_of_names_that_say_batch_alike_none_is_the_batch_unless_shape_says(inputs: Inputs) -> None:
    whole = {name: tuple(one if isinstance(one, int) else 6 for one in axes) for name, axes in inputs.items()}
    lines = set()
    for ordered in itertools.permutations(inputs.items()):
        for arrays in (None, Arrays("v.npz", whole)):
            with pytest.raises(UserError, match="all say batch, and no order of the inputs decides") as raised:
                bind(dict(ordered), "", "m.onnx", arrays)
            lines.add(str(raised.value).split(": name each")[0])
            bound = bind(dict(ordered), proposed_by(raised.value), "m.onnx", arrays)
            assert bound.fixed is None
            assert all(sizes.count(None) <= 1 for sizes in bound.shapes.values())
    assert len(lines) == 1


def test_what_shape_says_of_names_that_say_batch_alike() -> None:
    inputs = RIVALS[0]
    for ordered in (inputs, dict(reversed(inputs.items()))):
        assert bind(ordered, "encoder_batch=N,decoder_batch=5", "m").shapes == {"x": (None, 4), "y": (5, 6)}
        assert bind(ordered, "encoder_batch=5,decoder_batch=N", "m").shapes == {"x": (5, 4), "y": (None, 6)}
        assert bind(ordered, "encoder_batch=N,decoder_batch=N", "m").shapes == {"x": (None, 4), "y": (None, 6)}
        fixed = bind(ordered, "encoder_batch=5,decoder_batch=5", "m")
        assert (fixed.fixed, fixed.fixed_axes) == (5, {"x": 0, "y": 0})
        with pytest.raises(UserError, match="'decoder_batch' the size 7 and 'encoder_batch' the size 5"):
            bind(ordered, "encoder_batch=5,decoder_batch=7", "m")
        with pytest.raises(
            UserError, match=r"'decoder_batch'.* is dynamic and not bound; give for example --shape '\w+=N,y=N,6'"
        ):
            bind(ordered, "encoder_batch=N", "m")
        for said in ("encoder_batch=5", "x=5,4"):
            with pytest.raises(
                UserError, match=r"name each of them in --shape, .*; give for example --shape '.*=5.*,y=N,6'"
            ):
                bind(ordered, said, "m")


@pytest.mark.parametrize("batch", ["N", "n", "B", "b", "bs"])
@pytest.mark.parametrize("other", ["boxes", "T", "unk__1", None])
def test_what_may_say_batch_comes_before_any_other_axis_0_whatever_the_order_of_the_inputs(
    batch: str, other: Axis
) -> None:
    inputs: Inputs = {"boxes": (other, 4), "x": (batch, 3, 8, 8)}
    whole: Inputs = {"boxes": (7, 4), "x": (None, 3, 8, 8)}
    for ordered in (inputs, dict(reversed(inputs.items()))):
        assert bind(ordered, "boxes=7,4", "m.onnx").shapes == whole
        if other in ("boxes", "T"):
            assert bind(ordered, "", "m.onnx", arrays_of(whole)).shapes == whole
        else:
            with pytest.raises(UserError, match="--shape 'boxes=N,4'"):
                bind(ordered, "", "m.onnx", arrays_of({"boxes": (None, 4), "x": (None, 3, 8, 8)}))
        fixed = bind(ordered, f"boxes=7,4,{batch}=4", "m.onnx")
        assert (fixed.shapes, fixed.fixed) == ({"boxes": (7, 4), "x": (4, 3, 8, 8)}, 4)
        assert fixed.fixed_axes == {"x": 0}
        for shape in ("", f"{batch}=4"):
            with pytest.raises(UserError, match=r"axis 0 .*of input 'boxes'"):
                bind(ordered, shape, "m.onnx")


def test_no_order_of_the_inputs_moves_a_batch_that_a_name_says() -> None:
    names: tuple[Axis, ...] = (3, None, "N", "n", "B", "bs", "T", "rows")
    seen = 0
    for axes in itertools.product(names, repeat=4):
        inputs: Inputs = {"x": axes[:2], "y": axes[2:]}
        if any(one in ("N", "n", "B", "bs") for one in (axes[0], axes[2])):
            sizes: dict[Axis, int] = {axis: size for size, axis in enumerate(axes, 4)} | {3: 3}
            shapes = ["", *(f"{axis}={size}" for axis, size in sizes.items() if isinstance(axis, str))]
            shapes.append(
                ",".join(f"{name}={','.join(str(sizes[axis]) for axis in own)}" for name, own in inputs.items())
            )
            for shape in shapes:
                bound = bind_or_none(inputs, shape)
                assert bound == bind_or_none(dict(reversed(inputs.items())), shape), (inputs, shape)
                seen += bound is not None
    assert seen > 1_000


def bind_or_none(inputs: Inputs, shape: str = "") -> Bound | None:
    try:
        return bind(inputs, shape, "m.onnx")
    except UserError:
        return None


@pytest.mark.parametrize(
    ("shapes", "outputs", "batch"),
    [
        # the inputs differ: what an output begins with
        ({"image": (8, 3, 224, 224), "im_shape": (1, 2)}, [(8, 100, 4)], 8),
        ({"im_shape": (1, 2), "image": (8, 3, 224, 224)}, [("boxes", 4), (8,)], 8),
        ({"image": (8, 3, 224, 224), "im_shape": (1, 2)}, [("boxes", 4)], 1),
        ({"h": (2, 1, 4), "x": (3, 8)}, [(5, 8)], 1),
        # states of two layers, which come out too
        ({"h": (2, 1, 4), "x": (1, 8)}, [(1, 8), (2, 1, 4)], 1),
        ({"x": (8, 20, 4), "h": (2, 8, 128)}, [(8, 20, 128), (2, 8, 128)], 8),
        ({"x": (7, 1, 4), "h": (2, 1, 128)}, [(7, 1, 128), (2, 1, 128)], 1),
        # they agree, and so do the outputs or not
        ({"x": (4, 8), "y": (4, 3)}, [(4, 5)], 4),
        ({"bands": (80, 20)}, [(1, 20)], 1),
        ({"x": (4, 8)}, [("rows", 5)], 4),
    ],
)
def test_a_fixed_batch_is_what_inputs_and_outputs_begin_with(
    shapes: dict[str, tuple[int, ...]], outputs: list[tuple[int | str, ...]], batch: int
) -> None:
    assert fixed_size(shapes, outputs) == batch


def test_axes_that_the_file_calls_the_batch_are_known_where_a_number_fixes_them() -> None:
    inputs: Inputs = {"x": ("T", "batch", 80), "h": (2, "batch", 128), "x_len": ("batch",), "sr": ()}
    bound = bind(inputs, "batch=4,T=50", "m.onnx")
    assert (bound.named, dict(bound.fixed_axes)) == ({"batch"}, {"x": 1, "h": 1, "x_len": 0})
    assert bound.open_axes == {"x": (0,), "h": (), "x_len": (), "sr": ()}
    assert not bind(inputs, "batch=N,T=50", "m.onnx").fixed_axes


def test_of_a_batch_that_has_a_size_by_name_nothing_else_is_the_batch() -> None:
    """It once was whatever began with 4: a table that all samples share was cut into samples."""
    inputs: Inputs = {
        "x": ("T", "batch", 80),
        "table": (4, 80),
        "mask": ("T", 80),
        "y": ("unk__1", 6),
        "z": ("rows", 6),
    }
    bound = bind(inputs, "T=4,batch=4,y=4,6,rows=4", "m.onnx")
    assert dict(bound.fixed_axes) == {"x": 1, "y": 0}, "of y the file tells nothing, and --shape says it"
    assert dict(bind(inputs, "T=4,batch=4,y=5,6,rows=4", "m.onnx").fixed_axes) == {"x": 1}


@pytest.mark.parametrize(
    ("declared", "shape", "axis"),
    [
        (("T", "batch", 80), (4, 4, 80), 1),
        (("batch", 80), (4, 80), 0),
        ((4, 80), (4, 80), None),
        (("T", 80), (4, 80), None),
        (("Gemm_dim_0", 5), (4, 5), 0),
        (("Add_dim_0", "Add_dim_1", 80), (50, 4, 80), 1),
        (("Add_dim_0", "Add_dim_1", 80), (4, 4, 80), None),
        ((), (4, 80), 0),
        ((), (), None),
        (("batch",), (12,), None),
    ],
)
def test_where_an_output_has_a_batch_that_has_a_size_by_name(
    declared: tuple[Axis, ...], shape: tuple[int, ...], axis: int | None
) -> None:
    bound = bind({"x": ("T", "batch", 80)}, "T=4,batch=4", "m.onnx")
    assert output_axis(declared, shape, bound) == axis


@pytest.mark.parametrize(
    "text",
    [
        "8",
        "a",
        "a=",
        "a=x",
        "a=-1",
        "a=0",
        "a=1,,b=2",
        "a=1,a=2",
        "a=99999999999",
        "=3",
        "a=1,=3",
        pytest.param("a=" + "9" * 5000, id="endless"),
        pytest.param("a=" + "0" * 5000 + "1", id="zeros"),
    ],
)
def test_a_shape_that_is_none_is_said(text: str) -> None:
    with pytest.raises(UserError, match="--shape"):
        parse(text)


def test_names_may_hold_an_equals_sign() -> None:
    assert parse("a=b=3,c=1,2") == {"a=b": ["3"], "c": ["1", "2"]}


@pytest.mark.parametrize(
    ("inputs", "shape", "line"),
    [
        ({"x": ("N", "s + 1"), "z": ("N", "s")}, "s=1", "'s=1,s + 1=2'"),  # was 's + 1=128', which contradicts s=1
        ({"x": ("N", "s + 1"), "z": ("N", "s")}, "", "'s + 1=129,s=128'"),
        ({"x": ("N", "2*s0"), "z": ("N", "s0")}, "s0=7", "'s0=7,2*s0=14'"),
        ({"x": ("N", "s - 9"), "z": ("N", "s")}, "s=3", "'s=3,s - 9=128'"),  # no size is right
    ],
)
def test_a_proposal_counts_with_the_sizes_that_are_known(inputs: dict, shape: str, line: str) -> None:
    with pytest.raises(UserError) as raised:
        bind(inputs, shape, "m")
    assert f"--shape {line}" in str(raised.value)
