"""Cells of two runs that computed otherwise: a table says in which setting."""

from __future__ import annotations

import json

from analysis.results import tables
from analysis.results.selection import Selection
from tests.analysis.conftest import Build, Opened

MS = 10**6


def test_two_figures_of_a_cell_say_in_which_setting_of_their_algorithm_they_differ(
    build: Build, opened: Opened
) -> None:
    """Of one engine for all batch sizes and one for each, a table had two rows and not a word on why they differ."""
    first, second = build("first"), build("second")
    for batch_size in (1, 32):
        for variant in ("onnxrt", "tf", "torch"):
            first.cell(variant, batch_size, durations_ns=[5 * MS] * 20)
    for run, ms, profile in ((first, 2, "b1-32@32"), (second, 4, "b32")):
        settings = {"profile": profile, "engine_file": f"x-{profile}.engine", "graphs": run.folder.name}
        run.cell("tensorrt", 32, durations_ns=[ms * MS] * 20, settings=json.dumps(settings))
        run.cell("tensorrt", 1, durations_ns=[ms * MS] * 20, settings=json.dumps({**settings, "profile": "b1"}))
        run.cell("keras", 1, durations_ns=[ms * MS] * 20, settings=json.dumps({"graphs": run.folder.name}))
    database = opened(first, second)
    rows = tables.load(database, Selection())
    (table,) = tables.build(database, rows, ["throughput"])
    assert [line for line in table.footers if "settings differ" in line] == [
        "tensorrt fp32 at batch 1, settings differ: engine file x-b1-32@32.engine (run first), x-b32.engine (run second).",
        "tensorrt fp32 at batch 32, settings differ: profile b1-32@32 (run first), b32 (run second).",
    ]
    assert not [line for line in table.footers if "keras" in line and "differ" in line], "what names no algorithm"
