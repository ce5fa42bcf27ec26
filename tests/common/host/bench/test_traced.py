"""Options that measure a recorded run again, to be explained."""

from __future__ import annotations

import json

from common.cell import Cell
from common.host.bench.traced import options_of_run
from common.host.plan.options import Options


def run_of(folder, *cells):
    (folder / "run.json").write_text(json.dumps({"model": {"name": "M"}, "runner": "local"}))
    for cell in cells:
        (folder / "cells" / cell.key).mkdir(parents=True)
    return folder


def test_levels_inputs_and_versions_of_the_run_are_asked_for_again(tmp_path):
    run = run_of(
        tmp_path,
        Cell("M", "torch", "fp32", 1, "host", device="gpu0", tuning="stock", input="uint8", version="2.11.0"),
        Cell("M", "onnxrt", "fp16", 32, "host", device="gpu0", tuning="stock", input="uint8"),
    )
    options = options_of_run(run, Options())
    assert set(options.framework.split(",")) == {"torch", "onnxrt"}
    assert (options.tuning, options.input, options.version) == ("stock", "uint8", "torch@2.11.0")
    assert set(options.precision.split(",")) == {"fp32", "fp16"}
    assert options.io == "host"
    assert set(options.batch_sizes.split(",")) == {"1", "32"}


def test_a_run_of_before_the_levels_is_tuned_and_float32(tmp_path):
    options = options_of_run(run_of(tmp_path, Cell("M", "torch", "fp32", 1, "host", device="cpu")), Options())
    assert (options.tuning, options.input, options.version) == ("tuned", "float32", "")
    assert options.device == "cpu"


def test_what_is_typed_beside_the_run_holds(tmp_path):
    run = run_of(tmp_path, Cell("M", "torch", "fp32", 1, "host", device="cpu", tuning="stock"))
    assert options_of_run(run, Options(tuning="rewritten")).tuning == "rewritten"


def test_the_version_of_the_lock_beside_others_is_asked_for_again_too(tmp_path):
    cells = [Cell("M", "onnxrt", "fp32", 1, device="cpu", version=version) for version in (None, "1.30.0")]
    options = options_of_run(run_of(tmp_path, *cells, Cell("M", "torch", "fp32", 1, device="cpu")), Options())
    assert options.version == "onnxrt@1.30.0,onnxrt@locked"


def test_a_precision_with_a_dash_is_no_level(tmp_path):
    run = run_of(tmp_path, Cell("M", "litert", "int8-dynamic", 1, device="cpu", tuning="stock"))
    options = options_of_run(run, Options())
    assert (options.precision, options.tuning) == ("int8-dynamic", "stock")
