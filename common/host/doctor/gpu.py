"""Checks of the GPU through NVML: what it offers, how often readings change, what they cost, who else is on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from common.cpu_limits import usable_cpus
from common.errors import UserError
from common.host.devices import usable_gpus
from common.host.doctor import nvml as doctor_nvml
from common.host.doctor.checks import Check, Figures, Judgement, Subject
from common.host.placement import placement_of
from common.sidecar.nvml import NvmlUnavailable, open_nvml
from common.sidecar.sampler import ENERGY_READ_SHARE

#: the method's windows of 5 s hold 50 steps of the counter at this period
LONGEST_PERIOD_MS = 150.0
#: NVML's clock event reasons by bit, those first that slow a GPU down against its will
SLOWDOWNS = {
    8: "hardware slow-down",
    64: "hardware thermal slow-down",
    128: "power brake",
    32: "software thermal limit",
}
OTHER_REASONS = {1: "idle", 2: "application clocks", 4: "power cap", 16: "sync boost", 256: "display clocks"}


@contextmanager
def _opened(subject: Subject) -> Iterator[tuple[Any, Any]]:
    """(pynvml, handle of the subject's GPU). Raises UserError when the driver stopped answering."""
    try:
        nvml = open_nvml()
    except NvmlUnavailable as error:
        raise UserError(f"{error.reason}; look at nvidia-smi, then run the same command again") from error
    try:
        yield nvml, nvml.nvmlDeviceGetHandleByUUID(subject.device.uuid)
    except nvml.NVMLError as error:
        raise UserError(f"NVML: {error}; look at nvidia-smi, then run the same command again") from error
    finally:
        nvml.nvmlShutdown()


def _asking(question: Callable[[Any, Any], Figures]) -> Callable[[Subject], Figures]:
    def read(subject: Subject) -> Figures:
        with _opened(subject) as (nvml, handle):
            return question(nvml, handle)

    return read


def _offers(nvml: Any, handle: Any) -> Figures:
    return {name: cost["unavailable"] for name, cost in doctor_nvml.call_costs(nvml, handle, repeats=1).items()}


def judge_offers(figures: Figures) -> Judgement:
    """figures: name of a reading -> None, or why the GPU does not offer it."""
    missing = [name for name, reason in figures.items() if reason]
    offered = [name for name in figures if name not in missing]
    shown = f"offers {', '.join(offered) or 'nothing'}" + (f"; not {', '.join(missing)}" if missing else "")
    if not any(name.startswith("power") for name in offered):
        if "energy_counter" in offered:
            return Judgement("note", shown, "energy comes from the counter alone, with nothing to check it against")
        return Judgement("fail", shown, "energy cannot be measured on this GPU; times can")
    if "energy_counter" in missing:
        return Judgement("note", shown, "energy is the integral of power alone, and its rows say so")
    return Judgement("ok", shown)


def _periods(nvml: Any, handle: Any) -> Figures:
    """The counter and the first power reading that answers."""
    figures: Figures = {"energy_counter": doctor_nvml.update_period(nvml, handle, "energy_counter", poll_ms=5.0)}
    for name in ("power_instant", "power_average", "power_usage"):
        period = doctor_nvml.update_period(nvml, handle, name)
        if period["unavailable"] is None:
            figures[name] = period
            break
    return figures


def judge_periods(figures: Figures) -> Judgement:
    words = []
    slow = False
    for name, period in figures.items():
        if period["unavailable"]:
            words.append(f"{name} not offered")
        elif period["period_ms"] is None:
            words.append(f"{name} did not change in 2 s (an idle GPU)")
        else:
            words.append(f"{name} {period['period_ms']:.0f} ms ({period['p10_ms']:.0f} to {period['p90_ms']:.0f})")
            slow = slow or period["period_ms"] > LONGEST_PERIOD_MS
    if slow:
        return Judgement("note", ", ".join(words), "measure longer windows than 5 s: --min-seconds 10")
    return Judgement("ok", ", ".join(words))


def _costs(nvml: Any, handle: Any) -> Figures:
    return doctor_nvml.call_costs(nvml, handle)


def judge_costs(figures: Figures) -> Judgement:
    known = {name: cost for name, cost in figures.items() if cost["median_us"] is not None}
    if not known:
        return Judgement("fail", "no reading answers", "look at nvidia-smi -q, and at the kernel's log")
    dear = sorted(known, key=lambda name: -known[name]["median_us"])
    words = [f"{name} {known[name]['median_us']:.0f} us (worst {known[name]['worst_us']:.0f})" for name in dear]
    shown = ", ".join(words)
    if "energy_counter" in known:
        stretched_ms = known["energy_counter"]["median_us"] / 1e3 / ENERGY_READ_SHARE
        if stretched_ms > 100:
            shown += f"; the sidecar therefore reads the counter every {stretched_ms:.0f} ms instead of 100"
    return Judgement("ok", shown)


def _idle(nvml: Any, handle: Any) -> Figures:
    return doctor_nvml.idle_power(nvml, handle)


def judge_idle(figures: Figures) -> Judgement:
    if figures["median_mw"] is None:
        return Judgement("note", f"not offered: {figures['unavailable']}", "energy net of idle stays unknown")
    low, middle, high = (figures[name] / 1e3 for name in ("min_mw", "median_mw", "max_mw"))
    count = figures["processes"]
    named = {
        None: "whether a compute process is on it is unknown",
        0: "no compute process on it",
        1: "1 compute process on it",
    }
    context = named.get(count, f"{count} compute processes on it")
    shown = f"{middle:.1f} W ({low:.1f} to {high:.1f}) by {figures['source']}, {context}"
    if high > 1.2 * low and high - low > 10:
        return Judgement(
            "note", shown, "the power moves while it should idle: the GPU is cooling down, or somebody works"
        )
    return Judgement("ok", shown)


def _clocks(nvml: Any, handle: Any) -> Figures:
    return doctor_nvml.clock_stability(nvml, handle)


def judge_clocks(figures: Figures) -> Judgement:
    if figures["median_mhz"] is None:
        return Judgement("note", f"not offered: {figures['unavailable']}", "a clock that drops will not be seen")
    shown = f"SM {figures['median_mhz']:.0f} MHz ({figures['min_mhz']:.0f} to {figures['max_mhz']:.0f}) while idle"
    bits = figures["event_reasons"] or 0
    slowed = [name for bit, name in SLOWDOWNS.items() if bits & bit]
    others = [name for bit, name in OTHER_REASONS.items() if bits & bit]
    if slowed or others:
        shown += f"; event reasons: {', '.join(slowed + others)}"
    if slowed:
        advice = "the GPU is slowed down already now: look at its cooling and its power supply before measuring"
        return Judgement("fail", shown, advice)
    return Judgement("ok", shown)


def _state(subject: Subject) -> Figures:
    names = ("power_limit_mw", "power_limit_default_mw", "ecc", "persistence", "mig_mode", "pcie_generation",
             "pcie_generation_max", "pcie_width", "pcie_width_max")  # fmt: skip
    return {name: subject.device.facts.get(name) for name in names}


def judge_state(figures: Figures) -> Judgement:
    def word(value: object) -> str:
        return "unknown" if value is None else "on" if value else "off"

    limit, default = figures["power_limit_mw"], figures["power_limit_default_mw"]
    shown = f"persistence {word(figures['persistence'])}, ECC {word(figures['ecc'])}"
    shown += f", PCIe generation {figures['pcie_generation'] or '?'} of {figures['pcie_generation_max'] or '?'}"
    shown += f", width {figures['pcie_width'] or '?'} of {figures['pcie_width_max'] or '?'}"
    advice = []
    if limit:
        shown += f", power limit {limit / 1e3:.0f} W"
    if limit and default and limit < default:
        advice.append(f"the power limit is below the board's {default / 1e3:.0f} W (sudo nvidia-smi -pl)")
    if figures["persistence"] is False:
        advice.append("sudo nvidia-smi -pm 1 keeps the driver loaded between workers")
    if figures["mig_mode"]:
        advice.append("MIG is on: power and utilisation belong to the whole board, not to a slice")
    width, widest = figures["pcie_width"], figures["pcie_width_max"]
    if width and widest and width < widest:
        advice.append("the card has fewer PCIe lanes than it could: another slot, or reseat it")
    # The generation drops while a GPU idles, so it is no fault here.
    return Judgement("note" if advice else "ok", shown, "; ".join(advice))


def _neighbours(subject: Subject) -> Figures:
    processes = subject.device.facts.get("processes")
    return {"processes": processes, "memory_used_bytes": subject.device.facts.get("memory_used_bytes")}


def judge_neighbours(figures: Figures) -> Judgement:
    processes, used = figures["processes"], figures["memory_used_bytes"]
    memory = "" if used is None else f", {used / 2**20:.0f} MiB of its memory in use"
    if processes is None:
        return Judgement("note", f"this driver does not tell{memory}", "nvidia-smi shows whether somebody works on it")
    if processes:
        names = ", ".join(f"{process['name'] or 'process'} ({process['pid']})" for process in processes)
        advice = "end them or take another GPU (--gpu N): cells measured beside them are marked"
        return Judgement("fail", f"{names}{memory}", advice)
    return Judgement("ok", f"none visible{memory}")


def _together(subject: Subject) -> Figures:
    gpus = usable_gpus()
    placement = placement_of(gpus)
    return {"gpus": len(gpus), "usable_cores": usable_cpus(), "placement": placement.describe()}


def judge_together(figures: Figures) -> Judgement:
    gpus, placement = figures["gpus"], figures["placement"]
    if gpus < 2:
        return Judgement("ok", "one GPU")
    if placement["short"]:
        advice = "measure fewer at a time (--gpu 0,1): cells of all at once are marked"
        return Judgement("note", placement["short"], advice)
    if not placement["workers"]:
        return Judgement("ok", f"{gpus} GPUs, nothing is bound to cores")
    shown = "; ".join(
        f"{name} on CPUs {share['cpus']}{_NEAR[share['near']]}" for name, share in placement["workers"].items()
    )
    far = [name for name, share in placement["workers"].items() if share["near"] is False]
    advice = (
        f"{', '.join(far)}: the CPUs beside it are too few; its copies cross the link between sockets" if far else ""
    )
    return Judgement("note" if far else "ok", f"{shown}; sidecars on {placement['sidecars']}", advice)


_NEAR = {True: ", beside it", False: ", partly on another node", None: ", whether beside it is not shown here"}

CHECKS = (
    Check("GPUs at once", _together, judge_together, cheap=True, gpu_only=True),
    Check("other processes", _neighbours, judge_neighbours, cheap=True, gpu_only=True),
    Check("GPU settings", _state, judge_state, cheap=True, gpu_only=True),
    Check("NVML readings", _asking(_offers), judge_offers, cheap=True, gpu_only=True),
    Check("update period", _asking(_periods), judge_periods, gpu_only=True),
    Check("cost of NVML calls", _asking(_costs), judge_costs, gpu_only=True),
    Check("idle power", _asking(_idle), judge_idle, gpu_only=True),
    Check("clock stability", _asking(_clocks), judge_clocks, gpu_only=True),
)
