"""`python -m common.sidecar --out RUN_DIR/power.csv`: NVML and RAPL readings to CSV until told to stop.

Standard output carries one JSON object a line: `ready` once the first rows are on disk, `unavailable` where there is
nothing to read, `done` at the end. Standard error carries sentences for people.
Exit codes: 0 ended as asked, 1 the file cannot be written, 2 wrong arguments, 3 nothing (left) to read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from common.sidecar.csv_file import PowerFile
from common.sidecar.gpu import Gpu, GpuLost, find_gpus
from common.sidecar.lifetime import Lifetime
from common.sidecar.nvml import NvmlUnavailable, open_nvml
from common.sidecar.rapl import POWERCAP, Rapl
from common.sidecar.sampler import MS, Intervals, NothingLeft, Sampler
from common.window_edges import MARKER, Watch


def _log(sentence: str) -> None:
    try:
        print(f"sidecar: {sentence}", file=sys.stderr, flush=True)
    except OSError:
        pass  # whoever listened is gone; the readings still count


def _event(name: str, **fields: Any) -> None:
    try:
        print(json.dumps({"event": name, **fields}), flush=True)
    except OSError:
        pass


def _milliseconds(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 3_600_000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of milliseconds from 1 to 3600000")
    return round(value * MS)


def _arguments(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m common.sidecar", description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--out", required=True, type=Path, metavar="FILE", help="power.csv of the run; rows are appended")
    add("--gpus", default="all", help="UUIDs or NVML indices, comma-separated; all (default) or none")
    add("--interval-ms", type=_milliseconds, default="20", help="power, clocks, temperature; default %(default)s")
    add("--energy-interval-ms", type=_milliseconds, default="100",
        help="energy counters, whose read costs milliseconds; default %(default)s")  # fmt: skip
    add("--slow-interval-ms", type=_milliseconds, default="100", help="utilisation and memory; default %(default)s")
    add("--retry-ms", type=_milliseconds, default="5000", help="ask a lost GPU again; default %(default)s")
    add("--no-rapl", action="store_true", help="leave CPU and DRAM energy out (another sidecar reads it)")
    add("--powercap", type=Path, default=Path(os.environ.get("FRAMEWATT_POWERCAP", POWERCAP)), metavar="DIR",
        help="the kernel's powercap tree; default $FRAMEWATT_POWERCAP or " + POWERCAP)  # fmt: skip
    add("--parent-pid", type=int, metavar="PID", help="end when this process ends")
    add("--until-stdin-closes", action="store_true", help="end when standard input is closed")
    add("--until-file", type=Path, metavar="FILE", help="end when this file exists")
    add(
        "--edges",
        type=Path,
        metavar="DIR",
        help=f"read the energy counters when a file {MARKER} in DIR, or in a folder of it, is touched",
    )
    add("--once", action="store_true", help="one reading of everything, then end")
    return parser.parse_args(argv)


class CannotRead(Exception):
    """What was asked for cannot be read. One line for people."""


def main(argv: Optional[List[str]] = None) -> int:
    arguments = _arguments(argv)
    began = time.monotonic_ns()
    lifetime = Lifetime(arguments.parent_pid, arguments.until_stdin_closes, arguments.until_file)
    try:
        nvml, gpus, no_gpu = _gpus(arguments.gpus)
    except CannotRead as error:
        _log(str(error))
        return 2
    rapl = _rapl(arguments)
    if not gpus and not rapl.domains:
        _event("unavailable", gpus=no_gpu, rapl=rapl.unavailable)
        _log("nothing to read")
        return 3
    try:
        file = PowerFile(arguments.out, _log)
    except (OSError, ValueError) as error:
        _log(f"cannot write {arguments.out}: {_cause(error)}")
        return 1
    intervals = Intervals(
        arguments.interval_ms, arguments.energy_interval_ms, arguments.slow_interval_ms, arguments.retry_ms
    )
    edges = None if arguments.edges is None else Watch(arguments.edges)
    sampler = Sampler(nvml, gpus, rapl, file, intervals, _log, edges)

    def ready() -> Dict[str, Any]:
        return {
            "gpus": [gpu.describe() for gpu in gpus],
            "rapl": [domain.name for domain in rapl.domains],
            "gpus_unavailable": no_gpu,
            "rapl_unavailable": rapl.unavailable,
        }

    ended_by, code = _read(sampler, lifetime, ready, arguments)
    try:
        file.close()
    except OSError as error:
        if code != 1:
            _log(f"cannot write {arguments.out}: {_cause(error)}")
        code = 1
    _event("done", rows=file.rows, ended_by=ended_by, **_cost(began), missed_rounds=sampler.missed_rounds,
           energy_read=sampler.energy_read_cost())  # fmt: skip
    return code


def _gpus(wanted: str) -> Tuple[Any, List[Gpu], Optional[str]]:
    """NVML, the GPUs that answer, and why there are none. Raises CannotRead where one that was named is not there."""
    if wanted == "none":
        return None, [], None
    try:
        nvml = open_nvml()
    except NvmlUnavailable as error:
        if wanted != "all":
            raise CannotRead(f"cannot read GPU {wanted}: {error.reason}") from error
        _log(f"no GPU readings: {error.reason}")
        return None, [], error.reason
    try:
        uuids = find_gpus(nvml, wanted, _log)
    except LookupError as error:
        raise CannotRead(str(error.args[0])) from error
    gpus = []
    for uuid in uuids:
        try:
            gpus.append(Gpu(nvml, uuid, _log))
        except GpuLost as error:  # noqa: PERF203 (each GPU may fail alone)
            _log(f"GPU {uuid} cannot be read: {error}")
    if gpus:
        return nvml, gpus, None
    _log("no GPU readings: no GPU answers")
    return nvml, [], "no GPU answers"


def _rapl(arguments: argparse.Namespace) -> Rapl:
    rapl = Rapl(arguments.powercap, _log)
    if arguments.no_rapl:
        rapl.domains, rapl.unavailable = [], "left out by --no-rapl"
    elif rapl.unavailable:
        _log(f"no CPU energy: {rapl.unavailable}")
    return rapl


def _read(
    sampler: Sampler, lifetime: Lifetime, ready: Callable[[], Dict[str, Any]], arguments: argparse.Namespace
) -> Tuple[str, int]:
    """Reads until something ends it: what did, and the exit code. ready: tells what is read, once the first readings
    are on disk: a domain that fails at its first reading is no longer among them."""
    try:
        sampler.once()
        _event("ready", **ready())
        return ("--once" if arguments.once else sampler.run(lifetime)), 0
    except NothingLeft as error:
        _log(f"nothing left to read: {error}")
        return str(error), 3
    except OSError as error:
        _log(f"cannot write {arguments.out}: {_cause(error)}")
        return _cause(error), 1


def _cost(began: int) -> Dict[str, float]:
    """What this process took. began: in ns of the monotonic clock."""
    wall, cpu = (time.monotonic_ns() - began) / 1e9, time.process_time()
    return {
        "cpu_seconds": round(cpu, 4),
        "wall_seconds": round(wall, 4),
        "cpu_percent": round(100 * cpu / wall, 3),
    }


def _cause(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


if __name__ == "__main__":
    sys.exit(main())
