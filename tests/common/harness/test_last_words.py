"""What a dead worker's log says of its end."""

from __future__ import annotations

import pytest

from common.harness import memory
from common.harness.rows import last_telling_line, one_line

STACK = [
    "== cell error_b0008_r0",
    "loading weights",
    "Fatal Python error: Segmentation fault",
    "",
    'File "/opt/framework/errors_impl.py", line 7 in run',
    "Extension modules: numpy, h5py._errors (total: 2)",
]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (STACK, "Fatal Python error: Segmentation fault"),
        (["== cell k", "first", "second"], "second"),
        (["terminate called after throwing an instance of 'X'", "  what():  no kernel image"],
         "terminate called after throwing an instance of 'X'"),
        (["== cell k", "", "  "], ""),
        ([], ""),
    ],
)  # fmt: skip
def test_the_last_telling_line(log: list[str], words: str) -> None:
    assert last_telling_line(log) == words


@pytest.mark.parametrize(
    ("line", "starved"),
    [
        ("CUDA error: out of memory", True),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes", True),
        ("terminate called after throwing an instance of 'std::bad_alloc'", True),
        ("OSError: [Errno 12] Cannot allocate memory", True),
        (
            "[enforce fail at alloc_cpu.cpp:132] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
            True,
        ),
        ("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("Segmentation fault", False),
    ],
)
def test_what_names_out_of_memory(line: str, starved: bool) -> None:
    assert memory.names_out_of_memory(line) is starved


def test_messages_are_one_printable_line_of_bounded_length() -> None:
    assert one_line("two\r\nlines\twith\x1b[31m colour") == "two lines with [31m colour"
    assert len(one_line("x" * 5000)) == 500


def test_the_peak_counts_from_the_reset() -> None:
    block = bytearray(b"\1") * (64 << 20)
    high = memory.peak_bytes()
    del block
    if memory.reset_peak():
        assert memory.peak_bytes() < high - (32 << 20)
    assert memory.peak_bytes() > 1 << 20
