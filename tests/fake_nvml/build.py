"""Builds the stand-in for libnvidia-ml.so.1: the real nvidia-ml-py binding then talks to it instead of a driver.

Use: `environment = {**os.environ, **library_path(build(tmp_path)), "FAKE_NVML_GPUS": "2"}` for a *subprocess*
(the loader reads LD_LIBRARY_PATH when a process starts). Settings, all environment variables:

FAKE_NVML_GPUS              number of GPUs, default 1; UUIDs are GPU-00000000-0000-0000-0000-00000000000<index>
FAKE_NVML_POWER             the true power in W: constant:W (default constant:100), square:LOW,HIGH,PERIOD_S,
                            sine:MEAN,AMPLITUDE,PERIOD_S or file:PATH (lines "t_s watts", each holds until the next)
FAKE_NVML_POWER_<index>     the same for one GPU
FAKE_NVML_EPOCH_NS          reading of CLOCK_MONOTONIC at which the curve's t is 0; default 0
FAKE_NVML_STEP_MS           readings and counter change this often, default 100
FAKE_NVML_COUNTER_START_MJ  added to the energy counter; default 0
FAKE_NVML_COUNTER_WRAP_MJ   the counter is shown modulo this; default: never wraps
FAKE_NVML_ENERGY_COST_US    an energy read sleeps this long; default 0
FAKE_NVML_UNSUPPORTED       comma-separated functions (nvmlDeviceGetUtilizationRates) or fields (field186) that answer
                            "not supported"
FAKE_NVML_FORBIDDEN         comma-separated functions that answer "no permission"
FAKE_NVML_REJECT_GPU_SCOPE  1: power fields exist in the module scope only, as on Grace Hopper
FAKE_NVML_MIG               1: MIG mode is on (no utilisation) and MIG-00000000-0000-0000-0000-00000000000<index> exists
FAKE_NVML_AFFINITY_<index>  bit mask of the CPUs next to a GPU, default 0xff; its PCI address is 00000000:<index + 1>:00.0
FAKE_NVML_REASONS           bit mask of clock event reasons, default 0
FAKE_NVML_PROCESSES         "pid:name:bytes,..." compute processes on every GPU
FAKE_NVML_INIT_ERROR        nvmlInit answers with this error number (9: driver not loaded)
FAKE_NVML_NAME, FAKE_NVML_DRIVER, FAKE_NVML_CUDA (13000), FAKE_NVML_COMPUTE_CAPABILITY (9.0)
FAKE_NVML_CONTROL           path of a file that is read at each call and may change midway: lines "lost <index>" (that
                            GPU answers "GPU is lost") and "power <index> <watts>" (readings, not the counter)
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")


def uuid(index: int) -> str:
    """UUID of the stand-in's GPU."""
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def compiler() -> str | None:
    """The C compiler, or None where tests that need the stand-in must be skipped."""
    return shutil.which("gcc") or shutil.which("cc")


def build(folder: Path, without: Sequence[str] = ()) -> Path:
    """Compiles `folder`/libnvidia-ml.so.1 and returns its path (about 0.3 s).

    without: functions that the library shall not export at all, as old drivers lack new ones.
    """
    program = compiler()
    if program is None:
        raise RuntimeError("no C compiler for the NVML stand-in")
    library = folder / "libnvidia-ml.so.1"
    command = [
        program,
        "-std=gnu11",
        "-O1",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(SOURCE),
        "-lm",
    ]
    if without:
        exports = folder / "exports.map"
        exports.write_text("{ global: *; local: " + " ".join(f"{name};" for name in without) + " };\n")
        command.append(f"-Wl,--version-script={exports}")
    subprocess.run(command, check=True)
    return library


def library_path(library: Path) -> dict[str, str]:
    """The environment variable that makes a process load this library."""
    return {"LD_LIBRARY_PATH": str(library.parent)}
