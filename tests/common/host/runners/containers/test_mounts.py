"""What containers see of the host, in the engine's notation that takes any path."""

from __future__ import annotations

from common.host.runners.containers.runner import _mounts


def test_a_path_may_hold_colons() -> None:
    found = _mounts(
        {"/a:b/run:ro": {"bind": "/data/run", "mode": "rw"}, "/m": {"bind": "/data/models/m", "mode": "ro"}}
    )
    assert [(one["Source"], one["Target"], one["Type"], one["ReadOnly"]) for one in found] == [
        ("/a:b/run:ro", "/data/run", "bind", False),
        ("/m", "/data/models/m", "bind", True),
    ]
