"""Opens a page in a headless Chromium, runs a script in it as a user would act, and returns what that script found."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from analysis.output import pdf

#: Goes first into the page: every error and warning that the console would show.
_WATCH = """<script>
window.messages = [];
addEventListener("error", (event) => messages.push(String(event.message)));
addEventListener("unhandledrejection", (event) => messages.push(String(event.reason)));
for (const level of ["error", "warn"]) console[level] = (...words) => messages.push(words.join(" "));
</script>"""
_ASK = """<script>
addEventListener("load", () => {
  const found = document.createElement("pre");
  found.id = "found";
  try { found.textContent = JSON.stringify({ result: (() => { %s })(), messages }); }
  catch (error) { found.textContent = JSON.stringify({ result: null, messages: [...messages, String(error)] }); }
  document.body.append(found);
});
</script>"""


def ask(page: Path, script: str, folder: Path, width: int = 1400) -> Any:
    """What `script` (the body of a function) returns once the page has loaded; fails where the console has a message."""
    chromium = pdf.find()
    if chromium is None:
        pytest.skip(f"no browser on PATH ({', '.join(pdf.NAMES[:3])}): the report is not opened in one")
    text = page.read_text(encoding="utf-8")
    text = text.replace("<head>", "<head>" + _WATCH, 1).replace("</body>", _ASK % script + "</body>", 1)
    copy = folder / "asked.html"
    copy.write_text(text, encoding="utf-8")
    options = [
        "--enable-logging=stderr",
        "--v=0",
        f"--window-size={width},900",
        "--virtual-time-budget=4000",
        "--dump-dom",
    ]
    done = subprocess.run(
        [*pdf.command(chromium, folder / "profile"), *options, copy.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, "the page never finished loading"
    found = json.loads(html.unescape(match[1]))
    assert found["messages"] == []
    return found["result"]
