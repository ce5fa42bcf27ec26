"""int8 by calibration: entropy calibration (IInt8EntropyCalibrator2) over the model's reference images and variations.

A model folder holds 8 reference images. Activation ranges from so few would be narrow, so each batch after the first
holds seeded variations of them (mirrored, blended in pairs, with contrast scaled), which stay within the value range
that the model expects. Calibration on images of one's own data set would be better; these are what every model
folder has, and the parity check shows what they cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional

import numpy as np

from images.tensorrt.cache import read_blob, write_blob
from images.tensorrt.log import log_line

BATCHES = 16
SEED = 20231


def calibration_batches(reference: np.ndarray, layout: str, batches: int = BATCHES, seed: int = SEED) -> np.ndarray:
    """Calibration input, float32, (batches, *reference.shape); the first batch is `reference` itself.

    reference: (n, H, W, C) or (n, C, H, W) by `layout`. Values never leave [reference.min(), reference.max()].
    The same arguments give the same batches.
    """
    reference = np.asarray(reference, dtype=np.float32)
    generator = np.random.default_rng(seed)
    count = len(reference)
    width_axis = 2 if layout == "NHWC" else 3
    per_image = (count,) + (1,) * (reference.ndim - 1)
    low, high = float(reference.min()), float(reference.max())
    made = [reference]
    for _ in range(batches - 1):
        first, second = (reference[generator.permutation(count)] for _ in range(2))
        share = generator.uniform(0.5, 1.0, per_image).astype(np.float32)
        mixed = share * first + (1 - share) * second
        mirrored = generator.random(count) < 0.5
        mixed[mirrored] = np.flip(mixed[mirrored], axis=width_axis)
        middle = mixed.mean(axis=tuple(range(1, mixed.ndim)), keepdims=True)
        contrast = generator.uniform(0.7, 1.3, per_image).astype(np.float32)
        made.append(np.clip(middle + contrast * (mixed - middle), low, high).astype(np.float32))
    return np.stack(made)


def make_calibrator(trt: Any, cuda: Any, batches: np.ndarray, cache: Path) -> Any:
    """A trt.IInt8EntropyCalibrator2 that feeds `batches` (k, n, ...) from device memory; needs a current CUDA context.

    Ranges found once are kept in the file `cache`.
    """

    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self._next = 0
            self._memory = cuda.mem_alloc(batches[0].nbytes)

        def get_batch_size(self) -> int:
            return int(batches.shape[1])

        def get_batch(self, names: List[str]) -> Optional[List[int]]:
            if self._next == len(batches):
                return None
            cuda.memcpy_htod(self._memory, np.ascontiguousarray(batches[self._next]))
            self._next += 1
            return [int(self._memory)]

        def read_calibration_cache(self) -> Optional[bytes]:
            data = read_blob(cache)
            if data:
                log_line(f"int8 ranges from {cache.name}")
            return data or None

        def write_calibration_cache(self, data: Any) -> None:
            write_blob(cache, bytes(data))

    return Calibrator()
