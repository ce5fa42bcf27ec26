"""Which hosts are fit, which are unlike the others, and that each is one line with the host's name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from common.host.fleet.head.host_checks import Finding, Here, choose_runner, judge
from common.host.fleet.worker.facts import Facts

GPU = {"device": "gpu0", "name": "NVIDIA A2", "uuid": "GPU-1", "mig_mode": False, "compute_capability": "8.6"}
IMAGE = {"id": "sha256:" + "a" * 64, "source": "s1", "current": True, "base": "base:1", "base_id": "sha256:b"}
ENVIRONMENT = {"python": "3.11.9", "packages": {"onnxruntime": "1.31.1", "numpy": "2.4.6", "pip": "24.0"}}
GOOD = Facts(
    hostname="x", checkout="/opt/framewatt", revision="761b9975c58a", code="c0de", gpus=[GPU], engine_version="28.2",
    gpu_driver="nvidia", images={"onnxrt": IMAGE, "sidecar": IMAGE}, environments={"onnxrt": ENVIRONMENT},
    model_hash="0123456789ab", disk_free_bytes=2**34, data="/data",
)  # fmt: skip
HERE = Here("c0de", "761b9975c58a")


def lines(runner: str = "docker", device: str = "gpu", here: Here = HERE, **odd: Any) -> list[Finding]:
    """Findings when one of three hosts, `odd`, has these facts instead."""
    hosts = {"east": GOOD, "odd": replace(GOOD, **odd), "west": GOOD}
    return judge(hosts, here, device=device, runner=runner)


def test_equal_hosts_have_no_findings() -> None:
    for runner in ("docker", "local"):
        assert lines(runner) == []


@pytest.mark.parametrize(
    ("runner", "odd", "words"),
    [
        ("docker", {"code": "other", "revision": "3f2a91c0000+changes"},
         "other code than on this machine (3f2a91c+changes other in /opt/framewatt; here 761b997 c0de)"),
        ("docker", {"model_hash": "ffffffffffff"}, "another model (ffffffffffff; on east 0123456789ab)"),
        ("docker", {"images": {"onnxrt": {**IMAGE, "id": "sha256:c", "base_id": "sha256:d"}, "sidecar": IMAGE}},
         "another image onnxrt (c, on base:1; others have aaaaaaaaaaaa)"),
        ("local", {"environments": {"onnxrt": {**ENVIRONMENT, "packages": {"numpy": "2.4.6", "onnxruntime": "1.30.0"}}}},
         "another environment of onnxrt: onnxruntime 1.30.0, others have 1.31.1"),
        ("local", {"environments": {"onnxrt": {**ENVIRONMENT, "python": "3.12.1"}}},
         "another environment of onnxrt: Python 3.12.1, others have 3.11.9"),
    ],
)  # fmt: skip
def test_the_host_that_is_unlike_the_others_is_named(runner: str, odd: dict[str, Any], words: str) -> None:
    (finding,) = lines(runner, **odd)
    assert (finding.host, finding.state, finding.odd) == ("odd", "fail", True)
    assert words in finding.text


@pytest.mark.parametrize(
    ("runner", "odd", "words"),
    [
        ("docker", {"gpus": [], "gpus_why": "NVML: driver not loaded"}, "no NVIDIA GPU can be used there (NVML: driver not loaded)"),
        ("docker", {"gpus": [{**GPU, "mig_mode": True}]}, "gpu0 (NVIDIA A2) is in MIG mode"),
        ("docker", {"gpus": [GPU, {**GPU, "name": "Tesla V100"}]}, "its GPUs differ (NVIDIA A2, Tesla V100)"),
        ("docker", {"engine_why": "no Docker engine answers at its default socket: start it"}, "no Docker engine answers"),
        ("docker", {"gpu_driver_why": "neither NVIDIA's runtime nor a CDI device"}, "neither NVIDIA's runtime"),
        ("docker", {"images": {"onnxrt": {"why": "image framewatt/onnxrt:gpu is not built"}, "sidecar": IMAGE}}, "is not built"),
        ("docker", {"images": {"onnxrt": {**IMAGE, "current": False}, "sidecar": IMAGE}}, "older code than the checkout"),
        ("local", {"environments": {"onnxrt": {"why": "images/onnxrt has no requirements.txt"}}}, "no requirements.txt"),
        ("local", {"lost_priority": 15}, "15 steps nicer than itself there"),
        ("docker", {"disk_free_bytes": 2**20}, "/data has 1 MiB left, a run needs 1,024"),
        ("docker", {"why": "no checkout of framewatt at /opt"}, "no checkout of framewatt at /opt"),
    ],
)  # fmt: skip
def test_a_host_that_is_not_fit_is_one_line(runner: str, odd: dict[str, Any], words: str) -> None:
    (finding,) = lines(runner, **odd)
    assert (finding.host, finding.state, finding.odd) == ("odd", "fail", False)
    assert words in finding.text
    assert "\n" not in str(finding)


@pytest.mark.parametrize(
    ("runner", "odd", "words"),
    [
        ("local", {"environments": {"onnxrt": {"why": "the environment of onnxrt is not there yet", "will_be_made": True}}},
         "the environment of onnxrt is not there yet: the first run makes it"),
        ("docker", {"model_hash": "", "model_why": "not exported yet"}, "the model is not exported yet: the first run makes it"),
        ("docker", {"images": {"onnxrt": {**IMAGE, "id": "sha256:c"}, "sidecar": IMAGE}},
         "image onnxrt was built apart (c) from the same recipe and base"),
        ("local", {"own_variables": {"FRAMEWATT_TRT_PROFILES": "each"}}, "its own FRAMEWATT_TRT_PROFILES=each does not count"),
    ],
)  # fmt: skip
def test_what_mends_itself_is_a_note(runner: str, odd: dict[str, Any], words: str) -> None:
    (finding,) = lines(runner, **odd)
    assert (finding.host, finding.state) == ("odd", "note")
    assert words in finding.text


def test_what_does_not_matter_to_the_runner_is_not_asked_of_it() -> None:
    assert lines("docker", lost_priority=15, environments={}) == []
    assert lines("local", engine_why="no engine", images={}) == []
    assert lines("local", device="cpu", gpus=[], gpus_why="no driver") == []


def test_the_model_of_this_machine_decides_where_it_has_one() -> None:
    found = lines(here=Here("c0de", "", "ffffffffffff"), model_hash="ffffffffffff")
    assert [finding.host for finding in found] == ["east", "west"]
    assert "here ffffffffffff" in found[0].text


def test_wall_clocks_that_disagree_are_reported_and_do_no_harm() -> None:
    found = judge(
        {"east": GOOD, "west": GOOD}, HERE, device="gpu", runner="docker", clocks={"east": -0.01, "west": -3600.0}
    )
    (finding,) = found
    assert (finding.host, finding.state) == ("west", "note")
    assert "3,600 s behind this machine's" in finding.text
    assert "wall time is never used to join" in finding.text


def test_the_runner_is_the_one_that_every_host_would_choose() -> None:
    without = replace(GOOD, engine_why="no Docker engine answers")
    assert choose_runner("", "", {"east": GOOD, "west": GOOD}) == ("docker", [])
    assert choose_runner("", "", {"east": without, "west": without}) == ("local", [])
    assert choose_runner("docker", "", {"east": GOOD, "west": without}) == ("docker", [])
    assert choose_runner("", "/usr/bin/python3", {"east": GOOD, "west": without}) == ("local", [])
    runner, (finding,) = choose_runner("", "", {"east": GOOD, "west": without})
    assert (runner, finding.host, finding.odd) == ("docker", "west", True)
    assert "--runner local" in finding.text
