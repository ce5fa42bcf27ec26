"""Axes of inputs: the batch, --shape, and one line for what nobody bound. No framework is needed."""

from __future__ import annotations

import pytest

from common.errors import UserError
from common.export.axes import Axis, bind, fixed_size, parse

Inputs = dict[str, tuple[Axis, ...]]
PICTURE: Inputs = {"images": ("batch", 3, "height", "width")}
STATE: Inputs = {"input": (None, None), "state": (2, None, 128), "sr": ()}


@pytest.mark.parametrize(
    ("inputs", "shape", "expected", "fixed"),
    [
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
        # a table of statistics is no batch, whatever it is called
        ({"x": ("n", 4), "s": ("batch_norm", 4)}, "batch_norm=7", {"x": (None, 4), "s": (7, 4)}, None),
        # two that begin with different sizes: neither is a batch
        ({"h": (2, 1, 4), "x": (3, 8)}, "", {"h": (2, 1, 4), "x": (3, 8)}, 1),
    ],
)
def test_axes_are_bound(inputs: Inputs, shape: str, expected: Inputs, fixed: int | None) -> None:
    bound = bind(inputs, shape, "m.onnx")
    assert dict(bound.shapes) == expected
    assert bound.fixed == fixed


def test_open_axes_that_were_bound_are_known() -> None:
    assert bind(PICTURE, "height=320,width=256", "m.onnx").open_axes == {"images": (2, 3)}
    assert bind(STATE, "input=N,512,state=2,N,128", "m.onnx").open_axes == {"input": (1,), "state": (), "sr": ()}


@pytest.mark.parametrize(
    ("inputs", "shape", "parts"),
    [
        (PICTURE, "", ["'height'", "'images'", "(batch, 3, height, width)", "--shape 'height=224,width=224'"]),
        (PICTURE, "height=8", ["'width'", "--shape 'width=224'"]),
        (STATE, "", ["axis 1", "'input'", "--shape 'input=N,128,state=2,N,128'"]),
        (PICTURE, "hight=8", ["'hight'", "height, width, images", "Did you mean height?"]),
        (PICTURE, "images=N,3,8", ["3 axes", "has 4"]),
        (PICTURE, "images=N,1,8,8", ["axis 1", "fixed at 3", "says 1"]),
        ({"x": (1, 4)}, "x=N,4", ["axis 0", "fixed at 1", "--rebatch"]),
        ({"x": ("b", 4), "table": ("rows", 4)}, "", ["'rows'", "'table'", "--shape 'rows=128'"]),
        ({"x": ("b", 4), "table": ("rows", 4)}, "x=N,4", ["'rows'", "'table'", "--shape 'rows=128'"]),
        (PICTURE, "images=N,3,8,8,height=9", ["axis 'height' two sizes", "9 by its name", "8 in 'images'"]),
        (
            {"ids": ("n", "seq"), "mask": ("n", "seq")},
            "ids=N,7,mask=N,5",
            ["axis 'seq' two sizes: 7 in 'ids' and 5 in 'mask'"],
        ),
        # tf2onnx gives every open axis a name of its own
        ({"x": ("unk__1", 4), "y": ("unk__2", 6)}, "", ["'unk__2'", "--shape 'y=N,6'"]),
        # an axis beside the batch is not the batch, in whatever input and whatever order
        ({"x": ("T", "batch", 80)}, "batch=N", ["axis 0 ('T')", "not bound", "--shape 'T=128'"]),
        ({"x": ("T", "batch", "F"), "h": (2, "batch", 128)}, "batch=N,F=80", ["axis 0 ('T')", "--shape 'T=128'"]),
        ({"x": ("T", "B", 80), "len": ("B",)}, "B=N", ["axis 0 ('T') of input 'x'", "--shape 'T=128'"]),
        ({"mask": ("T",), "x": ("T", "batch", 80)}, "batch=N", ["axis 0 ('T') of input 'mask'", "--shape 'T=128'"]),
        ({"audio": ("samples", "ch")}, "ch=N", ["axis 0 ('samples')", "--shape 'samples=128'"]),
        ({"x": (None, "batch", 80)}, "batch=N", ["axis 0 of input 'x'", "--shape 'x=128,N,80'"]),
        (
            {"x": ("T", "batch", 80)},
            "T=N,batch=N",
            ["axes 0 and 1 of input 'x' (T, batch, 80)", "--shape 'x=N,128,80'"],
        ),
        ({"x": ("T", "batch", 80)}, "x=N,N,80", ["axes 0 and 1", "cannot both be the batch", "--shape 'x=N,128,80'"]),
        ({"x": ("n", "n")}, "", ["axes 0 and 1 of input 'x' (n, n)", "--shape 'x=N,128'"]),
        # the batch has a size, so that nothing else is the batch
        ({"x": ("T", "batch", 80)}, "batch=4", ["axis 0 ('T')", "--shape 'T=128'"]),
        ({"x": ("T", "batch", 80)}, "", ["axis 0 ('T')", "--shape 'T=128'"]),
        ({"x": (None, "batch", 80)}, "batch=4", ["axis 0 of input 'x'", "--shape 'x=128,4,80'"]),
        ({"x": ("batch", 4), "y": ("unk__2", 6)}, "batch=3", ["'unk__2'", "--shape 'y=3,6'"]),
        ({"x": ("batch", 4), "y": ("T", 6)}, "batch=3", ["axis 0 ('T') of input 'y'", "--shape 'T=128'"]),
        ({"x": ("T", 80), "h": (2, "batch", 8)}, "", ["axis 1 ('batch')", "--shape 'batch=N'"]),
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


def test_the_line_to_copy_binds_what_it_was_reported_for() -> None:
    more: list[Inputs] = [{"x": ("b", 4), "table": ("rows", 4)}, {"x": ("n", "n")}, {"x": ("T", "batch", 80)}]
    for inputs in (PICTURE, STATE, *more, {"x": ("T", 80), "h": (2, "batch", 8)}):
        with pytest.raises(UserError) as raised:
            bind(inputs, "", "m.onnx")
        proposed = str(raised.value).rsplit("--shape '", 1)[1].rstrip("'")
        assert bind(inputs, proposed, "m.onnx").fixed is None


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


@pytest.mark.parametrize("text", ["8", "a", "a=", "a=x", "a=-1", "a=0", "a=1,,b=2", "a=1,a=2", "a=99999999999", "=3"])
def test_a_shape_that_is_none_is_said(text: str) -> None:
    with pytest.raises(UserError, match="--shape"):
        parse(text)


def test_names_may_hold_an_equals_sign() -> None:
    assert parse("a=b=3,c=1,2") == {"a=b": ["3"], "c": ["1", "2"]}
