"""trtexec's JSON, as `exportJSONTrace` of TensorRT's samples writes it: current names and those before 8.2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.database.open_runs import open_runs
from common.errors import UserError


def entry(start_ms: float, infer_ms: float) -> dict[str, float]:
    copied, computed = start_ms + 0.5, start_ms + 0.5 + infer_ms
    return {
        "startEnqMs": start_ms, "endEnqMs": start_ms + 0.1, "startH2dMs": start_ms, "endH2dMs": copied,
        "startComputeMs": copied, "endComputeMs": computed, "startD2hMs": computed, "endD2hMs": computed + 0.25,
        "h2dMs": 0.5, "computeMs": infer_ms, "d2hMs": 0.25, "latencyMs": 0.75 + infer_ms,
    }  # fmt: skip


def old(new: dict[str, float]) -> dict[str, float]:
    renamed = {name.replace("H2d", "In").replace("D2h", "Out"): value for name, value in new.items()}
    return {**renamed, "endToEndMs": new["latencyMs"]}


def text(entries: list[Any]) -> str:
    """Separators as trtexec writes them: a comma before each entry but the first."""
    body = "".join(f"{', ' if i else '  '}{json.dumps(one)}\n" for i, one in enumerate(entries))
    return f"[\n{body}]\n"


@pytest.mark.parametrize("names", [lambda one: one, old], ids=["current", "older"])
def test_every_inference_becomes_a_sample(tmp_path: Path, import_this: Any, names: Any) -> None:
    path = tmp_path / "times.json"
    path.write_text(text([names(entry(1000 + 2 * i, 1.0)) for i in range(100)]))
    result, _ = import_this(path, precision="fp16", batch_size=16, model="ResNet50", gpu_name="GPU Z")
    assert result.exit_code == 0
    with open_runs([result.folder]) as database:
        assert database.problems == []
        (row,) = database.query("FROM comparison")
        assert (row["variant"], row["precision"], row["batch_size"], row["io"]) == ("tensorrt", "fp16", 16, "host")
        assert (row["model"], row["origin"], row["device_name"]) == ("ResNet50", "trtexec", "GPU Z")
        assert row["median_ms"] == pytest.approx(1.75)
        assert row["p90_ms"] == pytest.approx(1.75)
        assert row["samples"] == 100
        assert row["p99_ms"] is None, "100 inferences are too few"
        assert row["images_per_s"] == pytest.approx(1600 / ((99 * 2 + 1.75) / 1000))
        assert row["power_gross_w"] is None


def test_what_the_file_does_not_say_must_be_said(tmp_path: Path, import_this: Any) -> None:
    path = tmp_path / "times.json"
    path.write_text(text([entry(0, 1)]))
    with pytest.raises(UserError, match="do not say the precision; give --precision"):
        import_this(path, batch_size=1)
    with pytest.raises(UserError, match="do not say the batch size; give --batch-size"):
        import_this(path, precision="fp32")
    with pytest.raises(UserError, match="unknown precision 'fp64'"):
        import_this(path, precision="fp64", batch_size=1)
    with pytest.raises(UserError, match="positive number, not 0"):
        import_this(path, precision="fp32", batch_size=0)


def test_bad_entries_cost_themselves(tmp_path: Path, import_this: Any) -> None:
    backwards = {**entry(50, 1), "endD2hMs": 1.0}
    entries = [*(entry(2 * i, 1) for i in range(20)), backwards, 7, {}, {**entry(60, 1), "startH2dMs": -1}]
    path = tmp_path / "times.json"
    path.write_text(text(entries))
    result, told = import_this(path, precision="fp32", batch_size=1)
    assert result.exit_code == 1
    assert "entry 21: ends before it begins" in told
    assert "entry 22: is no object" in told
    assert "entry 23: lacks startH2dMs" in told
    assert "entry 24: startH2dMs is no time" in told
    with open_runs([result.folder]) as database:
        assert database.query("SELECT n FROM results")[0]["n"] == 20


def test_cut_short_or_something_else(tmp_path: Path, import_this: Any) -> None:
    path = tmp_path / "times.json"
    path.write_text(text([entry(0, 1)])[:-4])
    with pytest.raises(UserError, match="not JSON"):
        import_this(path, precision="fp32", batch_size=1)
    path.write_text("{}")
    with pytest.raises(UserError, match="in no format that framewatt imports"):
        import_this(path)
    with pytest.raises(UserError, match="not the list of times"):
        import_this(path, format="trtexec")
