"""Engines on disk: only the very same key gets one back, whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from images.tensorrt.cache import EngineKey, read_engine, write_blob, write_engine

KEY = EngineKey(
    model_hash="0123456789ab",
    library="tensorrt",
    version="8.6.0",
    gpu="NVIDIA H100 80GB HBM3-cc9.0",
    precision="fp16",
    profile="b1-512@512",
    tactic_sources="default",
    workspace_bytes=1 << 34,
    builder_level=-1,
    strongly_typed=False,
)
PLAN = bytes(range(256)) * 40


def test_what_was_stored_comes_back_with_its_facts(tmp_path: Path) -> None:
    write_engine(tmp_path / "new", KEY, PLAN, {"build_seconds": 276.0})
    found = read_engine(tmp_path / "new", KEY)
    assert found is not None
    plan, facts = found
    assert plan == PLAN
    assert facts["build_seconds"] == 276.0
    assert not [path for path in (tmp_path / "new").iterdir() if path.suffix not in (".engine", ".json")]


def test_nothing_there_is_no_complaint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert read_engine(tmp_path, KEY) is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "change",
    [
        {"model_hash": "ba9876543210"},
        {"library": "tensorrt_rtx"},
        {"version": "10.11.0.33"},
        {"gpu": "NVIDIA A100-cc8.0"},
        {"precision": "tf32"},
        {"profile": "b8"},
        {"tactic_sources": "CUBLAS"},
        {"workspace_bytes": 1},
        {"builder_level": 5},
        {"strongly_typed": True},
        {"recipe": 0},
    ],
)
def test_every_part_of_the_key_makes_another_file(tmp_path: Path, change: dict[str, Any]) -> None:
    other = dataclasses.replace(KEY, **change)
    assert other.stem != KEY.stem
    write_engine(tmp_path, KEY, PLAN, {})
    assert read_engine(tmp_path, other) is None


def _corrupt(folder: Path, kind: str) -> str:
    """Damages the stored engine; returns a word that the log line must have."""
    engine, description = folder / f"{KEY.stem}.engine", folder / f"{KEY.stem}.json"
    if kind == "truncated":
        engine.write_bytes(PLAN[:-1])
        return f"{len(PLAN) - 1} of {len(PLAN)} bytes"
    if kind == "changed":
        engine.write_bytes(PLAN[:-1] + b"\0")
        return "SHA-256"
    if kind == "no engine":
        engine.unlink()
        return "FileNotFoundError"
    if kind == "no description":
        description.unlink()
        return "FileNotFoundError"
    if kind == "no json":
        description.write_text("{")
        return "JSONDecodeError"
    if kind == "a list":
        description.write_text("[]")
        return "TypeError"
    facts = json.loads(description.read_text())
    facts["key"]["version"] = "8.5.3"
    description.write_text(json.dumps(facts))
    return "another version ('8.5.3', here '8.6.0')"


@pytest.mark.parametrize(
    "kind", ["truncated", "changed", "no engine", "no description", "no json", "a list", "foreign version"]
)
def test_what_cannot_be_trusted_is_one_line_in_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    write_engine(tmp_path, KEY, PLAN, {})
    word = _corrupt(tmp_path, kind)
    assert read_engine(tmp_path, KEY) is None
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert word in lines[0]
    assert "is built again" in lines[0]


def test_a_cache_that_cannot_be_written_costs_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    write_blob(tmp_path / "file" / "x.engine", PLAN)
    assert "cannot be cached" in capfd.readouterr().err


def test_timings_are_shared_by_models_but_not_by_precisions() -> None:
    assert dataclasses.replace(KEY, model_hash="other", profile="b8").timing_cache_name == KEY.timing_cache_name
    assert dataclasses.replace(KEY, precision="tf32").timing_cache_name != KEY.timing_cache_name
