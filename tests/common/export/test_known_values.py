"""Branches that depend on sizes alone are taken before an importer sees them; what depends on values stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.common.export.conftest import run_python


@pytest.mark.framework
def test_known_branches_are_taken_and_the_graph_computes_the_same(onnxrt_python: Path) -> None:
    done = run_python(onnxrt_python, Path(__file__).with_name("run_known_values.py"))
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["same"]
    assert facts["operators"].count("If") == 1
    assert not {"Shape", "Gather", "Equal"} & set(facts["operators"])
