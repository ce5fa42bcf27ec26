"""The recipe on stand-ins: whoever keeps infer() alone, as `invoke verify` does, can go on."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_pycuda import Driver
from fake_tensorrt import FakeTensorRT

from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES
from common.host.recipes.program import RecipeRequest, write
from common.model_files import ModelFiles, Tensor


@pytest.fixture
def cuda(library: ctypes.CDLL, driver_library: str, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """The driver that programs of this test import as pycuda.driver, beside a stand-in for tensorrt."""
    driver = Driver(driver_library)
    package = ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    modules = {"pycuda": package, "pycuda.driver": driver, "tensorrt": FakeTensorRT(library)}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return driver


@pytest.mark.parametrize("io", ["host", "device"])
@pytest.mark.parametrize(("tuning", "graph"), [("stock", ""), ("tuned", "no"), ("tuned", "yes")])
def test_infer_alone_keeps_alive_what_the_device_uses(
    cuda: Driver, driver_library: str, library: ctypes.CDLL, model: ModelFiles, io: str, tuning: str, graph: str
) -> None:
    """A replayed graph once read and wrote host and device memory that Python had freed: an illegal memory access."""
    inputs, outputs = (Tensor("images", "float32", (1, 4, 4, 3)),), (Tensor("scores", "float32", (1, 5)),)
    settings = {"network": "precision flags", "profile": "b8", **({"cuda_graph": graph} if graph else {})}
    request = RecipeRequest(
        key="k", variant="tensorrt", tuning=tuning, precision="fp32", batch_size=8, io=io, gpu=True, settings=settings,
        model=dataclasses.replace(model, inputs=inputs, outputs=outputs),
    )  # fmt: skip
    image = next(one for one in load_images(IMAGES) if one.name == "tensorrt")
    recipe: dict[str, Any] = {"__name__": "recipe", "__file__": "recipe.py"}
    exec(compile(write(request, image), "recipe.py", "exec"), recipe)
    recipe["atexit"] = SimpleNamespace(register=lambda *arguments: None)
    recipe["ctypes"] = SimpleNamespace(**{**vars(ctypes), "CDLL": lambda name: ctypes.CDLL(driver_library)})
    engine = model.root / "model.engine"
    engine.write_bytes(b"plan")
    fed = {"images": np.arange(8 * 48, dtype=np.float32).reshape(8, 4, 4, 3)}
    expected = fed["images"].reshape(8, -1).sum(1)[:, None] + np.arange(5)

    infer, made = recipe["load"](str(engine), fed)
    infer()
    np.testing.assert_allclose(made()["scores"], expected)
    fed.clear()
    del made
    gc.collect()
    launches = library.fake_launches()
    infer()
    assert library.fake_launches() - launches == (graph == "yes")
    assert library.fake_used() == 8 * 48 * 4 + 8 * 5 * 4
    del infer
    gc.collect()
    assert library.fake_used() == 0
