"""Plans: stored random order, one job for each worker, equal requests recognised."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from common.errors import UserError
from common.host.frameworks.registry import Variant
from common.host.plan.jobs import cost, make_plan, planned_keys, size_of
from common.host.plan.options import Options
from common.host.plan.request import Request, settings_of, workers_of
from common.job import Settings


def variant(name: str) -> Variant:
    return Variant(name, "image", name, None, ("fp32",), ("fp32", "fp16"), None, None, "")


REQUEST = Request(
    variants=(variant("a"), variant("b"), variant("c")),
    precisions=("fp32", "fp16"),
    batch_sizes=(1, 8, 32),
    io_modes=("host", "device"),
    model="M",
    model_hash="0" * 12,
    devices=("gpu0", "gpu1"),
    device_uuids=("GPU-a", "GPU-b"),
    replicates=2,
    runner="local",
    settings=Settings(),
)


def test_every_cell_once() -> None:
    keys = planned_keys(make_plan(REQUEST, seed=1))
    assert len(keys) == len(set(keys)) == 3 * 2 * 3 * 2 * 2 * 2


def test_the_seed_decides_the_order() -> None:
    one, again, other = (planned_keys(make_plan(REQUEST, seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert sorted(one) == sorted(other)


def test_cells_are_shuffled_and_replicates_stay_whole() -> None:
    jobs = make_plan(REQUEST, seed=3)
    assert [job.replicate for job in jobs] == sorted(job.replicate for job in jobs)
    assert any([cell.batch_size for cell in job.cells] != sorted(cell.batch_size for cell in job.cells) for job in jobs)
    assert [job.variant.name for job in jobs] != sorted(job.variant.name for job in jobs)


def test_a_job_is_one_variant_precision_replicate_and_device() -> None:
    jobs = make_plan(REQUEST, seed=4)
    assert len({job.name for job in jobs}) == len(jobs) == 3 * 2 * 2 * 2
    for job in jobs:
        assert {(c.variant, c.precision, c.replicate, c.device) for c in job.cells} == {
            (job.variant.name, job.precision, job.replicate, job.device)
        }


def test_front_ends_are_workers_of_their_own_in_one_random_order() -> None:
    jobs = make_plan(replace(REQUEST, frontends=("script", "notebook")), seed=5)
    assert len({job.name for job in jobs}) == len(jobs) == 2 * 3 * 2 * 2 * 2
    for job in jobs:
        assert {cell.frontend for cell in job.cells} == {job.frontend}
    first = [job.frontend for job in jobs if job.replicate == 0]
    assert sorted(first) == ["notebook"] * 12 + ["script"] * 12
    changes = sum(one != other for one, other in pairwise(first))
    assert 6 <= changes <= 18, "front ends take turns at random, not one after the other"
    keys = planned_keys(jobs)
    assert sum("_notebook_" in key for key in keys) == sum("_script_" in key for key in keys) == len(keys) / 2


def test_fingerprint_tells_requests_apart() -> None:
    assert REQUEST.fingerprint() == replace(REQUEST).fingerprint()
    changed = [
        replace(REQUEST, batch_sizes=(1, 8)),
        replace(REQUEST, settings=Settings(min_seconds=6.0)),
        replace(REQUEST, device_uuids=("GPU-a", "GPU-c")),
        replace(REQUEST, python="/opt/python"),
        replace(REQUEST, frontends=("notebook",)),
        replace(REQUEST, frontends=("script", "notebook")),
    ]
    assert len({REQUEST.fingerprint(), *(request.fingerprint() for request in changed)}) == 7


def test_several_fresh_workers_share_a_window() -> None:
    assert (
        workers_of(Options()) == 3 and workers_of(Options(quick=True)) == 1 and workers_of(Options(replicates=5)) == 5
    )
    gpu, cpu, alone = (
        settings_of(Options(), "gpu"),
        settings_of(Options(), "cpu"),
        settings_of(Options(replicates=1), "gpu"),
    )
    assert (alone.min_seconds, alone.max_seconds, alone.min_images) == (5, 30, 512)
    # thirty steps of the energy counter on a GPU, whatever the number of workers
    assert (gpu.min_seconds, gpu.max_seconds, gpu.min_images) == (3, 10, 171)
    assert (cpu.min_seconds, cpu.max_seconds) == (2, 10)
    assert settings_of(Options(replicates=10), "gpu").min_seconds == 3
    given = settings_of(Options(min_seconds=7, max_seconds=9, images=64), "gpu")
    assert (given.min_seconds, given.max_seconds, given.min_images) == (7, 9, 64)
    assert settings_of(Options(quick=True), "gpu").min_seconds == 1
    # what is typed counts in a first look too
    assert [settings_of(Options(quick=True, images=n), "gpu").min_images for n in (0, 64)] == [1, 64]


def test_the_plan_says_what_it_costs() -> None:
    text = cost(replace(REQUEST, replicates=3, settings=Settings(min_seconds=3, max_seconds=10, idle_seconds=1)))
    # 36 cells on each device, three workers, 3 s and two idle spells of 1 s
    assert text.startswith("36 cells in 6 workers, 3 times: windows of 3 to 10 s, at least 9 min on each device")
    assert "no verdicts" in cost(replace(REQUEST, replicates=1))


def test_versions_are_measured_interleaved_and_stand_in_the_keys() -> None:
    request = replace(REQUEST, versions={"a": ("1.30.0", "1.31.1+cpu", "")}, devices=("cpu",), replicates=3)
    jobs = make_plan(request, seed=4)
    assert len({job.name for job in jobs}) == len(jobs) == 3 * 2 * (3 + 1 + 1)
    assert all(job.name.replace("_", "").replace("-", "").replace(".", "").isalnum() for job in jobs), "container names"
    for replicate in range(3):
        ran = [job.version for job in jobs if job.replicate == replicate and job.variant.name == "a"]
        assert sorted(ran) == ["", "", "1.30.0", "1.30.0", "1.31.1+cpu", "1.31.1+cpu"]
    keys = planned_keys(jobs)
    assert "M_a@1.31.1+cpu_fp32_b0001_host_single-stream_script_cpu_r0" in keys
    assert "M_a_fp32_b0001_host_single-stream_script_cpu_r0" in keys
    assert len(set(keys)) == len(keys)
    assert cost(request).startswith("60 cells in 10 workers, 3 times")


def test_levels_are_workers_of_their_own_and_a_variant_takes_those_that_it_has() -> None:
    some, other = (replace(REQUEST.variants[0], name=name) for name in ("some", "other"))
    some = replace(some, tunings=("stock", "tuned", "rewritten"))
    jobs = make_plan(replace(REQUEST, variants=(some, other), tunings=("stock", "tuned")), seed=1)
    assert {(job.variant.name, job.tuning) for job in jobs} == {
        ("some", "stock"),
        ("some", "tuned"),
        ("other", "tuned"),
    }
    assert all({cell.tuning for cell in job.cells} == {job.tuning} for job in jobs)
    assert len({job.name for job in jobs}) == len(jobs)
    workers = {cell.worker for job in jobs for cell in job.cells}
    assert workers == {job.name for job in jobs}, "by which the host knows the logs of a job"


def test_cells_of_one_shape_follow_each_other() -> None:
    request = replace(REQUEST, batch_sizes=(1, 2, 4, 8), io_modes=("host", "device"), inputs=("float32", "uint8"))
    orders = set()
    for seed in range(8):
        for job in make_plan(request, seed):
            shapes = [(cell.batch_size, cell.input) for cell in job.cells]
            assert sum(one != following for one, following in pairwise(shapes)) == 7, shapes
            orders.add(tuple(shapes))
    assert len(orders) > 1


def test_only_the_cells_that_are_meant_are_planned_and_counted():
    every = planned_keys(make_plan(REQUEST, seed=1))
    first = next(key for key in every if key.endswith("_gpu1_r0"))
    meant = replace(REQUEST, only=(first, every[-1]))
    assert sorted(planned_keys(make_plan(meant, seed=2))) == sorted({first, every[-1]})
    assert size_of(replace(REQUEST, only=(first,)))[:2] == (1, 1)
    assert meant.fingerprint() != REQUEST.fingerprint()


def test_a_plan_without_any_of_the_cells_that_are_meant_is_refused():
    """Its run once ended with "no cell was measured to its end"."""
    with pytest.raises(
        UserError, match=r"none of the cells that are meant \(renamed, \.\.\.\).*--model or --framework"
    ):
        make_plan(replace(REQUEST, only=("renamed",)), seed=1)
