"""What the trial of several ways to run a module leaves behind, without torch: nothing that the next worker would not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.harness import choices
from images.torch import adapter as adapter_module
from images.torch.run_options import Run

FIRST, SECOND = Run("channels-last", graph=True), Run()
FED = {"images": ((1, 4), "float32")}


class Built:
    """An inference that takes 100 bytes of the device."""

    def __init__(self, run: Run, device: Device) -> None:
        self.name, self._device, self.closed = run.name, device, False
        device.reserved += 100
        device.peak = max(device.peak, device.reserved)

    def run(self) -> None:
        """How long it takes is said where it is tried."""

    def peak_bytes(self) -> int:
        return self._device.peak

    def close(self) -> None:
        self.closed = True
        self._device.reserved -= 100


class Device:
    """torch.cuda as far as the trial calls it."""

    def __init__(self) -> None:
        self.reserved = self.peak = 0

    def empty_cache(self) -> None:
        """What is closed above is free at once."""

    def reset_peak_memory_stats(self, device: Any) -> None:
        self.peak = self.reserved

    def get_device_name(self, device: Any) -> str:
        return "a GPU"


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], tuple[Any, Any, list[str]]]:
    """(adapter, its inference, what was built in order) after a trial that the way of this name wins.

    failing: names of ways that fail when they have taken 100 bytes; "once NAME" fails the first time alone.
    """

    def try_all(winner: str, *failing: str) -> tuple[Any, Any, list[str]]:
        device, made = Device(), []
        torch = SimpleNamespace(cuda=device, float32="float32", __version__="0")
        adapter = adapter_module.TorchAdapter("torch", torch)
        adapter._module, adapter._device, adapter._on_gpu = SimpleNamespace(graph=None), "cuda:0", True
        adapter._dtype, adapter._precision, adapter._hash = "float16", "fp16", "0"
        adapter._memory = choices.AlgorithmCache(tmp_path / "choices.json")
        monkeypatch.setattr(adapter_module.run_options, "possible", lambda *_: [FIRST, SECOND])
        monkeypatch.setattr(adapter, "_search_algorithms", lambda run: None)
        monkeypatch.setattr(adapter, "_module_for", lambda run, inputs: (run.name, {}))

        def inference_of(run: Run, *_: Any) -> Built:
            made.append(run.name)
            built = Built(run, device)
            if run.name in failing or (f"once {run.name}" in failing and made.count(run.name) == 1):
                built.close()
                raise RuntimeError("out of memory")
            return built

        monkeypatch.setattr(adapter, "_inference_of", inference_of)
        monkeypatch.setattr(choices, "median_seconds", lambda run: 1.0 if run.__self__.name == winner else 2.0)
        inference = adapter._inference = adapter._fastest([np.zeros((1, 4))], "host", FED)
        return adapter, inference, made

    return try_all


def test_the_first_stays_and_only_its_own_memory_counts(tried):
    adapter, inference, made = tried(FIRST.name)
    assert made == [FIRST.name, SECOND.name]
    assert (inference.name, inference.closed) == (FIRST.name, False)
    assert list(adapter._modules) == [FIRST], "modules of the others stay in memory"
    assert adapter.device_peak_bytes() == 100, "the other's memory was counted"


def test_one_that_was_built_after_others_is_built_anew(tried):
    adapter, inference, made = tried(SECOND.name)
    assert made == [FIRST.name, SECOND.name, SECOND.name]
    assert (inference.name, inference.closed) == (SECOND.name, False)
    assert list(adapter._modules) == [SECOND]
    assert adapter.device_peak_bytes() == 100


def test_a_choice_that_is_known_is_built_alone(tried):
    tried(SECOND.name)
    adapter, _, made = tried(SECOND.name)
    assert made == [SECOND.name]
    assert adapter.device_peak_bytes() == 100


def test_one_that_was_built_after_a_failed_one_is_built_anew(tried):
    adapter, inference, made = tried(SECOND.name, FIRST.name)
    assert made == [FIRST.name, SECOND.name, SECOND.name], "the failed one was in its memory: it is built anew"
    assert (inference.name, list(adapter._modules)) == (SECOND.name, [SECOND])
    assert adapter.device_peak_bytes() == 100


def test_one_that_failed_after_the_chosen_leaves_no_peak(tried):
    adapter, inference, made = tried(FIRST.name, SECOND.name)
    assert made == [FIRST.name, SECOND.name]
    assert (inference.name, inference.closed, list(adapter._modules)) == (FIRST.name, False, [FIRST])
    assert adapter.device_peak_bytes() == 100


def test_a_known_choice_that_fails_and_then_works_is_built_anew(tried):
    tried(FIRST.name)
    adapter, inference, made = tried(FIRST.name, f"once {FIRST.name}")
    assert made == [FIRST.name, FIRST.name, SECOND.name, FIRST.name]
    assert (inference.name, inference.closed) == (FIRST.name, False)
    assert adapter.device_peak_bytes() == 100
