"""`--inputs FILE.npz` may come from anybody: no pickle is opened, and what unpacks to more than it may is not."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.export import given_values
from common.export.values import Given


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_in_an_array_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([Evil(tmp_path / "pwned")], dtype=object))
    with pytest.raises(UserError, match=r"is not an \.npz"):
        given_values.read(path)
    assert not (tmp_path / "pwned").exists()


def test_a_bare_pickle_is_not_opened(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "a.npz"
    path.write_bytes(pickle.dumps(Evil(tmp_path / "pwned")))
    with pytest.raises(UserError, match=r"is not an \.npz"):
        given_values.read(path)
    assert not (tmp_path / "pwned").exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_values, "MOST_BYTES", 2**20)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(2**21, np.uint8))
    assert path.stat().st_size < 2**16
    with pytest.raises(UserError, match="holds 2 MiB of arrays; 1 MiB are the most"):
        given_values.read(path)


def test_an_array_that_says_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", head.getvalue())
    with pytest.raises(UserError, match=r"is not an \.npz"):
        given_values.read(path)


def test_damage_anywhere_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(10, dtype=np.float32))
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        try:
            given_values.read(path)
        except UserError as error:
            assert len(str(error)) < 500


def test_what_shape_names_is_left_to_it() -> None:
    """Else an axis that the arrays have bound already would be unknown to --shape."""
    inputs: dict[str, tuple[int | str | None, ...]] = {"ids": ("batch", "length"), "more": ("batch", "width")}
    arrays = {"ids": np.zeros((2, 9)), "more": np.zeros((2, 4))}
    for shape, ids, more in (("", 9, 4), ("length=5", 5, 4), ("more=N,3", 9, 3)):
        bound = given_values.bind(Path("v.npz"), inputs, arrays, shape, "m.onnx")
        assert dict(bound.shapes) == {"ids": (None, ids), "more": (None, more)}


def test_arrays_that_are_not_those_of_the_inputs_are_one_line() -> None:
    inputs: dict[str, tuple[int | str | None, ...]] = {"ids": ("batch", "length"), "mask": ("batch", "length")}
    for arrays, part in (
        ({"ids": np.zeros((2, 9))}, "v.npz has no 'mask'"),
        ({"ids": np.zeros((2, 9)), "mask": np.zeros(9)}, "'mask' has the shape (9,), the model takes (batch, length)"),
        ({"ids": np.zeros((2, 9)), "mask": np.zeros((2, 8))}, "v.npz: axis 'length' is 9 in 'ids' and 8 in 'mask'"),
    ):
        with pytest.raises(UserError) as raised:
            given_values.bind(Path("v.npz"), inputs, arrays, "", "m.onnx")
        assert part in str(raised.value)


@pytest.mark.parametrize("batch_axis", [0, None])
def test_values_of_another_byte_order_are_turned(tmp_path: Path, batch_axis: int | None) -> None:
    """ONNX Runtime takes their bytes as they lie: 1.0 would be 4.6e-41."""
    path = tmp_path / "a.npz"
    wanted: dict[str, np.ndarray] = {
        "x": np.array([[1, 2]], np.float32),
        "ids": np.array([[3, 4]], np.int64),
        "words": np.array([["a", "b"]]),
    }
    for order in "<>":
        np.savez(path, **{name: one.astype(one.dtype.newbyteorder(order)) for name, one in wanted.items()})  # type: ignore[arg-type]
        inputs = {
            name: Given(name, "str" if one.dtype.kind == "U" else one.dtype.name, (1, 2), batch_axis)
            for name, one in wanted.items()
        }
        (unit,) = given_values.units_of(path, given_values.read(path), inputs, 1)
        for name, one in wanted.items():
            assert unit[name].dtype.isnative
            np.testing.assert_array_equal(unit[name].view(one.dtype), one)
