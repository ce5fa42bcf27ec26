"""`invoke test` runs every test once, in whichever of its streams, and fails where any of them fails."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import UserError
from common.host import testing

FILES = (
    "tests/images/test_a.py",
    "tests/common/export/test_b.py",
    "tests/analysis/test_c.py",
    "tests/common/test_d.py",
    "tests/engine/test_e.py",
    "tests/common/host/faults/test_f.py",
    "tests/common/host/fleet/test_g.py",
)
STREAMS = (testing.COMPUTING, testing.ENGINE, testing.FAULTS, testing.FLEET)
#: what pyproject.toml says of pytest, as far as it matters here
SETTINGS = """
[tool.pytest.ini_options]
testpaths = ["tests"]
addopts = "-q --import-mode=importlib -m 'not every_image'"
markers = ["every_image", "gpu", "framework", "engine"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of seven files with two tests each, all of which pass and leave a line in `ran`."""
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = f"    with open({str(tmp_path / 'ran')!r}, 'a') as file:\n        print(%r, file=file)\n"
        path.write_text(
            "import pytest\n\n"
            f"def test_always():\n{body % path.stem}\n"
            f"@pytest.mark.every_image\ndef test_seldom():\n{body % (path.stem + ' seldom')}"
        )
    monkeypatch.setattr(testing, "ROOT", tmp_path)
    monkeypatch.setattr(testing, "ENGINE_PROCESSES", 1)
    # only what matters here: other plugins take a second to load, in each of pytest's processes
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin")
    return tmp_path


def ran(project: Path) -> list[str]:
    return sorted((project / "ran").read_text().splitlines())


def console() -> Console:
    return Console(file=io.StringIO())


def test_every_test_runs_once(project: Path) -> None:
    assert testing._run_all_tests(console(), [], STREAMS) == 0
    assert ran(project) == [f"test_{x}" for x in "abcdefg"]


def test_without_an_engine_its_stream_is_not_run(project: Path) -> None:
    assert testing._run_all_tests(console(), [], (testing.COMPUTING, testing.FAULTS, testing.FLEET)) == 0
    assert ran(project) == [f"test_{x}" for x in "abcdfg"]


@pytest.mark.parametrize("broken", [FILES[1], FILES[3], FILES[4], FILES[6]])
def test_a_failure_in_any_stream_fails_and_is_shown(
    project: Path, broken: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with (project / broken).open("a") as file:
        file.write("\ndef test_broken():\n    assert 'one' == 'other'\n")
    # pyproject.toml leaves every_image out, unless it is asked for
    assert testing._run_all_tests(console(), ["-m", ""], STREAMS) == 1
    assert ran(project) == sorted(f"test_{x}{seldom}" for x in "abcdefg" for seldom in ("", " seldom"))
    assert f"FAILED {broken}::test_broken" in capfd.readouterr().out


def test_core_and_every_image_exclude_each_other() -> None:
    with pytest.raises(UserError, match="--core leaves out all tests on an engine, --engine-all adds some"):
        testing.run_tests(console(), core=True, only="", engine_all=True)


def test_each_stream_says_its_cpu_time_and_how_long_it_took(project: Path) -> None:
    with (project / FILES[5]).open("a") as file:  # one that only waits, and one that works, in other streams
        file.write("\ndef test_waits():\n    import time\n    time.sleep(1)\n")
    with (project / FILES[6]).open("a") as file:
        file.write(
            "\ndef test_works():\n    import time\n    while time.process_time() < 1.5:\n        sum(range(10**5))\n"
        )
    shown = console()
    assert testing._run_all_tests(shown, [], STREAMS) == 0
    assert isinstance(shown.file, io.StringIO)
    found = re.findall(r"^(pytest.*): (\d+) s of CPU time in (\d+) s$", shown.file.getvalue(), re.MULTILINE)
    assert [name for name, _, _ in found] == ["pytest", *(f"pytest {' '.join(folders)}" for folders in STREAMS)]
    times = {name: (int(cpu), int(wall)) for name, cpu, wall in found}
    assert times["pytest tests/common/host/faults"][1] >= 1
    assert times["pytest tests/common/host/fleet"][0] >= 1


@pytest.mark.parametrize(("module", "fails"), [("json.tool", True), ("this", False)])
def test_a_stream_that_has_failed_is_seen_before_it_is_heard(project: Path, module: str, fails: bool) -> None:
    words = [module, "no-such-file"] if fails else [module]
    with testing._stream(console(), module, words) as stream:
        os.waitid(os.P_PID, stream.process.pid, os.WEXITED | os.WNOWAIT)
        assert stream.has_failed() is fails
        assert bool(stream.finish(console())) is fails


def test_a_stream_that_still_runs_has_not_failed(project: Path) -> None:
    (project / "waits.py").write_text("import time\ntime.sleep(600)\n")
    with testing._stream(console(), "waits", ["waits"]) as stream:
        assert not stream.has_failed()
