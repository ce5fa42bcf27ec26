"""What a notebook needs is added to an environment on demand, without a change to what is there."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.frameworks import environments

EXTRA = "requirements-notebook.txt"


def wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    """A package without content, as pip takes it."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image whose framework holds an old version of a package that the notebook wants too."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "framework", "1.0", "shared<2")
    wheel(wheels, "shared", "1.0")
    wheel(wheels, "shared", "2.0")
    wheel(wheels, "kernel", "7.0", "shared")
    wheel(wheels, "kernel", "8.0", "shared>=2")
    image = tmp_path / "images" / "toy"
    image.mkdir(parents=True)
    (image / "requirements-cpu.txt").write_text("framework==1.0\n")
    (tmp_path / EXTRA).write_text("kernel\n")
    monkeypatch.setattr(environments, "IMAGES", tmp_path / "images")
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "envs")
    monkeypatch.setattr(environments, "NOTEBOOK", tmp_path / EXTRA)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def versions() -> dict[str, str]:
    python = environments.interpreter("toy", "cpu")
    done = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True)
    found = dict(line.split("==") for line in done.stdout.splitlines())
    return {name: found[name] for name in ("framework", "shared", "kernel") if name in found}


def test_the_notebook_is_added_on_demand_and_replaces_nothing(workplace: Path) -> None:
    environments.ensure("toy", "cpu")
    stamp = environments.folder_of("toy", "cpu") / environments.STAMP
    before = (stamp.read_bytes(), stamp.stat().st_mtime_ns)
    assert versions() == {"framework": "1.0", "shared": "1.0"}
    assert environments.is_ready("toy", "cpu") and not environments.is_ready("toy", "cpu", notebook=True)

    messages: list[str] = []
    environments.ensure("toy", "cpu", messages.append, notebook=True)
    assert messages
    # The newer kernel wants a package that would break the framework.
    assert versions() == {"framework": "1.0", "shared": "1.0", "kernel": "7.0"}
    assert (stamp.read_bytes(), stamp.stat().st_mtime_ns) == before
    assert environments.is_ready("toy", "cpu") and environments.is_ready("toy", "cpu", notebook=True)

    messages.clear()
    environments.ensure("toy", "cpu", messages.append, notebook=True)
    environments.ensure("toy", "cpu", messages.append)
    assert messages == [], "both are there"


def test_a_notebook_that_does_not_fit_is_one_line_and_leaves_the_environment_as_it_was(workplace: Path) -> None:
    environments.ensure("toy", "cpu")
    (workplace / EXTRA).write_text("kernel==8.0\n")
    with pytest.raises(
        UserError, match=rf"^{EXTRA} in the environment of toy could not be installed: these do not go together: "
    ):
        environments.ensure("toy", "cpu", notebook=True)
    assert versions() == {"framework": "1.0", "shared": "1.0"}
    assert environments.is_ready("toy", "cpu") and not environments.is_ready("toy", "cpu", notebook=True)


def test_an_environment_that_is_made_anew_has_no_notebook(workplace: Path) -> None:
    environments.ensure("toy", "cpu", notebook=True)
    (workplace / "images" / "toy" / "requirements-cpu.txt").write_text("shared==1.0\n")
    assert not environments.is_ready("toy", "cpu", notebook=True)
    environments.ensure("toy", "cpu")
    assert versions() == {"shared": "1.0"}
    assert not environments.is_ready("toy", "cpu", notebook=True)
