"""What is said of a name that does not exist."""

from __future__ import annotations

from common.errors import unknown


def test_a_long_name_is_proposed_whole() -> None:
    """What was proposed of it, its first 57 characters and dots, was to be found nowhere."""
    long = "stage_" * 11 + "batch"
    text = str(unknown("axis", long[:-1], ["height", long]))
    assert text.endswith(f" Did you mean {long}?")
    assert "; there is height, stage_" in text and "..., " not in text and text.count(long) == 1


def test_a_name_is_proposed_on_one_line() -> None:
    assert "\n" not in str(unknown("axis", "two line", ["two\nlines"]))
