"""Addresses at which there is no Ray: one line each, soon, without a word of Ray's own."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.fleet.transport import connection
from common.host.fleet.transport.connection import (
    Transport,
    need_ray,
    parse_address,
    probe,
    raylet_runs_here,
    with_advice,
)
from common.host.paths import DataFolder


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "which cluster? give --address HOST:PORT"),
        ("ray://head:10001", "not ray://head:10001: let this machine join the cluster"),
        ("head", "'head' is not HOST:PORT"),
        ("head:", "is not HOST:PORT"),
        (":6379", "is not HOST:PORT"),
        ("head:99999", "is not HOST:PORT"),
        ("head:ray", "is not HOST:PORT"),
    ],
)
def test_what_is_no_address_is_said(address: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError) as caught:
        parse_address(address)
    assert words in str(caught.value)


def test_addresses() -> None:
    assert parse_address("10.0.0.1:6379") == ("10.0.0.1", 6379)
    assert parse_address("[fd00::1]:6379") == ("fd00::1", 6379)


def test_rays_own_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    assert parse_address("") == ("10.0.0.7", 6379)


def test_nobody_at_the_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(UserError, match=rf"there is no Ray at 127.0.0.1:{port} \(connection refused\)"):
            probe("127.0.0.1", port)
    with pytest.raises(UserError, match=r"there is no Ray at no-such-host\.invalid:6379"):
        probe("no-such-host.invalid", 6379)


def test_somebody_else_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would try for two minutes."""
    monkeypatch.setenv("FRAMEWATT_FLEET_CONNECT_SECONDS", "3")
    monkeypatch.setattr(connection, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(connection, "raylet_runs_here", lambda: True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            UserError, match=f"somebody listens at 127.0.0.1:{port}, but it does not behave like Ray's head"
        ):
            Transport(f"127.0.0.1:{port}", DataFolder(tmp_path))


def test_a_machine_that_is_no_part_of_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "raylet_runs_here", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"this machine has not joined the cluster at 127.0.0.1:{port}: ray start"):
            Transport(f"127.0.0.1:{port}", DataFolder(tmp_path))


def test_a_raylet_is_known_by_its_program(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "cmdline").write_bytes(b"/usr/bin/python\0raylet\0")
    assert not raylet_runs_here(tmp_path)
    (tmp_path / "12" / "cmdline").write_bytes(b"/opt/ray/core/src/ray/raylet/raylet\0--node_ip\0")
    assert raylet_runs_here(tmp_path)


def test_another_version_of_ray_comes_with_what_to_install() -> None:
    output = (
        "Version mismatch: The cluster was started with: Ray: 2.49.2 Python: 3.12.1 This process on node 10.0.0.1 was "
        "started with: Ray: 2.60.0 Python: 3.11.7"
    )
    assert with_advice(output) == f"{output}; use Python 3.12.1 here, and .venv/bin/pip install ray==2.49.2"
    assert with_advice("something else") == "something else"


def test_without_ray_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Ray is not installed in this environment; .*pip install '\.\[fleet\]'"):
        need_ray()
