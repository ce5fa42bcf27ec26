"""Whatever the bytes are: a clear error, problems, or a run that opens without damage of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.database.open_runs import open_runs
from common.errors import UserError

STUDY = "Batch_Size,Elapsed_Times,Throughput,Latency,GPU_Memory_Usage\n" + "8,0.5,1024.0,0.0009765625,1000.0\n" * 5
METERS = "region_idf,device_name,energy,time\n" + "".join(f"onnxrt_8_{i},GPU Z,40000000,500000\n" for i in range(5))
PERF = "Concurrency,Inferences/Second,p50 latency,p99 latency\n1,80,9000,12000\n4,100,30000,45000\n"
TIMES = (
    '[\n  { "startComputeMs" : 0.5, "endComputeMs" : 1, "startH2dMs" : 0.1, "endD2hMs" : 1.5, "computeMs" : 0.5 }\n]\n'
)
JUNK = [
    b"nan",
    b"-1",
    b"1e400",
    b"\0",
    b"\xff",
    b'"',
    b",",
    b"\n",
    b"",
    b"inf",
    b"0",
    b"99999999999999999999",
    b"onnxrt",
]


def study(folder: Path, damage: Callable[[bytes], bytes]) -> Path:
    (folder / "m" / "ema").mkdir(parents=True)
    (folder / "m" / "onnxrt_5_it_x_py.csv").write_bytes(damage(STUDY.encode()))
    (folder / "m" / "ema" / "onnxrt_py.csv").write_bytes(damage(METERS.encode()))
    return folder / "m"


def perf(folder: Path, damage: Callable[[bytes], bytes]) -> Path:
    (folder / "perf.csv").write_bytes(damage(PERF.encode()))
    return folder / "perf.csv"


def times(folder: Path, damage: Callable[[bytes], bytes]) -> Path:
    (folder / "times.json").write_bytes(damage(TIMES.encode()))
    return folder / "times.json"


@pytest.mark.parametrize(("make", "format"), [(study, "study"), (perf, "perf_analyzer"), (times, "trtexec")])
def test_damage_is_never_a_traceback(tmp_path: Path, import_this: Any, make: Any, format: str) -> None:
    outcomes: set[str] = set()
    made: set[Path] = set()
    for seed in range(120):
        numbers = random.Random(seed)

        def damage(raw: bytes, numbers: random.Random = numbers) -> bytes:
            for _ in range(numbers.randint(0, 3)):
                at = numbers.randrange(len(raw) + 1)
                raw = raw[:at] + numbers.choice(JUNK) + raw[at + numbers.randint(0, 6) :]
            return raw

        folder = tmp_path / str(seed)
        folder.mkdir()
        path = make(folder, damage)
        try:
            result, _ = import_this(path, format=format, framework="onnxrt", precision="fp32", batch_size=8)
        except UserError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
            continue
        outcomes.add("problems" if result.exit_code else "valid")
        made.add(result.folder)
    with open_runs(sorted(made)) as database:
        assert [str(problem) for problem in database.problems] == []
        assert all(row["images_per_s"] is None or row["images_per_s"] > 0 for row in database.query("FROM comparison"))
    assert {"refused", "problems", "valid"} <= outcomes | ({"problems"} if format == "trtexec" else set())
