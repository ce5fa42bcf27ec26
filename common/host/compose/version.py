"""Which compose is there: older ones do not know what compose.yaml says."""

from __future__ import annotations

import re
import subprocess

from common.errors import UserError

#: the first that honours `network_mode`, profiles in COMPOSE_PROFILES and `service_completed_successfully` alike
OLDEST = (2, 20)
ADVICE = "install Docker's compose plugin (apt-get install docker-compose-plugin), then: docker compose up"


def parse(text: str) -> tuple[int, int] | None:
    """Major and minor version in the words of `docker compose version`; None where they hold none."""
    found = re.search(r"v?(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else None


def check(command: tuple[str, ...] = ("docker", "compose", "version", "--short")) -> None:
    """Raises UserError when compose is missing or too old."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{' '.join(command[:2])} cannot be run ({error}): {ADVICE}") from error
    version = parse(done.stdout) if done.returncode == 0 else None
    if version is None:
        raise UserError(f"docker has no compose plugin: {ADVICE}")
    if version < OLDEST:
        raise UserError(
            f"compose {version[0]}.{version[1]} is too old for compose.yaml, which needs {OLDEST[0]}.{OLDEST[1]}: {ADVICE}"
        )
