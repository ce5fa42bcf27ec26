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
from typing import Any, List, Optional

from common.sidecar.csv_file import PowerFile
from common.sidecar.gpu import Gpu, GpuLost, find_gpus
from common.sidecar.lifetime import Lifetime
from common.sidecar.nvml import NvmlUnavailable, open_nvml
from common.sidecar.rapl import POWERCAP, Rapl
from common.sidecar.sampler import MS, Intervals, NothingLeft, Sampler
from common.window_edges import MARKER, Watch


def _say(sentence: str) -> None:
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


def main(argv: Optional[List[str]] = None) -> int:
    arguments = _arguments(argv)
    began = time.monotonic_ns()
    lifetime = Lifetime(arguments.parent_pid, arguments.until_stdin_closes, arguments.until_file)
    nvml, gpus, no_gpu = None, [], None
    if arguments.gpus != "none":
        try:
            nvml = open_nvml()
            for uuid in find_gpus(nvml, arguments.gpus, _say):
                try:
                    gpus.append(Gpu(nvml, uuid, _say))
                except GpuLost as error:  # noqa: PERF203 (each GPU may fail alone)
                    _say(f"GPU {uuid} cannot be read: {error}")
            no_gpu = None if gpus else "no GPU answers"
        except NvmlUnavailable as error:
            no_gpu = error.reason
            if arguments.gpus != "all":
                _say(f"cannot read GPU {arguments.gpus}: {no_gpu}")
                return 2
        except LookupError as error:
            _say(str(error.args[0]))
            return 2
        if no_gpu:
            _say(f"no GPU readings: {no_gpu}")
    rapl = Rapl(arguments.powercap, _say)
    if arguments.no_rapl:
        rapl.domains, rapl.unavailable = [], "left out by --no-rapl"
    elif rapl.unavailable:
        _say(f"no CPU energy: {rapl.unavailable}")
    if not gpus and not rapl.domains:
        _event("unavailable", gpus=no_gpu, rapl=rapl.unavailable)
        _say("nothing to read")
        return 3
    try:
        file = PowerFile(arguments.out, _say)
    except (OSError, ValueError) as error:
        _say(f"cannot write {arguments.out}: {_cause(error)}")
        return 1
    intervals = Intervals(
        arguments.interval_ms, arguments.energy_interval_ms, arguments.slow_interval_ms, arguments.retry_ms
    )
    edges = None if arguments.edges is None else Watch(arguments.edges)
    sampler = Sampler(nvml, gpus, rapl, file, intervals, _say, edges)
    code = 0
    try:
        sampler.once()
        _event(
            "ready",
            gpus=[gpu.describe() for gpu in gpus],
            rapl=[domain.name for domain in rapl.domains],
            gpus_unavailable=no_gpu,
            rapl_unavailable=rapl.unavailable,
        )
        ended_by = "--once" if arguments.once else sampler.run(lifetime)
    except NothingLeft as error:
        ended_by, code = str(error), 3
        _say(f"nothing left to read: {error}")
    except OSError as error:
        ended_by, code = _cause(error), 1
        _say(f"cannot write {arguments.out}: {ended_by}")
    try:
        file.close()
    except OSError as error:
        if code != 1:
            _say(f"cannot write {arguments.out}: {_cause(error)}")
        code = 1
    wall, cpu = (time.monotonic_ns() - began) / 1e9, time.process_time()
    _event(
        "done",
        rows=file.rows,
        cpu_seconds=round(cpu, 4),
        wall_seconds=round(wall, 4),
        cpu_percent=round(100 * cpu / wall, 3),
        ended_by=ended_by,
        missed_rounds=sampler.missed_rounds,
        energy_read=sampler.energy_read_cost(),
    )
    return code


def _cause(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


if __name__ == "__main__":
    sys.exit(main())
