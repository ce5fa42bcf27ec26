"""The seeded pictures."""

from __future__ import annotations

import numpy as np

from common.export.inputs import clearest, pictures


def test_whole_numbers_within_a_byte_and_the_same_every_time() -> None:
    images = pictures(4, 40, 56, 3, seed=5)
    assert images.shape == (4, 40, 56, 3)
    assert images.dtype == np.float32
    assert np.array_equal(images, np.rint(images))
    assert images.min() >= 0
    assert images.max() <= 255
    assert np.array_equal(images, pictures(4, 40, 56, 3, seed=5))
    assert not np.array_equal(images, pictures(4, 40, 56, 3, seed=6))


def test_more_pictures_begin_with_the_same_ones() -> None:
    assert np.array_equal(pictures(2, 32, 32, 3, seed=1), pictures(5, 32, 32, 3, seed=1)[:2])


def test_smooth_like_photographs_and_unlike_each_other() -> None:
    images = pictures(8, 64, 64, 3, seed=2)
    steps = np.abs(np.diff(images, axis=2)).mean(axis=(1, 2, 3))
    spread = images.std(axis=(1, 2, 3))
    assert (steps < 0.5 * spread).all()  # white noise: 1.13 of it
    means = images.mean(axis=(1, 2))
    assert np.ptp(means, axis=0).min() > 30


def test_the_clearest_images_are_kept_and_coin_flips_are_not() -> None:
    tie = [0.41, 0.40, 0.19]
    outputs = np.array([tie, [0.8, 0.1, 0.1], tie, [0.1, 0.7, 0.2], [0.6, 0.3, 0.1], tie])
    assert clearest(outputs, 3) == [1, 3, 4]


def test_several_classes_are_kept_where_there_are_several() -> None:
    outputs = np.array([[0.9, 0.05, 0.05]] * 9 + [[0.2, 0.5, 0.3]])
    chosen = clearest(outputs, 8)
    assert len(chosen) == 8
    assert 9 in chosen


def test_raw_scores_may_be_negative() -> None:
    outputs = np.array([[-1.0, -1.1], [3.0, -3.0], [0.0, 0.1]])
    assert clearest(outputs, 1) == [1]
