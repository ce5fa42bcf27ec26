"""What the fuzzer starts from, and what it has found, through its own target."""

from __future__ import annotations

import pytest

from tests.fuzz.readers import READERS, one_input, seeds


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_seed_is_read_by_its_own_reader_cut_anywhere(name: str) -> None:
    seed = seeds()[name]
    for end in range(len(seed) + 1):
        one_input(seed[:end])


#: inputs on which the target once failed
FOUND = {
    "a time beyond 64 bits in power.csv": bytes([9]) + b"1" + b"9" * 45 + b",gpu,0,GPU-1,12.5,instant,,7,1,2,40,0,,,\n",
}


@pytest.mark.parametrize("name", sorted(FOUND))
def test_what_was_found_once(name: str) -> None:
    one_input(FOUND[name])
