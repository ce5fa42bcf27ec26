"""Seeded pictures: the reference inputs, and what seeded weights are calibrated on."""

from __future__ import annotations

from typing import Dict, List

import numpy as np

#: images in reference.npz
REFERENCE_IMAGES = 8
REFERENCE_SEED = 20260101
#: drawn for a reference; the clearest of them are kept
CANDIDATE_IMAGES = 48
#: classes of which the clearest image is kept before the clearest of all are
KEPT_CLASSES = 4


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


def clearest(outputs: np.ndarray, count: int = REFERENCE_IMAGES) -> List[int]:
    """Indices, ascending, of the images whose top class stands out most, of several classes where there are several.

    Agreement on the top class says something only where the reference does not toss a coin: an image whose first two
    classes differ by 1 % changes sides in fp16 without anything being wrong. outputs: (images, classes), probabilities
    or raw scores; clearness is the difference of the two highest, of their logarithms where all are positive.
    """
    scores = np.log(outputs) if (outputs > 0).all() else outputs
    first_two = np.sort(scores, axis=1)[:, -2:]
    order = np.argsort(first_two[:, 0] - first_two[:, 1], kind="stable").tolist()
    tops = outputs.argmax(axis=1)
    clearest_of_class: Dict[int, int] = {}
    for index in order:
        clearest_of_class.setdefault(int(tops[index]), index)
    chosen = list(clearest_of_class.values())[: min(KEPT_CLASSES, count)]
    chosen += [index for index in order if index not in chosen]
    return sorted(chosen[:count])


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
