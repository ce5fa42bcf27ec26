"""Which images `invoke build` builds, and under which tags."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from common.host.runners.containers import building, engine, images


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """What was asked of the engine: (image, flavour, notebook)."""
    calls: list[tuple[str, str, bool]] = []

    def build(client: Any, name: str, flavour: str, *, notebook: bool, **_: Any) -> images.Built:
        calls.append((name, flavour, notebook))
        return images.Built(images.tag_of(name, flavour, notebook), "sha256:0", 1, 0.0)

    monkeypatch.setattr(engine, "connect", lambda: None)
    monkeypatch.setattr(images, "build", build)
    monkeypatch.delenv("FRAMEWATT_IMAGES", raising=False)
    return calls


def build(names: str = "", **options: Any) -> list[str]:
    given = {"flavour": "cpu", "base": "", "network": "", **options}
    return [built.tag for built in building.build_images(Console(file=io.StringIO()), names, **given)]


def test_images_with_ipykernel_are_those_of_frameworks(requested: list[tuple[str, str, bool]]) -> None:
    build()
    plain = [name for name, _, _ in requested]
    assert {"sidecar", "analyze", "onnxrt", "torch", "tensorflow"} <= set(plain)
    assert not any(notebook for _, _, notebook in requested)
    requested.clear()
    tags = build(notebook=True)
    assert [name for name, _, _ in requested] == [name for name in plain if name not in images.SUPPORT]
    assert all(notebook for _, _, notebook in requested)
    assert "framewatt/onnxrt:cpu-notebook" in tags


def test_a_support_image_has_no_notebook(requested: list[tuple[str, str, bool]]) -> None:
    assert build("sidecar,onnxrt", flavour="gpu", notebook=True) == [
        "framewatt/sidecar:gpu",
        "framewatt/onnxrt:gpu-notebook",
    ]
    assert images.build_command("onnxrt", "gpu", notebook=True) == "invoke build --framework onnxrt --notebook"
    assert images.build_command("sidecar", "cpu", notebook=True) == "invoke build --framework sidecar --cpu"
