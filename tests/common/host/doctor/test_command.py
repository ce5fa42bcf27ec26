"""The doctor: every check's verdict on figures whose meaning is known, and the checks themselves against the NVML stand-in."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.errors import UserError
from common.host.cli.terminal import Terminal
from common.host.devices import Device
from common.host.doctor import checks, engine, machine, sidecar_overhead
from common.host.doctor import command as doctor
from common.host.doctor import gpu as doctor_gpu
from common.host.doctor.checks import Check, Judgement
from common.host.paths import DataFolder
from tests.fake_nvml import build

ROOT = Path(__file__).parents[4]
CPU = Device("cpu", "cpu", "a CPU")


def _raise(error: Exception) -> Any:
    raise error


def _run(
    checks: list[Check], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_json: bool = False
) -> tuple[int, str]:
    monkeypatch.setattr(doctor, "all_checks", lambda: checks)
    monkeypatch.setattr(doctor, "choose_devices", lambda device, gpu: [CPU])
    out = io.StringIO()
    code = doctor.doctor("", as_json, Console(file=out, width=160), DataFolder(tmp_path))
    return code, out.getvalue()


def test_one_check_that_fails_makes_the_exit_code_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = Check("good", lambda subject: {"n": 1}, lambda figures: Judgement("ok", f"{figures['n']} of them"))
    note = Check("note", lambda subject: {}, lambda figures: Judgement("note", "so so", "look at it"))
    bad = Check("bad", lambda subject: {}, lambda figures: Judgement("fail", "broken", "mend [it]"))
    code, text = _run([good, note], monkeypatch, tmp_path)
    assert code == 0 and "1 of them" in text and "note: look at it" in text and "all 2 checks pass" in text
    code, text = _run([good, bad], monkeypatch, tmp_path)
    assert code == 1 and "bad: mend [it]" in text and "1 of 2 checks fail" in text


def test_a_check_that_breaks_is_a_line_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [
        Check("ours", lambda subject: _raise(ZeroDivisionError("oops")), lambda figures: Judgement("ok", "")),
        Check(
            "theirs", lambda subject: _raise(UserError("no driver; install one")), lambda figures: Judgement("ok", "")
        ),
        Check("gpu", lambda subject: {}, lambda figures: Judgement("fail", ""), gpu_only=True),
        Check("last", lambda subject: {"x": 1.5}, lambda figures: Judgement("ok", "fine")),
    ]
    assert _run(checks, monkeypatch, tmp_path, as_json=True)[0] == 1
    document = json.loads(capsys.readouterr().out)
    ours, theirs, last = document["findings"]  # the GPU's check is not for a CPU
    assert (ours["state"], "ZeroDivisionError: oops" in ours["shown"]) == ("fail", True)
    assert (theirs["shown"], theirs["advice"]) == ("no driver", "install one")
    assert (last["state"], last["figures"]) == ("ok", {"x": 1.5})
    assert document["device"]["device"] == "cpu"


def test_what_to_do_is_a_line_of_its_own_that_can_be_copied() -> None:
    out = io.StringIO()
    advice = "the governor may lower the clock while a cell is measured: sudo cpupower frequency-set -g performance"
    doctor.print_findings(
        CPU,
        [checks.Finding("CPU governor", "note", "powersave", advice, 0.1)],
        Terminal(file=out, width=60, force_terminal=True),
    )
    assert f"CPU governor: {advice}" in [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("free", "writable", "state"),
    [(2**40, True, "ok"), (2**30, True, "note"), (2**20, True, "fail"), (2**40, False, "fail")],
)
def test_disk(free: int, writable: bool, state: str) -> None:
    assert machine.judge_disk({"free_bytes": free, "writable": writable}).state == state


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    (check,) = (check for check in machine.CHECKS if check.name == "free disk")
    figures = check.read(checks.Subject(CPU, DataFolder(tmp_path / "not" / "yet")))
    assert figures["writable"] and figures["free_bytes"] > 0


@pytest.mark.parametrize(("load", "state"), [(0.1, "ok"), (2.0, "note"), (4.0, "note"), (4.1, "fail")])
def test_load_above_the_cores_fails(load: float, state: str) -> None:
    figures = {"load_1": load, "load_5": 0.0, "load_15": 0.0, "cores": 4, "usable_cores": 2}
    verdict = machine.judge_load(figures)
    assert verdict.state == state and "2 of them usable" in verdict.shown and bool(verdict.advice) == (state != "ok")


@pytest.mark.parametrize(("quota", "state"), [(None, "ok"), (1.5, "fail"), (2.0, "ok")])
def test_a_cpu_quota_fails(quota: float | None, state: str) -> None:
    figures = {"load_1": 0.1, "load_5": 0.0, "load_15": 0.0, "cores": 4, "usable_cores": 2, "cpu_quota": quota}
    verdict = machine.judge_load(figures)
    assert verdict.state == state and ("the time of 1.5 CPUs" in verdict.shown) == (state == "fail")


def test_governor_and_clock_source() -> None:
    unknown: dict[str, Any] = {"governor": None, "hypervisor": None}
    assert machine.judge_cpu(unknown).state == "ok"
    assert machine.judge_cpu({**unknown, "governor": "performance"}).state == "ok"
    saving = machine.judge_cpu({**unknown, "governor": "powersave"})
    assert saving.state == "note" and "cpupower" in saving.advice
    slow = machine.judge_clock({"clock_source": "hpet", "available": ["tsc", "hpet"]})
    assert slow.state == "note" and slow.advice == "boot with clocksource=tsc"
    assert machine.judge_clock({"clock_source": "tsc", "available": []}).state == "ok"


def test_energy_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = (check for check in machine.CHECKS if check.name == "CPU energy")
    monkeypatch.setenv("FRAMEWATT_POWERCAP", str(tmp_path))
    finding = checks.examine(check, checks.Subject(CPU, DataFolder(tmp_path)))
    assert finding.state == "ok" and "no RAPL domain" in finding.shown and "unknown" in finding.shown
    for name, text in (("name", "package-0"), ("energy_uj", "5"), ("max_energy_range_uj", "1000")):
        (tmp_path / "intel-rapl:0").mkdir(exist_ok=True)
        (tmp_path / "intel-rapl:0" / name).write_text(f"{text}\n")
    finding = checks.examine(check, checks.Subject(CPU, DataFolder(tmp_path)))
    assert (finding.state, finding.shown) == ("ok", "RAPL's package-0")
    refused = machine.judge_cpu_energy({"domains": [], "unavailable": "energy_uj may be read by root only"})
    assert refused.state == "note" and "chmod" in refused.advice


def test_overhead_above_the_target_is_said() -> None:
    assert machine.judge_overhead({"added_ns": 80.0, "clock_reads_ns": 90.0}).state == "ok"
    assert machine.judge_overhead({"added_ns": 900.0, "clock_reads_ns": 90.0}).state == "note"


@pytest.mark.parametrize(
    ("factor", "noise", "state", "words"),
    [(1.0, 0.001, "ok", ""), (1.03, 0.001, "note", ""), (1.0, 0.2, "ok", "too noisy"), (1.05, 0.4, "ok", "too noisy")],
)
def test_perturbation_is_told_from_noise(factor: float, noise: float, state: str, words: str) -> None:
    pairs = [(1.0, factor * (1 + noise * (-1) ** i)) for i in range(24)]
    figures = {**sidecar_overhead.slowdown_of(pairs), "cpu_percent": 2.0, "unavailable": None}
    verdict = machine.judge_perturbation(figures)
    assert verdict.state == state and words in verdict.shown


def test_the_interval_of_the_perturbation() -> None:
    exact = sidecar_overhead.slowdown_of([(1.0, 1.02), (2.0, 2.04), (3.0, 3.06)])
    assert [exact[name] for name in ("low", "slowdown", "high")] == pytest.approx([0.02] * 3)
    three = sidecar_overhead.slowdown_of([(1.0, 1.0), (1.0, 1.1), (1.1, 1.0)])
    assert three["slowdown"] == pytest.approx(0)
    assert three["high"] == pytest.approx(1.1 ** (4.302653 / 3**0.5) - 1, rel=1e-6)  # t of 2 degrees of freedom


@pytest.mark.parametrize(
    ("driver_cuda", "images", "state", "words"),
    [
        ("13.0", {"torch": "13.0", "tensorflow": "12.8"}, "ok", "12.8"),
        ("13.0", {"torch": "13.1"}, "note", "image torch is newer"),
        ("12.9", {"torch": "13.1", "tensorflow": "12.8"}, "fail", "image torch cannot run"),
        ("12.10", {"tensorflow": "12.9"}, "ok", "12.9"),
        ("12.8", {}, "ok", "yet"),
        (None, {}, "fail", "does not say"),
    ],
)
def test_driver_and_cuda(driver_cuda: str | None, images: dict[str, str], state: str, words: str) -> None:
    figures = {"driver": "580.1", "driver_cuda": driver_cuda, "images": images, "environments": {}}
    verdict = engine.judge_cuda(figures)
    assert verdict.state == state and words in verdict.shown + verdict.advice


def test_cuda_of_an_image_and_of_wheels() -> None:
    config = {"Env": ["PATH=/bin", "NV_CUDA_CUDART_VERSION=13.0.96-1", "CUDA_VERSION=13.0.1"]}
    assert engine.cuda_of_environment(config) == "13.0"
    assert engine.cuda_of_environment({"Env": ["CUDA_VERSION="]}) is None
    assert engine.cuda_of_environment({"Env": None}) is None


def test_no_engine_is_no_fault_but_no_gpu_runtime_is() -> None:
    why = "no Docker engine answers at its default socket: start it, or use --runner local"
    verdict = engine.judge_engine({"answers": False, "why": why})
    assert (verdict.state, verdict.advice) == ("note", "start it, or use --runner local")
    figures = {"answers": True, "driver": None, "why": "this engine has neither: install the toolkit"}
    assert engine.judge_gpu_runtime(figures).state == "fail"
    assert "CDI" in engine.judge_gpu_runtime({**figures, "driver": "cdi"}).shown


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if build.compiler() is None:
        pytest.skip("no C compiler for the NVML stand-in")
    return build.build(tmp_path_factory.mktemp("nvml"))


def _findings(library: Path, names: list[str], **environment: str) -> dict[str, dict[str, Any]]:
    """What the named checks find on the stand-in's GPU, by the real binding in a process of its own."""
    program = (
        "import json, sys; from pathlib import Path\n"
        "from common.host.doctor import checks, command as doctor\n"
        "from common.host.devices import list_gpus; from common.host.paths import DataFolder\n"
        "subject = checks.Subject(list_gpus()[0], DataFolder(Path('/')))\n"
        "chosen = [check for check in doctor.all_checks() if check.name in sys.argv[1:]]\n"
        "print(json.dumps(checks.describe([checks.examine(check, subject) for check in chosen])))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, *names], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, **build.library_path(library), **environment},
    )  # fmt: skip
    return {finding["check"]: finding for finding in json.loads(answer.stdout)}


def test_a_gpu_that_is_fine(library: Path) -> None:
    names = ["other processes", "NVML readings", "cost of NVML calls", "clock stability", "idle power"]
    found = _findings(library, names, FAKE_NVML_ENERGY_COST_US="2000", FAKE_NVML_POWER="constant:71.5")
    assert {name: finding["state"] for name, finding in found.items()} == dict.fromkeys(names, "ok")
    assert "71.5 W" in found["idle power"]["shown"] and "no compute process" in found["idle power"]["shown"]
    assert "reads the counter every" in found["cost of NVML calls"]["shown"]
    assert found["cost of NVML calls"]["figures"]["energy_counter"]["median_us"] >= 2000


def test_a_gpu_that_is_not(library: Path) -> None:
    found = _findings(
        library, ["other processes", "NVML readings", "clock stability", "idle power"],
        FAKE_NVML_PROCESSES="12:trainer:500", FAKE_NVML_REASONS="0x48", FAKE_NVML_POWER="constant:0",
        FAKE_NVML_UNSUPPORTED="nvmlDeviceGetTotalEnergyConsumption",
    )  # fmt: skip
    states = {name: finding["state"] for name, finding in found.items()}
    assert states == {
        "other processes": "fail", "NVML readings": "note", "clock stability": "fail", "idle power": "note"
    }  # fmt: skip
    assert "trainer (12)" in found["other processes"]["shown"]
    assert "hardware slow-down, hardware thermal slow-down" in found["clock stability"]["shown"]
    assert "integral" in found["NVML readings"]["advice"]


def test_settings_that_hold_a_gpu_back() -> None:
    facts: dict[str, Any] = {
        "power_limit_mw": 700_000, "power_limit_default_mw": 700_000, "ecc": True, "persistence": True,
        "mig_mode": False, "pcie_generation": 1, "pcie_generation_max": 5, "pcie_width": 16, "pcie_width_max": 16,
    }  # fmt: skip
    assert doctor_gpu.judge_state(facts).state == "ok"
    held = doctor_gpu.judge_state({**facts, "power_limit_mw": 300_000, "persistence": False, "pcie_width": 8})
    assert held.state == "note"
    for words in ("below the board's 700 W", "nvidia-smi -pm 1", "fewer PCIe lanes"):
        assert words in held.advice
    assert doctor_gpu.judge_state(dict.fromkeys(facts)).state == "ok"  # unknown is no fault


def test_periods_are_reported() -> None:
    period: dict[str, Any] = {"period_ms": 100.0, "p10_ms": 99.0, "p90_ms": 101.0, "changes": 20, "unavailable": None}
    still = {**period, "period_ms": None}
    verdict = doctor_gpu.judge_periods({"energy_counter": period, "power_usage": still})
    assert verdict.state == "ok" and "100 ms (99 to 101)" in verdict.shown and "did not change" in verdict.shown
    assert doctor_gpu.judge_periods({"energy_counter": {**period, "period_ms": 1000.0}}).state == "note"


def test_the_sidecar_is_switched_beside_the_work_and_goes(library: Path) -> None:
    program = (
        "import json; from common.host.doctor.sidecar_overhead import measure_perturbation\n"
        f"print(json.dumps([measure_perturbation({build.uuid(0)!r}, 4, 0.03), measure_perturbation('GPU-9', 4, 0.03)]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, **build.library_path(library)},
    )  # fmt: skip
    measured, unknown = json.loads(answer.stdout)
    assert measured["unavailable"] is None and measured["pairs"] == 4
    assert measured["low"] <= measured["slowdown"] <= measured["high"] and measured["cpu_percent"] >= 0
    assert unknown["unavailable"]


def test_a_run_stores_the_cheap_part(tmp_path: Path) -> None:
    findings = checks.describe(doctor.cheap_findings(CPU, DataFolder(tmp_path)))
    assert [finding["check"] for finding in findings] == [
        "free disk",
        "CPU load",
        "CPU governor",
        "CPU energy",
        "clock source",
    ]
    assert json.loads(json.dumps(findings)) == findings


@pytest.mark.parametrize(
    ("gpus", "short", "near", "state"),
    [
        (1, "", True, "ok"),
        (8, "", True, "ok"),
        (8, "", None, "ok"),
        (8, "", False, "note"),
        (8, "8 GPUs at once on 9 cores", True, "note"),
    ],
)
def test_gpus_at_once(gpus: int, short: str, near: bool | None, state: str) -> None:
    shares = {f"gpu{number}": {"cpus": f"{number}", "near": near, "memory_node": 0} for number in range(gpus)}
    placement = {"workers": shares, "sidecars": "8", "short": short or None}
    verdict = doctor_gpu.judge_together({"gpus": gpus, "usable_cores": 9, "placement": placement})
    assert verdict.state == state
    if short:
        assert verdict.shown == short and "--gpu 0,1" in verdict.advice
    elif gpus > 1:
        assert "gpu7 on CPUs 7" in verdict.shown and "sidecars on 8" in verdict.shown
        assert ("another node" in verdict.shown) == (near is False)


def test_gpus_at_once_of_the_stand_in(tmp_path: Path) -> None:
    if build.compiler() is None:
        pytest.skip("no C compiler for the NVML stand-in")
    code = (
        "from common.host.devices import list_gpus; from common.host.doctor import checks, gpu; from pathlib import Path; "
        "from common.host.paths import DataFolder; import json, dataclasses; "
        "subject = checks.Subject(list_gpus()[0], DataFolder(Path('.'))); "
        "print(json.dumps(dataclasses.asdict(checks.examine(gpu.CHECKS[0], subject))))"
    )
    environment = {**os.environ, **build.library_path(build.build(tmp_path)), "FAKE_NVML_GPUS": "8"}
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    finding = json.loads(output.stdout)
    assert finding["check"] == "GPUs at once" and finding["figures"]["gpus"] == 8
    assert ("cores" in finding["shown"]) == bool(finding["figures"]["placement"]["short"])
