"""Which way to a GPU an engine offers, what its words mean, whom containers run as: no engine needed."""

from __future__ import annotations

import http.server
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import UserError
from common.host.runners.containers import engine
from common.host.runners.containers.leftovers import (
    OWNER,
    ListedImage,
    listed_images,
    name_of,
    owner_labels,
    owner_lives,
    remove_named,
)
from common.host.runners.containers.limits import Limits, parse_cpu_list
from common.host.runners.containers.ownership import container_user, lent


class Engine:
    def __init__(self, **info: Any) -> None:
        self._info = info

    def info(self) -> dict[str, Any]:
        return self._info


def test_the_driver_is_what_the_engine_offers(tmp_path: Path) -> None:
    devices = [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]
    assert engine.gpu_driver(Engine(Runtimes={"runc": {}, "nvidia": {}}, DiscoveredDevices=devices)) == "nvidia"
    assert engine.gpu_driver(Engine(Runtimes={"runc": {}}, DiscoveredDevices=devices)) == "cdi"
    # Docker 25 to 28.1 tell only where they would look.
    assert_none = Engine(Runtimes={"runc": {}}, CDISpecDirs=[str(tmp_path)])
    with pytest.raises(UserError, match="neither NVIDIA's runtime nor a CDI device"):
        engine.gpu_driver(assert_none)
    (tmp_path / "nvidia.yaml").touch()
    assert engine.gpu_driver(assert_none) == "cdi"
    with pytest.raises(UserError, match="neither"):
        engine.gpu_driver(Engine(Runtimes={"runc": {}}, DiscoveredDevices=[{"Source": "cdi", "ID": "other.com/nic=0"}]))


def test_a_driver_can_be_forced() -> None:
    assert engine.gpu_driver(Engine(), "cdi") == "cdi"
    with pytest.raises(UserError, match="unknown GPU driver 'cuda'"):
        engine.gpu_driver(Engine(), "cuda")


def test_an_owner_lives_until_its_process_ends() -> None:
    labels = owner_labels()
    assert owner_lives(labels)
    pid, _, start = labels[OWNER].partition("-")
    assert int(pid) == os.getpid()
    # The same process id, another start: somebody else's by now.
    assert not owner_lives({OWNER: f"{pid}-{int(start) + 1}"})
    assert not owner_lives({OWNER: "99999999-1"})
    assert not owner_lives({})


def test_never_root_but_in_a_rootless_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert container_user({"SecurityOptions": ["name=seccomp,profile=default"]}) == (1000, 1000)
    assert container_user({"SecurityOptions": ["name=rootless"]}) == (0, 0)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 56)
    assert container_user({}) == (1234, 56)


@pytest.mark.skipif(os.getuid() != 0, reason="only root lends")
def test_a_folder_goes_back_with_its_last_borrower(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with lent((1000, 1000), folder):
        with lent((1000, 1000), folder):
            (folder / "cell").touch()
        assert (folder.stat().st_uid, (folder / "cell").stat().st_uid) == (1000, 0)
    assert {path.stat().st_uid for path in (folder, folder / "cell")} == {0}


def test_cpus_are_parted_between_worker_and_sidecar() -> None:
    have = sorted(os.sched_getaffinity(0))
    assert Limits().sidecar_cpus() is None
    limits = Limits(cpus=str(have[0]))
    assert limits.worker_cpus() == str(have[0])
    assert limits.sidecar_cpus() == (",".join(map(str, have[1:])) or None)
    for bad in ("", "a", "1-", "3-1", "99999"):
        with pytest.raises(UserError):
            parse_cpu_list(bad)


class OnlyTheVersion(http.server.BaseHTTPRequestHandler):
    """An engine that dies after the first question of a client."""

    def do_GET(self) -> None:
        if self.path.endswith("/version"):
            body = b'{"ApiVersion": "1.44"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_an_engine_that_dies_while_it_is_greeted_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OnlyTheVersion) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        with pytest.raises(UserError, match="no Docker engine answers at tcp://127"):
            engine.connect()
        assert not engine.answers()
        server.shutdown()


class Named:
    """A client, and the one container that it has."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.containers, self.labels, self.removed = self, labels, False

    def get(self, name: str) -> Named:
        return self

    def remove(self, **how: Any) -> None:
        self.removed = True


@pytest.mark.parametrize(
    ("owner", "removed"),
    [
        ("this process", True),
        ("one that is gone", True),
        ("one that lives", False),
        ("another machine's", False),
        ("", False),
    ],
)
def test_a_container_of_that_name_goes_unless_another_process_has_it(owner: str, removed: bool) -> None:
    labels = owner_labels()
    if owner == "one that is gone":
        labels[OWNER] = f"{os.getpid()}-1"  # the number was used again
    elif owner == "one that lives":
        start = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]
        labels[OWNER] = f"{os.getppid()}-{start}"
    elif owner == "another machine's":
        labels |= {OWNER: f"{os.getpid()}-1", f"{engine.LABEL}.host": "elsewhere"}
    elif not owner:
        labels = {}  # somebody else's
    named = Named(labels)
    remove_named(named, "x")  # type: ignore[arg-type]
    assert named.removed == removed


def test_images_are_listed_without_asking_for_each_again() -> None:
    """One that is removed between the list and the question for it once ended `invoke clean`."""
    requested: list[dict[str, Any]] = []

    def images(**how: Any) -> list[dict[str, Any]]:
        requested.append(how)
        return [
            {"Id": "sha256:a", "RepoTags": ["framewatt/x:cpu", "framewatt/x:local"], "Size": 10},
            {"Id": "sha256:b", "RepoTags": None, "Size": 20},
            {"Id": "sha256:c", "RepoTags": ["<none>:<none>"], "Size": 30},
        ]

    client = SimpleNamespace(api=SimpleNamespace(images=images))
    assert listed_images(client, label=engine.LABEL) == [  # type: ignore[arg-type]
        ListedImage("sha256:a", ("framewatt/x:cpu", "framewatt/x:local"), 10),
        ListedImage("sha256:b", (), 20),
        ListedImage("sha256:c", (), 30),
    ]
    assert requested == [{"name": None, "filters": {"label": engine.LABEL}}]


def test_runs_of_one_second_have_containers_of_their_own(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "20260101-000000_cpu", tmp_path / "b" / "20260101-000000_cpu"
    assert name_of(one, "sidecar-cpu") == name_of(one, "sidecar-cpu") != name_of(other, "sidecar-cpu")
    assert name_of(one, "sidecar-cpu").startswith("framewatt-20260101-000000_cpu-")
