"""Whether the driver is new enough, asked before TensorRT is: 8.6 does not report an old driver but dies of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

_CUBLAS = re.compile(r"/libcublas(?:Lt)?\.so\.(\d+)")


def cuda_version(number: int) -> str:
    """The driver API's 12090 as 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"


def driver_too_old(driver_version: int, maps: Optional[str] = None) -> Optional[str]:
    """None, or why the TensorRT that this process has loaded cannot start.

    TensorRT up to 9 links cuBLAS, whose file name says which CUDA it was built for; newer ones do not, and report an
    old driver themselves. Minor versions of CUDA are compatible with each other, so only the major one decides.
    driver_version: of cuDriverGetVersion. maps: the text of /proc/self/maps.
    """
    if maps is None:
        maps = Path("/proc/self/maps").read_text()
    majors = [int(major) for major in _CUBLAS.findall(maps)]
    if not majors or driver_version // 1000 >= max(majors):
        return None
    return f"the driver is too old: it has CUDA {cuda_version(driver_version)}, this TensorRT needs CUDA {max(majors)}"
