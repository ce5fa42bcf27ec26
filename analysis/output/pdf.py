"""A page to PDF through a headless browser's own print: what comes out is what a person would print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from common.errors import UserError
from common.host.whole_files import whole

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
#: A busy machine of two cores has needed two minutes for a page of 5 MB.
TIMEOUT_S = 600

#: Of a page, what takes no ink: scripts with their data, and the marks that answer to a pointer.
_UNPRINTED = re.compile(r'<script\b.*?</script>|<g class="targets">.*?</g>', re.DOTALL)
_DETAILS = re.compile(r"<details\b([^>]*)>|</details>")


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


def printed(text: str) -> str:
    """A page without what is not printed (scripts, folded parts, marks for the pointer): a browser lays out a fifth of it."""
    text = _UNPRINTED.sub("", text)
    kept: list[str] = []
    begin, folded = 0, 0  # where the kept text goes on; how deep inside a folded part
    for tag in _DETAILS.finditer(text):
        opens = tag[1] is not None
        if folded:
            folded += 1 if opens else -1
            begin = tag.end()
        elif opens and "open" not in tag[1].split():
            kept.append(text[begin : tag.start()])
            folded, begin = 1, tag.end()
    return "".join([*kept, text[begin:]])


def print_to_pdf(page: Path, pdf: Path) -> None:
    """Prints a local HTML file. Raises UserError where there is no browser or it does not do it in TIMEOUT_S."""
    browser = find()
    if browser is None:
        raise UserError(
            f"a PDF needs a browser on PATH ({', '.join(NAMES[:3])}); print {page.name} from your own instead"
        )
    with tempfile.TemporaryDirectory(prefix="framewatt-browser-") as scratch:
        unfinished, light = Path(scratch) / "report.pdf", Path(scratch) / page.name
        light.write_text(printed(page.read_text(encoding="utf-8")), encoding="utf-8")
        options = ["--no-pdf-header-footer", f"--print-to-pdf={unfinished}", light.as_uri()]
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
            reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
            raise UserError(f"{Path(browser).name} printed nothing: {reason.strip()[:200]}")
        with whole(pdf) as part:
            shutil.copyfile(unfinished, part)
