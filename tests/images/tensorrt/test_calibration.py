"""Images for int8 calibration, and the calibrator's side of TensorRT's protocol."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from images.tensorrt.calibration import calibration_batches, make_calibrator

REFERENCE = np.random.default_rng(3).uniform(0, 255, (4, 6, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_the_reference_comes_first_and_all_stay_in_its_range(layout: str) -> None:
    batches = calibration_batches(REFERENCE, layout, batches=5)
    assert batches.shape == (5, 4, 6, 5, 3)
    assert batches.dtype == np.float32
    np.testing.assert_array_equal(batches[0], REFERENCE)
    assert batches.min() >= REFERENCE.min()
    assert batches.max() <= REFERENCE.max()


def test_the_seed_decides_and_every_batch_differs() -> None:
    first = calibration_batches(REFERENCE, "NHWC", batches=5, seed=1)
    np.testing.assert_array_equal(first, calibration_batches(REFERENCE, "NHWC", batches=5, seed=1))
    assert not np.array_equal(first, calibration_batches(REFERENCE, "NHWC", batches=5, seed=2))
    assert len({batch.tobytes() for batch in first}) == 5


def test_variations_keep_the_mean_near_the_reference() -> None:
    batches = calibration_batches(REFERENCE, "NHWC", batches=17)
    assert abs(batches[1:].mean() - REFERENCE.mean()) < 0.1 * REFERENCE.std()


def test_the_calibrator_hands_out_each_batch_once_and_keeps_the_ranges(
    tmp_path: Path, library: ctypes.CDLL, driver_library: str
) -> None:
    from fake_pycuda import Driver
    from fake_tensorrt import FakeTensorRT

    cuda = Driver(driver_library)
    copied = []
    host_to_device = SimpleNamespace(
        mem_alloc=cuda.mem_alloc, memcpy_htod=lambda memory, batch: copied.append(np.array(batch))
    )
    batches = calibration_batches(REFERENCE, "NHWC", batches=3)
    file = tmp_path / "ranges.calibration"
    calibrator = make_calibrator(FakeTensorRT(library), host_to_device, batches, file)
    assert calibrator.get_batch_size() == 4
    assert calibrator.read_calibration_cache() is None
    pointers = [calibrator.get_batch(["images"]) for _ in range(3)]
    assert all(isinstance(pointer, list) and isinstance(pointer[0], int) for pointer in pointers)
    assert calibrator.get_batch(["images"]) is None
    np.testing.assert_array_equal(np.stack(copied), batches)
    calibrator.write_calibration_cache(memoryview(b"ranges"))
    assert calibrator.read_calibration_cache() == b"ranges"
