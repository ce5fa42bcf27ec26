"""--until-file: the sidecar of a sweep ends when a file says that everything else is done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_it_ends_when_the_file_exists(tmp_path: Path) -> None:
    domain = tmp_path / "powercap" / "intel-rapl:0"
    domain.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("energy_uj", "5"), ("max_energy_range_uj", "262143328850")):
        (domain / name).write_text(f"{text}\n")
    end = tmp_path / "end"
    command = [sys.executable, "-m", "common.sidecar", "--out", str(tmp_path / "power.csv"), "--gpus", "none"]
    command += ["--powercap", str(tmp_path / "powercap"), "--until-file", str(end)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "ready"
        assert process.poll() is None
        end.touch()
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(output)["ended_by"] == "end exists"
