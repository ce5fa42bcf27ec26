"""Interpreters for the tests that need a GPU: one pytest drives all of them, whichever Python it runs in itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from images.tensorflow.cuda_driver import visible_gpus

#: TensorRT 8.6's libraries must be loaded into the global symbol table
_IMPORT = "import sys, os; sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL); import {}"


@pytest.fixture(scope="session")
def gpu_python() -> Callable[..., Path]:
    """gpu_python(image, *modules): the interpreter that FRAMEWATT_PYTHON_<IMAGE> names, else this one.

    Skips the test where there is no GPU or the interpreter cannot import one of the modules.
    """

    def choose(image: str, *modules: str) -> Path:
        if not visible_gpus():
            pytest.skip("no NVIDIA GPU")
        variable = f"FRAMEWATT_PYTHON_{image.upper()}"
        python = Path(os.environ.get(variable) or sys.executable)
        done = subprocess.run([python, "-c", _IMPORT.format(", ".join(modules))], capture_output=True, text=True)
        if done.returncode:
            words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            pytest.skip(f"{python} cannot import {', '.join(modules)}: {words[-1]} ({variable} names another)")
        return python

    return choose
