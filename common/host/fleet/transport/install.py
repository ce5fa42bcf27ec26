"""`python -m common.host.fleet.transport.install`: Ray, into the environment that runs this; nothing where it is there already.

A Ray that is there is left alone, whatever its version: it must be the one that the site's cluster runs.
"""

from __future__ import annotations

import fcntl
import importlib.util
import sys
from pathlib import Path

from common.errors import UserError
from common.host.children import run_guarded
from common.text import visible

ROOT = Path(__file__).resolve().parents[4]
LOCK = ROOT / "requirements-fleet.lock"


def is_installed() -> bool:
    importlib.invalidate_caches()
    return importlib.util.find_spec("ray") is not None


def install() -> None:
    """Raises UserError with pip's last words."""
    if is_installed():
        return
    with Path(f"{sys.prefix}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second one waits here
        if is_installed():
            return
        print("Installing Ray into .venv (about 80 MB from the package index, once) ...", file=sys.stderr, flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        code, output = run_guarded([*pip, "-r", LOCK])
        if code:
            errors = [line for line in output.splitlines() if line.lower().startswith("error")]
            words = (errors or output.strip().splitlines() or [f"exit code {code}"])[0]
            raise UserError(f"Ray could not be installed from {LOCK.name}: {words}")


def main() -> None:
    try:
        install()
    except UserError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
