"""Checks of the machine itself: disk, load, clocks of the CPU, and what framewatt's own parts cost on it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from common.cpu_limits import cpu_quota, usable_cpus
from common.host.doctor.checks import Check, Figures, Judgement, Subject
from common.host.doctor.harness_overhead import harness_overhead
from common.host.doctor.sidecar_overhead import measure_perturbation
from common.host.host_info import describe_host
from common.sidecar.rapl import POWERCAP, Rapl

#: room for a sweep with its engines and caches; a run refuses to start below 50 MiB
COMFORTABLE_BYTES = 5 * 2**30
NEEDED_BYTES = 50 * 2**20
#: what a pair of clock reads and the loop may add to an inference, in ns: the project's own target
OVERHEAD_NS = 300.0
#: a sidecar may slow the measured work by this share
PERTURBATION = 0.01
#: clock sources that are read without entering the kernel
FAST_CLOCKS = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase")


def _read_disk(subject: Subject) -> Figures:
    # The folder may not exist yet: then it is its nearest parent that does which has the room.
    folder = subject.data.root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return {"free_bytes": shutil.disk_usage(folder).free, "writable": os.access(folder, os.W_OK | os.X_OK)}


def judge_disk(figures: Figures) -> Judgement:
    free = figures["free_bytes"]
    shown = f"{free / 2**30:.1f} GiB free for results, models and caches"
    if not figures["writable"]:
        return Judgement("fail", shown + ", but the folder cannot be written", "chown it, or set FRAMEWATT_DATA")
    if free < NEEDED_BYTES:
        return Judgement("fail", shown, "free some (invoke clean --cache), or set FRAMEWATT_DATA to another disk")
    if free < COMFORTABLE_BYTES:
        return Judgement(
            "note", shown, "a sweep with engines may need more: invoke clean --cache, or set FRAMEWATT_DATA"
        )
    return Judgement("ok", shown)


def _read_load(subject: Subject) -> Figures:
    load_1, load_5, load_15 = os.getloadavg()
    cores = os.cpu_count() or 1
    return {
        "load_1": load_1, "load_5": load_5, "load_15": load_15, "cores": cores,
        "usable_cores": usable_cpus(), "cpu_quota": cpu_quota(),
    }  # fmt: skip


def judge_load(figures: Figures) -> Judgement:
    load, cores = figures["load_1"], figures["cores"]
    shown = f"load {load:.2f}, {figures['load_5']:.2f}, {figures['load_15']:.2f} on {cores} cores"
    if figures["usable_cores"] < cores:
        shown += f", {figures['usable_cores']} of them usable here"
    quota = figures.get("cpu_quota")
    if quota is not None and quota < figures["usable_cores"]:
        shown += f"; a quota allows the time of {quota:g} CPUs"
        advice = (
            "it stops processes in the middle of an inference: lift the control group's limit (docker run --cpus, "
            "Kubernetes' limits, systemd's CPUQuota)"
        )
        return Judgement("fail", shown, f"{advice}; cells measured under it are marked")
    busy = "something else is running (top shows what): end it, or wait"
    if load > cores:
        return Judgement("fail", shown, f"{busy}; cells measured under such a load are marked")
    if load > 0.25 * cores:
        return Judgement("note", shown, busy)
    return Judgement("ok", shown)


def _read_cpu(subject: Subject) -> Figures:
    host = describe_host()
    return {key: host[key] for key in ("cpu_model", "governor", "turbo", "hypervisor")}


def judge_cpu(figures: Figures) -> Judgement:
    governor = figures["governor"]
    name = figures["hypervisor"]
    where = "" if not name else ", in a virtual machine" if name == "yes" else f", in a virtual machine ({name})"
    shown = f"governor {governor or 'not shown by this kernel'}{where}"
    if governor not in (None, "performance"):
        advice = "sudo cpupower frequency-set -g performance holds the CPU's clock"
        return Judgement("note", shown, advice)
    return Judgement("ok", shown)


def _read_cpu_energy(subject: Subject) -> Figures:
    rapl = Rapl(Path(os.environ.get("FRAMEWATT_POWERCAP", POWERCAP)), lambda sentence: None)
    names = [domain.name for domain in rapl.domains]
    rapl.close()
    return {"domains": names, "unavailable": rapl.unavailable}


def judge_cpu_energy(figures: Figures) -> Judgement:
    if figures["domains"]:
        return Judgement("ok", f"RAPL's {', '.join(figures['domains'])}")
    shown = f"{figures['unavailable']}: what the host draws stays unknown"
    advice = "sudo chmod -R a+r /sys/class/powercap/*/energy_uj lets it be read" if "root only" in shown else ""
    return Judgement("note" if advice else "ok", shown, advice)


def _read_clock(subject: Subject) -> Figures:
    folder = Path("/sys/devices/system/clocksource/clocksource0")
    available = folder / "available_clocksource"
    return {
        "clock_source": describe_host()["clock_source"],
        "available": available.read_text().split() if available.is_file() else [],
    }


def judge_clock(figures: Figures) -> Judgement:
    source = figures["clock_source"]
    if source is None:
        return Judgement("ok", "not shown by this kernel")
    if source not in FAST_CLOCKS:
        fast = [name for name in figures["available"] if name in FAST_CLOCKS]
        advice = (
            f"boot with clocksource={fast[0]}" if fast else "no faster one is offered; windows of 5 s hide its cost"
        )
        return Judgement("note", f"{source}: reading the clock enters the kernel and takes about 1 us", advice)
    return Judgement("ok", str(source))


def _read_overhead(subject: Subject) -> Figures:
    return dict(harness_overhead())


def judge_overhead(figures: Figures) -> Judgement:
    added, reads = figures["added_ns"], figures["clock_reads_ns"]
    shown = (
        f"{added:.0f} ns an inference beyond two clock reads, which take {reads:.0f} ns (an adapter that does nothing)"
    )
    if added > OVERHEAD_NS:
        return Judgement(
            "note", shown, f"more than {OVERHEAD_NS:.0f} ns: another program is on this core, or the CPU is slow"
        )
    return Judgement("ok", shown)


def _read_perturbation(subject: Subject) -> Figures:
    return measure_perturbation(subject.device.uuid or "none")


def judge_perturbation(figures: Figures) -> Judgement:
    if figures["unavailable"]:
        return Judgement("ok", f"no sidecar would run: {figures['unavailable']}")
    low, high = figures["low"], figures["high"]
    shown = (
        f"a numpy loop takes {100 * figures['slowdown']:+.2f} % with it ({100 * low:+.2f} to {100 * high:+.2f} at 95 %); "
        f"it uses {figures['cpu_percent']:.1f} % of a core"
    )
    if low > PERTURBATION:
        advice = "keep it off the worker's cores: --cpus with containers; the energy counter is the dear call (below)"
        return Judgement("note", shown, advice)
    if high > PERTURBATION:
        return Judgement("ok", shown + f"; too noisy here to tell {100 * PERTURBATION:.0f} %")
    return Judgement("ok", shown)


CHECKS = (
    Check("free disk", _read_disk, judge_disk, cheap=True),
    Check("CPU load", _read_load, judge_load, cheap=True),
    Check("CPU governor", _read_cpu, judge_cpu, cheap=True),
    Check("CPU energy", _read_cpu_energy, judge_cpu_energy, cheap=True),
    Check("clock source", _read_clock, judge_clock, cheap=True),
    Check("harness overhead", _read_overhead, judge_overhead),
    Check("sidecar perturbation", _read_perturbation, judge_perturbation),
)
