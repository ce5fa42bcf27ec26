"""`python -m common.sidecar.health`: exit code 0 while the sidecar of this container writes readings.

The container's health check: the file that the container's main process was told to write (`--out`) has a row and has
grown within the last seconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import List, Optional

#: the sidecar writes at least each 200 ms at default rates
FRESH_SECONDS = 5.0


def out_of(command: List[str]) -> Optional[Path]:
    """The value of --out in a command line, None where it has none."""
    for word, following in zip(command, [*command[1:], ""]):
        if word == "--out" and following:
            return Path(following)
        if word.startswith("--out="):
            return Path(word[len("--out=") :])
    return None


def problem(path: Path, now: float) -> Optional[str]:
    """Why the file does not look alive, None where it does. now: seconds of the wall clock."""
    try:
        with path.open("rb") as file:
            lines, age = file.read(4096).count(b"\n"), now - path.stat().st_mtime
    except OSError as error:
        return f"{path}: {error.strerror}"
    if lines < 2:
        return f"{path} has no reading yet"
    return f"{path} has not grown for {age:.0f} s" if age > FRESH_SECONDS else None


def main(argv: List[str]) -> int:
    command = ["--out", argv[0]] if argv else Path("/proc/1/cmdline").read_text().split("\0")
    path = out_of(command)
    found = "process 1 was given no --out" if path is None else problem(path, time.time())
    if found:
        print(found, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
