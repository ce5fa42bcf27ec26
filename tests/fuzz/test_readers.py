"""What the fuzzer starts from, and what it has found, through its own target."""

from __future__ import annotations

import pytest

from tests.fuzz.readers import READERS, one_input, seeds


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_seed_is_read_by_its_own_reader_cut_anywhere(name: str) -> None:
    seed = seeds()[name]
    for end in range(len(seed) + 1):
        one_input(seed[:end])
