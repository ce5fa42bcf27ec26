"""What on_host.py sends for a run of no-op cells, without running anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from common import schema

SECOND = 10**9
VARIANTS = ("onnxrt", "torch", "tf", "tfxla")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SAMPLES = 20


def work_keys(count: int) -> list[str]:
    """So many different cells."""
    names = [
        f"MobileNetV3L_{variant}_{precision}_b{size:04d}_host_single-stream_script_r{replicate}"
        for replicate in range(count // (len(VARIANTS) * len(PRECISIONS) * len(BATCH_SIZES)) + 1)
        for variant in VARIANTS
        for precision in PRECISIONS
        for size in BATCH_SIZES
    ]
    return names[:count]


def messages(spec: Mapping[str, Any], node: str) -> Iterator[dict[str, Any]]:
    """One `cell` message for each cell, with a row, phases and a few samples."""
    yield {"kind": "host", "node": node}
    description = {
        "schema_version": schema.SCHEMA_VERSION, "run": spec["run"], "command": spec["command"], "finished_utc": None,
        "plan": spec["cells"], "host": {"logical_cores": 2}, "fleet": spec["facts"],
    }  # fmt: skip
    uuid = f"GPU-{hashlib.sha256(spec['attempt'].encode()).hexdigest()[:12]}"
    yield {"kind": "run", "plan": spec["cells"], "device": {"device": "gpu0", "uuid": uuid}, "model_hash": "0123456789ab",
           "model_terms": {}, "files": [piece("run.json", json.dumps(description).encode())]}  # fmt: skip
    for number, key in enumerate(spec["cells"]):
        yield cell(key, uuid, 100 + number)
    description["finished_utc"] = "2026-11-25T00:00:00+00:00"
    yield {"kind": "files", "files": [piece("run.json", json.dumps(description).encode())]}
    yield {"kind": "end", "interrupted": False, "errors": [], "refused": ""}


def piece(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "offset": 0, "data": data, "sha256": hashlib.sha256(data).hexdigest()}


def cell(work_key: str, uuid: str, begin_s: int) -> dict[str, Any]:
    rest, replicate = work_key.rsplit("_", 1)
    key = f"{rest}_gpu0_{replicate}"
    model, variant, precision, batch, io, scenario, frontend = rest.split("_")
    row = {
        "cell_key": key, "model": model, "variant": variant, "precision": precision, "batch_size": int(batch[1:]), "io": io,
        "scenario": scenario, "frontend": frontend, "streams": 1, "replicate": int(replicate[1:]), "device": "gpu0",
        "device_uuid": uuid, "device_name": "a simulated GPU", "status": "ok", "samples": SAMPLES, "stop_reason": "converged",
        "origin": "framewatt", "weights": "seeded", "worker": f"w{begin_s}", "runner": "local",
    }  # fmt: skip
    start = begin_s * SECOND
    samples = [{"i": i, "start_ns": start + i * 1000, "end_ns": start + i * 1000 + 900} for i in range(SAMPLES)]
    phases = [{"phase": "measure", "start_ns": start, "end_ns": start + SAMPLES * 1000}]
    texts: dict[str, list[dict[str, Any]]] = {"cell.csv": [row], "phases.csv": phases, "samples.csv": samples}
    files = [piece(f"cells/{key}/{name}", schema.to_csv(name, rows).encode()) for name, rows in texts.items()]
    return {
        "kind": "cell", "cell_key": key, "status": "ok", "message": "", "images_per_s": None, "files": files,
        "whole": {one["path"]: [len(one["data"]), one["sha256"]] for one in files},
    }  # fmt: skip
