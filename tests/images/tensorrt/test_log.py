"""TensorRT's messages become the reason of a failed cell."""

from __future__ import annotations

import enum

import pytest

from common.harness.adapter import DeviceOutOfMemory, Unsupported
from images.tensorrt.log import Complaints, make_logger


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class Library:
    class ILogger:
        pass


def test_warnings_and_errors_go_to_standard_error_and_nothing_to_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    logger = make_logger(Library, Complaints())
    for severity in Severity:
        logger.log(severity, f"about {severity.name}\nsecond line")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert [line.split("]")[0] for line in shown.err.splitlines()] == [
        "tensorrt: [INTERNAL_ERROR", "tensorrt: [ERROR", "tensorrt: [WARNING"
    ]  # fmt: skip


def test_an_error_explains_more_than_a_later_warning() -> None:
    complaints = Complaints()
    complaints.add("ERROR", "no implementation for node\n  Conv_3")
    complaints.add("WARNING", "weights are subnormal")
    failure = complaints.failure("no engine")
    assert isinstance(failure, Unsupported)
    assert str(failure) == "no engine: no implementation for node Conv_3"


def test_a_warning_explains_where_there_is_no_error() -> None:
    complaints = Complaints()
    complaints.add("WARNING", "CUDA initialization failure with error: 35")
    assert "error: 35" in str(complaints.failure("TensorRT cannot start"))


def test_silence_is_reported_as_such() -> None:
    assert "gave no reason" in str(Complaints().failure("no engine"))


@pytest.mark.parametrize(
    "message",
    [
        "1: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory)",
        "2: [executionContext.cpp::initializeExecutionContext::400] Error Code 2: OutOfMemory (no further information)",
        "Requested amount of GPU memory (99999 bytes) could not be allocated.",
    ],
)
def test_lack_of_memory_is_told_apart_even_when_a_general_error_follows(message: str) -> None:
    complaints = Complaints()
    complaints.add("ERROR", message)
    complaints.add("ERROR", "4: Internal error")
    assert isinstance(complaints.failure("no context"), DeviceOutOfMemory)


def test_a_tactic_that_was_skipped_for_memory_is_no_lack_of_memory() -> None:
    complaints = Complaints()
    complaints.add("WARNING", "Skipping tactic 3 due to insufficient memory on requested size of 9 bytes")
    complaints.add("ERROR", "unsupported operator")
    assert isinstance(complaints.failure("no engine"), Unsupported)


def test_a_new_build_forgets_what_was_said_before() -> None:
    complaints = Complaints()
    complaints.add("ERROR", "old")
    complaints.add("VERBOSE", "Loaded 12 timing cache entries")
    assert complaints.timing_cache == ["Loaded 12 timing cache entries"]
    complaints.clear()
    assert "gave no reason" in str(complaints.failure("x"))
    assert complaints.timing_cache == []
