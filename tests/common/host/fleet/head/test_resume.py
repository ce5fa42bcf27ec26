"""What an earlier call left is read off the run folders; a request that differs in anything is another sweep."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.host.fleet.head.resume import find_earlier, request_digest
from common.host.fleet.head.targets import Target
from common.host.plan.model_terms import ModelTerms
from common.host.plan.options import Options
from tests.common.host.plan.test_model_terms import model

CELL = "M_good_fp32_b000{}_host_single-stream_script_gpu{}_r0"


def run(results: Path, name: str, fleet: dict[str, Any] | None, cells: list[str], model: str = "abc") -> None:
    folder = results / name
    for key in cells:
        (folder / "cells" / key).mkdir(parents=True)
        (folder / "cells" / key / "cell.csv").touch()
    folder.mkdir(parents=True, exist_ok=True)
    description = {"run": name, "model": {"hash": model}, **({"fleet": fleet} if fleet else {})}
    (folder / "run.json").write_text(json.dumps(description))


def test_cells_of_all_runs_of_a_target_are_done_whichever_gpu_they_ran_on(tmp_path: Path) -> None:
    of = {"sweep": "20261125-1", "request": "r", "seed": 5}
    run(tmp_path, "a", {**of, "target": "A2-1"}, [CELL.format(1, 0)])
    run(tmp_path, "b", {**of, "target": "A2-1"}, [CELL.format(2, 3)])
    run(tmp_path, "c", {**of, "target": "A2-2"}, [])
    run(tmp_path, "d", {**of, "request": "other", "target": "A2-1"}, [CELL.format(3, 0)])
    run(tmp_path, "e", None, [CELL.format(4, 0)])
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "run.json").write_text("no JSON")
    earlier = find_earlier(tmp_path, "r")
    assert earlier is not None
    assert (earlier.sweep, earlier.seed, earlier.model_hash) == ("20261125-1", 5, "abc")
    assert earlier.done == {
        "A2-1": {"M_good_fp32_b0001_host_single-stream_script_r0", "M_good_fp32_b0002_host_single-stream_script_r0"},
        "A2-2": frozenset(),
    }
    assert [folder.name for folder in earlier.runs] == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "d", "e", "f"], "what brought nothing is gone"


def test_an_earlier_call_tells_what_its_model_decides(tmp_path: Path) -> None:
    """Else a model that no host has any more would be planned as float32, and all its cells measured again."""
    run(tmp_path, "a", {"sweep": "s", "request": "r", "target": "A2-1"}, [CELL.format(1, 0)])
    earlier = find_earlier(tmp_path, "r")
    assert earlier is not None and earlier.terms is None
    path = tmp_path / "a" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model": model("uint8").describe()}))
    earlier = find_earlier(tmp_path, "r")
    assert earlier is not None and earlier.terms == ModelTerms(takes_bytes=True)


def test_of_several_sweeps_the_newest(tmp_path: Path) -> None:
    for day in ("20261124", "20261125", "20261123"):
        run(tmp_path, day, {"sweep": day, "request": "r", "seed": 1, "target": "A2-1"}, [])
    earlier = find_earlier(tmp_path, "r")
    assert earlier is not None
    assert earlier.sweep == "20261125"
    assert find_earlier(tmp_path, "other") is None


def test_equal_requests_are_equal_but_for_the_seed() -> None:
    targets = [Target("A2", 1), Target("V100", 1)]
    options = Options(framework="onnxrt")

    def digest(
        options: Options = options,
        code: str = "c",
        targets: list[Target] = targets,
        content: bytes = b"x",
        **variables: str,
    ) -> str:
        return request_digest(options, code, targets, {"image": ("cat.png", content)}, variables)

    assert digest(replace(options, seed=5)) == digest(targets=targets[::-1]) == digest()
    others = [
        digest(replace(options, batch_sizes="1")), digest(code="d"), digest(targets=targets[:1]), digest(content=b"y"),
        digest(replace(options, runner="local")), digest(FRAMEWATT_TRT_PROFILES="each"), digest(FRAMEWATT_TRT_PROFILES="best"),
    ]  # fmt: skip
    assert len({digest(), *others}) == 8
