"""What is said of a build that failed, from the words that it left: no engine needed."""

from __future__ import annotations

import pytest

from common.host.runners.containers.images import _build_error
from common.install_locked import REASON

NON_ZERO = "The command '/bin/sh -c set -e; python3 -m pip install' returned a non-zero code: 1"


@pytest.mark.parametrize(
    ("error", "words", "message"),
    [
        (
            NON_ZERO,
            ["Collecting onnxruntime", "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
            "the disk is full: docker system df shows by what",
        ),
        ("write /var/lib/docker/tmp/x: no space left on device", [], "the disk is full"),
        (NON_ZERO, ["ERROR: No matching distribution found for torch==9", "notice"], "ERROR: No matching distribution"),
        (NON_ZERO, ["ERROR: ResolutionImpossible", REASON + "these do not go together: a; b"], "these do not go together: a; b"),
        (NON_ZERO, ["A module that was compiled using NumPy 1.x cannot be run in", "NumPy 2.4", "Traceback (most", "ImportError"],
         "ImportError (A module that was compiled using NumPy 1.x cannot be run in NumPy 2.4)"),
        ("Get https://127.0.0.1:9/v2/: dial tcp 127.0.0.1:9: connection refused", [], "base/image: the base image cannot be fetched"),
        ("COPY failed: no source files were specified", ["Step 3/9 : COPY x"], "COPY failed: no source files were specified"),
    ],
)  # fmt: skip
def test_the_line_that_tells(error: str, words: list[str], message: str) -> None:
    line = _build_error(error, words, "base/image")
    assert line.startswith(message)
    assert "\n" not in line
