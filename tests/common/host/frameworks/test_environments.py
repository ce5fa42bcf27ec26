"""Environments made side by side: what one of them does to the others."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.host.frameworks import environments
from common.host.frameworks.registry import all_variants, load_images
from common.host.paths import IMAGES


def test_two_are_made_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2)
    made, ready = [], []

    def ensure(image: str, flavour: str, on_line: Any) -> Path:
        together.wait(60)  # breaks where one waits for the other's end
        on_line(f"Collecting {image}")
        made.append((image, flavour))
        return Path(image)

    monkeypatch.setattr(environments, "ensure", ensure)
    lines: list[tuple[str, str]] = []
    failures = environments.ensure_all(
        ["a", "b", "c", "d"], "cpu", lambda image, line: lines.append((image, line)), ready.append
    )
    assert failures == {}
    assert sorted(made) == [(name, "cpu") for name in "abcd"]
    assert sorted(lines) == [(name, f"Collecting {name}") for name in "abcd"]
    assert sorted(ready) == list("abcd")


def test_what_cannot_be_made_is_reported_by_name_and_the_others_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def ensure(image: str, flavour: str, on_line: Any) -> Path:
        if image in ("b", "d"):
            raise UserError(f"images/{image}/requirements-cpu.txt could not be installed")
        return Path(image)

    monkeypatch.setattr(environments, "ensure", ensure)
    ready: list[str] = []
    failures = environments.ensure_all(["d", "a", "b", "c"], "cpu", on_ready=ready.append)
    assert list(failures) == ["d", "b"]
    assert "images/b/" in str(failures["b"])
    assert sorted(ready) == ["a", "c"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["WARNING: Retrying (...) after connection broken by 'NewConnectionError('", "ERROR: No matching distribution"],
            "images/a could not be installed: the package index does not answer; is this machine online?",
        ),
        (
            ["WARNING: Retrying (...) after connection broken by 'x'", "ERROR: cannot be installed: no release 9.9 of torch"],
            "images/a could not be installed: no release 9.9 of torch",
        ),
        (["ERROR: ResolutionImpossible", "more"], "images/a could not be installed: ERROR: ResolutionImpossible"),
    ],
    ids=["no network", "another reason after a retry", "another error"],
)  # fmt: skip
def test_why_an_installation_failed_is_one_line(lines: list[str], message: str) -> None:
    fails = [sys.executable, "-c", f"print({chr(10).join(lines)!r}); raise SystemExit(1)"]
    with pytest.raises(UserError) as caught:
        environments._run(fails, lambda line: None, "images/a")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_ctrl_c_ends_what_is_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    forever = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(3600)"]
    begun = threading.Semaphore(0)
    seen: list[Any] = []

    def ensure(image: str, flavour: str, on_line: Any) -> Path:
        environments._run(forever, lambda line: begun.release(), f"images/{image}")
        return Path(image)

    def interrupt() -> None:
        for _ in range(environments.SIDE_BY_SIDE):
            begun.acquire(timeout=60)
        seen.extend(environments._installing)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(environments, "ensure", ensure)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        environments.ensure_all(["a", "b", "c", "d"], "cpu")
    assert len(seen) == environments.SIDE_BY_SIDE
    deadline = time.monotonic() + 60
    while any(child.process.poll() is None for child in seen):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not environments._installing


def test_what_version_workers_would_report_is_read_from_the_environments_files(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    installed = {
        "onnxruntime_gpu": "1.31.1",
        "keras": "3.15.1",
        "torch": "2.13.0+cpu",
        "tensorrt_rtx_cu12": "1.7.1.116",
    }
    for name, version in installed.items():
        folder = packages / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
    variants = all_variants(load_images(IMAGES))
    found = {name: environments.installed_version(python, one) for name, one in variants.items()}
    assert {name: version for name, version in found.items() if version} == {
        "onnxrt": "1.31.1", "onnxrt-trt": "1.31.1", "torch": "2.13.0+cpu", "torchcompile": "2.13.0+cpu",
        "keras-torch": "2.13.0+cpu", "keras": "3.15.1", "kerasxla": "3.15.1", "tensorrt-rtx": "1.7.1.116",
    }, "keras-torch reports PyTorch's, and its package is Keras"  # fmt: skip


def test_what_version_workers_would_report_in_an_image_is_what_its_lock_pins() -> None:
    """Rows of refused and lost cells in containers had none, which made another version of them."""
    variants = all_variants(load_images(IMAGES))

    def known(file: str) -> dict[str, str]:
        found = {name: environments.locked_version(one, IMAGES / one.image / file) for name, one in variants.items()}
        return {name: version for name, version in found.items() if version}

    def pinned(image: str, file: str, package: str) -> str:
        (version,) = re.findall(rf"^{package}(?:\[.*\])?==(\S+)", (IMAGES / image / file).read_text(), re.MULTILINE)
        return str(version)

    cpu, gpu = "requirements-cpu.txt", "requirements.txt"
    keras, tensorflow = pinned("tensorflow", cpu, "keras"), pinned("tensorflow", cpu, "tensorflow-cpu")
    jax, onnxrt = pinned("jax", cpu, "jax"), pinned("onnxrt", cpu, "onnxruntime")
    assert known(cpu) == {
        "keras": keras, "kerasxla": keras, "tf": tensorflow, "tfxla": tensorflow, "tftrt": tensorflow, "jax": jax,
        "onnxrt": onnxrt, "onnxrt-trt": onnxrt, "openvino": pinned("openvino", cpu, "openvino"),
        "litert": pinned("litert", cpu, "ai-edge-litert"), "tensorrt-rtx": pinned("tensorrt", cpu, "tensorrt-rtx"),
    }, "PyTorch's wheels for the CPU are from another index, and are of a version that says so"  # fmt: skip
    onnxrt = pinned("onnxrt", gpu, "onnxruntime-gpu")
    assert known(gpu) == {
        "jax": pinned("jax", gpu, "jax"), "onnxrt": onnxrt, "onnxrt-trt": onnxrt,
        "tensorrt-rtx": pinned("tensorrt", gpu, "tensorrt-rtx-cu12"),
    }, "the others come with their base images"  # fmt: skip
    assert known("none") == {}
