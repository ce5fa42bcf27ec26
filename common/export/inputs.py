"""Seeded pictures: the reference inputs, and what seeded weights are calibrated on."""

from __future__ import annotations

import numpy as np

#: images in reference.npz
REFERENCE_IMAGES = 8
REFERENCE_SEED = 20260101


def pictures(count: int, height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """(count, height, width, channels) float32 of whole numbers 0..255, the same on every machine.

    Like photographs, and unlike white noise, most of their contrast is in large structures and they differ in colour
    and brightness, so that a network tells them apart. Whole numbers up to 255 are exact in fp16 and bf16 too.
    """
    generator = np.random.default_rng(seed)
    images = np.empty((count, height, width, channels), np.float32)
    for image in images:
        image[...] = _picture(generator, height, width, channels)
    return images


def _picture(generator: np.random.Generator, height: int, width: int, channels: int) -> np.ndarray:
    total = np.zeros((height, width, channels))
    for cells, weight in ((2, 1.0), (4, 0.7), (8, 0.5), (16, 0.35), (32, 0.25), (64, 0.15)):
        total += weight * _stretched(generator.uniform(-1, 1, (cells + 1, cells + 1, channels)), height, width)
    for _ in range(int(generator.integers(3, 9))):
        top, bottom = np.sort(generator.integers(0, height + 1, 2))
        left, right = np.sort(generator.integers(0, width + 1, 2))
        total[top:bottom, left:right] += generator.uniform(-1, 1, channels)
    contrast = generator.uniform(40, 110)
    colour = generator.uniform(70, 185, channels)
    pixels: np.ndarray = np.clip(np.rint(total * contrast + colour), 0, 255)
    return pixels


def _stretched(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """The grid (rows, columns, channels), bilinearly interpolated to height x width."""
    rows = np.linspace(0, grid.shape[0] - 1, height)
    columns = np.linspace(0, grid.shape[1] - 1, width)
    row = np.minimum(rows.astype(int), grid.shape[0] - 2)
    column = np.minimum(columns.astype(int), grid.shape[1] - 2)
    down = (rows - row)[:, None, None]
    along = (columns - column)[None, :, None]
    upper = grid[row][:, column] * (1 - along) + grid[row][:, column + 1] * along
    lower = grid[row + 1][:, column] * (1 - along) + grid[row + 1][:, column + 1] * along
    stretched: np.ndarray = upper * (1 - down) + lower * down
    return stretched
