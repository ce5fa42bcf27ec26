"""An image without the label is current when the code in it is the checkout's."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.host.paths import ROOT
from common.host.runners.containers import code_inside, images
from common.host.runners.containers.code_inside import is_current


def archive(image: str, change: Callable[[dict[str, bytes]], object] = lambda files: None) -> bytes:
    """What the engine gives of /opt/framewatt of an image built from this checkout, host side included."""
    paths = [*(ROOT / "common").rglob("*.py"), *(ROOT / "images" / image).glob("*.py")]
    files = {str(path.relative_to(ROOT)): path.read_bytes() for path in paths}
    change(files)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as members:
        for name, content in files.items():
            member = tarfile.TarInfo(f"framewatt/{name}")
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("framewatt/common/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        members.addfile(link)
    return out.getvalue()


class Engine:
    """Gives the archive; says which containers were made and removed."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.removed = 0
        self.containers = self

    def create(self, image: str, command: list[str], **options: Any) -> Engine:
        return self

    def get_archive(self, path: str) -> tuple[Any, dict[str, Any]]:
        assert path == "/opt/framewatt"
        return (self.content[i : i + 5000] for i in range(0, len(self.content), 5000)), {}

    def remove(self, **options: Any) -> None:
        self.removed += 1


class Built:
    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.tags = ["framewatt/onnxrt:cpu"]
        self.id = "sha256:0"


def current(content: bytes, labels: dict[str, str] | None = None) -> bool:
    engine = Engine(content)
    found = is_current(engine, Built(labels or {}), "onnxrt")  # type: ignore[arg-type]
    assert engine.removed == (0 if labels else 1)
    return found


def test_the_label_counts_where_there_is_one() -> None:
    assert current(b"", {"framewatt.source": images.source_digest("onnxrt")})
    assert not current(b"", {"framewatt.source": "older"})


@pytest.mark.parametrize(
    ("what", "change", "expected"),
    [
        ("the same", lambda files: None, True),
        ("other host code", lambda files: files.update({"common/host/bench/command.py": b"older"}), True),
        ("an older file", lambda files: files.update({"common/harness/worker.py": b"older"}), False),
        ("an older adapter", lambda files: files.update({"images/onnxrt/adapter.py": b"older"}), False),
        ("a file less", lambda files: files.pop("common/schema.py"), False),
        ("a file more", lambda files: files.update({"common/harness/evil.py": b"more"}), False),
        ("a place elsewhere", lambda files: files.update({"../../etc/x.py": b"more"}), True),
    ],
)
def test_without_it_the_code_counts(what: str, change: Callable[[dict[str, bytes]], object], expected: bool) -> None:
    assert current(archive("onnxrt", change)) is expected


def test_an_archive_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_inside, "_MOST_BYTES", 10_000)
    assert not current(archive("onnxrt"))


def test_the_sidecar_holds_less(tmp_path: Path) -> None:
    def only_the_sidecars(files: dict[str, bytes]) -> None:
        for name in list(files):
            if not name.startswith("common/sidecar/") and name not in ("common/__init__.py", "common/schema.py"):
                del files[name]

    assert is_current(Engine(archive("sidecar", only_the_sidecars)), Built({}), "sidecar")  # type: ignore[arg-type]
