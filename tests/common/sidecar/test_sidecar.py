"""The sidecar as a process: real nvidia-ml-py, a C library in the driver's place."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common import schema
from common.sidecar import sampler
from common.sidecar.sampler import ENERGY_READ_SHARE, MS
from tests.common.sidecar.conftest import ROOT, Powercap, Start
from tests.fake_nvml.build import build, library_path, uuid

HEADER = ",".join(schema.header("power.csv"))


def test_reads_everything_that_a_gpu_offers(start: Start) -> None:
    sidecar = start(FAKE_NVML_POWER="constant:412.5", FAKE_NVML_REASONS="0x44")
    ready = sidecar.ready()
    assert ready["gpus"] == [
        {"index": 0, "uuid": uuid(0), "name": "Stand-in GPU", "power_source": "instant", "energy_counter": True,
         "missing": []}
    ]  # fmt: skip
    assert len(sidecar.rows) >= 1, "ready is said only once the first row is on disk"
    sidecar.wait_for(lambda rows: len(rows) >= 30)
    assert sidecar.end() == 0
    assert sidecar.out.read_text().startswith(HEADER + "\n")
    for row in sidecar.rows:
        assert (row["domain"], row["device"], row["uuid"]) == ("gpu", "0", uuid(0))
        assert (float(row["power_mw"]), row["power_source"]) == (412500, "instant")
        assert (row["sm_clock_mhz"], row["memory_clock_mhz"], row["temperature_c"]) == ("1980", "2619", "40")
        assert int(row["event_reasons"]) == 0x44
        assert abs(int(row["driver_timestamp_us"]) / 1e6 - time.time()) < 600
    slow = [row for row in sidecar.rows if row["memory_used_bytes"]]
    assert slow[0]["memory_used_bytes"] == str(10 * 2**30), "the second version: without the driver's reserve"
    assert (slow[0]["gpu_utilization_percent"], slow[0]["memory_utilization_percent"]) == ("97", "41")
    done = sidecar.events["done"]
    assert done["rows"] == len(sidecar.rows)
    assert done["ended_by"] == "SIGTERM"
    assert done["cpu_seconds"] > 0 and done["cpu_percent"] == pytest.approx(
        100 * done["cpu_seconds"] / done["wall_seconds"], rel=0.02
    )
    assert done["energy_read"]["median_us"] > 0


def test_time_rises_and_the_dear_readings_are_rarer(start: Start) -> None:
    sidecar = start("--interval-ms", "5", "--energy-interval-ms", "50", "--slow-interval-ms", "100")
    sidecar.ready()
    sidecar.wait_for(lambda rows: len(rows) >= 120)
    sidecar.end()
    rows = sidecar.rows
    times = [int(row["t_ns"]) for row in rows]
    assert times == sorted(times) and len(set(times)) == len(times)
    span_ms = (times[-1] - times[0]) / 1e6
    energy = sum(bool(row["energy_mj"]) for row in rows)
    slow = sum(bool(row["gpu_utilization_percent"]) for row in rows)
    # never more often than asked; how often at least depends on the machine's load
    assert 2 <= energy <= span_ms / 50 + 2
    assert 1 <= slow <= span_ms / 100 + 2
    assert len(rows) <= span_ms / 5 + 2


def test_power_follows_the_wave_and_the_counter_its_integral(start: Start) -> None:
    sidecar = start(FAKE_NVML_POWER="square:100,300,1.0")
    sidecar.ready()
    sidecar.wait_for(lambda rows: len(rows) > 0 and int(rows[-1]["t_ns"]) - int(rows[0]["t_ns"]) > 2.2e9)
    sidecar.end()
    rows = sidecar.rows
    assert {float(row["power_mw"]) for row in rows} == {100000, 300000}
    # The stand-in shows the wave at the last step of 100 ms, whose phase is that of CLOCK_MONOTONIC. A reading that the
    # machine held up between NVML's answer and the clock's may be a step late.
    shown = [(int(row["t_ns"]) // 100_000_000 / 10 % 1.0, float(row["power_mw"])) for row in rows]
    right = sum(power == (100000 if phase < 0.5 else 300000) for phase, power in shown)
    assert right >= 0.9 * len(shown)
    counter = [(int(row["t_ns"]), float(row["energy_mj"])) for row in rows if row["energy_mj"]]
    joules = (counter[-1][1] - counter[0][1]) / 1e3
    seconds = (counter[-1][0] - counter[0][0]) / 1e9
    assert joules == pytest.approx(200 * seconds, abs=300 * 0.1 + 50), (
        "200 W on average; a step and half a wave at most"
    )
    assert all(later[1] >= earlier[1] for earlier, later in itertools.pairwise(counter))


@pytest.mark.parametrize(
    ("unsupported", "source"),
    [("field186", "average"), ("field186,field185", "usage"), ("nvmlDeviceGetFieldValues", "usage")],
)
def test_the_next_best_power_reading_is_named(start: Start, unsupported: str, source: str) -> None:
    sidecar = start("--once", FAKE_NVML_UNSUPPORTED=unsupported)
    assert sidecar.ready()["gpus"][0]["power_source"] == source
    assert sidecar.wait() == 0
    (row,) = sidecar.rows
    assert (row["power_source"], float(row["power_mw"])) == (source, 100000)
    assert bool(row["driver_timestamp_us"]) == (source != "usage")


def test_a_module_that_rejects_the_gpu_scope(start: Start) -> None:
    """Grace Hopper: the average of the GPU alone goes before the power of GPU and CPU together."""
    sidecar = start("--once", FAKE_NVML_REJECT_GPU_SCOPE="1")
    assert sidecar.ready()["gpus"][0]["power_source"] == "usage"
    assert sidecar.wait() == 0
    sidecar = start("--once", FAKE_NVML_REJECT_GPU_SCOPE="1", FAKE_NVML_UNSUPPORTED="nvmlDeviceGetPowerUsage")
    assert sidecar.ready()["gpus"][0]["power_source"] == "instant_module"
    assert sidecar.wait() == 0
    assert "processor included" in sidecar.errors


def test_what_is_missing_is_empty_and_named_once(start: Start) -> None:
    sidecar = start(
        FAKE_NVML_UNSUPPORTED="nvmlDeviceGetTotalEnergyConsumption,nvmlDeviceGetUtilizationRates,field185,field186",
        FAKE_NVML_FORBIDDEN="nvmlDeviceGetPowerUsage",
    )
    (gpu,) = sidecar.ready()["gpus"]
    assert gpu["missing"] == ["power_mw", "energy_mj", "gpu_utilization_percent"]
    assert gpu["power_source"] is None and gpu["energy_counter"] is False
    sidecar.wait_for(lambda rows: len(rows) >= 20)
    assert sidecar.end() == 0
    for row in sidecar.rows:
        assert row["power_mw"] == row["power_source"] == row["energy_mj"] == row["gpu_utilization_percent"] == ""
        assert row["temperature_c"] == "40"
    assert sidecar.errors.count("energy_mj") == 1


def test_symbols_that_an_old_driver_lacks(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    library = build(
        folder,
        without=(
            "nvmlDeviceGetFieldValues", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetTemperatureV",
            "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetMemoryInfo_v2",
        ),
    )  # fmt: skip
    sidecar = start("--once", library=library, FAKE_NVML_REASONS="8")
    (gpu,) = sidecar.ready()["gpus"]
    assert (gpu["power_source"], gpu["missing"]) == ("usage", ["energy_mj"])
    assert sidecar.wait() == 0
    (row,) = sidecar.rows
    assert (row["temperature_c"], row["event_reasons"], row["memory_used_bytes"]) == ("40", "8", str(11 * 2**30))


def test_a_power_reading_of_nothing_is_unknown(start: Start) -> None:
    """Boards without the sensor answer 0 with success; 0 W would become an energy of 0 J."""
    sidecar = start("--once", FAKE_NVML_POWER="constant:0")
    assert sidecar.ready()["gpus"][0]["missing"] == ["power_mw", "energy_mj"]
    assert sidecar.wait() == 0
    assert sidecar.rows[0]["power_mw"] == ""


def test_two_gpus_are_told_apart(start: Start) -> None:
    sidecar = start(FAKE_NVML_GPUS="3", FAKE_NVML_POWER_0="constant:70", FAKE_NVML_POWER_2="constant:450")
    assert [gpu["uuid"] for gpu in sidecar.ready()["gpus"]] == [uuid(0), uuid(1), uuid(2)]
    sidecar.wait_for(lambda rows: len(rows) >= 30)
    sidecar.end()
    seen = {(row["device"], row["uuid"], float(row["power_mw"])) for row in sidecar.rows}
    assert seen == {("0", uuid(0), 70000), ("1", uuid(1), 100000), ("2", uuid(2), 450000)}


@pytest.mark.parametrize("wanted", [uuid(1), "1"])
def test_one_gpu_of_several(start: Start, wanted: str) -> None:
    sidecar = start("--once", "--gpus", wanted, FAKE_NVML_GPUS="2")
    assert [gpu["uuid"] for gpu in sidecar.ready()["gpus"]] == [uuid(1)]
    assert sidecar.wait() == 0
    assert [row["uuid"] for row in sidecar.rows] == [uuid(1)]


def test_a_mig_slice_is_never_given_its_boards_power(start: Start) -> None:
    mig = uuid(1).replace("GPU-", "MIG-")
    for arguments, visible in (["--gpus", mig], uuid(0)), (["--gpus", "all"], mig), (["--gpus", uuid(0)], mig):
        sidecar = start("--once", *arguments, FAKE_NVML_GPUS="2", FAKE_NVML_MIG="1", CUDA_VISIBLE_DEVICES=visible)
        assert sidecar.wait() == 2
        assert "power is known of whole GPUs only" in sidecar.errors
        assert not sidecar.out.exists()


@pytest.mark.parametrize(("allowed", "read"), [("2,0", [2, 0]), (f"{uuid(1)}", [1]), ("1,-1,2", [1])])
def test_all_are_those_that_may_be_used(start: Start, allowed: str, read: list[int]) -> None:
    sidecar = start("--once", "--gpus", "all", FAKE_NVML_GPUS="3", CUDA_VISIBLE_DEVICES=allowed)
    assert [gpu["uuid"] for gpu in sidecar.ready()["gpus"]] == [uuid(index) for index in read]
    assert sidecar.wait() == 0


def test_a_gpu_that_may_not_be_used_is_not_read(start: Start) -> None:
    for wanted in ("0", uuid(0)):
        sidecar = start("--once", "--gpus", wanted, FAKE_NVML_GPUS="2", CUDA_VISIBLE_DEVICES="1")
        assert sidecar.wait() == 2
        assert sidecar.errors == f"sidecar: no GPU '{wanted}'; there is 1 ({uuid(1)})\n"


def test_an_unknown_gpu_is_one_line(start: Start) -> None:
    sidecar = start("--gpus", "7", FAKE_NVML_GPUS="2")
    assert sidecar.wait() == 2
    assert sidecar.errors == f"sidecar: no GPU '7'; there is 0 ({uuid(0)}), 1 ({uuid(1)})\n"
    assert not sidecar.out.exists()


def test_a_gpu_that_disappears_and_comes_back(start: Start, tmp_path: Path) -> None:
    control = tmp_path / "control"
    sidecar = start("--retry-ms", "50", FAKE_NVML_GPUS="2", FAKE_NVML_CONTROL=str(control))
    sidecar.ready()
    sidecar.wait_for(lambda rows: {row["device"] for row in rows} == {"0", "1"})
    control.write_text("lost 1\n")
    sidecar.wait_for_words("is lost")
    before = len(sidecar.rows)
    sidecar.wait_for(lambda rows: len(rows) > before + 20)
    assert {row["device"] for row in sidecar.rows[before + 5 :]} == {"0"}
    control.write_text("")
    sidecar.wait_for_words("is back")
    back = len(sidecar.rows)
    sidecar.wait_for(lambda rows: "1" in {row["device"] for row in rows[back:]})
    assert sidecar.end() == 0
    assert sidecar.errors.count(") is lost:") == 1


def test_the_last_gpu_lost_ends_it(start: Start, tmp_path: Path) -> None:
    control = tmp_path / "control"
    sidecar = start(FAKE_NVML_CONTROL=str(control))
    sidecar.ready()
    control.write_text("lost 0\n")
    assert sidecar.wait() == 3
    assert "nothing left to read: GPU 0" in sidecar.errors
    assert sidecar.events["done"]["rows"] == len(sidecar.rows)


def test_cpu_energy_goes_on_without_the_gpu(start: Start, tmp_path: Path, powercap: Powercap) -> None:
    control = tmp_path / "control"
    powercap.add("intel-rapl:0", "package-0", 5_000_000)
    sidecar = start("--powercap", str(powercap.root), "--energy-interval-ms", "20", "--retry-ms", "50",
                    FAKE_NVML_CONTROL=str(control))  # fmt: skip
    assert sidecar.ready()["rapl"] == ["package-0"]
    control.write_text("lost 0\n")
    sidecar.wait_for_words("is lost")
    before = len(sidecar.rows)
    sidecar.wait_for(lambda rows: len(rows) > before + 10)
    assert {row["domain"] for row in sidecar.rows[before + 2 :]} == {"package-0"}
    control.write_text("")
    sidecar.wait_for_words("is back")
    assert sidecar.end() == 0


def test_rapl_wrap_arounds_are_added_up(start: Start, powercap: Powercap) -> None:
    powercap.add("intel-rapl:0", "package-0", 999_000, span_uj=1_000_000)
    powercap.add("intel-rapl:0:0", "dram", 10_000)
    powercap.add("intel-rapl:0:1", "core", 10_000)
    powercap.add("intel-rapl:1", "package-1", 10_000)
    powercap.add("intel-rapl-mmio:0", "package-0", 10_000)
    sidecar = start("--gpus", "none", "--powercap", str(powercap.root), "--energy-interval-ms", "20")
    assert sidecar.ready()["rapl"] == ["package-0", "dram-0", "package-1"]
    powercap.set("intel-rapl:0", 500)
    sidecar.wait_for(lambda rows: any(float(row["energy_mj"]) == 1000.5 for row in rows))
    powercap.set("intel-rapl:0", 400)
    sidecar.wait_for(lambda rows: any(float(row["energy_mj"]) == 2000.4 for row in rows))
    assert sidecar.end() == 0
    package = [float(row["energy_mj"]) for row in sidecar.rows if row["domain"] == "package-0"]
    assert package[0] == 999 and package == sorted(package) and set(package) == {999, 1000.5, 2000.4}
    assert {row["device"] + row["uuid"] + row["power_mw"] for row in sidecar.rows} == {""}


#: `python -m common.sidecar` by a user who may not read everything; what it needs is imported while it still can be
AS_NOBODY = """
import os, sys
import pynvml
from common.sidecar.__main__ import main
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


def test_rapl_that_only_root_may_read_is_said_not_zero(nvml_library: Path) -> None:
    # pytest's own folders are their owner's alone
    with tempfile.TemporaryDirectory(prefix="framewatt-") as name:
        folder = Path(name)
        shutil.copy(nvml_library, folder)
        powercap = Powercap(folder / "powercap")
        (powercap.add("intel-rapl:0", "package-0", 1) / "energy_uj").chmod(0)
        folder.chmod(0o777)
        arguments = ["--out", str(folder / "power.csv"), "--once", "--powercap", str(powercap.root)]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60,
            env={**os.environ, **library_path(folder / nvml_library.name)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        ready = json.loads(done.stdout.splitlines()[0])
        assert ready["rapl_unavailable"] == "energy_uj may be read by root only"
        assert ready["rapl"] == []
        with (folder / "power.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows and {row["domain"] for row in rows} == {"gpu"}


def test_nothing_to_read_at_all(start: Start) -> None:
    sidecar = start("--gpus", "none")
    assert sidecar.wait() == 3
    assert sidecar.events["unavailable"]["rapl"].startswith("no RAPL domain")
    assert not sidecar.out.exists()


def test_no_driver(start: Start, powercap: Powercap) -> None:
    powercap.add("intel-rapl:0", "package-0", 1)
    sidecar = start("--once", "--powercap", str(powercap.root), FAKE_NVML_INIT_ERROR="9")
    ready = sidecar.ready()
    assert (ready["gpus"], ready["gpus_unavailable"]) == ([], "the NVIDIA driver is not loaded")
    assert sidecar.wait() == 0
    sidecar = start("--gpus", uuid(0), FAKE_NVML_INIT_ERROR="9")
    assert sidecar.wait() == 2
    assert sidecar.errors == f"sidecar: cannot read GPU {uuid(0)}: the NVIDIA driver is not loaded\n"


def test_a_kill_loses_at_most_200_ms(start: Start) -> None:
    sidecar = start()
    sidecar.ready()
    sidecar.wait_for(lambda rows: len(rows) >= 10)

    def age_ms() -> float:
        """What a kill now would lose: the age of the newest whole row on disk."""
        data = sidecar.out.read_bytes()
        newest = data[: data.rindex(b"\n")].rpartition(b"\n")[2]
        return (time.monotonic_ns() - int(newest.split(b",")[0])) / 1e6

    # 200 ms is the promise on a machine that lets the sidecar run: a busy one gets more tries until it does.
    for _ in range(20):
        ages = []
        for _ in range(15):  # moments spread over the flush cycle
            time.sleep(0.037)
            ages.append(age_ms())
        if sorted(ages)[len(ages) // 2] <= 200:
            break
    else:
        pytest.fail(f"a kill would lose {sorted(ages)} ms")
    sidecar.end(signal.SIGKILL)
    assert sidecar.out.read_bytes().endswith(b"\n")


def test_appends_to_what_an_earlier_kill_left(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "power.csv"
    start("--once", out=out).wait()
    whole = out.read_text()
    out.write_text(whole + "123456,gpu,0,GPU-0000")
    sidecar = start("--once", out=out)
    assert sidecar.wait() == 0
    text = out.read_text()
    assert text.startswith(whole) and text.count(HEADER) == 1
    assert len(sidecar.rows) == 2 and "123456" not in text
    assert "removed a last line of 21 bytes" in sidecar.errors


def test_a_header_cut_by_a_kill_is_written_anew(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "power.csv"
    out.write_text(HEADER[:50])
    sidecar = start("--once", out=out)
    assert sidecar.wait() == 0
    assert out.read_text().startswith(HEADER + "\n") and len(sidecar.rows) == 1


def test_two_sidecars_into_one_file(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "power.csv"
    both = [start("--gpus", str(i), "--interval-ms", "2", out=out, FAKE_NVML_GPUS="2") for i in range(2)]
    for sidecar in both:
        sidecar.ready()
    both[0].wait_for(lambda rows: len(rows) > 300)
    assert [sidecar.end() for sidecar in both] == [0, 0]
    lines = out.read_text().splitlines()
    assert lines.count(HEADER) == 1
    assert {line.count(",") for line in lines} == {HEADER.count(",")}
    assert len(lines) - 1 == sum(sidecar.events["done"]["rows"] for sidecar in both)


def test_a_file_of_another_version_is_left_alone(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "power.csv"
    out.write_text("a,b\n1,2\n")
    sidecar = start(out=out)
    assert sidecar.wait() == 1
    assert "other columns" in sidecar.errors
    assert out.read_text() == "a,b\n1,2\n"


def test_no_space_left_is_one_line(start: Start) -> None:
    sidecar = start(out=Path("/dev/full"))
    assert sidecar.wait() == 1
    assert sidecar.errors.splitlines()[-1] == "sidecar: cannot write /dev/full: No space left on device"


def test_ends_with_its_parent(start: Start) -> None:
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    sidecar = start("--parent-pid", str(parent.pid))
    sidecar.ready()
    parent.kill()
    assert sidecar.wait() == 0  # before the parent is reaped: a zombie is dead too
    parent.wait()
    assert parent.stdin is not None
    parent.stdin.close()
    assert sidecar.events["done"]["ended_by"] == "the parent process ended"


def test_a_parent_that_is_already_gone(start: Start) -> None:
    parent = subprocess.Popen([sys.executable, "-c", ""])
    parent.wait()
    sidecar = start("--parent-pid", str(parent.pid))
    assert sidecar.wait() == 0


def test_ends_when_standard_input_closes(start: Start) -> None:
    sidecar = start("--until-stdin-closes", "--interval-ms", "3000")
    sidecar.ready()
    assert sidecar.process.stdin is not None
    sidecar.process.stdin.close()
    assert sidecar.wait() == 0
    assert sidecar.events["done"]["ended_by"] == "standard input was closed"


def test_ctrl_c_ends_it_cleanly(start: Start) -> None:
    sidecar = start()
    sidecar.ready()
    assert sidecar.end(signal.SIGINT) == 0
    assert "Traceback" not in sidecar.errors


def test_a_deaf_listener_does_not_end_it(start: Start) -> None:
    sidecar = start("--once")
    assert sidecar.process.stdout is not None
    sidecar.process.stdout.close()
    assert sidecar.process.wait(timeout=60) in (0, 120)  # 120: the interpreter could not flush standard output
    assert len(sidecar.rows) == 1


@pytest.mark.parametrize("value", ["0", "-5", "x", "nan", "1e99"])
def test_an_interval_that_is_none(start: Start, value: str) -> None:
    sidecar = start("--interval-ms", value)
    assert sidecar.wait() == 2
    assert f"'{value}' is not a number of milliseconds" in sidecar.errors
    assert not sidecar.out.exists()


def test_the_health_check(start: Start, tmp_path: Path) -> None:
    def check(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "common.sidecar.health", str(path)]
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])

    sidecar = start()
    sidecar.ready()
    assert check(sidecar.out).returncode == 0
    sidecar.end()
    old = time.time() - 60
    os.utime(sidecar.out, (old, old))
    assert check(sidecar.out).returncode == 1
    empty = tmp_path / "empty.csv"
    empty.write_text(HEADER + "\n")
    assert "has no reading yet" in check(empty).stderr
    assert check(tmp_path / "absent.csv").returncode == 1


def test_the_ready_line_is_json_of_one_line(start: Start) -> None:
    sidecar = start("--once", FAKE_NVML_NAME='A "quoted" name')
    ready = sidecar.ready()
    assert json.loads(json.dumps(ready))["gpus"][0]["name"] == 'A "quoted" name'
    assert sidecar.wait() == 0


def test_a_dear_energy_counter_is_read_more_rarely(start: Start, tmp_path: Path) -> None:
    """What a read costs decides how often the counter is read; all other readings keep their pace."""

    def median_gap_ms(rows: list[dict[str, str]]) -> float:
        gaps = (int(later["t_ns"]) - int(before["t_ns"]) for before, later in itertools.pairwise(rows))
        return statistics.median(gaps) / 1e6

    def paces(cost_us: int) -> tuple[float, float]:
        """Median time between reads of the counter, and between all readings, in ms."""
        sidecar = start("--interval-ms", "5", "--energy-interval-ms", "25", out=tmp_path / f"power-{cost_us}.csv",
                        FAKE_NVML_ENERGY_COST_US=str(cost_us))  # fmt: skip
        sidecar.ready()
        sidecar.wait_for(lambda rows: len([row for row in rows if row["energy_mj"]]) >= 7)
        sidecar.end()
        # The first intervals are the one that was asked for: what a read costs is known only after it.
        read = [row for row in sidecar.rows if row["energy_mj"]][2:]
        assert sidecar.events["done"]["energy_read"]["median_us"] >= cost_us
        return median_gap_ms(read), median_gap_ms(sidecar.rows)

    dear, all_dear = paces(1500)
    cheap, all_cheap = paces(0)
    # a busy machine makes reads dearer, and the pauses longer still; how long they must be is tested below
    assert dear >= 0.9 * 1.5 / ENERGY_READ_SHARE
    assert dear > cheap
    assert max(all_dear, all_cheap) < dear


@pytest.mark.parametrize(
    ("read_ms", "requested_ms", "expected_ms"),
    [(0.001, 100, 100), (2, 100, 500), (12, 100, 900), (12, 2000, 2000)],
)
def test_a_very_dear_counter_is_still_read_often_enough_for_the_edges_of_a_window(
    read_ms: float, requested_ms: int, expected_ms: int
) -> None:
    gpu: Any = SimpleNamespace(uuid="GPU-1", energy_read_ns=[round(read_ms * MS)] * 9)
    source = sampler._Source(
        gpu, 0, 1, sampler.Intervals(fast_ns=20 * MS, energy_ns=requested_ms * MS, slow_ns=100 * MS)
    )
    source.pace_energy()
    assert source.energy._interval == expected_ms * MS


def test_the_counter_is_read_once_more_at_the_end(start: Start) -> None:
    sidecar = start("--interval-ms", "5", "--energy-interval-ms", "60000")
    sidecar.ready()
    sidecar.wait_for(lambda rows: len(rows) > 5)
    assert sidecar.end() == 0
    first, *between, last = [row["energy_mj"] for row in sidecar.rows]
    assert first and last, "or the energy of a run's last window could not be taken from the counter"
    assert not any(between)
