"""Plans: stored random order, one job for each worker, equal requests recognised."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from common.host.frameworks.registry import Variant
from common.host.plan.jobs import Request, make_plan, planned_keys
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
