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


def overlapped(count: int, compute_ms: float = 3.0, copy_ms: float = 0.25) -> list[dict[str, float]]:
    """As trtexec runs by default: the copy of the next inference is under way while this one computes."""
    entries = []
    for i in range(count):
        begin = copy_ms + i * compute_ms
        copied = begin - copy_ms if i == 0 else begin - compute_ms
        entries.append(
            {
                "startH2dMs": copied, "endH2dMs": copied + copy_ms, "startComputeMs": begin, "endComputeMs": begin + compute_ms,
                "startD2hMs": begin + compute_ms, "endD2hMs": begin + compute_ms + copy_ms, "h2dMs": copy_ms,
                "computeMs": compute_ms, "d2hMs": copy_ms, "latencyMs": compute_ms + 2 * copy_ms,
            }
        )  # fmt: skip
    return entries


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_overlapped_copies_are_no_single_stream(tmp_path: Path, import_this: Any, encoding: str) -> None:
    path = tmp_path / "times.json"
    path.write_text(text(overlapped(700)), encoding=encoding)
    result, reported = import_this(path, precision="fp16", batch_size=4)
    assert result.exit_code == 0
    assert "in flight" in reported
    with open_runs([result.folder]) as database:
        assert database.problems == []
        (row,) = database.query("FROM comparison")
        assert row["scenario"] == "multi-stream"
        assert row["streams"] > 1
        assert [row[f"{name}_ms"] for name in ("median", "p99")] == pytest.approx([3.5, 3.5]), "trtexec's own"
        assert row["p999_ms"] is None, "700 inferences are too few"
        assert row["images_per_s"] == pytest.approx(4 * 700 / (700 * 3.0 + 0.5) * 1e3)


def six_digits(one: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in one.items()}


@pytest.mark.parametrize("names", [lambda one: one, old], ids=["current", "older"])
@pytest.mark.parametrize("own", ["latencyMs", "the lengths of its parts"])
def test_late_instants_of_six_digits_are_not_differenced(
    tmp_path: Path, import_this: Any, names: Any, own: str
) -> None:
    entries = [six_digits(entry(123_456 + 2.013 * i, 1.137)) for i in range(100)]
    path = tmp_path / "times.json"
    if own != "latencyMs":
        entries = [{name: value for name, value in one.items() if name != "latencyMs"} for one in entries]
        entries = [{**one, "endToEndMs": 0.0, "latencyMs": 0.0} for one in entries] if names is old else entries
    shown = [names(one) for one in entries]
    if own != "latencyMs":
        shown = [{k: v for k, v in one.items() if k not in ("latencyMs", "endToEndMs")} for one in shown]
    renamed = [{k.replace("h2dMs", "inMs").replace("d2hMs", "outMs"): v for k, v in one.items()} for one in shown]
    path.write_text(text(renamed if names is old else shown))
    result, _ = import_this(path, precision="fp16", batch_size=1)
    with open_runs([result.folder]) as database:
        (row,) = database.query("FROM comparison")
        assert row["scenario"] == "single-stream"
        assert row["median_ms"] == pytest.approx(1.887, rel=1e-4)
        assert row["images_per_s"] == pytest.approx(1e3 / 2.013, rel=0.02)


def test_instants_too_coarse_without_a_latency_are_refused(tmp_path: Path, import_this: Any) -> None:
    keep = ("startH2dMs", "endD2hMs", "startComputeMs")
    late = [{k: v for k, v in six_digits(entry(123_456 + 2.013 * i, 1.137)).items() if k in keep} for i in range(5)]
    path = tmp_path / "times.json"
    path.write_text(text(late))
    with pytest.raises(UserError, match="nothing in"):
        import_this(path, precision="fp16", batch_size=1)


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
    result, reported = import_this(path, precision="fp32", batch_size=1)
    assert result.exit_code == 1
    assert "entry 21: ends before it begins" in reported
    assert "entry 22: is no object" in reported
    assert "entry 23: lacks startH2dMs" in reported
    assert "entry 24: startH2dMs is no time" in reported
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


@pytest.mark.parametrize("option", ["framework", "model"])
@pytest.mark.parametrize("name", ["../../x", "a/b", ".x", "", "a\nb", "x" * 200, "\x1b[31m", "=1+1", "caf\udce9"])
def test_what_becomes_a_path_is_a_name(tmp_path: Path, import_this: Any, option: str, name: str) -> None:
    path = tmp_path / "times.json"
    path.write_text(text([entry(0, 1.0)]))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=f"--{option} '"):
        import_this(path, precision="fp16", batch_size=16, **{option: name})
    assert [one for one in sorted(tmp_path.rglob("*")) if one not in before and one.is_file()] == []


@pytest.mark.parametrize("batch_size", [2**24 + 1, 2**62])
def test_a_batch_size_beyond_all(tmp_path: Path, import_this: Any, batch_size: int) -> None:
    path = tmp_path / "times.json"
    path.write_text(text([entry(0, 1.0)]))
    with pytest.raises(UserError, match="16,777,216 at most"):
        import_this(path, precision="fp16", batch_size=batch_size)


@pytest.mark.parametrize("stem", ["results (1)", "=cmd|x", "a\x1b[31mb", "../x".replace("/", "-"), "模型", "..."])
def test_a_model_is_named_after_any_file(tmp_path: Path, import_this: Any, stem: str) -> None:
    path = tmp_path / f"{stem}.json"
    path.write_text(text([entry(1000 + 2 * i, 1.0) for i in range(20)]))
    result, _ = import_this(path, precision="fp16", batch_size=16)
    with open_runs([result.folder]) as database:
        assert database.problems == []


def test_a_file_that_is_none(tmp_path: Path, import_this: Any) -> None:
    (tmp_path / "real.json").write_text(text([entry(0, 1.0)]))
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    result, _ = import_this(tmp_path / "link.json", precision="fp16", batch_size=16)  # which the user has named
    assert result.exit_code == 0
    (tmp_path / "device.json").symlink_to("/dev/zero")
    for form in (None, "trtexec"):
        with pytest.raises(UserError):
            import_this(tmp_path / "device.json", precision="fp16", batch_size=16, format=form)
