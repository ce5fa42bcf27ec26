"""What the TensorRT tests share: a driver without a GPU, an adapter that runs on both."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.model_files import ModelFiles

ROOT = Path(__file__).resolve().parents[3]
IMAGE = ROOT / "images" / "tensorrt"
HERE = Path(__file__).resolve().parent

# The stand-ins lie beside this file.
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))


def load_adapter() -> ModuleType:
    """images/tensorrt/adapter.py under a name of its own: every image has an adapter.py."""
    spec = importlib.util.spec_from_file_location("framewatt_tensorrt_adapter", IMAGE / "adapter.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def adapter_module() -> ModuleType:
    return load_adapter()


@pytest.fixture(scope="session")
def driver_library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of the compiled fake_cuda.c."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler for the stand-in of the CUDA driver")
    path = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", str(path), str(HERE / "fake_cuda.c")], check=True)
    return str(path)


@pytest.fixture
def library(driver_library: str) -> Iterator[ctypes.CDLL]:
    """The driver's counters and switches, reset afterwards."""
    library = ctypes.CDLL(driver_library)
    library.fake_used.restype = library.fake_peak.restype = ctypes.c_size_t
    library.fake_memory_limit.argtypes = [ctypes.c_size_t]
    yield library
    library.fake_memory_limit(1 << 40)
    library.fake_fail(b"")


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    """A description with reference images; there is no ONNX file, because the engine is a stand-in."""
    np.savez(
        tmp_path / "reference.npz",
        inputs=np.random.default_rng(1).uniform(0, 255, (8, 4, 4, 3)).astype(np.float32),
        outputs=np.zeros((8, 5), np.float32),
    )
    return ModelFiles(
        root=tmp_path, name="toy", hash="0123456789ab", onnx="model.onnx", keras=None, saved_model=None,
        reference="reference.npz", input_shape=(4, 4, 3), layout="NHWC", onnx_input="images", onnx_output="scores",
        output_kind="raw", classes=5, weights="seeded", weights_note="",
    )  # fmt: skip


@pytest.fixture
def make_adapter(
    library: ctypes.CDLL, driver_library: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SimpleNamespace]]:
    """make_adapter(version) -> .adapter, .trt, .cuda, .builds (requests seen): the adapter on stand-ins for pycuda,
    TensorRT's runtime and the driver; the builder gives `plan` or raises what .build_error says."""
    graph_module = importlib.import_module("images.tensorrt.cuda_graph")
    from fake_pycuda import Driver
    from fake_tensorrt import FakeTensorRT

    made = []

    def make(version: str = "10.11.0") -> SimpleNamespace:
        trt, cuda = FakeTensorRT(library, version), Driver(driver_library)
        adapter_module = load_adapter()
        modules = {"tensorrt": trt, "pycuda.driver": cuda, "pycuda": SimpleNamespace(VERSION_TEXT="2026.1")}
        monkeypatch.setattr(adapter_module, "importlib", SimpleNamespace(import_module=modules.__getitem__))
        monkeypatch.setattr(adapter_module, "GraphDriver", lambda: graph_module.GraphDriver(driver_library))
        state = SimpleNamespace(trt=trt, cuda=cuda, builds=[], build_error=None, plan=b"plan")

        def build(trt: Any, logger: Any, complaints: Any, request: Any) -> tuple[bytes, dict[str, Any]]:
            state.builds.append(request)
            if state.build_error is not None:
                raise state.build_error
            return state.plan, {"build_seconds": 7.0, "layers": 3, "timing_cache": "0 bytes read"}

        monkeypatch.setattr(adapter_module, "build", build)
        state.adapter = adapter_module.create("tensorrt")
        made.append(state.adapter)
        return state

    yield make
    for adapter in made:
        adapter.close()
