"""A target for atheris, Google's coverage-guided fuzzer for Python: any bytes, through every reader of CSV and JSON.

    pip install atheris                                   # a wheel for CPython 3.11 to 3.13 on Linux; nothing else is needed
    python -m tests.fuzz.readers -max_total_time=120      # mutates seeds(); a finding ends it and is written to crash-*

Not part of the suite: it needs a package of its own and minutes. The suite replays the seeds, and what was ever found,
through the same function (test_readers.py).
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from analysis.importers import perf_analyzer, trtexec
from analysis.importers.imported import Facts, Format
from analysis.readers import csv_by_line, run_json
from common import schema
from common.cell import Cell
from common.errors import UserError
from common.job import Job
from common.model_files import DESCRIPTION, ModelFiles

#: files lie in memory where the machine has such a folder
_KEPT = tempfile.TemporaryDirectory(
    prefix="framewatt-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None
)
_FOLDER = Path(_KEPT.name)
_DIGITS = re.compile(" is '[0-9]{19,}', ")
_FACTS = Facts(gpu_ordinal=0, gpu_name="G", framework="onnxrt", model="m", precision="fp32", batch_size=8)


def _csv(name: str, raw: bytes) -> None:
    """Rows of the declared types, whose every value stands in the file."""
    for row in csv_by_line.read(Path(name), name, raw).rows:
        assert len(row) == len(schema.FILES[name])
        for column, text in zip(schema.FILES[name], row, strict=True):
            if text and column.type == "BIGINT":
                assert -(2**63) <= int(text) < 2**63
            elif text and column.type == "DOUBLE":
                assert math.isfinite(float(text))
            assert text.replace('"', '""').encode() in raw or text.encode() in raw


def _typed_rows(name: str, raw: bytes) -> None:
    """What is handed to DuckDB unread holds nothing that the careful reader would leave out for its type or length.

    A whole number that is too big counts as right here: DuckDB itself refuses the file, which is then read line by line.
    """
    path = _FOLDER / name
    path.write_bytes(csv_by_line.header_line(name) + raw)
    if raw.endswith(b"\n") and csv_by_line.has_typed_rows(str(path), name):
        messages = [problem.message for problem in csv_by_line.read(path, name).problems]
        wrong = [text for text in messages if "not a whole number" in text and not _DIGITS.search(text)]
        assert not wrong and not any("fields, the header" in text for text in messages), messages


def _run_json(raw: bytes) -> None:
    (_FOLDER / "run.json").write_bytes(raw)
    document, problem = run_json.read(_FOLDER)
    assert isinstance(document, dict) and (problem is None or not document)
    values = [run_json.run_row(document), *run_json.device_rows(document)]
    values += [*run_json.cooling_rows(document), *run_json.idle_spell_rows(document)]
    for row in values:
        for value in row:
            assert value is None or isinstance(value, str) or math.isfinite(value)


def _job(raw: bytes) -> None:
    path = _FOLDER / "job.json"
    path.write_bytes(raw)
    try:
        job = Job.read(path)
    except (ValueError, KeyError, TypeError):
        return
    assert all(cell.key for cell in job.cells)


def _model(raw: bytes) -> None:
    (_FOLDER / DESCRIPTION).write_bytes(raw)
    try:
        ModelFiles.read(_FOLDER)
    except ValueError:
        return


def _imported(form: Format, suffix: str, raw: bytes) -> None:
    path = _FOLDER / f"results.{suffix}"
    path.write_bytes(raw)
    try:
        found = form.read(path, _FACTS)
    except UserError as error:
        assert "\n" not in str(error)
        return
    for cell in found.cells:
        for name, rows in cell.files.items():
            for row in rows:
                schema.format_row(name, row)


READERS: dict[str, Callable[[bytes], None]] = {
    **{name: partial(_csv, name) for name in schema.FILES},
    "typed power.csv": partial(_typed_rows, "power.csv"),
    "run.json": _run_json,
    "job.json": _job,
    "model.json": _model,
    "perf_analyzer": partial(_imported, perf_analyzer.FORMAT, "csv"),
    "trtexec": partial(_imported, trtexec.FORMAT, "json"),
}


def one_input(data: bytes) -> None:
    """The first byte chooses the reader, the others are the file. Raises only for what is wrong with the reader."""
    if data:
        list(READERS.values())[data[0] % len(READERS)](data[1:])


def seeds() -> dict[str, bytes]:
    """A valid file for every reader."""
    power = ["1", "gpu", "0", "GPU-1", "12.5", "instant", "", "7", "1", "2", "40", "0", "", "", ""]
    job = Job(
        "/run", "/model", "adapter.py", "toy", "cpu", "CPU", "", "/cache", "local", [Cell("m", "v", "fp32", 8)]
    )  # fmt: skip
    model = {
        "name": "m", "hash": "0" * 12, "onnx": "m.onnx", "keras": None, "saved_model": None, "reference": "r.npz",
        "input_shape": [4, 4, 3], "layout": "NHWC", "onnx_input": "x", "onnx_output": "y", "output_kind": "raw",
        "classes": 10, "weights": "seeded", "weights_note": "made here", "files": {},
    }  # fmt: skip
    run = {
        "seed": 3, "host": {"logical_cores": 4}, "settings": {"cool_to_c": 45.5}, "cooling": {"k": {"seconds": 1}},
        "devices": [{"device": "gpu0", "ecc": True, "power_limit_mw": 7e5, "processes": []}],
        "idle_without_context": {"gpu0": [{"start_ns": 1, "end_ns": 2}]},
    }  # fmt: skip
    found = {
        "run.json": json.dumps(run),
        "job.json": json.dumps(asdict(job)),
        "model.json": json.dumps(model),
        "typed power.csv": ",".join(power) + "\n",
        "perf_analyzer": "Concurrency,Inferences/Second,p50 latency,p99 latency\n1,80,9000,12000\n",
        "trtexec": '[{"startComputeMs":0.5,"endComputeMs":1,"startH2dMs":0.1,"endD2hMs":1.5,"computeMs":0.5}]',
    }
    texts = {"status": "ok", "io": "host", "event": "start", "quantile": "0.5", "scheduled_ns": "", "batch_size": "8"}
    for name, columns in schema.FILES.items():
        kinds = {"BIGINT": "1000", "DOUBLE": "2.5", "VARCHAR": "x"}
        row = [texts.get(column.name, kinds[column.type]) for column in columns]
        found[name] = ",".join(schema.header(name)) + "\n" + ",".join(row) + "\n"
    return {name: bytes([place]) + found[name].encode() for place, name in enumerate(READERS)}


def main() -> None:
    import atheris  # not a dependency of anything else

    atheris.instrument_all()
    with tempfile.TemporaryDirectory(prefix="framewatt-fuzz-") as corpus:
        for name, seed in seeds().items():
            (Path(corpus) / name.replace(" ", "-")).write_bytes(seed)
        atheris.Setup([sys.argv[0], "-max_len=2048", *sys.argv[1:], corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
