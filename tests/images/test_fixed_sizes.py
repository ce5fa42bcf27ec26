"""PyTorch reads a model that computes sizes while it runs with those of the cell, where that changes no output."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.images.test_converters import REPOSITORY, interpreter

DRIVER = Path(__file__).with_name("fixed_sizes_driver.py")


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    command = [str(interpreter("torch")), str(DRIVER), str(tmp_path_factory.mktemp("sizes"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.framework
def test_sizes_that_are_computed_are_numbers_in_each_cell(facts: dict[str, Any]) -> None:
    for row, size in zip(facts["flattened"], (1, 3, 3, 2), strict=True):
        assert (row["error"], row["fixed"], row["sizes"]) == (0.0, {"x": [size, 3, 4]}, None)
        assert row["plain"] == "OnnxReshape", "the Expand is of constants then"


@pytest.mark.framework
def test_a_branch_by_the_batch_is_the_one_of_the_cell(facts: dict[str, Any]) -> None:
    for row, size in zip(facts["branched"], (1, 3, 3, 2), strict=True):
        assert (row["error"], row["fixed"]) == (0.0, {"x": [size, 3, 4]})


@pytest.mark.framework
def test_a_model_that_computes_no_sizes_is_read_once_for_all(facts: dict[str, Any]) -> None:
    assert [(row["error"], row["fixed"]) for row in facts["plain"]] == [(0.0, None)] * 4


@pytest.mark.framework
def test_sizes_are_not_written_in_where_that_changes_the_output(facts: dict[str, Any]) -> None:
    (row,) = facts["wrong"]
    assert (row["error"], row["fixed"]) == (0.0, None)
    assert row["sizes"] == "as in the file (with those of the cell its outputs are others)"
    assert row["key"] not in [other["key"] for other in facts["flattened"]], "another module: another choice"


@pytest.mark.framework
def test_a_cell_that_cannot_be_run_leaves_nothing_to_those_after_it(facts: dict[str, Any]) -> None:
    assert facts["in_turn"] == [0.0, "unsupported", 0.0, 0.0]


@pytest.mark.framework
@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("error", ["CUDA out of memory", "CUDA error: device-side assert triggered"])
def test_an_error_of_the_device_says_nothing_of_sizes(facts: dict[str, Any], error: str, failing: int) -> None:
    assert facts["fitted"][f"{error} {failing}"] == error


@pytest.mark.framework
@pytest.mark.parametrize(
    ("failing", "fixed", "sizes"),
    [
        (0, False, "as in the file (shapes differ)"),
        (1, True, "of the cell, not compared: as in the file it fails (shapes differ)"),
        (None, True, None),
    ],
)
def test_one_module_at_a_time_is_on_the_device(
    facts: dict[str, Any], failing: int | None, fixed: bool, sizes: str | None
) -> None:
    assert facts["fitted"][f"shapes differ {failing}"] == {
        "most": 1, "placed": True, "sizes": sizes, "fixed": fixed,
    }  # fmt: skip
