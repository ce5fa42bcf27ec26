"""Readings come from a sidecar's folder into the run, whole lines that are readings, once each; nothing else does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from common import schema
from common.host.runners import power_intake
from common.host.runners.power_intake import PowerIntake, recover_power

HEADER = schema.to_csv("power.csv", [])


def reading(t_ns: int, **columns: Any) -> str:
    row = {"t_ns": t_ns, "domain": "gpu", "device": 0, "uuid": "GPU-1", "power_mw": 120.5, "power_source": "instant"}
    return schema.to_csv("power.csv", [{**row, **columns}], with_header=False)


class Place:
    def __init__(self, run: Path) -> None:
        self.run = run
        self.folder = run / power_intake.FOLDER / "power"
        self.folder.mkdir(parents=True)
        self.file = self.folder / "power.csv"
        self.target = run / "power.csv"
        self.intake = PowerIntake(self.folder, self.target)

    def write(self, text: str) -> None:
        with self.file.open("a") as file:
            file.write(text)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_whole_lines_are_taken_once_and_in_order(place: Place) -> None:
    place.intake.take()
    assert not place.target.exists()
    place.write(HEADER)
    place.intake.take()
    assert not place.target.exists(), "a sidecar that never read anything leaves no file"
    lines = [reading(t, energy_mj=1e15, temperature_c=None) for t in range(1, 6)]
    place.write(lines[0] + lines[1] + lines[2][:9])
    place.intake.take()
    assert place.target.read_text() == HEADER + lines[0] + lines[1]
    place.write(lines[2][9:] + lines[3])
    place.intake.take()
    place.intake.take()
    place.write(lines[4])
    place.intake.take()
    place.intake.close()
    assert place.target.read_text() == HEADER + "".join(lines)
    assert (place.intake.taken, place.intake.refused) == (5, "")
    assert not place.target.samefile(place.file)


@pytest.mark.parametrize(
    "line",
    [
        "words", "", "1,gpu", '1,"gpu\n",0,GPU-1,1,instant,,,,,,,,,', reading(1).replace("120.5", "nan").strip(),
        reading(1).replace("gpu", "=cmd|'x'!A1").replace(",0,", ",zero,").strip(), reading(1).replace("gpu", "g\x1bu").strip(),
        reading(1).replace("1,", ",", 1).strip(), reading(1).replace("GPU-1", "G" * 300).strip(), "9" * 30 + reading(1)[1:].strip(),
    ],
)  # fmt: skip
def test_a_line_that_is_no_reading_is_left_out(place: Place, line: str) -> None:
    place.write(HEADER + reading(1) + line + "\n" + reading(2))
    place.intake.take()
    place.intake.close()
    assert place.target.read_text() == HEADER + reading(1) + reading(2)


def test_a_link_a_fifo_and_a_file_without_end(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text(HEADER + reading(7))
    place.file.symlink_to(secret)
    place.intake.take()
    assert "power.csv is a link" in place.intake.refused
    place.file.unlink()
    os.mkfifo(place.file)
    other = PowerIntake(place.folder, place.target)
    other.take()
    assert "power.csv is a FIFO" in other.refused
    place.file.unlink()
    place.write("x" * 10_000)
    other = PowerIntake(place.folder, place.target)
    other.take()
    assert "a line of more than 4096 bytes" in other.refused
    place.file.unlink()
    monkeypatch.setattr(power_intake, "_BYTES_PER_SECOND", 0)
    monkeypatch.setattr(power_intake, "_BYTES_AT_ONCE", 2000)
    place.write(HEADER + "".join(map(reading, range(1, 200))))
    other = PowerIntake(place.folder, place.target)
    other.take()
    assert "grows faster than a sidecar's readings can" in other.refused
    assert len(place.target.read_bytes()) < 2500
    elsewhere = tmp_path / "elsewhere"
    place.folder.rename(elsewhere)
    place.folder.symlink_to(elsewhere)
    other = PowerIntake(place.folder, place.target)
    other.take()
    assert "power is a link" in other.refused


def test_a_file_that_shrinks_and_grows_again_is_taken_from_where_it_was(place: Place) -> None:
    place.write(HEADER + reading(1) + reading(2))
    place.intake.take()
    place.file.write_text(HEADER)
    place.intake.take()
    place.write(reading(3) + reading(4) + reading(5))
    place.intake.take()
    assert place.target.read_text() == HEADER + reading(1) + reading(2) + reading(5)


def test_what_a_killed_start_left_is_taken_behind_what_the_run_has(place: Place) -> None:
    place.write(HEADER + reading(1) + reading(2))
    place.intake.take()
    place.write(reading(3) + reading(4) + "half")
    with place.target.open("a") as file:
        place.intake.close()
        file.write(reading(3)[:7])  # the host was killed in the middle of a line
    assert recover_power(place.run) == []
    assert place.target.read_text() == HEADER + "".join(map(reading, (1, 2, 3, 4)))
    assert not (place.run / power_intake.FOLDER).exists()


def test_readings_of_another_start_are_taken_whole(place: Place) -> None:
    place.target.write_text(HEADER + reading(1))
    place.write(HEADER + reading(8) + reading(9))
    assert recover_power(place.run) == []
    assert place.target.read_text() == HEADER + "".join(map(reading, (1, 8, 9)))


def test_a_file_of_another_version_gets_no_reading(place: Place) -> None:
    place.target.write_text("t_ns,other\n1,2\n")
    place.write(HEADER + reading(8))
    place.intake.take()
    assert "has other columns" in place.intake.refused
    assert place.target.read_text() == "t_ns,other\n1,2\n"
