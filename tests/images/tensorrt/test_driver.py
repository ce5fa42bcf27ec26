"""Old drivers are told apart before TensorRT is asked."""

from __future__ import annotations

import pytest

from images.tensorrt.driver import cuda_version, driver_too_old

MAPS = """7f0000000000-7f0000001000 r-xp 00000000 fe:00 77 /opt/lib/libcublasLt.so.12
7f0000001000-7f0000002000 r-xp 00000000 fe:00 78 /opt/lib/libcublas.so.12
7f0000002000-7f0000003000 r-xp 00000000 fe:00 79 /opt/lib/libnvinfer.so.8
"""


@pytest.mark.parametrize("driver", [12000, 12020, 13000])
def test_the_same_major_version_or_a_newer_one_will_do(driver: int) -> None:
    assert driver_too_old(driver, MAPS) is None


def test_an_older_one_is_reported_with_both_versions() -> None:
    assert driver_too_old(11040, MAPS) == "the driver is too old: it has CUDA 11.4, this TensorRT needs CUDA 12"


def test_a_tensorrt_that_does_not_link_cublas_is_left_to_report_it_itself() -> None:
    assert driver_too_old(11040, "7f00-7f01 r-xp 00000000 fe:00 79 /opt/lib/libnvinfer.so.10\n") is None


def test_versions_read_as_people_write_them() -> None:
    assert cuda_version(12090) == "12.9"
    assert cuda_version(13000) == "13.0"
