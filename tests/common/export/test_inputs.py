"""The seeded pictures."""

from __future__ import annotations

import numpy as np

from common.export.inputs import pictures


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
