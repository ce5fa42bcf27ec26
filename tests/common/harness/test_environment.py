"""What a worker's environment has: the harness's own variables, and of the caller's those that travel with the job."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from common.harness.environment import worker_environment
from tests.common.harness.conftest import Bench

LEVEL = {"FRAMEWATT_TOY_LEVEL": "3"}


def test_variables_of_the_job_reach_a_worker_whose_supervisor_has_none_and_its_rows_say_them(bench: Bench) -> None:
    """As in a container, under compose and on a host of a fleet: nothing of the caller's is there but the job."""
    bare = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    for environment, said in ((LEVEL, "3"), ({}, None)):
        job = bench.job("good", (1,) if environment else (2,), environment=environment)
        out, _ = bench.start(job, env=bare).communicate(timeout=60)
        assert '"job_finish"' in out
        settings = json.loads(bench.cell(job.cells[0])["settings"])
        assert settings.get("FRAMEWATT_TOY_LEVEL") == said
        assert settings.get("level") == said, "what the adapter itself found in its environment"


def test_a_local_worker_has_all_of_the_callers_variables_as_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMEWATT_TOY_LEVEL", "3")
    monkeypatch.setenv("SOMETHING_ELSE", "x")
    job = bench.job()
    assert worker_environment(job) == worker_environment(replace(job, environment=LEVEL))
    assert worker_environment(job)["SOMETHING_ELSE"] == "x"


def test_what_the_harness_sets_itself_no_job_sets(bench: Bench) -> None:
    job = bench.job()
    names = ("FRAMEWATT_CACHE_DIR", "FRAMEWATT_BATCH_SIZES", "PYTHONPATH", "OMP_NUM_THREADS")
    odd = worker_environment(replace(job, environment=dict.fromkeys(names, "odd")))
    assert "odd" not in {odd["FRAMEWATT_CACHE_DIR"], odd["FRAMEWATT_BATCH_SIZES"], odd["OMP_NUM_THREADS"]}
    assert odd["PYTHONPATH"].split(os.pathsep)[0] == worker_environment(job)["PYTHONPATH"].split(os.pathsep)[0]
