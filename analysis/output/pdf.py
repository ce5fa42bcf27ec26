"""A page to PDF through a headless browser's own print: what comes out is what a person would print."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from common.errors import UserError
from common.host.whole_files import whole

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
TIMEOUT_S = 120


def find() -> str | None:
    """The first browser of NAMES on PATH, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def command(browser: str, profile: Path) -> list[str]:
    """Begin of a command line that starts it alone, without a window, without network and with a profile of its own."""
    # root (a container, CI) has no other way to start it; the page is this project's own
    alone = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [
        browser, "--headless", *alone, "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-extensions", "--disable-background-networking", "--proxy-server=127.0.0.1:9", "--hide-scrollbars",
        f"--user-data-dir={profile}",
    ]  # fmt: skip


def print_to_pdf(page: Path, pdf: Path) -> None:
    """Prints a local HTML file. Raises UserError where there is no browser or it does not do it in TIMEOUT_S."""
    browser = find()
    if browser is None:
        raise UserError(
            f"a PDF needs a browser on PATH ({', '.join(NAMES[:3])}); print {page.name} from your own instead"
        )
    with tempfile.TemporaryDirectory(prefix="framewatt-browser-") as scratch:
        unfinished = Path(scratch) / "report.pdf"
        options = ["--no-pdf-header-footer", f"--print-to-pdf={unfinished}", page.resolve().as_uri()]
        try:
            done = subprocess.run(
                [*command(browser, Path(scratch) / "profile"), *options],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"{Path(browser).name} did not print the report within {TIMEOUT_S} s") from None
        except OSError as error:
            raise UserError(f"{browser} does not start: {error.strerror}") from None
        if not unfinished.is_file() or not unfinished.stat().st_size:
            said = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
            raise UserError(f"{Path(browser).name} printed nothing: {said.strip()[:200]}")
        with whole(pdf) as part:
            shutil.copyfile(unfinished, part)
