"""Jobs, models and runs in JSON that anything may have happened to: an error that is expected, or values of the right types."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.cell import Cell
from common.errors import UserError
from common.host.runs.run import Run, find_unfinished, read_run
from common.job import Job, Settings
from common.model_files import DESCRIPTION, ModelFiles
from common.typed_json import check

JOB = Job(
    "/run", "/model", "adapter.py", "toy", "cpu", "CPU", "", "/cache", "local",
    [Cell("m", "v", "fp32", 8), Cell("m", "v", "fp32", 1, scenario="server", target_rate_per_s=2.5)],
)  # fmt: skip
MODEL = {
    "name": "m", "hash": "0" * 12, "onnx": "m.onnx", "keras": None, "saved_model": None, "reference": "r.npz",
    "input_shape": [4, 4, 3], "layout": "NHWC", "onnx_input": "x", "onnx_output": "y", "output_kind": "raw",
    "classes": 10, "weights": "seeded", "weights_note": "made here", "files": {},
}  # fmt: skip

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\0"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value within."""
    found = [at] if at else []
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        found += places(value, (*at, key))
    return found


@st.composite
def damaged(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """The document's text with one value replaced or left out, or with bytes cut, changed or put in."""
    document = json.loads(json.dumps(document))
    how = draw(st.sampled_from(["value", "missing", "cut", "bytes", "anything"]))
    if how in ("value", "missing"):
        *path, last = draw(st.sampled_from(places(document)))
        inner: Any = document
        for key in path:
            inner = inner[key]
        if how == "value":
            inner[last] = draw(VALUES)
        else:
            del inner[last]
    text = json.dumps(document, indent=1).encode()
    if how == "cut":
        return text[: draw(st.integers(0, len(text) - 1))]
    if how == "bytes":
        at = draw(st.integers(0, len(text) - 1))
        return text[:at] + draw(st.binary(max_size=4)) + text[at + draw(st.integers(0, 3)) :]
    return json.dumps(draw(VALUES)).encode() if how == "anything" else text


def assert_types(kind: type, value: Any) -> None:
    """Every field has the type that its class declares, and numbers are finite."""
    own = {name: getattr(value, name) for name in value.__dataclass_fields__}
    check(kind, own)
    assert all(math.isfinite(field) for field in own.values() if isinstance(field, float))


@FUZZ
@given(raw=damaged(asdict(JOB)))
def test_a_job(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(raw)
    try:
        job = Job.read(path)
    except (ValueError, KeyError, TypeError):
        return
    assert_types(Job, job)
    assert_types(Settings, job.settings)
    for cell in job.cells:
        assert_types(Cell, cell)
        assert cell.key


@FUZZ
@given(raw=damaged(MODEL))
def test_a_model(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / DESCRIPTION).write_bytes(raw)
    try:
        model = ModelFiles.read(tmp_path)
    except ValueError:
        return
    assert_types(ModelFiles, model)
    assert isinstance(model.input_shape, tuple)


@FUZZ
@given(raw=damaged({"request": "r", "finished_utc": None, "plan": ["a"], "seed": 3, "settings": {"min_seconds": 5.0}}))
def test_a_run(tmp_path: Path, raw: bytes) -> None:
    folder = tmp_path / "results" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_bytes(raw)
    found = find_unfinished(folder.parent, request="r")
    try:
        run = read_run(folder)
    except UserError as error:
        assert "run.json" in str(error) and "\n" not in str(error)
        assert found is None
    else:
        assert isinstance(run, Run) and isinstance(run.description, dict)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")]
)
def test_depth_and_odd_bytes(tmp_path: Path, text: str) -> None:
    for name in ("run.json", DESCRIPTION, "job.json"):
        (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(UserError):
        read_run(tmp_path)
    with pytest.raises(ValueError, match=r"model\.json"):
        ModelFiles.read(tmp_path)
    with pytest.raises((ValueError, TypeError)):
        Job.read(tmp_path / "job.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": "8"}, "batch_size is '8', not a whole number"),
        ({"batch_size": 8.0}, "batch_size is 8.0, not a whole number"),
        ({"batch_size": True}, "not a whole number"),
        ({"target_rate_per_s": float("nan")}, "not a finite number or null"),
        ({"model": None}, "model is None, not text"),
        ({"colour": 1}, "no field 'colour'"),
    ],
)
def test_the_error_names_the_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Cell.from_dict({**JOB.cells[0].to_dict(), **change})
