"""CPUs that others kept busy in a window."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.harness import other_load
from common.harness.other_load import Reading, between, disturbed, read


def test_the_worker_is_taken_off_and_the_rest_is_others() -> None:
    assert between(Reading(10.0, 100.0, 5.0), Reading(14.0, 110.0, 12.0)) == {"cpus_own": 1.75, "cpus_other": 0.75}


def test_counters_that_lag_give_no_negative_load() -> None:
    assert between(Reading(0.0, 0.0, 0.0), Reading(1.0, 1.99, 2.0)) == {"cpus_own": 2.0, "cpus_other": 0.0}


@pytest.mark.parametrize(
    ("own", "other", "disturbs"), [(1.0, 0.9, True), (1.0, 0.75, False), (1.9, 0.2, False), (0.0, 1.9, True)]
)
def test_others_disturb_where_no_cpu_stays_free(own: float, other: float, disturbs: bool) -> None:
    assert disturbed(own, other, 2) is disturbs


def test_the_time_of_another_process_may_be_given() -> None:
    reading = read(own_s=7.5)
    assert reading is None or reading.own_s == 7.5


def test_idle_and_iowait_are_not_load_and_a_hypervisors_share_is(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 9000 800 4 5 60 7 0\ncpu0 1 1 1 1\n")
    reading = read(stat)
    assert reading is not None
    assert reading.busy_s == pytest.approx(219 / os.sysconf("SC_CLK_TCK"))


@pytest.mark.parametrize("text", [None, "", "cpu 1 2\n", "cpu a b c d e f g h\n", "intr 1 2 3 4 5 6 7 8 9\n"])
def test_where_the_kernel_does_not_tell_nothing_is_said(tmp_path: Path, text: str | None) -> None:
    stat = tmp_path / "stat"
    if text is not None:
        stat.write_text(text)
    assert read(stat) is None
    assert between(read(stat), read(other_load.STAT)) == {}
