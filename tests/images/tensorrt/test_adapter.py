"""The adapter's life on stand-ins for driver, pycuda and TensorRT: data flow, overlap, caches, errors, memory."""

from __future__ import annotations

import ctypes
import functools
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.cell import Cell
from common.harness import choices
from common.harness.adapter import DeviceOutOfMemory, Unsupported
from common.model_files import ModelFiles
from images.tensorrt import driver
from images.tensorrt import slot as slot_module

Make = Callable[..., SimpleNamespace]


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (count, 4, 4, 3)).astype(np.float32)


def expected(batch: np.ndarray) -> Any:
    """What the stand-in engine computes."""
    return batch.sum(axis=(1, 2, 3), keepdims=False)[:, None] + np.arange(5)


def cell(**parts: Any) -> Cell:
    values: dict[str, Any] = {
        "model": "toy",
        "variant": "tensorrt",
        "precision": "fp16",
        "batch_size": 4,
        "device": "gpu0",
    }
    return Cell(**{**values, **parts})


@pytest.fixture
def load(make_adapter: Make, model: ModelFiles, tmp_path: Path) -> Callable[..., SimpleNamespace]:
    def load(
        version: str = "10.11.0", precision: str = "fp16", scenario: str = "single-stream", level: str = "tuned"
    ) -> SimpleNamespace:
        state = make_adapter(version)
        state.adapter.tune(level)
        assert state.adapter.supports(cell(precision=precision, scenario=scenario)) is None
        state.adapter.load(model, precision, "cuda:0", str(tmp_path / "cache"), None)
        return state

    return load


@pytest.mark.parametrize("io", ["host", "device"])
def test_run_gives_the_output_of_the_images_that_were_prepared(load: Make, library: ctypes.CDLL, io: str) -> None:
    adapter = load().adapter
    for seed in (1, 2):
        batch = images(4, seed)
        adapter.prepare({"images": batch}, io)
        adapter.run()
        np.testing.assert_allclose(adapter.output()["scores"], expected(batch), rtol=1e-5)
    assert adapter.output()["scores"].dtype == np.float32
    assert adapter.settings()["cuda_graph"] == "yes"


def test_an_input_that_is_an_output_too_is_not_fed_as_bytes(load: Make) -> None:
    """The graph's input is bytes then, and so would the output be, which model.json describes as float32."""
    adapter = load().adapter
    adapter.prepare({"images": np.zeros((4, 4, 4, 3), np.uint8)}, "host")
    adapter._model = replace(adapter._model, outputs=adapter._model.inputs)
    with pytest.raises(Unsupported, match="'images' is an input and an output of the model"):
        adapter.prepare({"images": np.zeros((4, 4, 4, 3), np.uint8)}, "host")


def test_each_inference_is_one_graph_launch_that_holds_the_copies(load: Make, library: ctypes.CDLL) -> None:
    adapter = load().adapter
    adapter.prepare({"images": images(4)}, "host")
    before = library.fake_launches()
    adapter.run()
    adapter.run()
    assert library.fake_launches() == before + 2
    # the pinned input alone is changed: only a copy inside the graph can bring it to the device
    adapter._slots[0]._host_inputs["images"][...] = 1
    adapter.run()
    np.testing.assert_allclose(adapter.output()["scores"][:, 0], 48)


def test_new_images_of_the_same_shape_neither_build_nor_allocate(load: Make, library: ctypes.CDLL) -> None:
    state = load()
    state.adapter.prepare({"images": images(4)}, "host")
    used, graphs = library.fake_used(), library.fake_graphs()
    slots = list(state.adapter._slots)
    state.adapter.prepare({"images": images(4, 7)}, "host")
    assert (library.fake_used(), library.fake_graphs()) == (used, graphs)
    assert state.adapter._slots == slots
    assert len(state.builds) == 1


def test_another_shape_or_io_replaces_the_buffers(load: Make, library: ctypes.CDLL) -> None:
    adapter = load().adapter
    adapter.prepare({"images": images(8)}, "host")
    large = library.fake_used()
    adapter.prepare({"images": images(2)}, "device")
    assert library.fake_used() < large
    adapter.run()
    np.testing.assert_allclose(adapter.output()["scores"], expected(images(2)), rtol=1e-5)


@pytest.mark.parametrize("version", ["8.6.0", "10.11.0"])
def test_offline_keeps_three_inferences_in_flight_with_buffers_of_their_own(
    load: Make, library: ctypes.CDLL, version: str
) -> None:
    state = load(version=version, scenario="offline")
    adapter = state.adapter
    batch = images(4)
    adapter.prepare({"images": batch}, "host")
    assert adapter.settings()["slots"] == "3"
    used = library.fake_used()
    for _ in range(7):
        adapter.enqueue()
    adapter.synchronize()
    assert library.fake_used() == used, "slots that prepare() made are used, no others"
    np.testing.assert_allclose(adapter.output()["scores"], expected(batch), rtol=1e-5)
    assert len({slot.stream.handle for slot in adapter._slots}) == 3
    assert len({int(slot._device_inputs["images"]) for slot in adapter._slots}) == 3
    # a profile belongs to one context until TensorRT 9, so 8.6 needs an engine for each slot
    assert len(state.trt.engines) == (3 if version == "8.6.0" else 1)


@pytest.mark.parametrize("io", ["host", "device"])
@pytest.mark.parametrize("graphs", [True, False])
def test_kernels_side_by_side_and_serial_compute_the_same(load: Make, io: str, graphs: bool) -> None:
    adapter = load(scenario="offline").adapter
    if not graphs:
        adapter._graphs = None
    batch = images(4)
    adapter.prepare({"images": batch}, io)
    for serial in (False, True):
        adapter._kernels_serial = serial
        for _ in range(4):
            adapter.enqueue()
            adapter.synchronize()
            np.testing.assert_allclose(adapter.output()["scores"], expected(batch), rtol=1e-5)


def test_serial_kernels_wait_for_their_copy_and_the_copy_back_for_them(load: Make) -> None:
    state = load(scenario="offline")
    adapter, log = state.adapter, state.cuda.log
    adapter.prepare({"images": images(4)}, "host")
    adapter._kernels_serial = True
    for slot in adapter._slots:
        launch = slot._serial_queue.launch
        slot._serial_queue.launch = lambda launch=launch: (
            log.append(("kernels", None, adapter._kernel_stream.handle)),
            launch(),
        )
    log.clear()
    for _ in adapter._slots:
        adapter.enqueue()
    kernels = adapter._kernel_stream.handle
    for slot in adapter._slots:
        copied, computed, own = slot._serial_queue.copied, slot._serial_queue.computed, slot.stream.handle
        steps, log[:] = log[:7], log[7:]
        assert steps == [
            ("cuMemcpyHtoDAsync_v2", None, own), ("record", copied, own), ("wait", copied, kernels),
            ("kernels", None, kernels),
            ("record", computed, kernels), ("wait", computed, own), ("cuMemcpyDtoHAsync_v2", None, own),
        ]  # fmt: skip
        assert copied.flags == computed.flags == state.cuda.event_flags.DISABLE_TIMING
    assert log == []
    assert len({slot._serial_queue.copied for slot in adapter._slots}) == 3


@pytest.mark.parametrize("slow", ["side by side", "in turn"])
def test_the_faster_order_is_taken_and_both_are_reported(
    load: Make, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    prepare = slot_module.Slot.serialize_on

    def slowed(slot: Any, stream: Any) -> None:
        prepare(slot, stream)
        name = "enqueue" if slow == "side by side" else "enqueue_serial"
        usual = getattr(slot, name)
        setattr(slot, name, lambda: (time.sleep(0.002), usual()))

    monkeypatch.setattr(slot_module.Slot, "serialize_on", slowed)
    adapter = load(scenario="offline").adapter
    adapter.prepare({"images": images(4)}, "host")
    settings = adapter.settings()
    assert settings["kernels"] == ("in turn" if slow == "side by side" else "side by side")
    assert re.fullmatch(r"side by side: \d+\.\d+ ms; in turn: \d+\.\d+ ms", settings["kernels_tried"])


def test_without_offline_nothing_is_tried(load: Make) -> None:
    adapter = load(scenario="single-stream").adapter
    adapter.prepare({"images": images(4)}, "host")
    assert "kernels" not in adapter.settings()


def test_new_images_reach_every_slot(load: Make) -> None:
    adapter = load(scenario="offline").adapter
    adapter.prepare({"images": images(4, 1)}, "host")
    adapter.prepare({"images": images(4, 2)}, "host")
    for _ in range(3):
        adapter.enqueue()
        adapter.synchronize()
        np.testing.assert_allclose(adapter.output()["scores"], expected(images(4, 2)), rtol=1e-5)


def test_enqueue_without_a_word_of_offline_makes_the_slots_it_needs(load: Make) -> None:
    adapter = load().adapter
    adapter.prepare({"images": images(4)}, "device")
    assert adapter.settings()["slots"] == "1"
    for _ in range(4):
        adapter.enqueue()
    adapter.synchronize()
    assert adapter.settings()["slots"] == "3"


def test_a_single_stream_cell_after_an_offline_one_has_one_slot_again(load: Make, library: ctypes.CDLL) -> None:
    adapter = load(scenario="offline").adapter
    adapter.prepare({"images": images(4)}, "host")
    assert adapter.supports(cell(scenario="single-stream")) is None
    adapter.prepare({"images": images(4)}, "host")
    assert adapter.settings()["slots"] == "1"
    assert library.fake_used() == 4 * 48 * 4 + 4 * 5 * 4


def test_multi_stream_has_a_slot_for_each_inference_in_flight(load: Make) -> None:
    adapter = load().adapter
    assert adapter.supports(cell(scenario="multi-stream", streams=6)) is None
    adapter.prepare({"images": images(2)}, "host")
    assert adapter.settings()["slots"] == "6"


def test_a_failed_tactic_of_the_build_is_not_the_reason_of_a_later_failure(load: Make) -> None:
    state = load()
    state.adapter._complaints.add("ERROR", "Error Code 2: OutOfMemory (tactic 7)")
    state.trt.context_error = "3: API usage error"
    with pytest.raises(Unsupported, match="API usage error"):
        state.adapter.prepare({"images": images(4)}, "device")


def test_time_on_the_device_is_in_ns(load: Make) -> None:
    adapter = load().adapter
    adapter.prepare({"images": images(4)}, "device")
    assert adapter.run_timed() == 1_250_000


def test_one_engine_serves_the_batch_sizes_of_the_run(load: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMEWATT_BATCH_SIZES", "1,4,8")
    monkeypatch.setenv("FRAMEWATT_TRT_PROFILES", "range")
    state = load()
    for size in (4, 1, 8):
        state.adapter.prepare({"images": images(size)}, "device")
    assert [str(request.profile) for request in state.builds] == ["b1-8@8"]


def test_the_faster_of_a_shared_engine_and_one_for_the_batch_size_serves(
    load: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMEWATT_BATCH_SIZES", "1,8")
    took = iter([2.0, 1.0])
    monkeypatch.setattr(choices, "median_seconds", lambda run: (run(), next(took))[1])
    state = load()
    state.adapter.prepare({"images": images(1)}, "device")
    assert [str(request.profile) for request in state.builds] == ["b1-8@8", "b1"]
    settings = state.adapter.settings()
    assert (settings["profile"], settings["chosen"]) == ("b1", "b1")
    assert settings["trial"] == "b1-8@8: 2000.000 ms; b1: 1000.000 ms"
    again = load()
    again.adapter.prepare({"images": images(1)}, "device")
    assert again.builds == [], "what won is remembered, and its engine kept"
    assert again.adapter.settings()["profile"] == "b1"


def test_stock_has_an_engine_of_its_own_no_graph_and_pageable_inputs(
    load: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMEWATT_BATCH_SIZES", "1,4")
    state = load(level="stock")
    state.adapter.prepare({"images": images(4)}, "host")
    settings = state.adapter.settings()
    assert settings["profile"] == "b4"
    assert settings["cuda_graph"].startswith("no")
    assert settings["host_memory"] == "pageable in, pinned out"
    state.adapter.run()
    assert (state.builds[-1].workspace_bytes, state.builds[-1].tactic_mask, state.builds[-1].timing_cache) == (
        None,
    ) * 3
    assert (
        state.adapter.settings()["workspace_mib"] == state.adapter.settings()["tactic_sources"] == "TensorRT's default"
    )
    with pytest.raises(Unsupported, match="stock and tuned, not rewritten"):
        state.adapter.tune("rewritten")


def test_a_second_worker_reads_the_engine_that_the_first_built(load: Make) -> None:
    first = load()
    first.adapter.prepare({"images": images(4)}, "device")
    assert first.adapter.settings()["engine"] == "built, built in 7.0 s"
    second = load()
    second.adapter.prepare({"images": images(4)}, "device")
    assert second.builds == []
    assert second.adapter.settings()["engine"] == "cache, built in 7.0 s"
    assert second.adapter.settings()["engine_file"] == first.adapter.settings()["engine_file"]
    assert [path.name for path in second.adapter._folder.glob("*.engine")] == [second.adapter.settings()["engine_file"]]


def test_another_version_or_precision_builds_its_own(load: Make) -> None:
    load().adapter.prepare({"images": images(4)}, "device")
    for other in (load(version="10.12.0"), load(precision="tf32")):
        other.adapter.prepare({"images": images(4)}, "device")
        assert len(other.builds) == 1


def test_an_engine_of_a_retyped_file_is_of_that_rules_version_and_all_others_stay(load: Make) -> None:
    from images.tensorrt.cache import RECIPE, RETYPED_RECIPE
    from images.tensorrt.profile import Profile

    assert RETYPED_RECIPE > RECIPE == 1
    adapter = load().adapter
    kinds = {}
    for flags in (SimpleNamespace(FP16=0), SimpleNamespace()):
        adapter._trt = SimpleNamespace(__name__="tensorrt", __version__="11.0", BuilderFlag=flags)
        for adapter._precision in ("fp32", "fp16", "bf16"):
            kinds[hasattr(flags, "FP16"), adapter._precision] = adapter._key(Profile(1, 1, 1)).recipe
    assert {kind for kind, recipe in kinds.items() if recipe == RETYPED_RECIPE} == {(False, "fp16"), (False, "bf16")}
    assert set(kinds.values()) == {RECIPE, RETYPED_RECIPE}


def test_an_engine_that_tensorrt_refuses_is_built_again(load: Make, capfd: pytest.CaptureFixture[str]) -> None:
    first = load()
    first.plan = b"made elsewhere"
    with pytest.raises(Unsupported, match="version tag does not match"):
        first.adapter.prepare({"images": images(4)}, "device")
    second = load()
    second.adapter.prepare({"images": images(4)}, "device")
    assert len(second.builds) == 1
    assert "is built again" in capfd.readouterr().err


def test_memory_of_slots_is_counted_and_given_back(load: Make, library: ctypes.CDLL) -> None:
    adapter = load().adapter
    adapter.prepare({"images": images(8)}, "device")
    assert adapter.device_peak_bytes() == 8 * 48 * 4 + 8 * 5 * 4
    adapter.close()
    assert library.fake_used() == 0
    assert library.fake_graphs() == 0
    adapter.close()


def test_a_batch_that_does_not_fit_is_out_of_memory(load: Make, library: ctypes.CDLL) -> None:
    adapter = load().adapter
    library.fake_memory_limit(100)
    with pytest.raises(DeviceOutOfMemory):
        adapter.prepare({"images": images(4)}, "device")


def test_a_context_that_does_not_fit_is_out_of_memory(load: Make) -> None:
    state = load()
    state.trt.context_error = "2: [executionContext.cpp] Error Code 2: OutOfMemory (no further information)"
    with pytest.raises(DeviceOutOfMemory, match="OutOfMemory"):
        state.adapter.prepare({"images": images(4)}, "device")


def test_without_a_graph_the_inference_still_runs_and_the_row_says_why(load: Make, library: ctypes.CDLL) -> None:
    adapter = load().adapter
    library.fake_fail(b"cuStreamBeginCapture_v2")
    adapter.prepare({"images": images(4)}, "host")
    adapter.run()
    np.testing.assert_allclose(adapter.output()["scores"], expected(images(4)), rtol=1e-5)
    assert adapter.settings()["cuda_graph"].startswith("no: capture failed: cuStreamBeginCapture_v2")


def test_tactic_sources_reach_the_builder_and_the_row(load: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMEWATT_TRT_TACTIC_SOURCES", "JIT_CONVOLUTIONS")
    state = load()
    state.adapter.prepare({"images": images(4)}, "device")
    assert state.builds[0].tactic_mask == 1 << 4
    assert state.adapter.settings()["tactic_sources"] == "JIT_CONVOLUTIONS"


def test_int8_is_calibrated_with_the_reference_images(load: Make, model: ModelFiles) -> None:
    state = load(precision="int8")
    state.adapter.prepare({"images": images(4)}, "device")
    request = state.builds[0]
    assert request.calibration_batch == 8
    assert request.calibrator is not None


def test_settings_fit_into_a_row(load: Make) -> None:
    adapter = load(precision="fp32").adapter
    adapter.prepare({"images": images(4)}, "host")
    settings = json.loads(json.dumps(adapter.settings()))
    assert all(isinstance(value, str) for value in settings.values())
    assert settings["tf32"] == "off"
    assert adapter.versions() == {
        "framework": "10.11.0", "numpy": np.__version__, "pycuda": "2026.1", "cuda_driver_api": "13.0"
    }  # fmt: skip


def test_the_cpu_is_not_supported(make_adapter: Make) -> None:
    assert "GPUs only" in make_adapter().adapter.supports(cell(device="cpu"))


def test_no_gpu_is_one_sentence(make_adapter: Make, library: ctypes.CDLL) -> None:
    library.fake_fail(b"cuInit")
    assert make_adapter().adapter.supports(cell()).startswith("no usable NVIDIA GPU or driver")


def test_an_old_driver_is_one_sentence(make_adapter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_adapter()
    maps = "7f00-7f01 r-xp 00000000 fe:00 77 /opt/lib/libcublas.so.12"
    old = functools.partial(driver.driver_too_old, maps=maps)
    monkeypatch.setitem(type(state.adapter).supports.__globals__, "driver_too_old", old)
    monkeypatch.setattr(state.cuda, "get_driver_version", lambda: 11080)
    assert state.adapter.supports(cell()).startswith("the driver is too old: it has CUDA 11.8")


def test_a_gpu_that_is_not_there_is_named(make_adapter: Make, model: ModelFiles, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no GPU 3: this process sees 1"):
        make_adapter().adapter.load(model, "fp16", "cuda:3", str(tmp_path), None)


def test_a_precision_that_the_version_lacks_is_unsupported(make_adapter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_adapter("8.6.0")
    monkeypatch.delattr(type(state.trt), "IInt8EntropyCalibrator2")
    assert "no int8 calibration" in state.adapter.supports(cell(precision="int8"))


def test_a_missing_library_is_reported_by_supports_and_not_by_a_traceback(
    adapter_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = adapter_module

    def missing(name: str) -> Any:
        raise ImportError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(module, "importlib", SimpleNamespace(import_module=missing))
    adapter = module.create("tensorrt")
    assert adapter.supports(cell()) == "a library is missing: libcuda.so.1: cannot open shared object file"
    with pytest.raises(Unsupported):
        adapter.load(None, "fp16", "cuda:0", "", None)
    assert adapter.versions() == {"numpy": np.__version__}
    adapter.close()


def test_an_unknown_variant_lists_the_ones_there_are(adapter_module: Any) -> None:
    assert "tensorrt, tensorrt-rtx" in adapter_module.create("tensorrt-lite").supports(cell())


def test_the_gpu_that_tensorrt_rtx_does_not_know_is_named(
    make_adapter: Make, model: ModelFiles, tmp_path: Path
) -> None:
    state = make_adapter()
    members = dict.fromkeys(("NONE", "CURRENT", "SM89", "SM120"))
    state.trt.ComputeCapability = SimpleNamespace(__members__=members)
    with pytest.raises(Unsupported, match=r"supports compute capability 8\.9, 12\.0; Fake GPU has 9\.0"):
        state.adapter.load(model, "fp16", "cuda:0", str(tmp_path), None)


def test_the_import_leaves_the_loader_flags_as_they_were(adapter_module: Any) -> None:
    before = sys.getdlopenflags()
    with pytest.raises(ImportError):
        adapter_module.import_library("no_such_library")
    assert sys.getdlopenflags() == before
