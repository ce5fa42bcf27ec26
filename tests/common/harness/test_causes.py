"""What the row of a framework says that cannot even be imported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.harness.adapter import Unsupported
from common.harness.causes import in_words, reported_before
from tests.common.harness.conftest import Bench

ABI = [
    "== cell k", "", "A module that was compiled using NumPy 1.x cannot be run in", "NumPy 2.4.6 as it may crash. To support both",
    "versions of NumPy, modules must be compiled with NumPy 2.0.", "Some module may need to rebuild.", "",
    "Traceback (most recent call last):", "AttributeError: _ARRAY_API not found",
]  # fmt: skip
WORDS = (
    "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.4.6 as it may crash. To support both "
    "versions of NumPy, modules must be compiled with NumPy 2.0."
)


def test_the_paragraph_that_says_what_cannot_be_done() -> None:
    assert reported_before(ABI, "ImportError") == WORDS
    assert reported_before([line for line in ABI if line], "ImportError") == WORDS, "an engine's log has no empty lines"
    assert reported_before(["could not find a GPU", "done"], "ImportError") == ""
    line = "libx.so: undefined symbol: y"
    assert reported_before([line, "Traceback", "more"], "ImportError") == line
    assert reported_before([line], f"ImportError: {line}") == "", "the exception says it"


def test_an_exception_without_words_gets_those_of_its_cause_or_of_the_log() -> None:
    nothing, cause = ImportError(), ValueError("no such function")
    assert in_words("ImportError", nothing, ["loading", "an error of the loader"], "load", None) == (
        "ImportError (an error of the loader)"
    )
    nothing.__cause__ = cause
    assert in_words("ImportError", nothing, [], "import", None) == "ImportError (no such function)"
    refused = Unsupported("toys cannot be imported: ImportError")
    refused.__cause__ = nothing
    assert in_words(str(refused), refused, [], "import", "2.0") == (
        "version 2.0 fails in phase import: toys cannot be imported: ImportError (no such function)"
    )
    assert in_words("KeyError: 1", KeyError(1), ["an error"], "load", None) == "KeyError: 1"
    assert in_words("ImportError", nothing, [], "warmup", "1.0") == "ImportError"


@pytest.mark.parametrize("version", [None, "1.2"])
def test_the_row_says_what_was_printed(bench: Bench, version: str | None) -> None:
    job = bench.job("import-says-nothing")
    job = replace(job, cells=[replace(cell, version=version) for cell in job.cells])
    bench.run(job)
    row = bench.cell(job.cells[0])
    printed = "A module that was compiled using Toys 1.x cannot be run in Toys 2.0 as it may crash."
    words = f"toys cannot be imported: ImportError ({printed})"
    assert row["status"] == "unsupported"
    assert row["message"] == (f"version {version} fails in phase import: {words}" if version else words)
