"""Interpreters for the tests that need a GPU: one pytest drives all of them, whichever Python it runs in itself.

And small models, made once a run for all tests and all of pytest's processes: a framework takes longer to start than to compute one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from common.host.paths import ROOT
from images.tensorflow.cuda_driver import visible_gpus
from tests.images.workshop import folder_of_all_processes, one_at_a_time, python_of

#: TensorRT 8.6's libraries must be loaded into the global symbol table
_IMPORT = "import sys, os; sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL); import {}"

# Beside a compiling process PyTorch starts others to compile in, each of which imports PyTorch first: that takes longer than
# the kernels of a test's model.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


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


@pytest.fixture(scope="session")
def torch_compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """torch_compiled(cache): the cache folder of a worker, in which code of torch.compile is that of all tests of this run.

    A C++ compiler takes seconds for each kernel, and longer for the headers that all of them include. What an adapter
    chose stays the cache's own.
    """
    shared = folder_of_all_processes(tmp_path_factory, "torchcompile")

    def with_compiled(cache: Path) -> Path:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "torchcompile").symlink_to(shared)
        return cache

    return with_compiled


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which workshops find the small network as an ONNX file, or make it for the others."""
    return folder_of_all_processes(tmp_path_factory, "small-onnx")


@pytest.fixture(scope="session")
def small_keras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature of a mobile network in every form, made by TensorFlow's environment; nobody may write into it."""
    python = ROOT / ".envs/tensorflow-cpu/bin/python"
    if not python.exists():
        pytest.skip("no .envs/tensorflow-cpu: ./invoke test makes it")
    folder = folder_of_all_processes(tmp_path_factory, "small-keras")
    request, answer = folder / "request.json", folder / "answer.json"
    root = folder / "Miniature-0123456789ab"
    with one_at_a_time(folder):
        if not answer.exists():
            requested = {
                "action": "export",
                "root": str(root),
                "all_forms": True,
                "repository": str(ROOT),
                "answer": str(answer),
            }
            request.write_text(json.dumps(requested))
            done = subprocess.run(
                [python, Path(__file__).with_name("tensorflow_driver.py"), request],
                capture_output=True, text=True, cwd=ROOT, timeout=280, check=False,
                env={**os.environ, "HOME": str(folder)},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-3000:]
    # a network that gives every picture the same answer would pass any comparison
    assert json.loads(answer.read_text())["spread"] > 0.01
    return root


@pytest.fixture(scope="session")
def small_transformers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small BERT and a small ViT in every form, and in sequence=16 of a BERT for shorter sequences."""
    folder = folder_of_all_processes(tmp_path_factory, "small-transformers")
    maker = ROOT / "tests/common/export/run_transformer.py"
    with one_at_a_time(folder):
        if not (folder / "made").exists():
            done = subprocess.run(
                [python_of("tensorflow"), maker, folder, "BERT-base", "ViT-B16", "BERT-base:sequence=16"],
                capture_output=True, text=True, cwd=ROOT, timeout=600, check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-3000:]
            (folder / "made").touch()
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """torch.compile's tests are left out where it cannot work, which images/torch/failures.py tells people."""
    if " " not in str(ROOT):
        return
    for item in items:
        if item.path.parent == Path(__file__).parent and ("torchcompile" in item.name or "inductor" in item.name):
            item.add_marker(pytest.mark.skip(reason="the C++ part of PyTorch's compiler takes no path with a space"))
