"""What becomes of black and white: ranges, means and standard deviations as people publish them."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from common.pixels import PixelValues, parse

MEAN, STD = "0.485,0.456,0.406", "0.229,0.224,0.225"
ENDS = np.array([[0, 0, 0], [255, 255, 255]], np.float32)


def test_mean_and_std_are_as_torchvision_has_them() -> None:
    expected = (ENDS / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(parse(mean=MEAN, std=STD).of(ENDS), expected, rtol=1e-6)
    one = parse(mean="0.5", std="0.5")
    np.testing.assert_allclose(one.of(ENDS), [[-1] * 3, [1] * 3])
    np.testing.assert_allclose(parse(mean="0.5", std="1,1,0.5").of(ENDS)[1], [0.5, 0.5, 1])


def test_a_range() -> None:
    np.testing.assert_allclose(parse("-1,1").of(ENDS), [[-1] * 3, [1] * 3])
    assert parse("0,255").of(ENDS) is ENDS


def test_what_was_said_and_what_is_assumed() -> None:
    assert not parse().given
    assert parse("0,255").given
    for one in (parse(), parse("-1,1"), parse(mean=MEAN, std=STD)):
        assert PixelValues.of_description({"weights": "user", **one.described()}) == one
    assert PixelValues.of_description({"weights": "imagenet", "input_range": [0.0, 255.0]}).given
    assert not PixelValues.of_description({"weights": "user", "input_range": [0.0, 255.0]}).given, (
        "older than the option"
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("0,1", MEAN, STD), "give one of them"),
        (("", MEAN, ""), "--mean needs --std"),
        (("", "", STD), "--std needs --mean"),
        (("", "a", "1"), "--mean takes one number"),
        (("", "nan", "1"), "--mean takes one number"),
        (("", "0", "0"), "--std takes numbers above 0"),
        (("", "0,1", "1,2,3"), "--mean has 2 numbers and --std 3"),
        (("1,0", "", ""), "--input-range takes LOW,HIGH"),
    ],
)
def test_what_is_none(given: tuple[str, str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(*given)


def test_another_number_of_channels() -> None:
    with pytest.raises(UserError, match="have 3 numbers, and the model's input 1 channel"):
        parse(mean=MEAN, std=STD).of(np.zeros((4, 4, 1), np.float32))
